"""Passwords: what can be one, and that a wrong one costs the same whatever it is compared with."""

from __future__ import annotations

import time
from itertools import pairwise

import bcrypt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portside.auth.passwords import (
    LEAST_COST,
    MAX_BYTES,
    MOST_COST,
    PasswordInvalid,
    cost_of,
    digest_password,
    hash_password,
    is_digest_of,
    make_password,
    verify,
)

RIGHT = "correct horse \u00e9"
HASHED = hash_password(RIGHT, cost=LEAST_COST)
UNUSABLE = ["", "a" * (MAX_BYTES + 1), "\u00e9" * 37, "a\0b", "\0", "\ud800", "a\udcff"]
STRANGE = [*UNUSABLE, RIGHT + "\0", RIGHT + " ", RIGHT[:-1], "\U0010ffff" * 18]


class TestPeoplesPasswords:
    """bcrypt."""

    @pytest.mark.parametrize("cost", [4, 5, 6])
    @pytest.mark.parametrize("letter", "aby")
    def test_right(self, cost: int, letter: str) -> None:
        """The right password is right, for each letter that implementations write."""
        hashed = hash_password(RIGHT, cost=cost).replace("$2b$", f"$2{letter}$")
        assert cost_of(hashed) == cost
        for work in (4, 5, 6):
            assert verify(RIGHT, hashed, work=work)
            assert not verify(RIGHT + "x", hashed, work=work)

    @pytest.mark.parametrize("password", STRANGE)
    def test_wrong(self, password: str) -> None:
        """What is no password is not the right one, and no exception either."""
        assert not verify(password, HASHED, work=4)
        assert not verify(password, None, work=4)
        assert not is_digest_of(password, digest_password(make_password()))

    @pytest.mark.parametrize("password", UNUSABLE)
    def test_unusable(self, password: str) -> None:
        """What bcrypt would cut off or choke on is refused when it is chosen, and not shown."""
        with pytest.raises(PasswordInvalid) as caught:
            hash_password(password, cost=4)
        assert not password.strip("\0") or password not in str(caught.value)

    def test_longest(self) -> None:
        """72 bytes are all compared."""
        password = "\u00e9" * 36
        hashed = hash_password(password, cost=4)
        assert verify(password, hashed, work=4)
        assert not verify(password[:-1] + "\u00e8", hashed, work=4)
        assert not verify(password + "a", hashed, work=4)

    def test_a_longer_password_is_not_its_beginning(self) -> None:
        """What bcrypt alone would cut off and accept is refused, from an htpasswd file too."""
        beginning = b"a" * MAX_BYTES
        hashed = bcrypt.hashpw(beginning, bcrypt.gensalt(4)).decode("ascii")
        assert not verify("a" * (MAX_BYTES + 8), hashed, work=4)
        dash = bcrypt.hashpw(b"-", bcrypt.gensalt(4)).decode("ascii")
        for password in UNUSABLE:
            assert not verify(password, dash, work=4)

    @given(st.text(max_size=80))
    @example("\ud800")
    def test_any_text(self, password: str) -> None:
        """Any text is hashed and then right, or refused and then wrong."""
        try:
            hashed = hash_password(password, cost=4)
        except PasswordInvalid:
            assert not verify(password, HASHED, work=4)
        else:
            assert verify(password, hashed, work=4)

    @given(st.text(st.sampled_from("$2aby04159./AZz\u0661"), max_size=62))
    @example(HASHED[:28] + "z" + HASHED[29:])
    @example("$2y$05$" + "z" * 53)
    @example("$2b$\u0660\u0664$" + "." * 53)
    @example("\ud800")
    def test_any_hash(self, hashed: str) -> None:
        """A malformed hash is never right, and no exception."""
        assert not verify(RIGHT, hashed, work=4)
        assert not is_digest_of(RIGHT, hashed)

    def test_costs(self) -> None:
        """The cost of a hash that would take forever, or none at all, is none."""
        rest = HASHED[6:]
        for cost in (0, LEAST_COST - 1, MOST_COST + 1, 31, 99):
            assert cost_of(f"$2b${cost:02}{rest}") is None
        for cost in (LEAST_COST, MOST_COST):
            assert cost_of(f"$2b${cost:02}{rest}") == cost


class TestMadePasswords:
    """Passwords of programs."""

    def test_right(self) -> None:
        """A made password is long, another each time, and right for its digest alone."""
        password, other = make_password(), make_password()
        assert len(password) >= 43
        assert is_digest_of(password, digest_password(password))
        assert not is_digest_of(other, digest_password(password))
        assert not is_digest_of(password, HASHED)

    def test_a_digest_is_no_password(self) -> None:
        """Nothing that the store contains can be used to log in."""
        hashed = digest_password(make_password())
        assert not is_digest_of(hashed, hashed)
        assert not verify(hashed, hashed, work=4)
        assert not verify(HASHED, HASHED, work=4)


class TestWork:
    """The time that a wrong password takes says nothing."""

    def test_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever there is to compare with, the same number of steps is made."""
        steps: list[int] = []
        real_hash, real_check = bcrypt.hashpw, bcrypt.checkpw

        def hashpw(password: bytes, salt: bytes) -> bytes:
            steps.append(2 ** int(salt[4:6]))
            return real_hash(password, salt)

        def checkpw(password: bytes, hashed: bytes) -> bool:
            steps.append(2 ** int(hashed[4:6]))
            return real_check(password, hashed)

        known = [hash_password(RIGHT, cost=cost) for cost in (4, 5, 6, 7)]
        monkeypatch.setattr(bcrypt, "hashpw", hashpw)
        monkeypatch.setattr(bcrypt, "checkpw", checkpw)
        for hashed in (None, "malformed", digest_password("x"), *known):
            for password in (RIGHT, "wrong", *UNUSABLE):
                steps.clear()
                verify(password, hashed, work=7)
                assert sum(steps) == 2**7

    def test_time(self) -> None:
        """So it takes about the same time of the processor (without the rule: 16 times)."""
        known = [None, *(hash_password(RIGHT, cost=cost) for cost in (4, 8))]

        def measure(hashed: str | None) -> float:
            before = time.process_time()
            verify("wrong", hashed, work=8)
            return time.process_time() - before

        times = sorted(min(measure(hashed) for _ in range(5)) for hashed in known)
        assert all(slow < fast * 3 for fast, slow in pairwise(times))
