"""Manifests: the bytes as they were pushed, and what the registry reads in them."""

from __future__ import annotations

import enum
import json
import re
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from portside.spec import media_types
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import DigestInvalid, ManifestInvalid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


MAX_REFERENCES = 10_000
"""Digests that one manifest may refer to; images have about ten, the largest indexes hundreds."""

MAX_SIZE = 2**63 - 1
"""Bytes of one descriptor: what the image-spec's int64 holds."""

MAX_OBJECTS = 100_000
"""Opening braces and brackets in one manifest: ten for each digest that it may refer to."""


class ReferenceKind(enum.StrEnum):
    """What a manifest refers to: content in the blob store, or another manifest."""

    BLOB = "blob"
    MANIFEST = "manifest"


class ManifestReference(msgspec.Struct, frozen=True, order=True):
    """One digest that a manifest refers to.

    A reference that is not `required` may be missing from the registry: a layer that is kept
    elsewhere. A weak one is a digest anywhere else in the document, in an annotation or a field of
    an unknown type: what it names is not deleted by itself, whether it is a blob or a manifest.

    What an index lists is read as a manifest; the store keeps it as a blob where the repository has
    it as one ("An encountered mediaType that is unknown to the implementation MUST NOT generate an
    error").
    """

    kind: ReferenceKind
    digest: Digest
    required: bool = True
    is_weak: bool = False

    @property
    def is_child(self) -> bool:
        """Whether an index lists it."""
        return self.kind is ReferenceKind.MANIFEST


class Config(NamedTuple):
    """The config that an image refers to."""

    media_type: str
    digest: Digest


class Manifest(msgspec.Struct, frozen=True):
    """A manifest that can be stored: its exact bytes, and what a listing says of it.

    `image_size` is the sum of the sizes of its blobs, each counted once; None for a manifest that
    does not say them, such as an index.
    """

    media_type: str
    digest: Digest
    payload: bytes
    references: tuple[ManifestReference, ...] = ()
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    config: Config | None = None
    image_size: int | None = None

    @property
    def is_index(self) -> bool:
        """Whether it lists other manifests."""
        return self.media_type in INDEXES

    @property
    def size(self) -> int:
        """The number of bytes of the payload."""
        return len(self.payload)


class _Descriptor(msgspec.Struct, rename="camel"):
    """A descriptor of the image-spec, as far as the registry reads it."""

    media_type: str
    digest: str
    size: Annotated[int, Meta(ge=0, le=MAX_SIZE)]
    urls: list[str] | None = None


class _FsLayer(msgspec.Struct, rename="camel"):
    blob_sum: str


class _Document(msgspec.Struct, rename="camel"):
    """The union of the fields of all manifest kinds that the registry understands."""

    schema_version: int | None = None
    artifact_type: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    blobs: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    fs_layers: list[_FsLayer] | None = None
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


_decode_document = msgspec.json.Decoder(_Document).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_IMAGES = {media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST}

INDEXES = {media_types.OCI_INDEX, media_types.DOCKER_LIST}
_SCHEMA_1 = {media_types.DOCKER_SCHEMA_1, media_types.DOCKER_SCHEMA_1_SIGNED}
_ARTIFACTS = {media_types.ORAS_ARTIFACT, media_types.OCI_ARTIFACT}

_OF_ALL = {"artifactType", "subject", "annotations"}
_FIELDS: dict[str, set[str]] = {
    **{media_type: {"schemaVersion", "config", "layers", *_OF_ALL} for media_type in _IMAGES},
    **{media_type: {"schemaVersion", "manifests", *_OF_ALL} for media_type in INDEXES},
    **{media_type: {"schemaVersion", "fsLayers"} for media_type in _SCHEMA_1},
    **{media_type: {"blobs", *_OF_ALL} for media_type in _ARTIFACTS},
}
"""What is read of each type. Other fields may be there, and mean nothing ("Extensibility")."""

_READ = frozenset().union(*_FIELDS.values())
"""What is read of one type or another."""

_REQUIRED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_IMAGES, ("schemaVersion", "config", "layers")),
    **dict.fromkeys(INDEXES, ("schemaVersion", "manifests")),
    **dict.fromkeys(_SCHEMA_1, ("schemaVersion", "fsLayers")),
}

