"""htpasswd files: bcrypt and nothing else, line by line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portside.auth.access_files import AccessFiles, parse_htpasswd
from portside.auth.passwords import hash_password, verify
from portside.files.text import FileInvalid

HASHED = hash_password("secret", cost=4)
OTHER = hash_password("other", cost=5)


def book(path: Path) -> AccessFiles:
    """Make a rulebook of an htpasswd file alone."""
    return AccessFiles(anonymous=(), access_file="", htpasswd=str(path))


def hashes(rules: AccessFiles) -> dict[str, str]:
    """Return what the file says now."""
    found = rules.read().htpasswd
    assert found is not None
    return found.hashes


class TestLines:
    """What a line may be."""

    @pytest.mark.parametrize("letter", "aby")
    def test_bcrypt(self, letter: str) -> None:
        """Hashes of bcrypt with every letter are taken, and verify."""
        hashed = HASHED.replace("$2b$", f"$2{letter}$")
        found = parse_htpasswd(f"# people\n\nalice:{hashed}\n")
        assert found.hashes == {"alice": hashed}
        assert found.problems == []
        assert verify("secret", hashed, work=4)

    @pytest.mark.parametrize(
        ("hashed", "word"),
        [
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1"),
            ("$apr1$salt$hash123456789012345678", "MD5"),
            ("$5$rounds=5000$salt$hash", "SHA-256"),
            ("$6$salt$hash", "SHA-512"),
            ("rqXexS6ZhobKA", "unknown hash format"),
            ("plain-password", "unknown hash format"),
            ("", "unknown hash format"),
            (HASHED[:-1], "bcrypt"),
            (HASHED + "a", "bcrypt"),
            (HASHED + ":extra", "bcrypt"),
            (HASHED[:28] + "z" + HASHED[29:], "bcrypt"),
            (HASHED.replace("$04$", "$03$"), "bcrypt"),
            (HASHED.replace("$04$", "$31$"), "bcrypt"),
            (HASHED.replace("$2b$", "$2x$"), "bcrypt"),
        ],
        ids=range(14),
    )
    def test_others(self, hashed: str, word: str) -> None:
        """Another hash is refused with its line, the kind of hash, and no hash."""
        found = parse_htpasswd(f"bob:{OTHER}\n\nalice:{hashed}\ncarol:{HASHED}\n")
        assert found.hashes == {"bob": OTHER, "carol": HASHED}
        (problem,) = found.problems
        assert problem.startswith("line 3: ")
        assert word in problem
        assert len(hashed) < 2 or hashed not in problem
        assert "\n" not in problem

    @pytest.mark.parametrize("line", ["alice", f":{HASHED}", HASHED, ":"], ids=range(4))
    def test_no_entry(self, line: str) -> None:
        """A line without a name or a colon is refused with its number, and not shown."""
        found = parse_htpasswd(line)
        assert (found.hashes, found.problems) == ({}, ["line 1: expected NAME:HASH"])

    def test_twice(self) -> None:
        """Of two lines for a name the first counts."""
        found = parse_htpasswd(f"alice:{HASHED}\nbob:{OTHER}\nalice:{OTHER}\n")
        assert found.hashes == {"alice": HASHED, "bob": OTHER}

    def test_cost(self) -> None:
        """The cost of a file is that of its slowest hash."""
        assert parse_htpasswd("").cost == 0
        assert parse_htpasswd(f"alice:{HASHED}\nbob:{OTHER}\n").cost == 5

    @given(st.text(max_size=200))
    @example("a:$2y$")
    @example("a:{SHA}\n:\n::")
    def test_any_text(self, text: str) -> None:
        """Any text is read, and nothing but bcrypt hashes comes of it."""
        found = parse_htpasswd(text)
        assert all(hashed.startswith("$2") for hashed in found.hashes.values())

    @given(st.integers(0, 140))
    def test_half_written(self, length: int) -> None:
        """A file that ends within a line says nothing wrong of anybody, and all of those before."""
        whole = f"alice:{HASHED}\nbob:{OTHER}\n"
        found = parse_htpasswd(whole[:length])
        assert found.hashes.items() <= {"alice": HASHED, "bob": OTHER}.items()
        assert ("alice" in found.hashes) is (length >= len(f"alice:{HASHED}"))


class TestInUse:
    """A file that changes while the registry runs."""

    def test_rewritten(self, tmp_path: Path) -> None:
        """A file that is rewritten counts at once, with what was removed from it."""
        path = tmp_path / "htpasswd"
        path.write_text(f"alice:{HASHED}\nbob:{OTHER}\n")
        rules = book(path)
        first = rules.read().version
        assert hashes(rules) == {"alice": HASHED, "bob": OTHER}
        assert rules.read().version == first
        path.write_text(f"bob:{HASHED}\n")
        assert hashes(rules) == {"bob": HASHED}
        assert rules.read().version != first

    def test_replaced(self, tmp_path: Path) -> None:
        """A file that another one is moved over counts, also with the same size and time."""
        path, fresh = tmp_path / "htpasswd", tmp_path / "fresh"
        path.write_text(f"alice:{HASHED}\n")
        rules = book(path)
        fresh.write_text(f"alice:{OTHER}\n")
        status = path.stat()
        os.utime(fresh, ns=(status.st_atime_ns, status.st_mtime_ns))
        fresh.replace(path)
        assert hashes(rules) == {"alice": OTHER}

    def test_half_written(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A line that is half there locks out its name alone; the log says so without the hash."""
        path = tmp_path / "htpasswd"
        path.write_text(f"alice:{HASHED}\nbob:{OTHER}\n")
        rules = book(path)
        path.write_text(f"alice:{HASHED}\nbob:{OTHER[:30]}")
        assert hashes(rules) == {"alice": HASHED}
        assert "line 2" in caplog.text
        assert OTHER[:30] not in caplog.text

    def test_gone(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A file that cannot be read any more leaves what it said, and is taken up again."""
        path = tmp_path / "htpasswd"
        path.write_text(f"alice:{HASHED}\n")
        rules = book(path)
        path.unlink()
        assert hashes(rules) == {"alice": HASHED}
        assert "cannot read" in caplog.text
        path.write_text(f"bob:{HASHED}\n")
        assert hashes(rules) == {"bob": HASHED}

    @pytest.mark.parametrize("text", [b"alice:{SHA}x\n", b"alice\n", b"\xff\xff", None])
    def test_at_the_start(self, tmp_path: Path, text: bytes | None) -> None:
        """A registry does not start with a file of which a line cannot be used."""
        path = tmp_path / "htpasswd"
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(FileInvalid, match="htpasswd") as caught:
            book(path)
        assert "\n" not in str(caught.value)
