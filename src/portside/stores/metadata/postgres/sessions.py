"""Sessions: what a connection to PostgreSQL is set to, once, before it is used."""

from __future__ import annotations

from typing import Any

# What was acknowledged is kept; a server that is set to wait for its replicas too goes on to do so.
# A node that is cut off without a word loses its locks within a minute. Poolers refuse settings
# that come with the connection, so these come behind it.
_SET_UP = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off';
    SELECT set_config('jit', 'off', false);
    SELECT set_config(name, '10', false) FROM pg_settings
    WHERE name IN ('tcp_keepalives_idle', 'tcp_keepalives_interval') AND setting::int > 10;
    SELECT set_config(name, '3', false) FROM pg_settings
    WHERE name = 'tcp_keepalives_count' AND setting::int > 3;
"""


async def set_up(connection: Any) -> None:
    """Let a commit return when it is on the disk, at least, and see to the rest of a session."""
    await connection.execute(_SET_UP)


async def leave_as_it_is(connection: Any) -> None:
    """Spare the query that would clear the connection: whoever took a lock has released it."""
