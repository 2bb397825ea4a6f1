"""From rows to values, whichever engine the rows come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from portside.spec.actions import parse_actions
from portside.spec.digests import Algorithm
from portside.spec.names import RepositoryName
from portside.spec.patterns import RepositoryPattern
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.access import (
    IdentityKind,
    ScopeMap,
    ScopeRule,
    StoredIdentity,
    StoredPassword,
)
from portside.stores.inspection import ManifestRecord, ReferenceRecord


def upload_row(session: UploadSession) -> tuple[Any, ...]:
    """Give the columns of a session: id, repository, algorithm, received, created, updated."""
    return (
        str(session.id),
        str(session.repository),
        str(session.algorithm),
        session.offset,
        session.created,
        session.updated,
    )


def session_from_row(row: Iterable[Any]) -> UploadSession:
    """Make a session of its columns."""
    upload, repository, algorithm, received, created, updated = row
    return UploadSession(
        id=UploadId(upload),
        repository=RepositoryName(repository),
        algorithm=Algorithm(algorithm),
        created=created,
        updated=updated,
        offset=received,
    )


def identities_from_rows(rows: Iterable[Any]) -> Iterator[StoredIdentity]:
    """Make one identity of the rows that bear its name: one for each password."""
    for key, group in groupby(rows, key=lambda row: tuple(row[:6])):
        name, kind, created, enabled, expires, scope_map = key
        passwords = tuple(StoredPassword(*row[6:]) for row in group if row[6] is not None)
        yield StoredIdentity(
            name, IdentityKind(kind), created, bool(enabled), expires, scope_map, passwords
        )


def scope_maps_from_rows(rows: Iterable[Any]) -> Iterator[ScopeMap]:
    """Make one scope map of the rows that bear its name: one for each rule."""
    for key, group in groupby(rows, key=lambda row: tuple(row[:3])):
        name, created, description = key
        rules = tuple(
            ScopeRule(RepositoryPattern(pattern), parse_actions(actions))
            for *_, pattern, actions in group
            if pattern is not None
        )
        yield ScopeMap(name, created, description, rules)


def manifest_record(row: Iterable[Any], references: Iterable[Any]) -> ManifestRecord:
    """Make a record of the row of a manifest and of those of its references."""
    name, digest, media_type, payload, size, subject, kind, annotations = row
    return ManifestRecord(
        repository=name,
        digest=digest,
        media_type=media_type,
        payload=payload,
        size=size,
        subject=subject,
        artifact_type=kind,
        annotations=_decoded(annotations),
        references=tuple(
            ReferenceRecord(of, child, bool(required), bool(present))
            for of, child, required, present in references
        ),
    )


def _decoded(annotations: bytes) -> dict[str, str] | None:
    try:
        return msgspec.json.decode(annotations, type=dict[str, str])
    except msgspec.DecodeError:
        return None
