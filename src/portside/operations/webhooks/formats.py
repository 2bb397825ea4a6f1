"""The formats in which events are sent: CloudEvents 1.0, ACR's webhooks, distribution's envelope.

Which actions the last two have a form for is in `spec/webhooks.py`.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from portside.operations.events import document_of
from portside.operations.tag_history import format_time
from portside.spec.webhooks import Format
from portside.stores.actors import REGISTRY
from portside.stores.events import SOURCE, Event, EventAction

# CloudEvents, HTTP binding, section 3.2: structured content mode.
CLOUDEVENTS_TYPE = "application/cloudevents+json"
ACR_TYPE = "application/json"
# distribution, notifications/event.go.
DISTRIBUTION_TYPE = "application/vnd.docker.distribution.events.v2+json"

OCTETS = "application/octet-stream"
"""The media type that distribution has for all blobs."""

PING = "ping"
"""The action of what a receiver is sent to try it, which is ACR's word. It is never recorded."""

_VERBS = {
    EventAction.MANIFEST_PUSHED: "push",
    EventAction.BLOB_PUSHED: "push",
    EventAction.BLOB_MOUNTED: "mount",
    EventAction.MANIFEST_DELETED: "delete",
    EventAction.TAG_DELETED: "delete",
    EventAction.REPOSITORY_DELETED: "delete",
    EventAction.BLOB_DELETED: "delete",
    PING: PING,
}
"""The words of ACR and distribution for actions."""

_OF_BLOBS = {EventAction.BLOB_PUSHED, EventAction.BLOB_MOUNTED}


class Origin(NamedTuple):
    """Which registry sends: its public URL, empty if none is set, and its own random identity."""

    url: str
    identity: str

    @property
    def host(self) -> str:
        """The host and the port of the URL."""
        return urlsplit(self.url).netloc


class Message(NamedTuple):
    """What is sent, and the media type of it."""

    content_type: str
    body: bytes


def encode(form: Format, event: Event, delivery: str, origin: Origin) -> Message:
    """Return the message about an event, which is the same in each attempt.

    `delivery` is a random number of 128 bits, in hexadecimal. The format has to express the action.
    """
    match form:
        case Format.CLOUDEVENTS:
            return _message(CLOUDEVENTS_TYPE, _cloudevent(event, delivery, origin))
        case Format.ACR:
            return _message(ACR_TYPE, _acr(event, delivery, origin))
        case Format.DISTRIBUTION:
            return _message(DISTRIBUTION_TYPE, _distribution(event, delivery, origin))


def ping(time: int) -> Event:
    """Return an event that is about nothing, to try a receiver; `time` is microseconds."""
    return Event(
        id=0,
        time=time,
        action=PING,
        repository="",
        reference="",
        digest="",
        media_type="",
        size=None,
        by=REGISTRY,
        details={},
    )


def _message(content_type: str, document: dict[str, Any]) -> Message:
    return Message(content_type, json.dumps(document, separators=(",", ":")).encode())


def _present(**members: Any) -> dict[str, Any]:
    """Return the members that are not empty."""
    return {name: value for name, value in members.items() if value not in ("", None)}


def _cloudevent(event: Event, delivery: str, origin: Origin) -> dict[str, Any]:
    """Return a CloudEvent, whose data is the event as `portside events --json` has it.

    The id is that of the delivery: ids of events come again when a registry is restored.
    """
    place = event.repository
    if place and event.reference:
        subject = f"{place}:{event.reference}"
    elif place and event.digest:
        subject = f"{place}@{event.digest}"
    else:
        subject = place or event.reference
    return _present(
        specversion="1.0",
        id=delivery,
        source=origin.url or UUID(origin.identity).urn,
        type=f"portside.{event.action}",
        subject=subject,
        time=format_time(event.time),
        datacontenttype="application/json",
        data=document_of(event),
    )


def _begin(event: Event, number: UUID) -> dict[str, Any]:
    """Return the members that ACR's messages and distribution's events begin with."""
    verb = _VERBS[event.action]
    return {"id": str(number), "timestamp": format_time(event.time), "action": verb}


def _request(event: Event, origin: Origin, **members: str) -> dict[str, Any]:
    """Return the request that made the change.

    Receivers make the names of images of its host. Where it is known by which name clients reach
    the registry, it is not for a client to say.
    """
    by = event.by
    return {
        "id": by.request,
        **_present(**members, host=origin.host or by.host),
        "method": by.method,
        "useragent": by.agent,
    }


def _acr(event: Event, delivery: str, origin: Origin) -> dict[str, Any]:
    """Return a message of ACR, which has one tag: the first, if a push had several."""
    document = _begin(event, UUID(delivery))
    if event.action == PING:
        return document
    target = _present(
        mediaType=event.media_type,
        size=event.size,
        digest=event.digest,
        length=event.size,
        repository=event.repository,
        tag=next(iter(event.tags), ""),
    )
    return {**document, "target": target, "request": _request(event, origin)}


def _distribution(event: Event, delivery: str, origin: Origin) -> dict[str, Any]:
    """Return an envelope of distribution; it has one event for each tag that was pushed."""
    number, tags = UUID(delivery), event.tags or [""]
    return {
        "events": [
            {
                **_begin(event, number if len(tags) == 1 else uuid5(number, tag)),
                "target": _distribution_target(event, tag, origin),
                "request": _request(event, origin, addr=event.by.address),
                "actor": _present(name=event.by.name),
                "source": _present(addr=origin.host, instanceID=str(UUID(origin.identity))),
            }
            for tag in tags
        ]
    }


def _distribution_target(event: Event, tag: str, origin: Origin) -> dict[str, Any]:
    """Return what an event is about.

    Of what was deleted it has the names alone, and no digest with a tag, which would mean that the
    manifest was deleted.
    """
    names = _present(
        digest="" if event.action == EventAction.TAG_DELETED else event.digest,
        repository=event.repository,
        tag=tag,
    )
    if _VERBS[event.action] not in {"push", "mount"}:
        return names
    is_blob = event.action in _OF_BLOBS
    kind = "blobs" if is_blob else "manifests"
    url = f"{origin.url.rstrip('/')}/v2/{event.repository}/{kind}/{event.digest}"
    return names | _present(
        mediaType=OCTETS if is_blob else event.media_type,
        size=event.size,
        length=event.size,
        fromRepository=event.details.get(SOURCE, ""),
        url=url if origin.url else "",
    )