_QUOTED_DIGEST = re.compile(rb'"(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})"')

_KIND_OF = {
    "config": "an image",
    "layers": "an image",
    "manifests": "an index",
    "fsLayers": "an image of schema 1",
    "blobs": "an artifact",
}
"""The kind of manifest that each field makes."""

_HOLDERS = (*_KIND_OF, "subject")
"""Fields with descriptors."""

_DECISIVE = {"layers", "manifests", "fsLayers"}
"""Fields that make a kind in a document of any type; the others are words of many documents."""

_BY_FOLDED = {
    name.casefold(): name for name in ("mediaType", "schemaVersion", *_KIND_OF, *sorted(_OF_ALL))
}
_OF_DESCRIPTORS = {name.casefold(): name for name in ("mediaType", "digest", "size", "urls")}

_CLEAR = {*_BY_FOLDED.values(), *_OF_DESCRIPTORS.values(), "platform", "data"}
"""Names that are spelled as they are read, or like none that is: those of most objects."""


def parse_manifest(
    payload: bytes, *, content_type: str | None, expected: Digest | None = None
) -> Manifest:
    """Read a pushed manifest, and refuse one that is not clear ("Pushing Manifests", end-7).

    `content_type` is the header as it came; `expected` is the digest under which the manifest is
    pushed, if it is not pushed by tag. The payload is kept byte for byte.

    Raises ManifestInvalid, and DigestInvalid if the payload is not what `expected` names.
    """
    digest = _digest_of(payload, expected)
    with _refusing_unreadable():
        document = _decode(payload, content_type)
        _check_type(document.media_type)
        _check_names(payload, document.media_type)
        _check_kind(document.fields, document.media_type)
        _check_required(document)
    manifest = _described(document, payload, digest)
    if len(manifest.references) > MAX_REFERENCES:
        many = f"it names more than {MAX_REFERENCES} digests, which are all that is accepted"
        raise ManifestInvalid(many)
    return manifest


def read_manifest(payload: bytes, *, media_type: str, expected: Digest) -> Manifest:
    """Read a stored manifest, by whatever rules it was accepted.

    Raises ManifestInvalid, and DigestInvalid if the payload is not what `expected` names.
    """
    digest = _digest_of(payload, expected)
    with _refusing_unreadable():
        document = _decode(payload, media_type)
    return _described(document, payload, digest)


class _Decoded(NamedTuple):
    """A JSON object with its media type: all of its fields, and those that the registry reads."""

    media_type: str
    fields: dict[str, msgspec.Raw]
    read: _Document


def _digest_of(payload: bytes, expected: Digest | None) -> Digest:
    digest = Digest.of(payload, expected.algorithm if expected else Algorithm.SHA256)
    if expected is not None and digest != expected:
        wrong = f"the manifest was pushed as {expected}, but its digest is {digest}"
        raise DigestInvalid(wrong)
    return digest


