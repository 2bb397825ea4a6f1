"""Who makes a request, as the events of its changes record it."""

from __future__ import annotations

from starlette.types import Scope

from portside.api.addresses import Addresses
from portside.api.records import RECORD, RequestRecord
from portside.stores.actors import Actor


def client_actor(addresses: Addresses, scope: Scope, name: str = "") -> Actor:
    """Return the actor of a request; `name` is that of the identity."""
    sent = dict(scope["headers"])
    record: RequestRecord = scope[RECORD]
    return Actor(
        name=name,
        request=record.id,
        address=addresses.client_address(scope),
        agent=sent.get(b"user-agent", b"").decode("latin-1"),
        host=sent.get(b"host", b"").decode("latin-1"),
        method=scope["method"],
    )
