"""Keys of objects, what an upload consists of, and what a store's errors mean."""

from __future__ import annotations

import errno

import pytest
from obstore.exceptions import BaseError, GenericError

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import StorageFull, Unavailable
from portside.spec.uploads import UploadId
from portside.stores.blobs.hashes import MAX_KEPT, RunningHashes
from portside.stores.blobs.objects.faults import translated
from portside.stores.blobs.objects.layout import (
    Chunk,
    blob_key,
    find_chain,
    find_reach,
    fresh_chunk_key,
    fresh_probe_key,
    is_probe_key,
    lease_key,
    parse_blob_key,
    parse_chunk_key,
    parse_upload_key,
)

UPLOAD = UploadId("0" * 32)


class TestKeys:
    """Which object is what."""

    @pytest.mark.parametrize("algorithm", Algorithm)
    def test_blobs(self, algorithm: Algorithm) -> None:
        """The key of a blob says its digest; a key that is not quite one says nothing."""
        digest = Digest.of(b"content", algorithm)
        encoded = digest.encoded
        assert blob_key(digest) == f"blobs/{algorithm}/{encoded[:2]}/{encoded}"
        assert parse_blob_key(blob_key(digest)) == digest
        for key in (
            f"blobs/{algorithm}/00/{encoded}",
            f"blobs/{algorithm}/{encoded[:2]}/{encoded}/",
            f"blobs/{algorithm}/{encoded[:2]}/{encoded}x",
            f"other/{algorithm}/{encoded[:2]}/{encoded}",
            f"blobs/md5/{encoded[:2]}/{encoded}",
            encoded,
        ):
            assert parse_blob_key(key) is None

    def test_uploads(self) -> None:
        """Chunks and leases belong to an upload; chunks sort by their offset."""
        keys = [fresh_chunk_key(UPLOAD, offset) for offset in (0, 9, 10, 10**18)]
        assert keys == sorted(keys)
        assert fresh_chunk_key(UPLOAD, 0) != fresh_chunk_key(UPLOAD, 0)
        for key, offset in zip(keys, (0, 9, 10, 10**18), strict=True):
            assert parse_upload_key(key) == UPLOAD
            assert parse_chunk_key(key, 5) == Chunk(key, offset, 5)
        assert parse_upload_key(lease_key(UPLOAD)) == UPLOAD
        assert parse_chunk_key(lease_key(UPLOAD), 5) is None
        for foreign in (f"{keys[0]}x", f"x{keys[0]}", f"uploads/other/{keys[0][41:]}", "uploads"):
            assert parse_upload_key(foreign) is None
            assert parse_chunk_key(foreign, 5) is None
        assert is_probe_key(fresh_probe_key())
        assert not is_probe_key("probes")


def chunks(*parts: tuple[int, int]) -> list[Chunk]:
    """Make chunks of starts and sizes; the keys are their places in the list."""
    return [Chunk(str(place), start, size) for place, (start, size) in enumerate(parts)]


class TestChains:
    """Which chunks are the upload, among those that nobody acknowledged."""

    @pytest.mark.parametrize(
        ("parts", "offset", "expected"),
        [
            ([], 0, []),
            ([], 1, None),
            ([(0, 5)], 5, ["0"]),
            ([(0, 5)], 4, None),
            ([(0, 5), (5, 3)], 8, ["0", "1"]),
            ([(5, 3), (0, 5)], 8, ["1", "0"]),
            ([(0, 5), (5, 3)], 5, ["0"]),
            ([(0, 5), (6, 2)], 8, None),
            ([(1, 7)], 8, None),
            ([(0, 9), (0, 5), (5, 3)], 8, ["1", "2"]),
            ([(0, 5), (5, 9), (5, 3), (8, 2)], 10, ["0", "2", "3"]),
            ([(0, 5), (5, 0)], 5, ["0"]),
            ([(0, 0), (0, 5)], 5, ["1"]),
            ([(0, 5), (0, 0)], 5, ["0"]),
            ([(0, 5), (5, 3), (5, 0)], 8, ["0", "1"]),
        ],
    )
    def test_chain(
        self, parts: list[tuple[int, int]], offset: int, expected: list[str] | None
    ) -> None:
        """A chain has no gap, and ends at the offset; of several, one is taken."""
        found = find_chain(chunks(*parts), offset)
        assert (None if found is None else [chunk.key for chunk in found]) == expected

    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            ([], 0),
            ([(0, 5)], 5),
            ([(1, 5)], 0),
            ([(5, 3), (0, 5)], 8),
            ([(0, 5), (6, 3)], 5),
            ([(0, 5), (4, 9)], 5),
            ([(0, 5), (0, 7), (5, 1)], 7),
        ],
    )
    def test_reach(self, parts: list[tuple[int, int]], expected: int) -> None:
        """Bytes behind a gap, or within another chunk, are not reached."""
        assert find_reach(chunks(*parts)) == expected