@contextmanager
def _refusing_unreadable() -> Iterator[None]:
    try:
        yield
    except msgspec.ValidationError as error:
        raise ManifestInvalid(f"the manifest has the wrong shape: {error}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        unreadable = f"the payload is not a valid JSON object: {error}"
        raise ManifestInvalid(unreadable) from error


def _decode(payload: bytes, content_type: str | None) -> _Decoded:
    declared = media_types.essence(content_type) if content_type else ""
    payload.decode("utf-8")
    fields = _decode_object(payload)
    embedded = _media_type_field(fields)
    if embedded and declared and embedded.lower() != declared.lower():
        differ = (
            f"the Content-Type header says {declared!r} and the field mediaType says {embedded!r};"
            " they must be equal"
        )
        raise ManifestInvalid(differ)
    media_type = media_types.canonical(declared or embedded or _guess(fields))
    return _Decoded(media_type, fields, _read(payload, fields, _FIELDS.get(media_type, set())))


def _described(document: _Decoded, payload: bytes, digest: Digest) -> Manifest:
    read = document.read
    return Manifest(
        media_type=document.media_type,
        digest=digest,
        payload=payload,
        references=_with_weak(_merged(_references(read)), payload),
        subject=_digest(read.subject.digest) if read.subject else None,
        artifact_type=_artifact_type(document.media_type, read),
        annotations=read.annotations or {},
        config=_config(read.config),
        image_size=_image_size(document.media_type, read),
    )


def _config(descriptor: _Descriptor | None) -> Config | None:
    if descriptor is None:
        return None
    return Config(descriptor.media_type, _digest(descriptor.digest))


def _image_size(media_type: str, document: _Document) -> int | None:
    if media_type in INDEXES | _SCHEMA_1:
        return None
    blobs = (document.config, *(document.layers or ()), *(document.blobs or ()))
    sizes = {blob.digest: blob.size for blob in blobs if blob is not None}
    total: int = sum(sizes.values())
    return min(total, MAX_SIZE)


def _check_type(media_type: str) -> None:
    """Raise ManifestInvalid unless the type is one of JSON documents, which no browser runs."""
    if not media_types.is_media_type(media_type):
        raise ManifestInvalid(f"invalid media type {media_type[:140]!r}")
    if not media_types.is_manifest_type(media_type):
        other = (
            f"the media type {media_type[:140]!r} is not one of manifests: expected"
            " application/json or application/*+json"
        )
        raise ManifestInvalid(other)


def _check_names(payload: bytes, media_type: str) -> None:
    """Raise ManifestInvalid if two readers could take different fields for the same one.

    JSON leaves open which of two equal names counts (RFC 8259, section 4), and Go's decoder takes
    `Layers` for `layers`.
    """
    objects = payload.count(b"{") + payload.count(b"[")
    if objects > MAX_OBJECTS:
        many = f"it has {objects} objects and lists; at most {MAX_OBJECTS} are accepted"
        raise ManifestInvalid(many)
    document = _decode_names(payload.decode("utf-8"))
    if media_type not in _FIELDS:
        return
    _check_spelling(document, _BY_FOLDED)
    for field in _HOLDERS:
        value = document.get(field)
        if value is not None:
            for descriptor in value if isinstance(value, list) else [value]:
                if isinstance(descriptor, dict):
                    _check_spelling(descriptor, _OF_DESCRIPTORS, field)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
        raise ManifestInvalid(f"the field {twice[:80]!r} is there twice in one object")
    return found


_decode_names = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str).decode
"""Reads no numbers: those that are too long for Python are refused where they count."""


def _check_spelling(names: Collection[str], by_folded: dict[str, str], holder: str = "") -> None:
    if _CLEAR.issuperset(names):
        return
    for name in names:
        meant = by_folded.get(name.casefold(), name)
        if name != meant:
            where = f" in {holder}" if holder else ""
            raise ManifestInvalid(f"the field {name!r}{where} must be spelled {meant!r}")


def _check_kind(fields: dict[str, msgspec.Raw], media_type: str) -> None:
    """Raise ManifestInvalid if the manifest can be read as two kinds (CVE-2021-41190)."""
    telling = _KIND_OF if media_type in _FIELDS else _DECISIVE
    found = [name for name in _KIND_OF if name in telling and _is_given(fields, name)]
    kinds = {_KIND_OF[name]: name for name in found}
    if len(kinds) > 1:
        read = " and ".join(f"{kind} ({name})" for kind, name in kinds.items())
        raise ManifestInvalid(f"it can be read as {read}; a manifest has the fields of one kind")


def _is_given(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]).strip() != b"null"


def _check_required(decoded: _Decoded) -> None:
    """Raise ManifestInvalid if a required field is missing; a list may be null, as Go writes it."""
    media_type, fields, document = decoded
    required = _REQUIRED.get(media_type, ())
    missing = [name for name in required if name not in fields]
    if "config" in required and document.config is None and "config" not in missing:
        missing.append("config")
    if missing:
        raise ManifestInvalid(f"{media_type} requires the field {' and '.join(missing)}")
    version = 1 if media_type in _SCHEMA_1 else 2
    if required and document.schema_version != version:
        raise ManifestInvalid(f"schemaVersion must be {version}, not {document.schema_version}")
    for descriptor in _descriptors(document):
        if not media_types.is_media_type(descriptor.media_type):
            shown = descriptor.media_type[:140]
            raise ManifestInvalid(f"invalid media type {shown!r} of {descriptor.digest[:140]}")
    if document.artifact_type and not document.artifact_type.isprintable():
        raise ManifestInvalid(f"invalid artifact type {document.artifact_type[:140]!r}")


