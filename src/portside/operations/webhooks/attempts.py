"""One attempt of a delivery: a message in the format of the webhook, signed and sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import uuid4

from portside import __version__
from portside.operations.webhooks.formats import Origin, encode, ping
from portside.operations.webhooks.sending import Answer, Post, send
from portside.operations.webhooks.signature import SecretUnreadable, Signer
from portside.spec.webhooks import Webhook
from portside.stores.events import Event
from portside.stores.webhooks import Delivery

AGENT = f"Portside/{__version__}"


class Attempts:
    """Makes attempts, each within `timeout` seconds; `clock` returns microseconds since 1970.

    `more` returns headers that a request has besides.
    """

    def __init__(
        self,
        signer: Signer,
        origin: Origin,
        *,
        timeout: float,
        clock: Callable[[], int],
        more: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._signer = signer
        self._origin = origin
        self._timeout = timeout
        self._clock = clock
        self._more = more

    async def deliver(self, webhook: Webhook, delivery: Delivery) -> Answer:
        """Send the event of a delivery."""
        return await self._send(webhook, delivery.id, delivery.event)

    async def ping(self, webhook: Webhook) -> Answer:
        """Send an event that is about nothing."""
        return await self._send(webhook, uuid4().hex, ping(self._clock()))

    async def _send(self, webhook: Webhook, number: str, event: Event) -> Answer:
        message = encode(webhook.format, event, number, self._origin)
        try:
            signed = self._signer.sign(webhook, number, self._clock() // 1_000_000, message.body)
        except SecretUnreadable as error:
            return Answer(0, str(error))
        own = {"Content-Type": message.content_type, "User-Agent": AGENT}
        headers = {**self._more(), **own, **signed}
        post = Post(webhook.url, headers, message.body, webhook.allow_private)
        return await send(post, timeout=self._timeout)
