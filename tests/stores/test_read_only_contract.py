"""What every metadata store keeps to while its registry is read-only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import BlobUnknown, ReadOnly
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import PageRequest
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.access import AccessStore, IdentityKind, StoredIdentity
from portside.stores.interfaces import LastPull
from stores.conftest import CheckableStore, Clock, Shelf
from stores.test_access_contract import ALICE, EMPTY, KEY, NEXT_KEY, PULL, ROBOT
from stores.test_metadata_contract import add, add_blob, parsed
from support.content import image
from support.waiting import PATIENCE

A, B = RepositoryName("a"), RepositoryName("b")
CONTENT = image(1)
KNOWN = Digest.of(CONTENT.blobs[0])
LOOSE = Digest.of(b"loose")


def session(clock: Clock) -> UploadSession:
    """Open an upload session."""
    return UploadSession(
        id=UploadId.fresh(),
        repository=A,
        algorithm=Algorithm.SHA256,
        created=clock.now,
        updated=clock.now,
    )


def changes(
    metadata: CheckableStore, access: AccessStore, opened: UploadSession
) -> list[Callable[[], Awaitable[object]]]:
    """Return everything that changes content or access."""
    digest = Digest(CONTENT.digest)
    return [
        lambda: add_blob(metadata, A, Digest.of(b"new")),
        lambda: add_blob(metadata, B, KNOWN),
        lambda: metadata.mount_blob(B, KNOWN, A, size=4),
        lambda: metadata.unlink_blob(A, LOOSE, remove=pytest.fail),
        lambda: metadata.put_manifest(
            A, parsed(CONTENT), tags=[Tag("v2")], condition=None, check_children=True
        ),
        lambda: metadata.delete_manifest(A, digest),
        lambda: metadata.delete_tag(A, Tag("v1")),
        lambda: metadata.open_upload(opened),
        lambda: metadata.advance_upload(opened.at(1), origin=0),
        lambda: access.add_identity(StoredIdentity("new", IdentityKind.USER, 1)),
        lambda: access.change_identity("alice", IdentityKind.USER, lambda found: found),
        lambda: access.remove_identity("alice", IdentityKind.USER),
        lambda: access.add_scope_map(EMPTY),
        lambda: access.change_scope_map("pull", lambda found: found),
        lambda: access.add_key(NEXT_KEY),
        lambda: access.remove_keys([KEY.id]),
    ]


async def fill(metadata: CheckableStore, access: AccessStore) -> None:
    """Keep one of everything."""
    await add(metadata, A, CONTENT)
    await add_blob(metadata, A, LOOSE)
    await metadata.note_pulls([LastPull(A, Digest(CONTENT.digest), 1)])
    assert await access.add_scope_map(PULL)
    assert await access.add_identity(ALICE)
    assert await access.add_identity(ROBOT)
    await access.add_key(KEY)


async def test_nothing_changes(shelf: Shelf, clock: Clock) -> None:
    """Every change is refused, in every process; all that reads goes on, and so does all later."""
    metadata, access = shelf.metadata(), shelf.access()
    other = shelf.metadata()
    opened = session(clock)
    await fill(metadata, access)
    await metadata.open_upload(opened)
    before = await access.access_state()
    assert not (await metadata.set_read_only(read_only=True)).read_only
    assert (await other.registry_state()).read_only
    for change in changes(other, access, opened):
        with pytest.raises(ReadOnly):
            await change()
    assert await access.access_state() == before
    assert (await metadata.get_manifest(A, Tag("v1"))).payload == CONTENT.manifest
    assert (await metadata.list_tags(A, PageRequest(5))).items == ["v1"]
    with pytest.raises(BlobUnknown):
        await metadata.get_blob(B, KNOWN)
    assert (await metadata.set_read_only(read_only=False)).read_only
    for change in changes(other, access, opened)[:2]:
        await change()


@pytest.mark.parametrize(
    "sql", ["UPDATE signing_keys SET private = 'other'", "DELETE FROM signing_keys"]
)
async def test_keys_stay(shelf: Shelf, sql: str) -> None:
    """No statement changes a signing key, and none is added, by a start either."""
    metadata, access = shelf.metadata(), shelf.access()
    await access.add_key(KEY)
    await metadata.set_read_only(read_only=True)
    with pytest.raises(ReadOnly):
        await shelf.execute(sql)
    with pytest.raises(ReadOnly):
        await access.add_key(NEXT_KEY)
    assert await shelf.access().list_keys() == [KEY]


async def test_what_goes_on(shelf: Shelf, clock: Clock) -> None:
    """A registry that is read-only is ready, counts failed logins, and lets sessions end."""
    metadata, access = shelf.metadata(), shelf.access()
    opened = session(clock)
    await metadata.open_upload(opened)
    await metadata.set_read_only(read_only=True)
    await metadata.probe()
    await access.add_failure("127.0.0.1", "alice", forget_before=0)
    assert await access.count_failures("127.0.0.1", None, 0) == 1
    await metadata.close_upload(opened)
    assert not await metadata.has_upload(opened.id)
    assert await metadata.remove_orphaned_blob(LOOSE, remove=lambda: None)


async def test_setting_waits(shelf: Shelf) -> None:
    """What is under way when the switch is set is committed first, and seen when it is set."""
    writer, setter = shelf.metadata(), shelf.metadata()
    placing, go_on = threading.Event(), threading.Event()

    def place() -> None:
        placing.set()
        assert go_on.wait(2 * PATIENCE)

    writing = asyncio.ensure_future(writer.commit_blob(A, KNOWN, 4, session=None, place=place))
    await asyncio.to_thread(placing.wait, PATIENCE)
    setting = asyncio.ensure_future(setter.set_read_only(read_only=True))
    late = asyncio.ensure_future(add_blob(shelf.metadata(), A, LOOSE))
    done, _ = await asyncio.wait([setting, writing], timeout=0.05)
    assert not done
    go_on.set()
    await setting
    assert (await setter.get_blob(A, KNOWN)).size == 4
    await writing
    # Whether it came before or after, it is whole.
    (result,) = await asyncio.gather(late, return_exceptions=True)
    found = await setter.blob_record(str(LOOSE))
    assert (found is None) == isinstance(result, ReadOnly)
    with pytest.raises(ReadOnly):
        await add_blob(writer, B, KNOWN)


async def test_identities_differ(shelf: Shelf) -> None:
    """A store is told from others by its identity, which stays the same."""
    metadata = shelf.metadata()
    state = await metadata.registry_state()
    assert len(state.identity) == 32
    assert (state.copy_of, state.read_only) == (None, False)
    await metadata.set_read_only(read_only=True)
    assert (await shelf.metadata().registry_state()).identity == state.identity


async def test_the_blob_store_is_noted_once(metadata: CheckableStore) -> None:
    """The first name recorded stays, and it can be recorded while the registry is read-only."""
    assert (await metadata.registry_state()).storage is None
    await metadata.set_read_only(read_only=True)
    await metadata.note_storage("first")
    await metadata.note_storage("second")
    assert (await metadata.registry_state()).storage == "first"
