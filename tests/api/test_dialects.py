"""The two dialects: each endpoint answers as the table says, in both."""

from __future__ import annotations

import httpx
import pytest

from portside.spec.dialects import Dialect
from portside.spec.endpoints import ENDPOINTS
from support.content import OCI_MANIFEST, digest_of, image, make_blob
from support.wire import OCTETS, assert_error, open_upload, push, push_blob


def test_the_description_of_2017_is_kept() -> None:
    """Whatever happens at an endpoint that it knows, the status is one that it lists."""
    for endpoint in ENDPOINTS:
        if endpoint.described is None:
            continue
        assert endpoint.success(Dialect.ACR_2017) in endpoint.described
        for error in endpoint.errors:
            if error.status < 500:
                assert endpoint.failure(error.status, Dialect.ACR_2017) in endpoint.described
            assert endpoint.failure(error.status, Dialect.OCI) == error.status


class TestSuccesses:
    """The three codes on which the dialects differ."""

    @pytest.fixture(params=["oci", "acr-2017"])
    def speaker(self, request: pytest.FixtureRequest) -> tuple[httpx.Client, bool]:
        """Return a client of each registry, and whether it speaks the dialect of 2017."""
        is_acr = request.param == "acr-2017"
        return request.getfixturevalue("acr_client" if is_acr else "client"), is_acr

    def test_push(self, speaker: tuple[httpx.Client, bool], repository: str) -> None:
        """PATCH, PUT of an upload and PUT of a manifest."""
        client, is_acr = speaker
        content = make_blob(20, repository)
        location = open_upload(client, repository)
        answer = client.patch(location, content=content[:10], headers=OCTETS)
        assert answer.status_code == (204 if is_acr else 202)
        assert answer.headers["Range"] == "0-9"
        assert answer.headers["Location"] == location
        query = {"digest": digest_of(content)}
        answer = client.put(location, params=query, content=content[10:], headers=OCTETS)
        assert answer.status_code == (204 if is_acr else 201)
        assert answer.headers["Docker-Content-Digest"] == query["digest"]
        assert push(client, repository, image(repository), "v1").status_code == (
            202 if is_acr else 201
        )

    def test_the_same_in_both(self, speaker: tuple[httpx.Client, bool], repository: str) -> None:
        """All other codes are the same."""
        client, _ = speaker
        push(client, repository, image(repository), "v1")
        digest = push_blob(client, repository, b"x")
        assert client.get("/v2").status_code == 200
        assert client.get(f"/v2/{repository}/tags/list").status_code == 200
        assert client.get(f"/v2/{repository}/manifests/v1").status_code == 200
        assert client.get(f"/v2/{repository}/blobs/{digest}").status_code == 200
        path = f"/v2/{repository}/blobs/uploads"
        assert client.post(path, params={"digest": digest}, content=b"x").status_code == 201
        assert client.delete(f"/v2/{repository}/manifests/v1").status_code == 202
        assert_error(client.get(f"/v2/{repository}/manifests/v1"), 404, "MANIFEST_UNKNOWN")


class TestErrorsOf2017:
    """Statuses that the description does not list become those that it does."""

    def test_manifest_too_large(self, acr_client: httpx.Client, repository: str) -> None:
        """413 is answered as 400, with the same code in the body."""
        answer = acr_client.put(
            f"/v2/{repository}/manifests/v1",
            content=b" " * (4 * 1024 * 1024 + 1),
            headers={"Content-Type": OCI_MANIFEST},
        )
        assert_error(answer, 400, "MANIFEST_INVALID")

    def test_tags_of_no_name(self, acr_client: httpx.Client) -> None:
        """400 is not listed for tags, and becomes 404."""
        assert_error(acr_client.get("/v2/Bad/tags/list"), 404, "NAME_INVALID")

    def test_refused_before_any_endpoint(self, acr_client: httpx.Client) -> None:
        """A host and a page are refused as in the other dialect: no endpoint was reached."""
        for headers, status in (
            ({"Host": "evil.example"}, 421),
            ({"Origin": "https://evil.example"}, 403),
        ):
            for path in ("/v2/", "/v2/a/tags/list", "/nothing"):
                assert acr_client.get(path, headers=headers).status_code == status

    def test_chunk_out_of_order(self, acr_client: httpx.Client, repository: str) -> None:
        """416 is listed for PATCH and stays; for PUT it becomes 400."""
        location = open_upload(acr_client, repository)
        headers = {**OCTETS, "Content-Range": "5-6"}
        answer = acr_client.patch(location, content=b"ab", headers=headers)
        assert_error(answer, 416, "RANGE_INVALID")
        query = {"digest": digest_of(b"ab")}
        answer = acr_client.put(location, params=query, content=b"ab", headers=headers)
        assert_error(answer, 400, "RANGE_INVALID")
