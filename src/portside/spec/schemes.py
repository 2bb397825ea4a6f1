"""How a registry asks for credentials."""

from __future__ import annotations

import enum


class AuthScheme(enum.StrEnum):
    """What a challenge names.

    `bearer` is Docker's token authentication, which today's clients expect; names and passwords
    are taken as well. `basic` is the description of 2017, which knows nothing else. `auto` is the
    one that goes with the dialect.
    """

    AUTO = "auto"
    BEARER = "bearer"
    BASIC = "basic"
