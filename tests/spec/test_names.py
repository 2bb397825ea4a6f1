"""References with their repository, as people write them."""

from __future__ import annotations

import pytest

from portside.spec.errors import DigestInvalid, NameInvalid, RegistryError, TagInvalid
from portside.spec.names import QualifiedReference

DIGEST = "sha256:" + "a" * 64


class TestQualifiedReference:
    """`REPOSITORY[:TAG][@DIGEST]`."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("app", ("app", None, None)),
            ("team/app", ("team/app", None, None)),
            ("team/app:1.2.3", ("team/app", "1.2.3", None)),
            (f"team/app@{DIGEST}", ("team/app", None, DIGEST)),
            (f"a.b/c:v1@{DIGEST}", ("a.b/c", "v1", DIGEST)),
            ("registry.example/app:v1", ("registry.example/app", "v1", None)),
        ],
    )
    def test_valid(self, text: str, expected: tuple[str | None, ...]) -> None:
        """It is read into its parts, and written as it was."""
        parsed = QualifiedReference.parse(text)
        assert parsed == expected
        assert str(parsed) == text

    @pytest.mark.parametrize(
        ("text", "error", "expected"),
        [
            ("", NameInvalid, "invalid repository name ''"),
            (":v1", NameInvalid, "invalid repository name ''"),
            (f"@{DIGEST}", NameInvalid, "invalid repository name ''"),
            ("App", NameInvalid, "invalid repository name 'App'"),
            ("a//b", NameInvalid, "invalid repository name 'a//b'"),
            ("a/", NameInvalid, "invalid repository name 'a/'"),
            ("a" * 256, NameInvalid, "has 256 characters"),
            ("localhost:5000/app", NameInvalid, "leave out the host of the registry"),
            ("https://localhost:5000/app:v1", NameInvalid, "leave out the host of the registry"),
            ("app:", TagInvalid, "invalid tag ''"),
            ("app:v 1", TagInvalid, "invalid tag 'v 1'"),
            (f"app:{DIGEST}", TagInvalid, "write '@' before a digest"),
            ("app@", DigestInvalid, "invalid digest ''"),
            ("app@v1", DigestInvalid, "invalid digest 'v1'"),
            (f"app@{DIGEST}@{DIGEST}", DigestInvalid, "invalid digest"),
            ("a\x1b[31m:v1", NameInvalid, r"'a\x1b[31m'"),
            ("a\udc80", NameInvalid, r"'a\udc80'"),
        ],
    )
    def test_invalid(self, text: str, error: type[RegistryError], expected: str) -> None:
        """The error names the part that is wrong."""
        with pytest.raises(error) as raised:
            QualifiedReference.parse(text)
        assert expected in raised.value.details[0]
