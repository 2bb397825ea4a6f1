"""Passwords: slow hashes for those that people choose, and the same work for every check.

The passwords of people are stored as bcrypt hashes, like those of an Apache `htpasswd` file.
Passwords that Portside generates have 256 random bits and cannot be guessed, so that a plain digest
is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

import bcrypt

MAX_BYTES = 72
"""bcrypt ignores all bytes after these, so that longer passwords are refused."""

LEAST_COST = 4
MOST_COST = 20

_DIGEST = "sha256$"
# The letter after $2 distinguishes bugs of early implementations, which no current one has.
# The last character of the salt encodes two bits, and bcrypt rejects any other one.
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")


class PasswordInvalid(ValueError):
    """A password that cannot be used; the message is for the person who chose it."""


def make_password() -> str:
    """Return a new password for a program: 256 random bits."""
    return secrets.token_urlsafe(32)


def digest_password(password: str) -> str:
    """Return the digest of a password from `make_password`."""
    return _DIGEST + hashlib.sha256(password.encode("utf-8", "surrogatepass")).hexdigest()


def hash_password(password: str, *, cost: int, min_length: int = 1) -> str:
    """Return the hash of a password that a person chose; each step of `cost` doubles the work.

    Raises PasswordInvalid.
    """
    try:
        encoded = password.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PasswordInvalid("the password is not valid UTF-8") from error
    if not encoded:
        raise PasswordInvalid("a password cannot be empty")
    if len(password) < min_length:
        raise PasswordInvalid(f"a password needs at least {min_length} characters")
    if len(encoded) > MAX_BYTES:
        raise PasswordInvalid(f"a password can have at most {MAX_BYTES} bytes")
    if b"\0" in encoded:
        raise PasswordInvalid("a password cannot contain the character NUL")
    return bcrypt.hashpw(encoded, bcrypt.gensalt(cost)).decode("ascii")


def cost_of(hashed: str) -> int | None:
    """Return the cost of a bcrypt hash, or None for anything else."""
    found = _BCRYPT.fullmatch(hashed)
    if found is None or not LEAST_COST <= int(found.group(1)) <= MOST_COST:
        return None
    return int(found.group(1))


def highest_cost(hashes: Iterable[str]) -> int:
    """Return the highest cost of all bcrypt hashes; 0 if there are none."""
    return max((cost_of(hashed) or 0 for hashed in hashes), default=0)


def is_digest_of(password: str, hashed: str) -> bool:
    """Whether `hashed` is the digest of a password, in constant time."""
    return hashed.startswith(_DIGEST) and hmac.compare_digest(digest_password(password), hashed)


def verify(password: str, hashed: str | None, *, work: int) -> bool:
    """Whether `hashed` is the bcrypt hash of a password.

    Takes as long as one hash of the cost `work`, whatever the cost of `hashed`, and if it is None:
    2^c steps for the hash itself, and 2^c + 2^(c+1) + … + 2^(work-1) to make up the difference.
    """
    encoded = password.encode("utf-8", "surrogatepass")
    fits = 0 < len(encoded) <= MAX_BYTES and b"\0" not in encoded
    candidate = encoded if fits else b"-"
    cost = cost_of(hashed) if hashed is not None else None
    if hashed is None or cost is None:
        bcrypt.hashpw(candidate, bcrypt.gensalt(work))
        return False
    is_right = bcrypt.checkpw(candidate, hashed.encode("ascii"))
    for missing in range(cost, work):
        bcrypt.hashpw(candidate, bcrypt.gensalt(missing))
    return is_right and fits
