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
from portside.spec.errors import DigestInvalid, ManifestInvalid
from portside.spec.manifests import ManifestReference, ReferenceKind, parse_manifest, read_manifest
from support.content import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    artifact,
    digest_of,
    image,
    index,
)

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


def test_weak_references() -> None:
    """A digest that is the whole of a string anywhere is one; a part of a string is none."""
    names = [digest_of(b"%d" % number) for number in range(6)]
    document: dict[str, Any] = {
        "annotations": {"base": names[0], "text": f"see {names[1]}", "json": json.dumps(names[2])},
        "history": [{"deep": [names[3], names[3]]}],
        names[4]: 1,
        "short": names[5][:-1],
        "subject": {"mediaType": "a/b", "digest": names[5], "size": 1},
    }
    content = image(1, **document)
    for media_type in (OCI_MANIFEST, "application/vnd.example+json"):
        payload = content.manifest.replace(OCI_MANIFEST.encode(), media_type.encode())
        references = parse_manifest(payload, content_type=media_type).references
        weak = {item.digest for item in references if item.is_weak}
        blobs = {digest_of(blob) for blob in content.blobs}
        expected = {names[0], names[3], names[4], names[5]}
        assert weak == (expected if media_type == OCI_MANIFEST else expected | blobs)
        assert not any(item.required for item in references if item.is_weak)
        assert {item.digest for item in references} == expected | blobs


def test_too_many_weak_references() -> None:
    """A pushed manifest names a limited number of digests; a stored one is read all the same."""
    names = [digest_of(b"%d" % number) for number in range(10_001)]
    payload = json.dumps({"names": names[:-1]}).encode()
    assert len(parse_manifest(payload, content_type="application/json").references) == 10_000
    payload = json.dumps({"names": names}).encode()
    with pytest.raises(ManifestInvalid, match="more than 10000 digests"):
        parse_manifest(payload, content_type="application/json")
    read = read_manifest(payload, media_type="application/json", expected=Digest.of(payload))
    assert len(read.references) == 10_001


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
    with pytest.raises(ManifestInvalid, match="invalid artifact type"):
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


BLOB, LINKED, FOREIGN = (Digest(digest_of(text)) for text in (b"blob", b"linked", b"foreign"))
MANIFEST, SUBJECT = Digest(digest_of(b"manifest")), Digest(digest_of(b"subject"))


def described(digest: Digest, media_type: str = "a/b", **fields: Any) -> dict[str, Any]:
    """Describe content of no particular kind."""
    return {"mediaType": media_type, "digest": digest, "size": 1, **fields}


