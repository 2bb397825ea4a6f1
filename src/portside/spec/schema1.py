"""Image Manifest Version 2, Schema 1: made from images for clients that can read nothing newer.

The document is `Layers` of the 2017 description. It is derived as distribution 2.8 derives it
(`registry/handlers/manifests.go`, `manifest/schema1/config_builder.go`): one entry of `fsLayers`
and of `history` for each step of the image's history, newest first.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from portside.spec import media_types
from portside.spec.digests import Digest
from portside.spec.errors import DigestInvalid, ManifestNotConvertible
from portside.spec.manifests import INDEXES, MAX_OBJECTS, MAX_REFERENCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from portside.spec.names import RepositoryName, Tag

EMPTY_LAYER = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")
"""An empty tar archive, compressed: the layer of a step that changed no file."""

EMPTY_LAYER_DIGEST = Digest.of(EMPTY_LAYER)
"""`sha256:a3ed95ca…`, which clients of schema 1 know."""

_IMAGES = {media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST}
_CONVERTED = _IMAGES | INDEXES

_LAYERS = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
"""Layers that a client of schema 1 can unpack: it knows neither zstd nor the URLs of others."""

_NAME = "application/vnd.docker.distribution.manifest.v1+"
"""What both media types of schema 1 begin with."""

_NAMES = {media_types.DOCKER_SCHEMA_1, media_types.DOCKER_SCHEMA_1_SIGNED}

_PREFERRED = ("amd64", "linux")
"""The image of an index that clients get which know no indexes, as distribution's do."""

_UNKNOWN = "unknown"
"""The platform of what an index lists and is no image, such as an attestation of BuildKit."""

_NO_TIME = "0001-01-01T00:00:00Z"
"""What Go writes for a time that is not known; a step without any cannot be read."""

# RFC 3339, section 5.6, as Go reads it: with capital letters.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")

REMEMBERED = 128
"""Answers of `is_wanted` that are kept: there are few clients, and each sends the same header."""

_REPLACED = ("rootfs", "history", "id", "parent", "throwaway")
"""Fields of a config that schema 1 has no place for, or that it fills itself."""


@lru_cache(REMEMBERED)
def is_wanted(accept: str | None, stored: str, *, by_default: bool) -> bool:
    """Whether a client is to get schema 1 in place of a manifest of the type `stored`.

    It does if it names schema 1 and not the stored type; with `by_default`, if it does not name the
    stored type. `*/*` names none. Only images and indexes are converted.
    """
    if not by_default and (accept is None or _NAME not in accept):
        return False
    if stored not in _CONVERTED:
        return False
    named = _named(accept or "")
    return stored not in named and (by_default or not named.isdisjoint(_NAMES))


def _named(accept: str) -> set[str]:
    """Return the media types that an Accept header names (RFC 9110, section 12.5.1)."""
    named = set()
    for item in accept.split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        if not any(_REFUSED.fullmatch(parameter) for parameter in parameters):
            named.add(media_types.canonical(media_type))
    return named


_REFUSED = re.compile(r"[qQ]\s*=\s*0(?:\.0*)?")


class Image(NamedTuple):
    """What is converted: an image's config, and its layers from the lowest to the highest."""

    config: Digest
    layers: tuple[Digest, ...]


