"""What operations may ask of a store, and what a store may raise.

A registry has two stores: a `BlobStore` for bytes, and a `MetadataStore` for everything else. Every
method may raise Unavailable when the engine below fails, and every method that writes StorageFull
when the disk is full; these two are not repeated below. A write that returned is durable.

A blob's bytes and its row must change together. The metadata store therefore takes the blob store's
part as a plain blocking function, and calls it, off the event loop, while nobody else can commit
the same digest: `place` within the transaction, before the commit, so that no row is without its
bytes; `remove` after the commit, so that a crash leaves bytes without a row at worst.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import msgspec

from portside.spec.conditions import TagCondition
from portside.spec.digests import Algorithm, Digest
from portside.spec.manifests import Manifest
from portside.spec.names import Reference, RepositoryName, Tag
from portside.spec.pagination import Page, PageRequest
from portside.spec.patterns import EVERY_NAME, NameRange
from portside.spec.platforms import UNKNOWN_PLATFORM, Platform
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventStore
from portside.stores.marks import Mark
from portside.stores.periods import PeriodStore
from portside.stores.properties import PropertyStore
from portside.stores.quotas import QuotaStore
from portside.stores.retention import RetentionStore
from portside.stores.tag_history import TagHistoryStore
from portside.stores.trash import TrashStore
from portside.stores.usage import UsageStore
from portside.stores.webhooks import WebhookStore

Undo = Callable[[], None]
"""Takes placed bytes away again. Blocking."""

Place = Callable[[], Undo | None]
"""Puts staged bytes at their final key, durably. Blocking.

Returns a function that removes them again, for a transaction that fails because the disk is full,
or None if they should stay. It is called only for blobs that had no row before.
"""

Remove = Callable[[], None]
"""Removes the bytes of a blob. Blocking."""


class StoredManifest(msgspec.Struct, frozen=True, array_like=True):
    """What a pull of a manifest needs."""

    media_type: str
    digest: str
    payload: bytes


class Referrer(msgspec.Struct, frozen=True):
    """An entry of a list of referrers; `annotations` is a JSON object."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str | None
    annotations: bytes


class Recorded(NamedTuple):
    """What is recorded with a manifest: the platform of its config, and who pushed it."""

    platform: Platform = UNKNOWN_PLATFORM
    by: Actor = NOBODY


NOT_RECORDED = Recorded()


class ManifestStore(Protocol):
    """Manifests and tags."""

    async def get_manifest(
        self, repository: RepositoryName, reference: Reference
    ) -> StoredManifest:
        """Read a manifest; raises ManifestUnknown and OperationDisallowed."""
        ...

    async def get_platform(self, repository: RepositoryName, manifest: Manifest) -> Platform | None:
        """Return the platform that a manifest of these bytes and this type is stored with.

        None if it is not stored, or without its properties. It may have been deleted.
        """
        ...

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        *,
        tags: Sequence[Tag],
        condition: TagCondition | None,
        check_children: bool,
        recorded: Recorded = NOT_RECORDED,
        quota: int | None = None,
    ) -> None:
        """Store a manifest and point the tags at it, all at once.

        `check_children` refuses an index whose manifests are not in the repository. `quota` is the
        number of bytes that the repository may take. Raises ManifestBlobUnknown,
        OperationDisallowed, QuotaExceeded and, if `condition` does not hold for one of the tags,
        PreconditionFailed.
        """
        ...

    async def delete_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        condition: TagCondition | None = None,
        *,
        by: Actor = NOBODY,
    ) -> None:
        """Delete a manifest and its tags; they can be restored.

        Raises ManifestUnknown, ManifestInUse, OperationDisallowed and PreconditionFailed.
        """
        ...

    async def delete_tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        condition: TagCondition | None = None,
        *,
        by: Actor = NOBODY,
    ) -> None:
        """Delete a tag and nothing else.

        Raises ManifestUnknown, OperationDisallowed and PreconditionFailed.
        """
        ...


class DiscoveryStore(Protocol):
    """Lists, each by keyset: a page costs the same wherever it starts."""

    async def list_tags(self, repository: RepositoryName, page: PageRequest) -> Page[str]:
        """List tags in ASCII order; raises NameUnknown."""
        ...

    async def list_repositories(
        self, page: PageRequest, names: Sequence[NameRange] = EVERY_NAME
    ) -> Page[str]:
        """List the repositories that hold a manifest, in ASCII order.

        `names` are ranges in order that do not touch; no name outside of them is read.
        """
        ...

    async def list_referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_type: str | None,
        page: PageRequest,
        max_bytes: int,
    ) -> Page[Referrer]:
        """List the manifests with that subject by digest; empty if there are none.

        A page has at most `max_bytes` as JSON, or a single entry.
        """
        ...


