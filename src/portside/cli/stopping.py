"""Stopping before there is anything to stop."""

from __future__ import annotations

import os
import signal

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""What tells the first process to stop. Terminals and systemd send it to the workers as well."""


def quit_when_told() -> None:
    """End at once and with 0 at SIGTERM and Ctrl-C, until the server sets handlers of its own.

    Nothing was promised to anybody yet, and the stores are made to survive worse. An exception
    would be lost wherever Python cannot raise it, such as in a finaliser.
    """
    for number in STOPPING:
        signal.signal(number, _quit)


def _quit(*_: object) -> None:
    os._exit(0)
