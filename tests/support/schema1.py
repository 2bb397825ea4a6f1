"""Manifests of schema 1: images to convert, and libtrust's rules, without the code under test."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from support.content import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Content,
    descriptor,
    make_blob,
)

PLAIN = "application/vnd.docker.distribution.manifest.v1+json"
SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
EMPTY_LAYER = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"

OCI_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

TIME = "2024-05-06T07:08:09.123456789Z"
HISTORY: list[dict[str, Any]] = [
    {"created": TIME, "created_by": "ADD rootfs <&> / # buildkit"},
    {"created": TIME, "created_by": 'ENV a="b"', "empty_layer": True, "comment": "ü"},
    {"created": TIME, "created_by": "COPY . .", "author": "someone"},
    {"created": TIME, "created_by": "CMD run", "empty_layer": True},
]
"""Two steps with a layer, and two without."""


def built(
    seed: object,
    *,
    docker: bool = False,
    layer_type: str = "",
    config: bytes | None = None,
    layers: int = 2,
    **fields: Any,
) -> Content:
    """Make an image as builders make it; `fields` are added to its config, or replace some."""
    tars = [make_blob(100, (seed, number)) for number in range(layers)]
    blobs = [gzip.compress(tar, mtime=0) for tar in tars]
    if config is None:
        document = {
            "architecture": "arm64",
            "os": "linux",
            "created": TIME,
            "config": {"Cmd": ["run"], "seed": repr(seed)},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
            },
            "history": HISTORY,
            **fields,
        }
        config = json.dumps(document).encode()
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    layer_type = layer_type or (DOCKER_GZIP if docker else OCI_GZIP)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config, DOCKER_CONFIG if docker else OCI_CONFIG),
        "layers": [descriptor(blob, layer_type) for blob in blobs],
    }
    return Content(json.dumps(manifest).encode(), media_type, [config, *blobs])


def signed_payload(signed: bytes) -> bytes:
    """Return the payload of a signed manifest, as libtrust's ParsePrettySignature and Verify do."""
    blocks = json.loads(signed)["signatures"]
    assert blocks
    payloads = set()
    for block in blocks:
        assert block["header"]["alg"] == "ES256"
        protected = json.loads(_decode(block["protected"]))
        assert set(protected) == {"formatLength", "formatTail", "time"}
        payload = signed[: protected["formatLength"]] + _decode(protected["formatTail"])
        public = _public_key(block["header"]["jwk"])
        signature = _decode(block["signature"])
        assert len(signature) == 64
        halves = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        signing_input = f"{block['protected']}.{_encode(payload)}".encode()
        # Raises InvalidSignature.
        public.verify(encode_dss_signature(*halves), signing_input, ec.ECDSA(hashes.SHA256()))
        payloads.add(payload)
    assert len(payloads) == 1
    return payloads.pop()


def _public_key(jwk: dict[str, str]) -> ec.EllipticCurvePublicKey:
    assert set(jwk) == {"crv", "kid", "kty", "x", "y"}
    assert (jwk["kty"], jwk["crv"]) == ("EC", "P-256")
    x, y = _decode(jwk["x"]), _decode(jwk["y"])
    assert len(x) == len(y) == 32
    numbers = (int.from_bytes(x, "big"), int.from_bytes(y, "big"))
    public = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    name = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    assert jwk["kid"] == ":".join(name[start : start + 4] for start in range(0, 48, 4))
    return public


def _decode(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