class LinkedBlob(NamedTuple):
    """A blob that a repository links, and its size in bytes.

    `unreferenced` is when its grace period began (µs since 1970), None while a manifest of the
    repository refers to it.
    """

    size: int
    unreferenced: int | None


class UnreferencedBlob(NamedTuple):
    """A link to a blob to which no manifest of the repository refers, since a time.

    `size` is in bytes, `since` in microseconds since 1970; `key` tells the repository from others
    in this database.
    """

    repository: RepositoryName
    digest: Digest
    size: int
    since: int
    key: int


class BlobLinkStore(Protocol):
    """Which blobs there are, and in which repositories they can be read."""

    async def get_blob(self, repository: RepositoryName, digest: Digest) -> LinkedBlob:
        """Read what is known of a blob that the repository links.

        Raises BlobUnknown and OperationDisallowed.
        """
        ...

    async def confirm_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Begin the grace period of a blob anew, because a client is about to be told of it.

        Raises BlobUnknown if it has been collected, and OperationDisallowed.
        """
        ...

    async def commit_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        size: int,
        *,
        session: UploadSession | None,
        place: Place,
        by: Actor = NOBODY,
        quota: int | None = None,
    ) -> None:
        """Add a blob and link it, and end the upload session it came by, if there was one.

        `session` is as it was when the request resumed it; `quota` is the number of bytes that the
        repository may take. Raises QuotaExceeded, BlobUploadUnknown if the session has ended since,
        and UploadBusy if it has moved.
        """
        ...

    async def mount_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        source: RepositoryName | None,
        *,
        size: int,
        by: Actor = NOBODY,
        quota: int | None = None,
    ) -> None:
        """Link a blob that `source` (or any repository) links, and that has `size` bytes.

        `quota` is the number of bytes that the repository may take. Raises BlobUnknown and
        QuotaExceeded.
        """
        ...

    async def list_linking(self, digest: Digest, limit: int) -> list[RepositoryName]:
        """List at most `limit` repositories that link a blob."""
        ...

    async def unlink_blob(
        self, repository: RepositoryName, digest: Digest, *, remove: Remove, by: Actor = NOBODY
    ) -> None:
        """Delete a link, and the blob with its last one.

        A blob that a deleted manifest needs is unknown from then on, and restored with it. Raises
        BlobUnknown, OperationDisallowed, and BlobInUse while a manifest of the repository refers to
        the blob.
        """
        ...

    async def list_unreferenced(
        self, until: int, after: UnreferencedBlob | None = None, *, limit: int
    ) -> list[UnreferencedBlob]:
        """List links whose grace period began at a time (µs since 1970) or before it.

        The longest unreferenced come first, beginning `after` one of them.
        """
        ...

    async def collect_blob(self, found: UnreferencedBlob, until: int, *, remove: Remove) -> bool:
        """Delete a link, and the blob with its last one, if that is still due.

        Return whether the link was deleted: not if a manifest refers to the blob, or if its grace
        period has begun anew after `until`.
        """
        ...

    async def known_blobs(self, digests: Sequence[Digest]) -> set[Digest]:
        """Return those of some blobs that any repository links."""
        ...

    async def remove_orphaned_blob(self, digest: Digest, *, remove: Remove) -> bool:
        """Remove bytes if they belong to no known blob; return whether that was so."""
        ...


class UploadStore(Protocol):
    """Upload sessions."""

    async def open_upload(self, session: UploadSession, *, most: int = 0) -> None:
        """Store a new session.

        Raises TooManyRequests if its owner has `most` sessions open in the repository; zero means
        no limit.
        """
        ...

    async def get_upload(
        self, repository: RepositoryName, upload: UploadId, *, writable: bool = False
    ) -> UploadSession:
        """Read a session of the repository; raises BlobUploadUnknown.

        With `writable`, raises OperationDisallowed if nothing may be written to the repository.
        """
        ...

    async def has_upload(self, upload: UploadId) -> bool:
        """Whether a session exists, in any repository."""
        ...

    async def advance_upload(
        self, session: UploadSession, *, origin: int, quota: int | None = None
    ) -> None:
        """Store the session's offset and time.

        `origin` is the offset from which the request continued. If the stored offset is another
        one, another request moved the session: this one lost its hold without noticing, and its
        bytes do not count. Raises UploadBusy then, BlobUploadUnknown if the session has ended, and
        QuotaExceeded if all open sessions of the repository would have received more than `quota`.
        """
        ...

    async def close_upload(self, session: UploadSession) -> None:
        """Delete a session; raises BlobUploadUnknown if it has ended, UploadBusy if it moved."""
        ...

    async def was_finished(
        self, repository: RepositoryName, upload: UploadId, digest: Digest, *, owner: str
    ) -> bool:
        """Whether a session that `owner` opened was finished with a blob that is still there."""
        ...

    async def forget_finished_uploads(self, before: int) -> None:
        """Forget with which blobs sessions were finished before a time (µs since 1970)."""
        ...

    async def list_stale_uploads(
        self, before: int, after: UploadSession | None = None
    ) -> list[UploadSession]:
        """List sessions last used before a time (µs since 1970), a page `after` the one before."""
        ...


class LastPull(NamedTuple):
    """When a manifest was pulled, in microseconds since 1970."""

    repository: RepositoryName
    digest: Digest
    time: int


class PullStore(Protocol):
    """When manifests were last pulled."""

    async def note_pulls(self, pulls: Sequence[LastPull]) -> None:
        """Store the times of pulls, unless a later one is known; unknown manifests are left out."""
        ...


class LeaseStore(Protocol):
    """Which process does a background task; two may do it at once if their clocks differ."""

    async def take_lease(self, name: str, holder: str, *, seconds: int) -> bool:
        """Take or renew a lease; return whether `holder` has it now, for that long."""
        ...

    async def is_leased(self, name: str, *, seconds: int) -> bool:
        """Whether anyone has a lease that lasts for up to so many seconds from now.

        One that lasts longer was taken by a clock that was wrong.
        """
        ...

    async def release_lease(self, name: str, holder: str) -> None:
        """End a lease, if `holder` has it."""
        ...


class MetadataStore(
    ManifestStore,
    DiscoveryStore,
    PropertyStore,
    BlobLinkStore,
    TrashStore,
    TagHistoryStore,
    RetentionStore,
    PullStore,
    LeaseStore,
    PeriodStore,
    UploadStore,
    UsageStore,
    EventStore,
    WebhookStore,
    QuotaStore,
    Protocol,
):
    """Everything about the content but its bytes."""

    async def probe_reads(self) -> None:
        """Return if the store can be read; raises Unavailable."""
        ...

    async def probe(self) -> None:
        """Return if the store can read and write; raises Unavailable or StorageFull."""
        ...


class Staging(Protocol):
    """An upload, held by the one request that may write to it.

    The holder reads the session's row after it has got the hold, and resumes at the offset found
    there: another request may have moved the session before.
    """

    async def resume(self, offset: int, algorithm: Algorithm) -> None:
        """Continue at `offset`; later bytes were never acknowledged and are dropped.

        Bytes are hashed with `algorithm` as they arrive. Raises Unavailable if the store holds
        fewer than `offset` bytes.
        """
        ...

    async def write(self, chunk: bytes) -> None:
        """Append bytes; they may stay in memory for a while, up to a fixed limit."""
        ...

    async def flush(self) -> int:
        """Make everything written so far durable; return the offset after it."""
        ...

    def forget(self, offset: int) -> None:
        """Drop flushed bytes after `offset`: there was no room to acknowledge them."""
        ...

    def keep(self) -> None:
        """Keep the running digest: the flushed offset was acknowledged."""
        ...

    async def finish(self, algorithm: Algorithm) -> Digest:
        """Prepare the bytes to be placed; return the digest of all of them, from the first on."""
        ...

    async def place(self, digest: Digest) -> Place:
        """Return the function that makes the finished bytes the content of `digest`.

        Slow work is done here, so that the function itself is quick.
        """
        ...


class BlobStore(Protocol):
    """The bytes of blobs, by digest, and of uploads, by id.

    `InspectableBlobs` adds what those who check, repair and copy a store need.
    """

    def create(self) -> None:
        """Create what the store needs and lacks. Blocking: called before serving starts."""
        ...

    def close(self) -> None:
        """Finish the work that was started, and release everything. Blocking."""
        ...

    async def stat(self, digest: Digest) -> int | None:
        """Return the size in bytes of a stored blob; None if it is missing."""
        ...

    def read(self, digest: Digest, part: ByteRange) -> AsyncGenerator[bytes, None]:
        """Read a part in pieces; memory does not grow with it.

        A caller that stops early closes the generator. Raises BlobUnknown before the first piece if
        the bytes are missing.
        """
        ...

    async def sign(self, digest: Digest, seconds: int) -> str | None:
        """Return a URL from which anyone can read a blob for that long.

        None if clients cannot fetch from the store themselves.
        """
        ...

    def hold(
        self, upload: UploadId, *, fresh: bool = False
    ) -> AbstractAsyncContextManager[Staging]:
        """Hold an upload while it is written, finished or dropped; other requests wait.

        Bytes stay when the hold ends. A `fresh` id was made for this request alone: no other
        request knows it, and its bytes go with the hold. Raises UploadBusy if another request holds
        the upload for longer than the store waits.
        """
        ...

    async def discard(self, upload: UploadId) -> None:
        """Drop the bytes of an upload, if there are any."""
        ...

    async def list_stale_uploads(self, before: int) -> list[UploadId]:
        """List uploads whose bytes were last written before a time (microseconds since 1970)."""
        ...

    def remove(self, digest: Digest) -> Remove:
        """Return the function that removes the bytes of a blob."""
        ...

    async def probe_reads(self) -> None:
        """Return if the store can be read; raises Unavailable."""
        ...

    async def probe(self) -> None:
        """Return if uploads can be stored; raises Unavailable or StorageFull."""
        ...


class OrphanedFile(msgspec.Struct, frozen=True):
    """A file or an object that belongs to no content, and what to do about it."""

    path: str
    advice: str


class ServerClock(Protocol):
    """A store that may have a clock of its own."""

    async def server_time(self) -> int | None:
        """Return the time of its server in microseconds since 1970; None if it has no other.

        Raises Unavailable and StorageFull.
        """
        ...


class ClientVersions(Protocol):
    """A store that may know which versions of Portside use it."""

    async def client_versions(self) -> frozenset[str]:
        """Return the versions that are connected; none if that is not known.

        Raises Unavailable.
        """
        ...


class InspectableBlobs(BlobStore, ServerClock, Protocol):
    """A blob store that can also be listed, verified, cleaned and marked."""

    @property
    def location(self) -> object:
        """Where the blobs are, as shown to people; holds no secret."""
        ...

    def stored_blobs(self) -> AsyncIterator[tuple[Digest, int]]:
        """List every stored blob with its size in bytes."""
        ...

    async def holds_blobs(self) -> bool:
        """Whether any blob is stored."""
        ...

    async def verify(self, digest: Digest) -> bool | None:
        """Read a blob to its end: whether its content has that digest; None if it is missing."""
        ...

    def confirm(self, digest: Digest, size: int) -> Place:
        """Return a function that keeps bytes which are stored already.

        The function raises Unavailable if they are missing or are not `size` bytes.
        """
        ...

    async def missing_directories(self) -> list[str]:
        """List the directories that the store needs and lacks."""
        ...

    def orphaned_files(self) -> AsyncIterator[OrphanedFile]:
        """List what is in the store and is no blob, upload or other thing in use."""
        ...

    async def is_orphaned(self, file: OrphanedFile) -> bool:
        """Whether a file that was listed as orphaned is still there, and still orphaned."""
        ...

    async def drop_orphaned_files(self, before: int, *, dry_run: bool = False) -> list[int]:
        """Drop the files of crashed requests last written before a time (µs since 1970).

        Files of other programs stay, and with `dry_run` all of them. Return how many bytes each
        file took.
        """
        ...

    def staged_uploads(self) -> AsyncIterator[tuple[UploadId, int]]:
        """List every upload that has bytes, and how many."""
        ...

    async def staged_size(self, upload: UploadId) -> int | None:
        """Return how many bytes an upload holds; None if nothing is stored for it."""
        ...

    async def is_held(self, upload: UploadId) -> bool:
        """Whether a request is writing to the upload."""
        ...

    async def read_mark(self) -> Mark | None:
        """Read the mark of the store; None if it has none."""
        ...

    async def put_mark(self, mark: Mark) -> None:
        """Write a mark durably, unless the store has one."""
        ...
