"""From settings to a running application: the only place that knows every concrete class.

What only a server needs, to prepare the stores and to make the application, is imported by module:
a command that looks something up would take longer to load it than to run.
"""

from portside.bootstrap.clock import now
from portside.bootstrap.stores import (
    Stores,
    connected_stores,
    open_stores,
    opened_stores,
    space_check,
)

__all__ = [
    "Stores",
    "connected_stores",
    "now",
    "open_stores",
    "opened_stores",
    "space_check",
]
