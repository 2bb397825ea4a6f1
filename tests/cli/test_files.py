"""Files that people write, with the marks and the line ends of any system."""

from __future__ import annotations

import codecs
import io
import os
import subprocess
from pathlib import Path

import httpx
import pytest

from portside.cli.options import read_cloud_secrets
from portside.files.text import FileUnreadable, read_first_line, read_secret, read_text
from support.commands import FAST
from support.server import run_portside, running_registry
from support.wire import ONCE

MARKED = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")]

KEY = (
    '{"kty": "EC", "crv": "P-256", "kid": "1",'
    ' "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",'
    ' "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}'
)
"""The first key of RFC 7517, appendix A.1."""


def hash_of(password: str) -> str:
    """Return an htpasswd line for alice."""
    done = subprocess.run(
        ["htpasswd", "-nbB", "-C", "4", "alice", password],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


class TestWindows:
    """A byte order mark and CRLF, in every file that Portside reads as text."""

    @pytest.mark.parametrize(("mark", "encoding"), MARKED)
    def test_served(self, data: Path, tmp_path: Path, mark: bytes, encoding: str) -> None:
        """The files of settings, access, rules and passwords, and the keys of an issuer."""

        def write(name: str, *lines: str) -> Path:
            path = tmp_path / name
            path.write_bytes(mark + "".join(f"{line}\r\n" for line in lines).encode(encoding))
            return path

        keys = write("keys.json", "{", f'"keys": [{KEY}]', "}")
        access = write(
            "access.toml",
            "[[access]]",
            'identities = ["alice"]',
            'repositories = ["*"]',
            'actions = ["pull"]',
            "[[issuer]]",
            'name = "ci"',
            'issuer = "https://ci.example"',
            'audience = "registry"',
            f'jwks-file = "{keys}"',
            'identity = "{sub}"',
        )
        rules = write("rules.toml", "[[repositories]]", 'match = "*"', 'quota = "1GiB"')
        htpasswd = write("htpasswd", "# users", hash_of("secret"))
        settings = write(
            "portside.toml",
            f'access = "{access}"',
            f'rules = "{rules}"',
            f'htpasswd = "{htpasswd}"',
            'service = "Registry of Team 7"',
            'auth-scheme = "basic"',
            "workers = 1",
        )
        with running_registry(data, "--config", str(settings)) as registry:
            refused = httpx.get(f"{registry.url}/v2/", auth=("alice", "wrong"), **ONCE)
            assert refused.status_code == 401
            assert 'realm="Registry of Team 7"' in refused.headers["WWW-Authenticate"]
            assert (
                httpx.get(f"{registry.url}/v2/", auth=("alice", "secret"), **ONCE).status_code
                == 200
            )

    @pytest.mark.parametrize(("mark", "encoding"), MARKED)
    def test_passwords(self, data: Path, tmp_path: Path, mark: bytes, encoding: str) -> None:
        """The file of a password."""
        path = tmp_path / "password"
        path.write_bytes(mark + "correct horse\r\nsecond line\r\n".encode(encoding))
        directory = ("--data", str(data))
        options = (*directory, "--password-file", str(path))
        assert run_portside("user", "add", "alice", "--create", *options, env=FAST)[0] == 0
        with running_registry(data, "--auth-scheme", "basic", "--workers", "1") as registry:
            answer = httpx.get(f"{registry.url}/v2/", auth=("alice", "correct horse"), **ONCE)
            assert answer.status_code == 200


class TestRules:
    """The rules file of a registry that starts."""

    def test_refused(self, data: Path, tmp_path: Path) -> None:
        """A mistake is one line that names the file, the line and the reason."""
        path = tmp_path / "rules.toml"
        path.write_text('[[repositories]]\nmatch = "team/*"\nqouta = "1GiB"\n')
        code, printed, shown = run_portside(
            "serve", "--listen", "127.0.0.1:0", "--data", str(data), "--rules", str(path)
        )
        assert (code, printed) == (1, "")
        assert shown == (
            f"portside: {path}, line 3, [[repositories]] 1: there is no field 'qouta' (allowed:"
            " match, immutable-tags, quota, retention, untagged)\n"
        )


TEXTS = [
    (b"", ""),
    (b"a\nb", "a\nb"),
    (b"a\r\nb\r\n", "a\nb\n"),
    (b"a\rb", "a\rb"),
    (codecs.BOM_UTF8 + "\u00e4\n".encode(), "\u00e4\n"),
    (codecs.BOM_UTF16_LE + "\u00e4\r\n".encode("utf-16-le"), "\u00e4\n"),
    (codecs.BOM_UTF16_BE + "\u00e4\r\n".encode("utf-16-be"), "\u00e4\n"),
]


@pytest.mark.parametrize(("content", "text"), TEXTS)
def test_texts(tmp_path: Path, content: bytes, text: str) -> None:
    """Marks are not part of the text, and every line ends in one way."""
    path = tmp_path / "text"
    path.write_bytes(content)
    assert read_text(path) == text
    assert read_secret(path) == text.removesuffix("\n")


def test_secrets_keep_their_spaces(tmp_path: Path) -> None:
    """All but one newline at the end is the secret."""
    path = tmp_path / "secret"
    path.write_bytes(b" two words \n\n")
    assert read_secret(path) == " two words \n"


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r", "\nsecond line\n"])
def test_first_line(mark: bytes, end: str) -> None:
    """The first line has none of its end, in any encoding, and is read up to a limit."""
    encoding = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(
        mark, "utf-8"
    )
    content = mark + f"first {end}".encode(encoding)
    assert read_first_line(io.BytesIO(content), 100) == "first "
    assert read_first_line(io.BytesIO(b"first\n"), 3) == "fir"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none", "No such file"),
        (".", "Is a directory"),
        ("a\0b", "null"),
        ("bytes", "not valid UTF-8"),
    ],
)
def test_unreadable(tmp_path: Path, path: str, reason: str) -> None:
    """The error names the file and shows none of it."""
    (tmp_path / "bytes").write_bytes(b"secret \xff")
    with pytest.raises(FileUnreadable, match=reason) as caught:
        read_text(tmp_path / path)
    assert "secret" not in str(caught.value)


