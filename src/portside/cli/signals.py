"""SIGTERM and Ctrl-C before the server handles them."""

from __future__ import annotations

import os
import signal

SHUTDOWN_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What stops the first process. Terminals and systemd send it to the workers as well."""


def exit_on_signal() -> None:
    """Exit with 0 at once on SIGTERM and Ctrl-C, until the server installs its own handlers.

    No request has been answered yet, and the stores survive a crash. An exception is not enough:
    it is lost wherever Python cannot raise it, such as in a finaliser.
    """
    for number in SHUTDOWN_SIGNALS:
        signal.signal(number, _exit)


def _exit(*_: object) -> None:
    os._exit(0)
