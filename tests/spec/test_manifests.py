"""What the registry reads in a manifest."""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.spec.digests import Digest
from portside.spec.errors import ManifestInvalid
from portside.spec.manifests import ManifestReference, ReferenceKind, parse_manifest
from support.content import OCI_INDEX, OCI_MANIFEST, artifact, digest_of, image, index

texts = st.text(max_size=5)
values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "mediaType",
        "artifactType",
        "blobs",
    ]
)


@given(st.dictionaries(fields, values), st.sampled_from([OCI_MANIFEST, OCI_INDEX, "a/b", None]))
def test_any_document(document: dict[str, Any], content_type: str | None) -> None:
    """Any JSON object is read or refused; what is read keeps every byte."""
    payload = json.dumps(document).encode()
    try:
        manifest = parse_manifest(payload, content_type=content_type)
    except ManifestInvalid:
        return
    assert manifest.payload == payload
    assert manifest.digest == digest_of(payload)


@given(st.binary(max_size=60))
def test_any_bytes(payload: bytes) -> None:
    """Bytes that are no JSON object are refused."""
    with pytest.raises(ManifestInvalid):
        parse_manifest(b"[" + payload, content_type=OCI_MANIFEST)


def test_references_of_an_image() -> None:
    """An image refers to its config and layers."""
    content = image(1)
    manifest = parse_manifest(content.manifest, content_type=OCI_MANIFEST)
    expected = {
        ManifestReference(ReferenceKind.BLOB, Digest(digest_of(blob))) for blob in content.blobs
    }
    assert set(manifest.references) == expected
    assert manifest.artifact_type == "application/vnd.oci.image.config.v1+json"


def test_references_of_an_index() -> None:
    """An index refers to manifests."""
    content = index(image(1), image(2))
    manifest = parse_manifest(content.manifest, content_type=OCI_INDEX)
    kinds = {reference.kind for reference in manifest.references}
    assert kinds == {ReferenceKind.MANIFEST}
    assert manifest.artifact_type is None


def test_artifact() -> None:
    """An artifact has its own type, a subject and annotations."""
    subject = image(1)
    content = artifact(1, "application/a", subject=subject.descriptor, annotations={"k": "v"})
    manifest = parse_manifest(content.manifest, content_type=None)
    assert manifest.artifact_type == "application/a"
    assert manifest.subject == subject.digest
    assert manifest.annotations == {"k": "v"}


def test_artifact_type_with_a_nul() -> None:
    """Not every database holds one, and no media type has one."""
    content = artifact(1, "application/\0", subject=image(1).descriptor)
    with pytest.raises(ManifestInvalid, match="artifact type contains a NUL"):
        parse_manifest(content.manifest, content_type=None)


def test_other_types_are_not_looked_into() -> None:
    """A type that the registry does not know may use the same fields for other things."""
    payload = b'{"config": 1, "layers": "x", "subject": []}'
    manifest = parse_manifest(payload, content_type="application/vnd.other+json")
    assert manifest.references == ()


CALLS = 20
"""At most, of functions in Python and C, for what is read in one layer."""


def calls_for(layers: int) -> int:
    """Count the calls of functions while an image is read."""
    payload = image("cost", layers=layers).manifest
    count = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        parse_manifest(payload, content_type=OCI_MANIFEST)
    finally:
        sys.setprofile(None)
    return count


def test_cost_of_a_layer() -> None:
    """Names are compared one by one only where they are not those of most descriptors."""
    assert calls_for(110) - calls_for(10) <= 100 * CALLS