class TestSecrets:
    """Secrets in files that variables name."""

    URL = "postgresql://portside:hunter2@127.0.0.1:1/portside"

    def refused(self, env: dict[str, str]) -> str:
        """Return the one line of a command that fails, which does not show the secret."""
        code, printed, errors = run_portside("user", "list", env=env)
        assert (code, printed) == (1, ""), errors
        assert "hunter2" not in errors
        assert len(errors.splitlines()) == 1, errors
        return errors

    def test_database(self, tmp_path: Path) -> None:
        """The URL of the database is used, without one newline at its end."""
        path = tmp_path / "database"
        for end in (b"", b"\n", b"\r\n"):
            path.write_bytes(codecs.BOM_UTF8 + self.URL.encode() + end)
            assert "127.0.0.1" in self.refused({"PORTSIDE_DATABASE_FILE": str(path)})
        path.write_text("postgresql://eve:hunter2#@127.0.0.1/x")
        message = self.refused({"PORTSIDE_DATABASE_FILE": str(path)})
        assert message.startswith("portside: PORTSIDE_DATABASE_FILE: database must be")

    def test_storage(self, tmp_path: Path) -> None:
        """A key of an object store is given to the client of the store."""
        path = tmp_path / "key"
        path.write_text("hunter2\n")
        code, _, errors = run_portside(
            "check",
            "--data",
            str(tmp_path),
            "--storage",
            "az://container",
            env={
                "AZURE_STORAGE_ACCOUNT_NAME": "account",
                "AZURE_STORAGE_ACCOUNT_KEY_FILE": str(path),
            },
        )
        # obstore refuses a key that is not Base64: so it has seen this one.
        assert code == 2
        assert "key" in errors.lower(), errors
        assert "hunter2" not in errors

    @pytest.mark.parametrize("variable", ["PORTSIDE_DATABASE", "AWS_SECRET_ACCESS_KEY"])
    def test_mistakes(self, tmp_path: Path, variable: str) -> None:
        """Both variables, and a file that is missing, are named."""
        path = tmp_path / "secret"
        file = f"{variable}_FILE"
        message = self.refused({file: str(path)})
        assert f"{file}: cannot read {path}: No such file or directory" in message
        path.write_text(self.URL)
        message = self.refused({file: str(path), variable: self.URL})
        assert f"{variable} and {file} are both set" in message


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "PGPASSWORD",
    ],
)
def test_secrets_of_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Each variable gets what its file holds, once; a second look finds nothing to do."""
    path = tmp_path / "secret"
    path.write_text("hunter2\n")
    monkeypatch.setenv(variable, "")
    monkeypatch.setenv(f"{variable}_FILE", str(path))
    for _ in range(2):
        read_cloud_secrets()
        assert os.environ[variable] == "hunter2"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\tb", "é", "", "a\n", "a" * 256])
def test_service(data: Path, name: str) -> None:
    """A service name that would not fit in a quoted string is refused, with what is allowed."""
    code, _, errors = run_portside("serve", "--data", str(data), "--service", name)
    assert code in (1, 2)
    assert 'service must be a name of 1 to 255 printable ASCII characters other than " and \\' in (
        errors
    )
