"""The two ways to say "done" that clients were written for."""

from __future__ import annotations

import enum


class Dialect(enum.StrEnum):
    """Which description the answers follow.

    `oci` is the distribution-spec; `acr-2017` is the description of Azure Container Registry of
    September 2017, for clients that were generated from it.
    """

    OCI = "oci"
    ACR_2017 = "acr-2017"