class _Descriptor(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str


class _Manifest(msgspec.Struct):
    config: _Descriptor
    layers: list[_Descriptor] | None = None


class _Platform(msgspec.Struct):
    architecture: str | None = None
    os: str | None = None


class _Entry(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str
    platform: _Platform | None = None


class _Index(msgspec.Struct):
    manifests: list[_Entry] | None = None


class _RootFs(msgspec.Struct):
    diff_ids: list[str] | None = None


class _Step(msgspec.Struct):
    created: str | None = None
    author: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _Config(msgspec.Struct):
    architecture: str | None = None
    rootfs: _RootFs | None = None
    history: list[_Step] | None = None


_decode_manifest = msgspec.json.Decoder(_Manifest).decode
_decode_index = msgspec.json.Decoder(_Index).decode
_decode_config = msgspec.json.Decoder(_Config).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def choose_image(index: bytes) -> Digest:
    """Return the image of an index to convert: that of linux/amd64, else the first one.

    Raises ManifestNotConvertible.
    """
    with _refusing_unreadable("index"):
        entries = _decode_index(index).manifests or []
    images = [entry for entry in entries if media_types.canonical(entry.media_type) in _IMAGES]
    platforms = [(entry.platform or _Platform()) for entry in images]
    for entry, platform in zip(images, platforms, strict=True):
        if (platform.architecture, platform.os) == _PREFERRED:
            return _digest(entry.digest)
    for entry, platform in zip(images, platforms, strict=True):
        if platform.architecture != _UNKNOWN:
            return _digest(entry.digest)
    raise ManifestNotConvertible("the index lists no image")


def parse_image(manifest: bytes) -> Image:
    """Read an image manifest; raises ManifestNotConvertible if schema 1 cannot express it."""
    with _refusing_unreadable("manifest"):
        read = _decode_manifest(manifest)
    if read.config.media_type not in media_types.IMAGE_CONFIGS:
        other = f"its config is {read.config.media_type[:140]!r}, not that of an image"
        raise ManifestNotConvertible(other)
    layers = read.layers or []
    for layer in layers:
        if layer.media_type not in _LAYERS:
            other = (
                f"the layer {layer.digest[:140]} is {layer.media_type[:140]!r}; schema 1 has"
                " layers of tar and tar+gzip only"
            )
            raise ManifestNotConvertible(other)
    return Image(_digest(read.config.digest), tuple(_digest(layer.digest) for layer in layers))


def make_document(
    image: Image, config: bytes, *, name: RepositoryName, tag: Tag, max_bytes: int
) -> bytes:
    """Return an image as an unsigned document of schema 1, of at most `max_bytes`.

    A config without a history is taken to have one step for each layer.

    Raises ManifestNotConvertible if the config cannot be read, or does not fit the layers.
    """
    with _refusing_unreadable("config"):
        config.decode("utf-8")
        if config.count(b"{") + config.count(b"[") > MAX_OBJECTS:
            raise ManifestNotConvertible(f"its config has more than {MAX_OBJECTS} objects")
        read = _decode_config(config)
        fields = _decode_fields(config)
    diffs = read.rootfs.diff_ids if read.rootfs is not None else None
    if diffs is not None and len(diffs) != len(image.layers):
        differ = f"its config has {len(diffs)} diff_ids for {len(image.layers)} layers"
        raise ManifestNotConvertible(differ)
    steps = read.history or [_Step() for _ in image.layers]
    layers = _layers_of(steps, image.layers)
    history = _history(steps, layers, fields, config)
    document = {
        "schemaVersion": 1,
        "name": str(name),
        "tag": str(tag),
        "architecture": read.architecture or "",
        "fsLayers": [{"blobSum": str(layer)} for layer in reversed(layers)],
        "history": [{"v1Compatibility": step} for step in reversed(history)],
    }
    written = msgspec.json.format(msgspec.json.encode(document), indent=3)
    if len(written) > max_bytes:
        large = f"the document would have {len(written)} bytes; at most {max_bytes} are sent"
        raise ManifestNotConvertible(large)
    return written


def _layers_of(steps: Sequence[_Step], layers: Sequence[Digest]) -> list[Digest]:
    """Return the layer of each step; raises ManifestNotConvertible unless each has its own."""
    if not 0 < len(steps) <= MAX_REFERENCES:
        few = f"its history has {len(steps)} steps; 1 to {MAX_REFERENCES} can be converted"
        raise ManifestNotConvertible(few)
    filled = sum(not step.empty_layer for step in steps)
    if filled != len(layers):
        differ = (
            f"its history has {filled} steps with a layer, but the manifest has"
            f" {len(layers)} layers"
        )
        raise ManifestNotConvertible(differ)
    left = iter(layers)
    return [EMPTY_LAYER_DIGEST if step.empty_layer else next(left) for step in steps]


def _history(
    steps: Sequence[_Step], layers: Sequence[Digest], fields: dict[str, msgspec.Raw], config: bytes
) -> list[str]:
    """Return the `v1Compatibility` of each step; that of the last one is made of the config.

    The ids are hashes of a layer and all below it: images that share layers share ids.
    """
    history: list[str] = []
    parent = ""
    for number, (step, layer) in enumerate(zip(steps, layers, strict=True)):
        shown: dict[str, Any] = {}
        base = f"{layer.encoded} {parent}"
        if number < len(steps) - 1:
            shown["id"] = _sha256(base.encode("ascii"))
            shown |= _described(step, number)
        else:
            shown |= {name: raw for name, raw in fields.items() if name not in _REPLACED}
            shown["id"] = _sha256(base.encode("ascii") + b" " + config)
        if parent:
            shown["parent"] = parent
        if step.empty_layer:
            shown["throwaway"] = True
        history.append(msgspec.json.encode(shown, order="sorted").decode("utf-8"))
        parent = shown["id"]
    return history


def _described(step: _Step, number: int) -> dict[str, Any]:
    created = step.created or _NO_TIME
    if _TIME.fullmatch(created) is None:
        wrong = f"created of step {number} of its history is {created[:40]!r}, which is not a time"
        raise ManifestNotConvertible(wrong)
    said = {"author": step.author, "comment": step.comment}
    return {
        "created": created,
        "container_config": {"Cmd": [step.created_by or ""]},
        **{name: text for name, text in said.items() if text},
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _refusing_unreadable(what: str) -> Iterator[None]:
    try:
        yield
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestNotConvertible(f"its {what} cannot be read: {error}") from error


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except DigestInvalid as error:
        raise ManifestNotConvertible(*error.details) from error
