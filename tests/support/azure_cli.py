"""What `az acr` sends, and how it reads the answers: requests as those of azure-cli 2.91.

`az` itself asks Azure where a registry is, and so cannot be run without it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

NOBODY = "00000000-0000-0000-0000-000000000000"
"""The name under which `az acr login --expose-token` hands out a refresh token as a password."""

PAGE = 100
READ = "metadata_read"
WRITE = "metadata_write,metadata_read"
UNTAG = "delete"
DELETE = "delete,metadata_read"
DELETED = "deleted_read"
RESTORE = "deleted_read,deleted_restore"


class RegistryException(Exception):
    """An answer that ends a command: the status, and the document of errors."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(answer.status_code, answer.text)
        self.status = answer.status_code


class Az:
    """`az acr repository|manifest|login`, with a token of Entra or a name and a password."""

    def __init__(
        self,
        url: str,
        *,
        entra: str | None = None,
        login: tuple[str, str] | None = None,
        verify: Any = True,
    ) -> None:
        self._url = url
        self._entra = entra
        self._login = login
        self._http = httpx.Client(verify=verify, timeout=30)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def login(self) -> tuple[str, str]:
        """`az acr login --expose-token`: return the name and the password for `docker login`."""
        challenge = self._challenge()
        return NOBODY, self._exchange(challenge)

    def _challenge(self) -> dict[str, str]:
        """Read the challenge of `/v2/` as az does: by blanks, commas and equals signs."""
        answer = self._http.get(f"{self._url}/v2/")
        assert answer.status_code == HTTPStatus.UNAUTHORIZED, "CONNECTIVITY_CHALLENGE_ERROR"
        tokens = answer.headers["WWW-Authenticate"].split(" ", 2)
        assert tokens[0].lower() == "bearer", tokens
        pairs = (item.strip().split("=", 2) for item in tokens[1].split(","))
        found = {pair[0]: pair[1].strip('"') for pair in pairs}
        assert {"realm", "service"} <= found.keys()
        return found

    def _post(self, challenge: dict[str, str], path: str, **form: str) -> dict[str, str]:
        realm = urlsplit(challenge["realm"])
        answer = self._http.post(f"{realm.scheme}://{realm.netloc}{path}", data=form)
        if answer.status_code != HTTPStatus.OK:
            raise RegistryException(answer)
        found: dict[str, str] = answer.json()
        return found

    def _exchange(self, challenge: dict[str, str]) -> str:
        assert self._entra is not None
        return self._post(
            challenge,
            "/oauth2/exchange",
            grant_type="access_token",
            service=challenge["service"],
            tenant="00000000-0000-0000-0000-000000000001",
            access_token=self._entra,
        )["refresh_token"]

    def _access_token(self, repository: str | None, permission: str) -> str:
        """Get a token; without a repository, the permission is that of a catalog."""
        challenge = self._challenge()
        catalog = "deleted_catalog" if permission == DELETED else "catalog"
        scope = f"repository:{repository}:{permission}" if repository else f"registry:{catalog}:*"
        form = {"scope": scope}
        if self._login is None:
            form |= {
                "grant_type": "refresh_token",
                "service": urlsplit(self._url).hostname or "",
                "refresh_token": self._exchange(challenge),
            }
        else:
            name, password = self._login
            form |= {
                "grant_type": "password",
                "service": challenge["service"],
                "username": name,
                "password": password,
            }
        return self._post(challenge, "/oauth2/token", **form)["access_token"]

    def _request(
        self, token: str, method: str, path: str, index: str | None = None, **options: Any
    ) -> tuple[Any, str | None]:
        """Send a request; returns what an answer has at an index, and its `Link`.

        Raises KeyError where az does: if a list is not in the answer.
        """
        answer = self._http.request(
            method, f"{self._url}{path}", headers={"Authorization": f"Bearer {token}"}, **options
        )
        if answer.status_code == HTTPStatus.OK:
            return answer.json()[index] if index else answer.json(), answer.headers.get("link")
        if answer.status_code in {HTTPStatus.CREATED, HTTPStatus.ACCEPTED}:
            return answer.json() if answer.content else None, None
        if answer.status_code == HTTPStatus.NO_CONTENT:
            return None, None
        raise RegistryException(answer)

    def _list(
        self,
        path: str,
        index: str,
        repository: str | None,
        top: int | None = None,
        orderby: str | None = None,
        permission: str = READ,
    ) -> list[Any]:
        token = self._access_token(repository, permission)
        params: dict[str, Any] = {"n": PAGE} | ({"orderby": orderby} if orderby else {})
        found: list[Any] = []
        while True:
            if top is not None:
                params["n"] = min(top, PAGE)
                top -= params["n"]
            items, link = self._request(token, "GET", path, index, params=params)
            found += items or []
            if not link or (top is not None and top <= 0):
                return found
            query = link[link.index("<") + 1 : link.index(">")].split("?", 2)[1]
            pairs = (item.split("=", 2) for item in query.split("&"))
            params = {pair[0]: unquote(pair[1]) for pair in pairs}

    def repositories(self, top: int | None = None) -> list[str]:
        """`az acr repository list`."""
        return self._list("/v2/_catalog", "repositories", None, top, None)

    def tags(
        self, repository: str, top: int | None = None, orderby: str | None = None
    ) -> list[dict[str, Any]]:
        """`az acr repository show-tags --detail`."""
        return self._list(f"/acr/v1/{repository}/_tags", "tags", repository, top, orderby)

    def manifests(
        self, repository: str, top: int | None = None, orderby: str | None = None
    ) -> list[dict[str, Any]]:
        """`az acr manifest list-metadata`, once `repository show-manifests --detail`."""
        path = f"/acr/v1/{repository}/_manifests"
        return self._list(path, "manifests", repository, top, orderby)

    def show(self, image: str) -> dict[str, Any]:
        """`az acr repository show`: of a repository, of NAME:TAG or of NAME@DIGEST."""
        return self._attributes("GET", image, READ)

    def update(self, image: str, **flags: bool) -> dict[str, Any]:
        """`az acr repository update`, with attributes as the API names them."""
        return self._attributes("PATCH", image, WRITE, json=flags)

    def _attributes(
        self, method: str, image: str, permission: str, **options: Any
    ) -> dict[str, Any]:
        repository, path, index = _resource_of(image)
        token = self._access_token(repository, permission)
        found: dict[str, Any] = self._request(token, method, path, index, **options)[0]
        return found

    def untag(self, image: str) -> None:
        """`az acr repository untag`."""
        repository, path, _ = _resource_of(image)
        self._request(self._access_token(repository, UNTAG), "DELETE", path)

    def delete(self, image: str) -> Any:
        """`az acr repository delete`: of a tag, it deletes the manifest."""
        repository, path, index = _resource_of(image)
        token = self._access_token(repository, DELETE)
        if index == "tag":
            digest = self._request(token, "GET", path, "tag")[0]["digest"]
            path = f"/v2/{repository}/manifests/{digest}"
        elif index == "manifest":
            path = f"/v2/{repository}/manifests/{image.partition('@')[2]}"
        return self._request(token, "DELETE", path)[0]

    def deleted_repositories(self) -> list[dict[str, Any]]:
        """`az acr repository list-deleted`."""
        path = "/acr/v1/_deleted/_catalog"
        return self._list(path, "repositories", None, permission=DELETED)

    def deleted_manifests(self, repository: str) -> list[dict[str, Any]]:
        """`az acr manifest list-deleted`, which adds days to `deletedAt`."""
        path = f"/acr/v1/_deleted/{repository}/_manifests"
        found = self._list(path, "manifests", repository, permission=DELETED)
        for item in found:
            datetime.strptime(item["deletedAt"].split("T", 1)[0], "%Y-%m-%d").replace(tzinfo=UTC)
        return found

    def deleted_tags(self, image: str) -> list[dict[str, Any]]:
        """`az acr manifest list-deleted-tags`: of a repository or of NAME:TAG."""
        repository, _, tag = image.partition(":")
        path = f"/acr/v1/_deleted/{repository}/_tags"
        found = self._list(path, "tags", repository, permission=DELETED)
        return [item for item in found if not tag or item["tag"] == tag]

    def restore(self, image: str, digest: str | None = None, *, force: bool = False) -> Any:
        """`az acr manifest restore --yes`, of NAME:TAG: by default what was deleted last."""
        repository, _, tag = image.partition(":")
        if digest is None:
            digests = [item["digest"] for item in self.deleted_tags(image)]
            assert digests, f"No deleted manifests found for tag: {tag}"
            digest = digests[-1]
        token = self._access_token(repository, RESTORE)
        path = f"/acr/v1/_deleted/{repository}/_manifests/{digest}"
        # The library writes booleans as Python does.
        params, document = {"force": str(force)}, {"tag": tag or None}
        return self._request(token, "POST", path, params=params, json=document)[0]


def _resource_of(image: str) -> tuple[str, str, str | None]:
    """Return the repository of an image, the path of its attributes, and their index."""
    if "@" in image:
        repository, _, digest = image.partition("@")
        return repository, f"/acr/v1/{repository}/_manifests/{digest}", "manifest"
    if ":" in image:
        repository, _, tag = image.partition(":")
        return repository, f"/acr/v1/{repository}/_tags/{tag}", "tag"
    return image, f"/acr/v1/{image}", None