URL = "https://bucket.example/key?X-Amz-Signature=secret"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(errno.ENOSPC, "No space left"), StorageFull, "trying: No space left"),
        (OSError(errno.EDQUOT, "Quota exceeded"), StorageFull, "trying: Quota exceeded"),
        (OSError(errno.EIO, "I/O error"), Unavailable, "trying: I/O error"),
        (FileNotFoundError("no bucket\nbacktrace"), Unavailable, "trying: no bucket"),
        (GenericError("os error 28"), StorageFull, "trying: os error 28"),
        (GenericError("os error 122"), StorageFull, "trying: os error 122"),
        (GenericError("os error 281"), Unavailable, "trying: os error 281"),
        (GenericError("507 Insufficient Storage"), StorageFull, "trying: 507 Insufficient Storage"),
        *(
            (
                GenericError(f"400: <Error><Code>{code}</Code></Error>"),
                kind,
                said,
            )
            for code, kind, said in (
                ("XMinioStorageFull", StorageFull, "trying: 400 (XMinioStorageFull)"),
                ("QuotaExceeded", StorageFull, "trying: 400 (QuotaExceeded)"),
                ("InsufficientStorage", StorageFull, "trying: 400 (InsufficientStorage)"),
                ("AccountQuotaExceeded", StorageFull, "trying: 400 (AccountQuotaExceeded)"),
                ("AccessDenied", Unavailable, "delete objects there (AccessDenied)"),
                ("ExpiredToken", Unavailable, "renew AWS_SESSION_TOKEN (ExpiredToken)"),
                ("RequestTimeTooSkewed", Unavailable, "the clock of this machine differs"),
                ("PermanentRedirect", Unavailable, "set AWS_REGION (PermanentRedirect)"),
            )
        ),
        (
            GenericError(f"GET {URL} failed\nDebug"),
            Unavailable,
            "GET https://bucket.example/key failed",
        ),
        (GenericError("http://169.254.169.254/latest/api/token"), Unavailable, "no credentials"),
        (GenericError("http://169.254.169.254/metadata/identity/x"), Unavailable, "no credentials"),
        (GenericError("http://metadata/computeMetadata/v1"), Unavailable, "no credentials"),
    ],
)
def test_translation(error: OSError | BaseError, kind: type[Unavailable], said: str) -> None:
    """What a store says is one line without secrets; a full one is told from one that fails."""
    with pytest.raises(Unavailable) as caught, translated("trying"):
        raise error
    assert type(caught.value) is kind
    (detail,) = caught.value.details
    assert said in detail
    assert "secret" not in detail
    assert "\n" not in detail


class TestRunningHashes:
    """Digests that are kept between requests."""

    def test_only_at_its_offset(self) -> None:
        """A hasher is found at the offset it has come to, as a copy, until it is forgotten."""
        hashes = RunningHashes()
        hasher = Algorithm.SHA256.hasher()
        hasher.update(b"four")
        hashes.keep(UPLOAD, 4, Algorithm.SHA256, hasher)
        hashes.keep(UPLOAD, 6, Algorithm.SHA512, Algorithm.SHA512.hasher())
        for _ in range(2):
            found = hashes.at(UPLOAD, 4, Algorithm.SHA256)
            assert found is not None
            found.update(b" more")
            assert Digest.finish(Algorithm.SHA256, found) == Digest.of(b"four more")
        for offset, algorithm in (
            (3, Algorithm.SHA256),
            (5, Algorithm.SHA256),
            (4, Algorithm.SHA512),
        ):
            assert hashes.at(UPLOAD, offset, algorithm) is None
        assert hashes.at(UploadId("1" * 32), 4, Algorithm.SHA256) is None
        hashes.forget(UPLOAD)
        assert hashes.at(UPLOAD, 4, Algorithm.SHA256) is None
        assert hashes.at(UPLOAD, 6, Algorithm.SHA512) is None
        empty = hashes.at(UPLOAD, 0, Algorithm.SHA512)
        assert empty is not None
        assert Digest.finish(Algorithm.SHA512, empty) == Digest.of(b"", Algorithm.SHA512)

    def test_the_least_recently_kept_goes(self) -> None:
        """As many are kept as the limit says, those that were kept last."""
        hashes, hasher = RunningHashes(), Algorithm.SHA256.hasher()
        uploads = [UploadId(f"{number:032x}") for number in range(MAX_KEPT + 1)]
        for upload in uploads[:-1]:
            hashes.keep(upload, 1, Algorithm.SHA256, hasher)
        hashes.keep(uploads[0], 2, Algorithm.SHA256, hasher)
        hashes.keep(uploads[-1], 1, Algorithm.SHA256, hasher)
        assert hashes.at(uploads[1], 1, Algorithm.SHA256) is None
        assert hashes.at(uploads[0], 2, Algorithm.SHA256) is not None
        assert hashes.at(uploads[2], 1, Algorithm.SHA256) is not None
