"""What clients expect: the description that responses follow, and the scheme of challenges."""

from __future__ import annotations

import enum
from functools import cached_property


class Dialect(enum.StrEnum):
    """Which description the responses follow.

    `oci` is the distribution-spec; `acr-2017` is the description of Azure Container Registry of
    September 2017, for clients that were generated from it.
    """

    OCI = "oci"
    ACR_2017 = "acr-2017"

    @cached_property
    def prefers_schema_1(self) -> bool:
        """Whether images are sent as the `Layers` of 2017 unless Accept names their own type."""
        return self is Dialect.ACR_2017


class AuthScheme(enum.StrEnum):
    """What a challenge names.

    `bearer` is Docker's token authentication, which today's clients expect; names and passwords
    are taken as well. `basic` is the description of 2017, which knows nothing else. `auto` is the
    one that goes with the dialect.
    """

    AUTO = "auto"
    BEARER = "bearer"
    BASIC = "basic"
