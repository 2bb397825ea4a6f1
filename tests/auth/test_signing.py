"""Signatures of documents, by libtrust's rules."""

from __future__ import annotations

import json

import pytest
from cryptography.exceptions import InvalidSignature

from portside.auth.signing import DocumentSigner
from support.schema1 import signed_payload

NOON = 1_714_996_800_000_000
DOCUMENT = json.dumps({"name": "library/ü", "tag": "v1"}, indent=3, ensure_ascii=False).encode()


def sign(document: bytes = DOCUMENT) -> bytes:
    """Sign a document."""
    return DocumentSigner(lambda: NOON).sign(document)


def test_the_payload_can_be_restored() -> None:
    """The signature stands in the document, as its last field, and is not signed itself."""
    signed = sign()
    assert signed_payload(signed) == DOCUMENT
    assert list(json.loads(signed)) == ["name", "tag", "signatures"]


def test_numbers_have_leading_zeros() -> None:
    """One number in 256 is shorter than the others, but is not written so."""
    for _ in range(150):
        assert signed_payload(sign()) == DOCUMENT


def test_each_signer_has_a_key_of_its_own() -> None:
    """One keeps its key for as long as it lives."""
    one, other = DocumentSigner(lambda: NOON), DocumentSigner(lambda: NOON)
    keys = [
        json.loads(signer.sign(DOCUMENT))["signatures"][0]["header"]["jwk"]["kid"]
        for signer in (one, one, other)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_a_forgery() -> None:
    """A document that was changed does not verify."""
    with pytest.raises(InvalidSignature):
        signed_payload(sign().replace(b"v1", b"v2"))


@pytest.mark.parametrize("document", [b"{}", b'{"a": 1}', b"[\n]", b""])
def test_other_documents(document: bytes) -> None:
    """Only an object of several lines has a place for a signature."""
    with pytest.raises(ValueError, match="indented"):
        sign(document)
