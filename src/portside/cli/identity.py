"""Who changes content by a command, as the history of tags, the trash and the events record it."""

from __future__ import annotations

from os import getuid

from portside.files.users import user_name
from portside.stores.actors import Actor


def command_actor() -> Actor:
    """Return the person who runs this command, with a name such as `command line: alice`.

    No identity of the registry has such a name. Names of users, in htpasswd files as well, contain
    no colon, and the prefix of a trusted issuer contains no space.
    """
    return Actor(f"command line: {user_name(getuid())}")