def _descriptors(document: _Document) -> Iterator[_Descriptor]:
    for single in (document.config, document.subject):
        if single is not None:
            yield single
    for several in (document.layers, document.blobs, document.manifests):
        yield from several or ()


def _read(payload: bytes, fields: dict[str, msgspec.Raw], wanted: set[str]) -> _Document:
    if wanted.issuperset(fields.keys() & _READ):
        return _decode_document(payload)
    found = {name: value for name, value in fields.items() if name in wanted}
    return _decode_document(msgspec.json.encode(found))


def _media_type_field(fields: dict[str, msgspec.Raw]) -> str | None:
    raw = fields.get("mediaType")
    return msgspec.json.decode(raw, type=str | None) if raw is not None else None


def _guess(fields: dict[str, msgspec.Raw]) -> str:
    """Name the type of a manifest that came without any, as the image-spec lets one tell."""
    if "manifests" in fields:
        return media_types.OCI_INDEX
    if "config" in fields or "layers" in fields:
        return media_types.OCI_MANIFEST
    return media_types.JSON


def _artifact_type(media_type: str, document: _Document) -> str | None:
    """Return the artifact type that lists of referrers show ("Listing Referrers").

    "If the artifactType is empty or missing in the image manifest, the value of artifactType MUST
    be set to the config descriptor mediaType value."

    Raises ManifestInvalid.
    """
    named = document.artifact_type
    if not named and media_type in _IMAGES and document.config is not None:
        named = document.config.media_type
    if named and len(named) > media_types.MAX_LENGTH:
        long = f"the artifact type has {len(named)} characters; at most 255 are allowed"
        raise ManifestInvalid(long)
    if named and "\0" in named:
        raise ManifestInvalid("the artifact type contains a NUL character")
    return named or None


def _merged(references: Iterator[ManifestReference]) -> tuple[ManifestReference, ...]:
    """Return each digest once; it is required if one reference to it is.

    Raises ManifestInvalid if there are too many.
    """
    required: dict[tuple[ReferenceKind, Digest], bool] = {}
    for reference in references:
        key = (reference.kind, reference.digest)
        required[key] = required.get(key, False) or reference.required
    if len(required) > MAX_REFERENCES:
        many = f"it refers to {len(required)} digests; at most {MAX_REFERENCES} are accepted"
        raise ManifestInvalid(many)
    return tuple(sorted(ManifestReference(*key, needed) for key, needed in required.items()))


def _with_weak(
    references: tuple[ManifestReference, ...], payload: bytes
) -> tuple[ManifestReference, ...]:
    """Add the digests that are the whole of some other string in the document.

    There is one more than MAX_REFERENCES at most.
    """
    found = sorted({match.decode("ascii") for match in _QUOTED_DIGEST.findall(payload)})
    if len(found) == len(references):
        return references
    known = {reference.digest for reference in references}
    weak = (
        ManifestReference(ReferenceKind.BLOB, Digest(digest), required=False, is_weak=True)
        for digest in found
        if digest not in known
    )
    room = MAX_REFERENCES + 1 - len(references)
    return (*references, *islice(weak, room))


def _references(document: _Document) -> Iterator[ManifestReference]:
    if document.config is not None:
        yield _reference(ReferenceKind.BLOB, document.config)
    for layers in (document.layers, document.blobs):
        for descriptor in layers or ():
            yield _reference(ReferenceKind.BLOB, descriptor)
    for layer in document.fs_layers or ():
        yield ManifestReference(ReferenceKind.BLOB, _digest(layer.blob_sum))
    for descriptor in document.manifests or ():
        yield _reference(ReferenceKind.MANIFEST, descriptor)


def _reference(kind: ReferenceKind, descriptor: _Descriptor) -> ManifestReference:
    elsewhere = bool(descriptor.urls) or media_types.is_foreign(descriptor.media_type)
    return ManifestReference(kind, _digest(descriptor.digest), required=not elsewhere)


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except DigestInvalid as error:
        raise ManifestInvalid(*error.details) from error
