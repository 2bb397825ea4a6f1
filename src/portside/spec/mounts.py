"""Mounts: what a POST asks to mount, and from where (end-11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from portside.spec.digests import Digest
from portside.spec.errors import DigestInvalid, NameInvalid
from portside.spec.names import RepositoryName


@dataclass(frozen=True, slots=True)
class MountRequest:
    """A blob to mount; `source` is the repository that holds it, or None for any."""

    digest: Digest
    source: RepositoryName | None

    @classmethod
    def parse(cls, mount: str, source: str | None) -> Self | None:
        """Parse the query parameters `mount` and `from`; return None if they name nothing.

        A digest or a repository that cannot exist here is not an error: "If a registry does not
        support cross-repository mounting or is unable to mount the requested blob, it SHOULD return
        a 202". Clients write the host into `from`, or a digest algorithm of their own.
        """
        try:
            return cls(Digest.parse(mount), RepositoryName.parse(source) if source else None)
        except (DigestInvalid, NameInvalid):
            return None
