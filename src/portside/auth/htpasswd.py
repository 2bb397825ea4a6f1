"""Apache's `htpasswd` files, with bcrypt hashes (`htpasswd -B`)."""

from __future__ import annotations

from typing import NamedTuple

from portside.auth.passwords import MOST_COST, cost_of

_FORMATS = {"{SHA}": "SHA-1", "$apr1$": "MD5", "$5$": "SHA-256", "$6$": "SHA-512", "$2": "bcrypt"}


class Htpasswd(NamedTuple):
    """The hashes of a file by name, and a sentence for each line that cannot be used."""

    hashes: dict[str, str]
    problems: list[str]

    @property
    def cost(self) -> int:
        """The greatest cost of all hashes; 0 if there are none."""
        return max((cost_of(hashed) or 0 for hashed in self.hashes.values()), default=0)


def parse_htpasswd(text: str) -> Htpasswd:
    """Read a file; of two lines for a name the first counts, as it does for Apache."""
    found = Htpasswd({}, [])
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, colon, hashed = entry.partition(":")
        if not colon or not name:
            found.problems.append(f"line {number} is not of the form NAME:HASH")
        elif cost_of(hashed) is None:
            found.problems.append(f"line {number}: {_explain(hashed)}")
        else:
            found.hashes.setdefault(name, hashed)
    return found


def _explain(hashed: str) -> str:
    """Say what is wrong with a hash, and never show it."""
    known = next((name for start, name in _FORMATS.items() if hashed.startswith(start)), None)
    if known == "bcrypt":
        return f"the bcrypt hash is malformed, or its cost is above {MOST_COST}"
    kind = f"a {known} hash" if known else "no hash of a known format"
    return f"{kind} is not accepted; make a bcrypt hash with `htpasswd -B`"
