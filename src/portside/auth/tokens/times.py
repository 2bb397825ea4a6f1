"""When a token is valid, by this registry's clock (RFC 7519, section 4.1)."""

from __future__ import annotations

import math
from typing import Any

CLOCK_SKEW = 60
"""Seconds by which the clocks of an issuer and of this registry may differ."""


def explain_times(claims: dict[str, Any], now: float, *, skew: int, grace: int) -> str:
    """Return why a token is not valid now, or nothing if it is.

    `skew` is how many seconds early it is accepted (`nbf`, `iat`), `grace` how many seconds after
    its end (`exp`). The claims that are there must be numbers.
    """
    times = {name: claims[name] for name in ("nbf", "iat", "exp") if name in claims}
    for name, value in times.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            return f"the claim {name} of the token is not a time"
    early = max((times[name] - now for name in ("nbf", "iat") if name in times), default=0)
    if early > skew:
        return (
            f"the token is not valid yet: it begins {_seconds(early)} after the time of the"
            f" registry's clock, and {skew} s are tolerated; synchronize the clocks of the issuer"
            " and the registry"
        )
    late = now - times["exp"] if "exp" in times else -1
    if late >= grace:
        return (
            f"the token has expired: it ended {_seconds(late)} before the time of the registry's"
            f" clock, and {grace} s are tolerated; request a new token, and if it is new,"
            " synchronize the clocks of the issuer and the registry"
        )
    return ""


def _seconds(value: float) -> str:
    return f"{math.ceil(value)} s"
