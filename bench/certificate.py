"""A self-signed certificate that both servers use."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.programs import run

CURVE = "ec_paramgen_curve:prime256v1"


class Certificate(NamedTuple):
    """Two PEM files."""

    chain: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Make a certificate with an elliptic key, as both servers serve it with least work."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    subject = ("-subj", "/CN=localhost", "-days", "2", "-nodes")
    files = ("-keyout", str(made.key), "-out", str(made.chain))
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", CURVE, *subject, *files)
    return made
