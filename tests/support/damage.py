"""Damage to the bytes of blobs, as a disk or an object store that fails does it."""

from __future__ import annotations

from collections.abc import Callable

import obstore

from portside.spec.digests import Digest
from portside.stores.blobs.objects.layout import blob_key
from portside.stores.blobs.objects.urls import open_store
from support.content import digest_of
from support.homes import Home


class Bytes:
    """The stored bytes of one blob of a registry, behind its back."""

    def __init__(self, home: Home, content: bytes) -> None:
        digest = Digest.parse(digest_of(content))
        self.content = content
        self._path = home.data / "blobs" / "sha256" / digest.encoded[:2] / digest.encoded
        self._key = blob_key(digest)
        self._store = open_store(home.storage, environment=home.env) if home.storage else None

    def write(self, content: bytes) -> None:
        """Write other bytes at the blob's key."""
        if self._store is not None:
            obstore.put(self._store, self._key, content)
        else:
            self._path.write_bytes(content)

    def lose(self) -> None:
        """Remove the bytes."""
        if self._store is not None:
            obstore.delete(self._store, self._key)
        else:
            self._path.unlink()

    def flip(self) -> None:
        """Change a bit in the middle."""
        middle = len(self.content) // 2
        changed = bytes([self.content[middle] ^ 1])
        self.write(self.content[:middle] + changed + self.content[middle + 1 :])

    def cut(self) -> None:
        """Lose the last byte."""
        self.write(self.content[:-1])

    def read(self) -> bytes | None:
        """Return what is stored; None if nothing is."""
        try:
            if self._store is not None:
                return bytes(obstore.get(self._store, self._key).bytes())
            return self._path.read_bytes()
        except FileNotFoundError:
            return None


DAMAGE: dict[str, Callable[[Bytes], None]] = {
    "a flipped bit": Bytes.flip,
    "a lost end": Bytes.cut,
    "a lost blob": Bytes.lose,
}
"""Ways in which the bytes of a blob are damaged."""
