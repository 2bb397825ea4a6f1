"""Passwords: hashed slowly where people choose them, and checked with the same work for all.

People's passwords are bcrypt hashes, as those of an Apache `htpasswd` file are. Passwords that
Portside makes have 256 random bits, which nobody can try out: a plain digest keeps them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

import bcrypt

MAX_BYTES = 72
"""bcrypt looks at no more, so that a longer password would be another one than it seems."""

LEAST_COST = 4
MOST_COST = 20

_DIGEST = "sha256$"
# The letter tells apart bugs of early implementations that none has any more.
# The last letter of the salt stands for two bits alone, and bcrypt chokes on any other.
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")


class PasswordInvalid(ValueError):
    """A password that cannot be used; the message is for the person who chose it."""


def make_password() -> str:
    """Make a password for a program: 256 random bits."""
    return secrets.token_urlsafe(32)


def digest_password(password: str) -> str:
    """Hash a password that was made by `make_password`."""
    return _DIGEST + hashlib.sha256(password.encode("utf-8", "surrogatepass")).hexdigest()


def hash_password(password: str, *, cost: int) -> str:
    """Hash a password that a person chose; each step of `cost` doubles the work.

    Raises PasswordInvalid.
    """
    try:
        encoded = password.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PasswordInvalid("a password must be text in UTF-8") from error
    if not encoded:
        raise PasswordInvalid("a password cannot be empty")
    if len(encoded) > MAX_BYTES:
        raise PasswordInvalid(f"a password may have {MAX_BYTES} bytes at most")
    if b"\0" in encoded:
        raise PasswordInvalid("a password cannot hold the character NUL")
    return bcrypt.hashpw(encoded, bcrypt.gensalt(cost)).decode("ascii")


def cost_of(hashed: str) -> int | None:
    """Give the cost of a bcrypt hash, or None for anything else."""
    found = _BCRYPT.fullmatch(hashed)
    if found is None or not LEAST_COST <= int(found.group(1)) <= MOST_COST:
        return None
    return int(found.group(1))


def is_digest_of(password: str, hashed: str) -> bool:
    """Tell whether `hashed` is the digest of a password that was made; constant in time."""
    return hashed.startswith(_DIGEST) and hmac.compare_digest(digest_password(password), hashed)


def verify(password: str, hashed: str | None, *, work: int) -> bool:
    """Tell whether `hashed` is the bcrypt hash of a password.

    Costs what one hash of the cost `work` does, whether there is a hash or not and whatever its own
    cost is: 2^c steps for itself, and 2^c + 2^(c+1) + … + 2^(work-1) to make up for the rest.
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