LAYERS = [
    described(BLOB),
    described(LINKED, urls=["https://example.com"]),
    described(FOREIGN, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
    described(BLOB, urls=["https://example.com"]),
]
CONFIG = {"config": described(MANIFEST, "application/config"), "schemaVersion": 2}
DOCUMENTS: dict[str, dict[str, Any]] = {
    OCI_MANIFEST: {**CONFIG, "layers": LAYERS},
    DOCKER_MANIFEST: {**CONFIG, "layers": LAYERS},
    OCI_INDEX: {"schemaVersion": 2, "manifests": LAYERS},
    DOCKER_LIST: {"schemaVersion": 2, "manifests": LAYERS},
    "application/vnd.docker.distribution.manifest.v1+json": {
        "schemaVersion": 1,
        "fsLayers": [{"blobSum": BLOB}, {"blobSum": BLOB}],
    },
    "application/vnd.docker.distribution.manifest.v1+prettyjws": {
        "schemaVersion": 1,
        "fsLayers": [{"blobSum": BLOB}],
    },
    "application/vnd.cncf.oras.artifact.manifest.v1+json": {"blobs": LAYERS},
    "application/vnd.oci.artifact.manifest.v1+json": {"blobs": LAYERS},
}
"""A document of each type that the registry reads."""

OF_ALL = {"subject": described(SUBJECT), "annotations": {"key": "value"}, "artifactType": "a/type"}
CHILDREN, BLOBS = ReferenceKind.MANIFEST, ReferenceKind.BLOB


@pytest.mark.parametrize("media_type", DOCUMENTS)
def test_what_is_read_of_each_type(media_type: str) -> None:
    """References, each once and required if one of them is; subject, type and annotations."""
    is_schema_1 = "manifest.v1+" in media_type and "docker" in media_type
    payload = json.dumps({**DOCUMENTS[media_type], **OF_ALL}).encode()
    manifest = parse_manifest(payload, content_type=media_type)
    kind = CHILDREN if "manifests" in DOCUMENTS[media_type] else BLOBS
    expected = {(kind, BLOB, True)}
    if not is_schema_1:
        expected |= {(kind, LINKED, False), (kind, FOREIGN, False)}
    if "config" in DOCUMENTS[media_type]:
        expected.add((BLOBS, MANIFEST, True))
    named = [item for item in manifest.references if not item.is_weak]
    found = [(item.kind, item.digest, item.required) for item in named]
    assert len(found) == len(expected)
    assert set(found) == expected
    assert [item.digest for item in manifest.references if item.is_weak] == [SUBJECT]
    if is_schema_1:
        assert (manifest.subject, manifest.artifact_type, manifest.annotations) == (None, None, {})
    else:
        assert (manifest.subject, manifest.artifact_type) == (SUBJECT, "a/type")
        assert manifest.annotations == {"key": "value"}
    untyped = parse_manifest(json.dumps(DOCUMENTS[media_type]).encode(), content_type=media_type)
    has_config = "config" in DOCUMENTS[media_type]
    assert untyped.artifact_type == ("application/config" if has_config else None)


IMAGE = DOCUMENTS[OCI_MANIFEST]
REFUSED: list[tuple[str, str | None, dict[str, Any]]] = [
    *(
        (
            "requires the field",
            media_type,
            {name: value for name, value in document.items() if name != left},
        )
        for media_type, document in DOCUMENTS.items()
        if "artifact" not in media_type
        for left in document
    ),
    (
        "schemaVersion must be 1",
        next(name for name in DOCUMENTS if "prettyjws" in name),
        {"schemaVersion": 2, "fsLayers": []},
    ),
    ("schemaVersion must be 2", OCI_INDEX, {"schemaVersion": 1, "manifests": []}),
    ("must be equal", OCI_MANIFEST, {**IMAGE, "mediaType": DOCKER_MANIFEST}),
    ("can be read as", OCI_MANIFEST, {**IMAGE, "manifests": []}),
    ("can be read as", OCI_INDEX, {**DOCUMENTS[OCI_INDEX], "config": {}}),
    ("can be read as", "application/x+json", {"layers": [], "manifests": []}),
    ("can be read as", "application/x+json", {"layers": 1, "fsLayers": 1}),
    ("can be read as", None, {"layers": [], "fsLayers": []}),
    ("must be spelled 'size'", OCI_MANIFEST, {**IMAGE, "subject": {**described(BLOB), "Size": 1}}),
    (
        "must be spelled 'urls'",
        OCI_INDEX,
        {"schemaVersion": 2, "manifests": [described(BLOB, URLs=[])]},
    ),
    ("must be spelled 'artifactType'", OCI_INDEX, {**DOCUMENTS[OCI_INDEX], "artifacttype": "a/b"}),
    ("invalid media type", OCI_MANIFEST, {**IMAGE, "subject": described(BLOB, "html")}),
    ("invalid media type", OCI_INDEX, {"schemaVersion": 2, "manifests": [described(BLOB, "html")]}),
    ("invalid media type", OCI_MANIFEST, {**IMAGE, "config": described(BLOB, "html")}),
    ("invalid digest", OCI_MANIFEST, {**IMAGE, "subject": described(Digest("sha256:0"))}),
    ("wrong shape", OCI_MANIFEST, {**IMAGE, "layers": [described(BLOB, size=-1)]}),
    ("wrong shape", OCI_MANIFEST, {**IMAGE, "layers": [described(BLOB, size=2**63)]}),
    ("wrong shape", OCI_MANIFEST, {**IMAGE, "annotations": {"key": 1}}),
    ("255 are allowed", OCI_MANIFEST, {**IMAGE, "artifactType": "a/" + "b" * 254}),
    ("invalid artifact type", OCI_MANIFEST, {**IMAGE, "artifactType": "a/b\r\nX: y"}),
    ("not one of manifests", "text/x+json", IMAGE),
    ("invalid media type", "application", IMAGE),
]
"""What the error says, the Content-Type, and the document."""


@pytest.mark.parametrize(("said", "media_type", "document"), REFUSED)
def test_refused(said: str, media_type: str | None, document: dict[str, Any]) -> None:
    """What lacks something, or can be read in two ways, is refused for that reason."""
    with pytest.raises(ManifestInvalid, match=said):
        parse_manifest(json.dumps(document).encode(), content_type=media_type)


def test_spellings_of_a_type() -> None:
    """Case and parameters of the type do not count, and it is stored in its usual spelling."""
    payload = json.dumps({**IMAGE, "mediaType": OCI_MANIFEST.upper()}).encode()
    manifest = parse_manifest(payload, content_type=f"{OCI_MANIFEST.title()}; charset=utf-8")
    assert manifest.media_type == OCI_MANIFEST


def test_lists_that_are_null() -> None:
    """Go writes an empty list as null, which is one; and null makes no second kind."""
    for document in ({**IMAGE, "layers": None}, {**IMAGE, "manifests": None}):
        parse_manifest(json.dumps(document).encode(), content_type=OCI_MANIFEST)


def test_guesses() -> None:
    """A document without a type is what its fields make it."""
    for media_type, document in (
        (OCI_INDEX, DOCUMENTS[OCI_INDEX]),
        (OCI_MANIFEST, IMAGE),
        ("application/json", {"any": "thing"}),
    ):
        manifest = parse_manifest(json.dumps(document).encode(), content_type=None)
        assert manifest.media_type == media_type


def test_expected_digest() -> None:
    """A manifest is pushed under its own digest, of either algorithm, or refused."""
    payload = json.dumps(IMAGE).encode()
    for algorithm in ("sha256", "sha512"):
        digest = Digest(digest_of(payload, algorithm))
        manifest = parse_manifest(payload, content_type=OCI_MANIFEST, expected=digest)
        assert manifest.digest == digest
        with pytest.raises(DigestInvalid):
            parse_manifest(payload + b" ", content_type=OCI_MANIFEST, expected=digest)
