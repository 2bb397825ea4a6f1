"""What webhooks are sent: whole documents of each format, and the library that reads them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from portside.operations.webhooks.formats import Origin, encode, ping
from portside.spec.webhooks import EXPRESSED, Format
from portside.stores.actors import Actor, background_actor
from portside.stores.events import Event, EventAction

DELIVERY = "0123456789abcdef0123456789abcdef"
ID = "01234567-89ab-cdef-0123-456789abcdef"
IDENTITY = "f" * 32
INSTANCE = "ffffffff-ffff-ffff-ffff-ffffffffffff"
ORIGIN = Origin("https://registry.example", IDENTITY)
HIDDEN = Origin("", IDENTITY)
TIME = 1_801_000_000_000_000
WRITTEN = "2027-01-26T21:46:40.000000Z"
DIGEST = "sha256:" + "a" * 64
INDEX = "application/vnd.oci.image.index.v1+json"
ALICE = Actor("alice", "req-1", "192.0.2.7", "docker/27", "10.0.0.1:5000", "PUT")
RETENTION = background_actor("retention")


def event(action: str, **members: Any) -> Event:
    """Return an event of alice about a repository."""
    empty: dict[str, Any] = {
        "reference": "",
        "digest": "",
        "media_type": "",
        "size": None,
        "details": {},
    }
    known = {"id": 7, "time": TIME, "repository": "team/app", "by": ALICE, **empty}
    return Event(action=action, **{**known, **members})


PUSHED = event("manifest.pushed", reference="1", digest=DIGEST, media_type=INDEX, size=524)
TAGGED = event(
    "manifest.pushed", digest=DIGEST, media_type=INDEX, size=524, details={"tags": ["1", "2"]}
)
BY_DIGEST = event("manifest.pushed", digest=DIGEST, media_type=INDEX, size=524)
DELETED = event("manifest.deleted", digest=DIGEST, media_type=INDEX, by=RETENTION)
UNTAGGED = event("tag.deleted", reference="1", digest=DIGEST)
GONE = event("repository.deleted", details={"manifests": 2, "tags": 3})
BLOB = event("blob.pushed", digest=DIGEST, size=9)
MOUNTED = event("blob.mounted", digest=DIGEST, size=9, details={"from": "base/os"})


def document(form: Format, sent: Event, origin: Origin = ORIGIN) -> Any:
    """Return what a receiver gets."""
    return json.loads(encode(form, sent, DELIVERY, origin).body)


class TestCloudEvents:
    """CloudEvents 1.0, JSON, in structured mode."""

    def test_document(self) -> None:
        """The attributes say what happened where, and the data is the event."""
        message = encode(Format.CLOUDEVENTS, PUSHED, DELIVERY, ORIGIN)
        assert message.content_type == "application/cloudevents+json"
        assert json.loads(message.body) == {
            "specversion": "1.0",
            "id": DELIVERY,
            "source": "https://registry.example",
            "type": "portside.manifest.pushed",
            "subject": "team/app:1",
            "time": WRITTEN,
            "datacontenttype": "application/json",
            "data": {
                "id": 7,
                "time": WRITTEN,
                "action": "manifest.pushed",
                "repository": "team/app",
                "reference": "1",
                "digest": DIGEST,
                "media_type": INDEX,
                "size": 524,
                "identity": "alice",
                "request": "req-1",
                "address": "192.0.2.7",
                "agent": "docker/27",
                "host": "10.0.0.1:5000",
                "method": "PUT",
                "details": {},
            },
        }

    @pytest.mark.parametrize(
        ("sent", "subject"),
        [
            (BY_DIGEST, f"team/app@{DIGEST}"),
            (GONE, "team/app"),
            (event("user.added", repository="", reference="bob"), "bob"),
            (event("login.limited", repository=""), None),
        ],
    )
    def test_subject(self, sent: Event, subject: str | None) -> None:
        """The subject is the name that commands take, or missing: it must not be empty."""
        assert document(Format.CLOUDEVENTS, sent).get("subject") == subject

    @pytest.mark.parametrize("origin", [ORIGIN, HIDDEN])
    @pytest.mark.parametrize("action", [*EventAction, "ping"])
    def test_library(self, action: str, origin: Origin) -> None:
        """The library of CloudEvents reads events of each action, by its own rules."""
        sent = ping(TIME) if action == "ping" else event(action)
        message = encode(Format.CLOUDEVENTS, sent, DELIVERY, origin)
        read = from_http_event(HTTPMessage({"content-type": message.content_type}, message.body))
        assert (read.get_id(), read.get_type()) == (DELIVERY, f"portside.{action}")
        assert read.get_source() == (origin.url or f"urn:uuid:{INSTANCE}")
        found = read.get_time()
        assert found is not None
        assert found.timestamp() * 1_000_000 == TIME
        data = read.get_data()
        assert isinstance(data, dict)
        assert data["action"] == action


class TestACR:
    """ACR's webhooks, by Microsoft's reference of their schema."""

    def test_push(self) -> None:
        """A manifest was pushed to a tag."""
        message = encode(Format.ACR, PUSHED, DELIVERY, ORIGIN)
        assert message.content_type == "application/json"
        assert json.loads(message.body) == {
            "id": ID,
            "timestamp": WRITTEN,
            "action": "push",
            "target": {
                "mediaType": INDEX,
                "size": 524,
                "digest": DIGEST,
                "length": 524,
                "repository": "team/app",
                "tag": "1",
            },
            "request": {
                "id": "req-1",
                "host": "registry.example",
                "method": "PUT",
                "useragent": "docker/27",
            },
        }

    def test_tags(self) -> None:
        """Of several tags, the first is sent; without one, there is no such member."""
        assert document(Format.ACR, TAGGED)["target"]["tag"] == "1"
        assert "tag" not in document(Format.ACR, BY_DIGEST)["target"]

    def test_host(self) -> None:
        """Without a public URL, the host is the one that the client asked."""
        assert document(Format.ACR, PUSHED, HIDDEN)["request"]["host"] == "10.0.0.1:5000"

    def test_delete(self) -> None:
        """A manifest was deleted, here by retention, which has no request."""
        assert document(Format.ACR, DELETED) == {
            "id": ID,
            "timestamp": WRITTEN,
            "action": "delete",
            "target": {"mediaType": INDEX, "digest": DIGEST, "repository": "team/app"},
            "request": {"id": "", "host": "registry.example", "method": "", "useragent": ""},
        }

    def test_delete_repository(self) -> None:
        """A repository was deleted."""
        found = document(Format.ACR, GONE)
        assert (found["action"], found["target"]) == ("delete", {"repository": "team/app"})

    def test_ping(self) -> None:
        """A receiver is tried."""
        assert document(Format.ACR, ping(TIME)) == {
            "id": ID,
            "timestamp": WRITTEN,
            "action": "ping",
        }


class TestDistribution:
    """The envelope of distribution's notifications."""

    def test_push(self) -> None:
        """A manifest was pushed to a tag."""
        message = encode(Format.DISTRIBUTION, PUSHED, DELIVERY, ORIGIN)
        assert message.content_type == "application/vnd.docker.distribution.events.v2+json"
        assert json.loads(message.body) == {
            "events": [
                {
                    "id": ID,
                    "timestamp": WRITTEN,
                    "action": "push",
                    "target": {
                        "mediaType": INDEX,
                        "size": 524,
                        "digest": DIGEST,
                        "length": 524,
                        "repository": "team/app",
                        "url": f"https://registry.example/v2/team/app/manifests/{DIGEST}",
                        "tag": "1",
                    },
                    "request": {
                        "id": "req-1",
                        "addr": "192.0.2.7",
                        "host": "registry.example",
                        "method": "PUT",
                        "useragent": "docker/27",
                    },
                    "actor": {"name": "alice"},
                    "source": {"addr": "registry.example", "instanceID": INSTANCE},
                }
            ]
        }

    def test_tags(self) -> None:
        """A push with several tags is an event for each, with an id of its own."""
        first, second = document(Format.DISTRIBUTION, TAGGED)["events"]
        assert [each["target"]["tag"] for each in (first, second)] == ["1", "2"]
        assert len({ID, str(UUID(first["id"])), str(UUID(second["id"]))}) == 3
        assert document(Format.DISTRIBUTION, TAGGED)["events"][0]["id"] == first["id"]

    @pytest.mark.parametrize(
        ("sent", "action", "target"),
        [
            (DELETED, "delete", {"digest": DIGEST}),
            (UNTAGGED, "delete", {"tag": "1"}),
            (GONE, "delete", {}),
            (event("blob.deleted", digest=DIGEST), "delete", {"digest": DIGEST}),
            (
                BLOB,
                "push",
                {
                    "mediaType": "application/octet-stream",
                    "size": 9,
                    "digest": DIGEST,
                    "length": 9,
                    "url": f"https://registry.example/v2/team/app/blobs/{DIGEST}",
                },
            ),
            (
                MOUNTED,
                "mount",
                {
                    "mediaType": "application/octet-stream",
                    "size": 9,
                    "digest": DIGEST,
                    "length": 9,
                    "fromRepository": "base/os",
                    "url": f"https://registry.example/v2/team/app/blobs/{DIGEST}",
                },
            ),
        ],
    )
    def test_targets(self, sent: Event, action: str, target: dict[str, Any]) -> None:
        """What is pushed, mounted and deleted has the members that it has there."""
        (found,) = document(Format.DISTRIBUTION, sent)["events"]
        assert found["action"] == action
        assert found["target"] == {"repository": "team/app", **target}

    def test_without_url(self) -> None:
        """Without a public URL, it is unknown how clients reach content."""
        (found,) = document(Format.DISTRIBUTION, PUSHED, HIDDEN)["events"]
        assert "url" not in found["target"]
        assert found["source"] == {"instanceID": INSTANCE}

    def test_ping(self) -> None:
        """A receiver is tried with an action that it does not act on."""
        (found,) = document(Format.DISTRIBUTION, ping(TIME))["events"]
        assert (found["action"], found["target"]) == ("ping", {})


def test_tags() -> None:
    """An event is about the tags that were pushed, set or deleted, and one of access about none."""
    found = [it.tags for it in (PUSHED, TAGGED, BY_DIGEST, UNTAGGED, GONE)]
    assert list(map(list, found)) == [["1"], ["1", "2"], [], ["1"], []]
    assert event("user.added", repository="", reference="bob").tags == ()


@pytest.mark.parametrize(
    ("form", "action"),
    [(form, action) for form, known in EXPRESSED.items() for action in sorted(known)],
)
def test_expressed(form: Format, action: str) -> None:
    """Each format has a form for the actions that it is said to have one for."""
    found = document(form, event(action))
    first = found["events"][0] if form is Format.DISTRIBUTION else found
    assert first["action"] in {"push", "mount", "delete"}
