"""`portside copy-store` and `portside read-only`, as their users meet them."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from portside.cli.identity import command_actor
from support.commands import Commands
from support.content import digest_of, image
from support.copying import opened_side
from support.copying import push as put
from support.postgres import Server
from support.s3 import BUCKET, S3
from support.server import run_portside, running_registry
from support.wire import assert_error, connect, push, put_manifest

APP = image("app", layers=3)


@pytest.fixture
def source(data: Path) -> Path:
    """Make a registry with an image."""

    async def fill() -> None:
        async with opened_side(data) as side:
            await put(side, "library/app", APP, "v1")

    asyncio.run(fill())
    return data


def configuration(path: Path, **settings: object) -> Path:
    """Write settings into a file."""
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()))
    return path


def test_move_to_servers_and_back(
    source: Path, tmp_path: Path, postgresql: Server, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry serves from PostgreSQL and an object store, and moves back to where it was."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    there = configuration(
        tmp_path / "there.toml",
        database=postgresql.make_database(),
        storage=f"s3://{BUCKET}/{uuid.uuid4().hex}",
    )
    back = configuration(tmp_path / "back.toml", data=source)
    move = ("copy-store", "--data", str(source), "--to", str(there))
    code, output, _ = run_portside(*move)
    assert (code, output) == (
        0,
        f"4 blobs ({sum(map(len, APP.blobs))} bytes) and 19 rows copied, 0 dropped.\n",
    )
    assert run_portside(*move) == (0, "Nothing to copy.\n", "")
    code, output, _ = run_portside(*move, "--finish")
    assert code == 0
    assert output.endswith(f"`portside serve --config {there}`. {source} stays read-only.\n")
    assert "No problem" in run_portside("check", "--config", str(there))[1]
    with (
        running_registry(tmp_path / "blobs", "--workers", "1", "--config", str(there)) as registry,
        connect(registry.url) as client,
    ):
        assert client.get("/v2/library/app/manifests/v1").content == APP.manifest
        push(client, "library/app", image("new"), "v2")
    code, output, errors = run_portside(*move, "--finish")
    assert (code, output) == (1, "")
    assert "the source was moved to postgresql:" in errors
    code, output, _ = run_portside(
        "copy-store", "--config", str(there), "--to", str(back), "--finish"
    )
    assert code == 0
    assert output.startswith("3 blobs ")


def test_who_uses_the_old_one(source: Path, tmp_path: Path) -> None:
    """After a move, clients, commands and the log of the old registry name the new one."""
    old, new = ("--data", str(source)), tmp_path / "new"
    there = configuration(tmp_path / "there.toml", data=new, **{"public-url": "https://new.ex"})
    password = tmp_path / "password"
    password.write_text("correct horse battery staple\n")
    add = ("user", "add", "alice", "--password-file", str(password), *old)
    with (
        running_registry(source, "--workers", "1") as registry,
        connect(registry.url) as client,
    ):
        assert run_portside("copy-store", *old, "--to", str(there), "--finish")[0] == 0
        answer = put_manifest(client, "library/app", APP, "v2")
        assert_error(answer, 503, "UNAVAILABLE")
        detail = answer.json()["errors"][0]["detail"]
        assert detail.startswith("the registry was moved to https://new.ex; push there (request ")
        assert client.get("/v2/library/app/manifests/v1").status_code == 200
    assert f"read-only because it was moved to {new};" in run_portside("read-only", *old)[1]
    _, _, errors = run_portside(*add)
    assert f"the registry was moved to {new}; name that one, or run `portside read-" in errors
    with running_registry(source, "--workers", "1") as registry:
        assert f"this registry was moved to {new}, and only answers pulls" in registry.log
    run_portside("read-only", "off", *old)
    for place in (source, new):
        found = Commands(place).json("events", "list", "--action", "read-only.*")
        assert [event["action"] for event in found] == ["read-only.lifted", "read-only.set"]
        assert {event["identity"] for event in found} == {command_actor().name}
    assert run_portside(*add)[0] == 0
    with running_registry(source, "--workers", "1") as registry:
        assert registry.log.count("moved") == 1


def test_damage(source: Path, tmp_path: Path) -> None:
    """What cannot be copied is named, nothing is moved, and the registry goes on."""
    there = configuration(tmp_path / "there.toml", data=tmp_path / "there")
    digest = digest_of(APP.blobs[1])
    encoded = digest.removeprefix("sha256:")
    (source / "blobs" / "sha256" / encoded[:2] / encoded).unlink()
    move = ("copy-store", "--data", str(source), "--to", str(there))
    code, output, _ = run_portside(*move, "--finish")
    assert code == 1
    assert output.startswith(f"blob {digest} of the source is missing\n")
    assert output.endswith(f"The registry was not moved: {source} continues as before.\n")
    assert run_portside("read-only", "--data", str(source))[1] == f"{source} is not read-only.\n"


def test_same_storage(source: Path, tmp_path: Path) -> None:
    """Blobs are not copied onto themselves, by whatever path they are named."""
    link = tmp_path / "link"
    link.symlink_to(source)
    for path in (f"{source}/.", link):
        there = configuration(
            tmp_path / "there.toml", data=path, database="postgresql://db.example/portside"
        )
        code, _, errors = run_portside("copy-store", "--data", str(source), "--to", str(there))
        assert code == 1
        assert "source and target keep their blobs in" in errors


def test_read_only(source: Path, tmp_path: Path) -> None:
    """The switch takes effect at once in a running registry, and reports its state."""
    where = ("--data", str(source))
    with (
        running_registry(source, "--workers", "1") as registry,
        connect(registry.url) as client,
    ):
        assert "is read-only" in run_portside("read-only", "on", *where)[1]
        assert_error(put_manifest(client, "library/app", APP, "v2"), 503, "UNAVAILABLE")
        assert client.get("/v2/library/app/manifests/v1").status_code == 200
        assert run_portside("read-only", "off", *where)[1].endswith("is not read-only.\n")
        assert put_manifest(client, "library/app", APP, "v2").status_code == 201
        assert registry.log == ""
    there = configuration(tmp_path / "there.toml", data=tmp_path / "there")
    assert run_portside("copy-store", *where, "--to", str(there))[0] == 0
    assert "is a copy of another" in run_portside("read-only", "--config", str(there))[1]
