"""Users of this machine."""

from __future__ import annotations

import os
import pwd


def user_name(number: int | None = None) -> str:
    """Return the name of a user, or the number of one without a name; by default, of this process.

    A container may run as a user that it does not know.
    """
    number = os.geteuid() if number is None else number
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
