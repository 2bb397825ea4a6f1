"""From settings to a running application: the only place that knows every concrete class."""

from portside.bootstrap.application import make_app
from portside.bootstrap.clock import now
from portside.bootstrap.preparing import prepare
from portside.bootstrap.stores import Stores, connected_stores, open_stores, opened_stores

__all__ = [
    "Stores",
    "connected_stores",
    "make_app",
    "now",
    "open_stores",
    "opened_stores",
    "prepare",
]
