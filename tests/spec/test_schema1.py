"""Schema 1: what an image becomes, what cannot be converted, and who is to get it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from portside.spec.errors import ManifestNotConvertible
from portside.spec.names import RepositoryName, Tag
from portside.spec.schema1 import (
    EMPTY_LAYER,
    EMPTY_LAYER_DIGEST,
    choose_image,
    is_wanted,
    make_document,
    parse_image,
)
from support.content import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Content,
    artifact,
    digest_of,
    index,
)
from support.schema1 import EMPTY_LAYER as KNOWN_EMPTY_LAYER
from support.schema1 import HISTORY, PLAIN, SIGNED, TIME, built

MEBIBYTE = 2**20
ABSENT = digest_of(b"absent")


def converted(content: Content, max_bytes: int = MEBIBYTE) -> dict[str, Any]:
    """Convert an image; returns the document."""
    image = parse_image(content.manifest)
    name, tag = RepositoryName("library/app"), Tag("v1")
    written = make_document(image, content.blobs[0], name=name, tag=tag, max_bytes=max_bytes)
    assert written == json.dumps(json.loads(written), indent=3, ensure_ascii=False).encode()
    document: dict[str, Any] = json.loads(written)
    return document


def refused(content: Content, max_bytes: int = MEBIBYTE) -> str:
    """Convert what cannot be converted; returns the detail of the error."""
    with pytest.raises(ManifestNotConvertible) as raised:
        converted(content, max_bytes)
    return raised.value.details[0]


class TestDocument:
    """The fields of `Layers`, as distribution makes them."""

    @pytest.mark.parametrize("docker", [False, True])
    def test_every_step_has_a_layer_and_a_history(self, *, docker: bool) -> None:
        """Newest first; a step that changed nothing has the empty layer."""
        content = built(1, docker=docker)
        document = converted(content)
        assert list(document) == [
            "schemaVersion", "name", "tag", "architecture", "fsLayers", "history",
        ]  # fmt: skip
        assert document["schemaVersion"] == 1
        assert (document["name"], document["tag"]) == ("library/app", "v1")
        assert document["architecture"] == "arm64"
        lower, upper = (digest_of(blob) for blob in content.blobs[1:])
        layers = [layer["blobSum"] for layer in document["fsLayers"]]
        assert layers == [KNOWN_EMPTY_LAYER, upper, KNOWN_EMPTY_LAYER, lower]
        assert len(document["history"]) == len(layers)

    def test_ids(self) -> None:
        """Each is a hash of the layer and its parent; the last one covers the config."""
        content = built(1)
        document = converted(content)
        parent = ""
        pairs = list(zip(document["fsLayers"], document["history"], strict=True))
        for number, (layer, entry) in enumerate(reversed(pairs)):
            step = json.loads(entry["v1Compatibility"])
            hashed = f"{layer['blobSum'][7:]} {parent}".encode()
            if number == len(pairs) - 1:
                hashed += b" " + content.blobs[0]
            assert step["id"] == hashlib.sha256(hashed).hexdigest()
            assert step.get("parent", "") == parent
            assert step.get("throwaway", False) is HISTORY[number].get("empty_layer", False)
            parent = step["id"]

    def test_steps(self) -> None:
        """Those below the last say what the history says of them, and nothing else."""
        steps = [json.loads(entry["v1Compatibility"]) for entry in converted(built(1))["history"]]
        of_env = dict(steps[2])
        assert of_env.pop("id") != of_env.pop("parent")
        assert of_env == {
            "created": TIME,
            "container_config": {"Cmd": ['ENV a="b"']},
            "comment": "ü",
            "throwaway": True,
        }
        assert steps[1]["author"] == "someone"

    def test_the_last_step_is_the_config(self) -> None:
        """All that runs a container is there; what schema 1 has no place for is not."""
        content = built(1, id="forged", parent="forged", throwaway="forged", vendor=[1.50, None])
        config = json.loads(content.blobs[0])
        step = json.loads(converted(content)["history"][0]["v1Compatibility"])
        assert {step["id"], step["parent"]}.isdisjoint({"forged"})
        assert step["throwaway"] is True
        kept = set(config) - {"rootfs", "history", "id", "parent", "throwaway"}
        assert {name: step[name] for name in kept} == {name: config[name] for name in kept}
        assert "rootfs" not in step
        assert "history" not in step

    def test_no_parent_at_the_bottom(self) -> None:
        """Docker refuses a bottom layer with a parent, whatever the config says."""
        content = built(1, layers=1, history=HISTORY[:1], parent="forged")
        (entry,) = converted(content)["history"]
        assert "parent" not in json.loads(entry["v1Compatibility"])

    @pytest.mark.parametrize("history", [None, []])
    def test_no_history(self, history: Any) -> None:
        """An image of a builder that writes none has a step for each layer."""
        content = built(1, history=history)
        layers = [layer["blobSum"] for layer in converted(content)["fsLayers"]]
        assert layers == [digest_of(blob) for blob in reversed(content.blobs[1:])]

    def test_a_step_without_a_time(self) -> None:
        """It has the one that Go writes where there is none."""
        content = built(1, history=[{}, {"created": None}])
        assert '"created":"0001-01-01T00:00:00Z"' in converted(content)["history"][1][
            "v1Compatibility"
        ]  # fmt: skip

    def test_the_empty_layer(self) -> None:
        """It is the one that every client of schema 1 knows."""
        assert digest_of(EMPTY_LAYER) == EMPTY_LAYER_DIGEST == KNOWN_EMPTY_LAYER


DEEP = b"[" * 90_000 + b"]" * 90_000

HOSTILE = {
    "no JSON": (b"\x00", "its config cannot be read"),
    "a list": (b"[]", "its config cannot be read"),
    "no UTF-8": (b'{"a": "\xff"}', "its config cannot be read"),
    "half a surrogate": (b'{"history": [{"comment": "\\ud800"}, {}]}', "its config cannot be read"),
    "deep": (b'{"a": %b}' % DEEP[80_000:-80_000], "its config cannot be read"),
    "many objects": (b'{"a": [%b{}]}' % (b"{}," * 100_000), "more than 100000 objects"),
    "architecture": (b'{"architecture": 1}', "$.architecture"),
    "rootfs": (b'{"rootfs": []}', "$.rootfs"),
    "history": (b'{"history": {}}', "$.history"),
    "a step": (b'{"history": [1]}', "$.history[0]"),
    "empty_layer": (b'{"history": [{}, {"empty_layer": "yes"}]}', "$.history[1].empty_layer"),
    "created": (b'{"history": [{"created": "now"}, {}]}', "created of step 0"),
    "diff_ids": (b'{"rootfs": {"diff_ids": ["x"]}}', "1 diff_ids for 2 layers"),
    "few steps": (b'{"history": [{}]}', "1 steps with a layer, but the manifest has 2"),
    "many steps": (b'{"history": [{}, {}, {}]}', "3 steps with a layer, but the manifest has 2"),
    "too many steps": (
        b'{"history": [%b{}, {}]}' % (b'{"empty_layer": true},' * 9_999),
        "10001 steps; 1 to 10000",
    ),
}


class TestRefusals:
    """What schema 1 cannot express, and what nobody can read."""

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_config(self, kind: str) -> None:
        """The detail says what is wrong with it."""
        config, detail = HOSTILE[kind]
        assert detail in refused(built(1, config=config))

    def test_no_layers(self) -> None:
        """Clients refuse a document without any."""
        assert "0 steps" in refused(built(1, layers=0, history=[]))

    @pytest.mark.parametrize(
        "layer_type",
        [
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "text/plain",
        ],
    )
    def test_layers(self, layer_type: str) -> None:
        """Clients of schema 1 know tar and gzip, and no layers that are kept elsewhere."""
        assert layer_type in refused(built(1, layer_type=layer_type))

    def test_an_artifact(self) -> None:
        """Its config is not that of an image."""
        assert "not that of an image" in refused(artifact(1))

    @pytest.mark.parametrize(
        "manifest",
        [
            b"{}",
            b"[]",
            b"\xff",
            b"[" * 10_000,
            b'{"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}}',
            b'{"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "x"}}',
        ],
    )
    def test_a_manifest_that_cannot_be_read(self, manifest: bytes) -> None:
        """It may have been stored by the rules of an older version."""
        assert refused(Content(manifest, OCI_MANIFEST, [b"{}"]))

    def test_size(self) -> None:
        """A document is no larger than a manifest may be."""
        assert "at most 1000 are sent" in refused(built(1), max_bytes=1000)


def listed(**platform: str) -> dict[str, Any]:
    """Return an entry of an index for an image of some platform, whose digest shows it."""
    name = json.dumps(platform).encode()
    return {"mediaType": OCI_MANIFEST, "digest": digest_of(name), "size": 1, "platform": platform}


AMD64 = listed(architecture="amd64", os="linux")
WINDOWS = listed(architecture="amd64", os="windows")
ARM = listed(architecture="arm64", os="linux")
ATTESTATION = listed(architecture="unknown", os="unknown")
NESTED = {**listed(architecture="amd64", os="linux"), "mediaType": OCI_INDEX, "digest": ABSENT}
PLAIN_ENTRY = {"mediaType": DOCKER_MANIFEST, "digest": digest_of(b"plain"), "size": 1}


class TestIndex:
    """Which image of an index is converted."""

    @pytest.mark.parametrize(
        ("entries", "chosen"),
        [
            ([WINDOWS, ARM, AMD64], AMD64),
            ([NESTED, ARM, WINDOWS], ARM),
            ([ATTESTATION, WINDOWS], WINDOWS),
            ([PLAIN_ENTRY, ARM], PLAIN_ENTRY),
            ([{**ARM, "platform": None}], ARM),
        ],
    )
    def test_chosen(self, entries: list[dict[str, Any]], chosen: dict[str, Any]) -> None:
        """That of linux/amd64, else the first one that is an image."""
        content = index(manifests=entries)
        assert choose_image(content.manifest) == chosen["digest"]

    @pytest.mark.parametrize("entries", [[], [NESTED], [ATTESTATION], None])
    def test_none(self, entries: Any) -> None:
        """An index may list other things."""
        with pytest.raises(ManifestNotConvertible, match="lists no image"):
            choose_image(index(manifests=entries).manifest)

    @pytest.mark.parametrize("document", [b'{"manifests": 1}', b"", b"[" * 10_000])
    def test_unreadable(self, document: bytes) -> None:
        """It may have been stored by the rules of an older version."""
        with pytest.raises(ManifestNotConvertible):
            choose_image(document)

    def test_a_malformed_digest(self) -> None:
        """What cannot be a digest is looked for nowhere."""
        with pytest.raises(ManifestNotConvertible, match="ALGORITHM:HEX"):
            choose_image(index(manifests=[{**ARM, "digest": "x"}]).manifest)


class TestAccept:
    """Who is to get schema 1."""

    @pytest.mark.parametrize(
        ("accept", "in_oci", "in_acr_2017"),
        [
            (None, False, True),
            ("", False, True),
            ("*/*", False, True),
            ("application/json", False, True),
            (f"{DOCKER_MANIFEST}", False, True),
            (SIGNED, True, True),
            (PLAIN, True, True),
            (f"{PLAIN};q=0.1, */*", True, True),
            (f"{PLAIN}; q=0", False, True),
            (f"application/json,{SIGNED}", True, True),
            (OCI_MANIFEST, False, False),
            (f"{SIGNED}, {OCI_MANIFEST}", False, False),
            (f"{SIGNED}, {OCI_MANIFEST.upper()};q=0.5;x=y", False, False),
            (f"{SIGNED}, {OCI_MANIFEST};Q = 0.00", True, True),
            (f"{SIGNED}, {OCI_MANIFEST}x", True, True),
            (f"{SIGNED}x", False, True),
        ],
    )
    def test_an_image(self, accept: str | None, *, in_oci: bool, in_acr_2017: bool) -> None:
        """Naming the stored type wins; in acr-2017, naming it is the only way to get it."""
        assert is_wanted(accept, OCI_MANIFEST, by_default=False) is in_oci
        assert is_wanted(accept, OCI_MANIFEST, by_default=True) is in_acr_2017

    @pytest.mark.parametrize("stored", [PLAIN, SIGNED, "application/vnd.x+json"])
    def test_other_types(self, stored: str) -> None:
        """What is no image is sent as it is."""
        for accept in (None, "*/*", SIGNED):
            assert not is_wanted(accept, stored, by_default=True)

    @pytest.mark.parametrize("stored", [DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST])
    def test_images_and_indexes(self, stored: str) -> None:
        """All of their types are converted."""
        assert is_wanted(SIGNED, stored, by_default=False)
        assert not is_wanted(f"{SIGNED},{stored}", stored, by_default=True)
