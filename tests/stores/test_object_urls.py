"""URLs of object stores, and the endpoints that the environment gives."""

from __future__ import annotations

from pathlib import Path

import obstore
import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from portside.stores.blobs.objects.leases import LIFE
from portside.stores.blobs.objects.urls import BRIEF, StorageUrlInvalid, find_profile, open_store
from portside.stores.blobs.opening import Limits, open_blobs
from portside.stores.metadata.postgres.database import LEASE
from support.s3 import BUCKET, S3

AZURE = {"AZURE_STORAGE_ACCOUNT_NAME": "portside", "AZURE_STORAGE_ACCOUNT_KEY": "a2V5"}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AZURE.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("url", "kind", "prefix"),
    [
        ("s3://bucket", S3Store, None),
        ("s3://bucket/", S3Store, None),
        ("s3://bucket/a/prefix/", S3Store, "a/prefix"),
        ("az://container/prefix", AzureStore, "prefix"),
        ("gs://bucket/prefix", GCSStore, "prefix"),
    ],
)
def test_clouds(url: str, kind: type[S3Store], prefix: str | None) -> None:
    """A bucket or container, and a prefix in it."""
    store = open_store(url, environment={})
    assert isinstance(store, kind)
    assert store.prefix == prefix
    assert store.client_options is not None
    assert store.client_options["allow_http"] in (False, "false")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("bucket", "write file:///"),
        ("http://bucket", "name the bucket, such as s3://BUCKET/PREFIX"),
        ("memory:///", "has to begin with s3://"),
        ("s3:///prefix", "no bucket"),
        ("s3://key:secret@bucket", "come from the environment"),
        ("s3://key:secret@", "come from the environment"),
        ("s3://bucket?region=secret", "come from the environment"),
        ("az://container/prefix?sv=1&sig=secret", "come from the environment"),
        ("https://key:secret@bucket", "come from the environment"),
        ("s3://[bucket", "cannot be read"),
    ],
)
def test_refused(url: str, reason: str) -> None:
    """What is no store is refused in one line."""
    with pytest.raises(StorageUrlInvalid, match=reason) as refused:
        open_store(url, environment={})
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket", "AWS_ENDPOINT_URL"),
        ("s3://bucket", "AWS_ENDPOINT_URL_S3"),
        ("az://container", "AZURE_STORAGE_ENDPOINT"),
        ("gs://bucket", "GOOGLE_BASE_URL"),
    ],
)
def test_no_tls(url: str, name: str) -> None:
    """An endpoint without TLS is on this machine, or is allowed by a setting."""
    for near in ("http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"):
        open_store(url, environment={name: near})
    far = {name: "http://store.example:9000"}
    with pytest.raises(StorageUrlInvalid, match=r"store\.example:9000 has no TLS"):
        open_store(url, environment=far)
    open_store(url, environment=far, allow_http=True)
    open_store(url, environment={name: "https://store.example"})


def test_a_removal_ends_before_others_stop_waiting_for_it() -> None:
    """A node that lost its database must not remove what another one has pushed since."""
    longest = BRIEF.retries + BRIEF.connect + BRIEF.whole
    assert longest < LEASE
    assert longest * 1_000_000 < LIFE


class TestProfiles:
    """Credentials in the files of AWS."""

    @pytest.fixture
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """Keep a default profile and a named one; gives the environment that leads to them."""
        credentials = tmp_path / "credentials"
        credentials.write_text(
            "[default]\naws_access_key_id = ours\naws_secret_access_key = default-secret\n"
            "[team]\naws_access_key_id = teams\naws_secret_access_key = secret\n"
            "region = eu-west-1\n"
        )
        environment = {
            "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
            "AWS_CONFIG_FILE": str(tmp_path / "missing"),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return environment

    def test_the_one_that_is_named(self, files: dict[str, str]) -> None:
        """It goes before keys in the environment, as AWS_PROFILE was set on purpose."""
        found = find_profile({**files, "AWS_PROFILE": "team", "AWS_ACCESS_KEY_ID": "other"})
        assert found is not None
        assert found()["access_key_id"] == "teams"
        assert found.config == {"region": "eu-west-1"}

    def test_the_one_that_everybody_has(self, files: dict[str, str]) -> None:
        found = find_profile(files)
        assert found is not None
        assert found()["access_key_id"] == "ours"
        assert find_profile({**files, "AWS_ACCESS_KEY_ID": "other"}) is None

    def test_none(self, tmp_path: Path) -> None:
        assert find_profile({"HOME": str(tmp_path)}) is None

    def test_one_that_is_not_there(self, files: dict[str, str]) -> None:
        with pytest.raises(StorageUrlInvalid, match=r"the profile other: .*could not be found"):
            open_store("s3://bucket", environment={**files, "AWS_PROFILE": "other"})

    def test_a_store_is_reached(
        self, files: dict[str, str], s3: S3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a profile says is what requests are signed with."""
        Path(files["AWS_SHARED_CREDENTIALS_FILE"]).write_text(
            f"[server]\naws_access_key_id = {s3.environment['AWS_ACCESS_KEY_ID']}\n"
            f"aws_secret_access_key = {s3.environment['AWS_SECRET_ACCESS_KEY']}\n"
        )
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.environment["AWS_ENDPOINT_URL"])
        environment = {
            **files,
            "AWS_PROFILE": "server",
            "AWS_ENDPOINT_URL": s3.environment["AWS_ENDPOINT_URL"],
        }
        store = open_store(f"s3://{BUCKET}/profiles", environment=environment)
        obstore.put(store, "key", b"content")
        assert bytes(obstore.get(store, "key").bytes()) == b"content"


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "S3://bucket/prefix", "s3://bucket/prefix/"])
def test_one_place(url: str, tmp_path: Path) -> None:
    """However a place is spelled, it is known for the same one."""
    blobs = open_blobs(
        url,
        root=tmp_path,
        environment={},
        allow_http=False,
        limits=Limits(hold_timeout=0, reserve=0, upload_memory=0),
        clock=lambda: 0,
    )
    blobs.close()
    assert blobs.location == "s3://bucket/prefix"
