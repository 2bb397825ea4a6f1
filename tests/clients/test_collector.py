"""The garbage collector beside real clients, with a grace period of seconds: nobody notices it.

A client asks for blobs before it pushes, and pushes the manifest last: the grace period has to be
longer than that takes. A real registry has a day. Here it is as short as skopeo and buildah can
keep to. A command that fails after it took longer has been promised nothing, and is run again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from clients.conftest import Run
from support.checks import assert_sound
from support.collecting import (
    KEPT,
    OPTIONS,
    REPOSITORIES,
    Pusher,
    is_late,
    keep_one,
    wait_for,
)
from support.layouts import Layout
from support.server import running_registry
from support.waiting import PATIENCE
from support.wire import connect

LOAD = int(os.environ.get("COLLECTOR_SECONDS", "10"))
"""More than a grace period, so that blobs become due beside pushes; `make bench-collector` runs it
for ten minutes."""

PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


class Copies(threading.Thread):
    """Runs commands that copy an image and delete it again, until it is told to stop."""

    def __init__(self, run: Run, commands: Sequence[Sequence[str]], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.failure: BaseException | None = None
        self.copies = 0
        self._run_command = run
        self._commands = commands
        self._stopping = stop

    def run(self) -> None:
        """Work."""
        try:
            while not self._stopping.is_set():
                self.copies += self._copy()
        except BaseException as error:  # noqa: BLE001  # the test's thread raises it again
            self.failure = error

    def _copy(self) -> bool:
        """Run the commands once; return whether all of them were quick enough to succeed."""
        for command in self._commands:
            began = time.monotonic()
            try:
                self._run_command(*command)
            except AssertionError:
                if not is_late(began):
                    raise
                return False
        return True


@pytest.mark.long
def test_no_client_sees_it(run: Run, storage: list[str], data: Path, tmp_path: Path) -> None:
    """Pushes, pulls and deletes succeed, and what can be pulled is all that is left at the end."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("app", (1000, 200_000))
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY layout/oci-layout /\n")
    run("buildah", *storage, "build", "--tag", "localhost/built", str(tmp_path))
    stop = threading.Event()
    with running_registry(data, *OPTIONS) as registry:
        remote = f"docker://{registry.address}/{REPOSITORIES[0]}"

        plain = "--tls-verify=false"
        copy_by_skopeo = [
            ("skopeo", "copy", f"oci:{layout.root}:app", f"{remote}:skopeo", PLAIN[1]),
            ("skopeo", "copy", f"{remote}:skopeo", f"{remote}/other:skopeo", *PLAIN),
            ("skopeo", "delete", plain, f"{remote}:skopeo"),
            ("skopeo", "delete", plain, f"{remote}/other:skopeo"),
        ]
        push_by_buildah = [
            ("buildah", *storage, "push", plain, "localhost/built", f"{remote}:buildah"),
            ("skopeo", "inspect", plain, f"{remote}:buildah"),
            ("skopeo", "delete", plain, f"{remote}:buildah"),
        ]
        pushers = [Pusher(registry.url, f"{number}", stop) for number in range(3)]
        copies = [Copies(run, commands, stop) for commands in (copy_by_skopeo, push_by_buildah)]
        threads: list[Pusher | Copies] = [*pushers, *copies]
        for thread in threads:
            thread.start()
        # A thread that fails ends before.
        pushers[0].join(LOAD)
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
        failures = [thread.failure for thread in threads if thread.failure is not None]
        assert failures == []
        assert all(thread.copies for thread in copies)
        assert all(pusher.pushes and pusher.found and pusher.missing for pusher in pushers)
        assert all(pusher.late < pusher.pushes for pusher in pushers)
        with connect(registry.url) as client:
            keep_one(client)
        # What was pushed faster than it is collected takes as long again.
        wait_for(data, KEPT, PATIENCE + LOAD)
        assert "collected " in registry.log
        assert "failed" not in registry.log
        assert "cannot" not in registry.log
    assert_sound(data)
