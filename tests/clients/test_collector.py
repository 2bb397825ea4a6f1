"""The garbage collector beside real clients, with a grace period of seconds: nobody notices it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.conftest import Run
from support.checks import assert_sound
from support.collecting import KEPT, OPTIONS, REPOSITORIES, Pusher, keep_one, wait_for
from support.layouts import Layout
from support.server import running_registry
from support.waiting import PATIENCE
from support.wire import connect

LOAD = int(os.environ.get("COLLECTOR_SECONDS", "10"))
"""More than a grace period, so that blobs become due beside pushes; `make bench-collector` runs it
for ten minutes."""

PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


class Copies(threading.Thread):
    """Copies an image to a registry, and deletes it again, until it is told to stop."""

    def __init__(self, copy: Callable[[], object], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.failure: BaseException | None = None
        self.copies = 0
        self._copy = copy
        self._stopping = stop

    def run(self) -> None:
        """Work."""
        try:
            while not self._stopping.is_set():
                self._copy()
                self.copies += 1
        except BaseException as error:  # noqa: BLE001  # the test's thread raises it again
            self.failure = error


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

        def copy_by_skopeo() -> None:
            run("skopeo", "copy", f"oci:{layout.root}:app", f"{remote}:skopeo", PLAIN[1])
            run("skopeo", "copy", f"{remote}:skopeo", f"{remote}/other:skopeo", *PLAIN)
            for name in (remote, f"{remote}/other"):
                run("skopeo", "delete", "--tls-verify=false", f"{name}:skopeo")

        def push_by_buildah() -> None:
            plain = "--tls-verify=false"
            run("buildah", *storage, "push", plain, "localhost/built", f"{remote}:buildah")
            run("skopeo", "inspect", plain, f"{remote}:buildah")
            run("skopeo", "delete", plain, f"{remote}:buildah")

        pushers = [Pusher(registry.url, f"{number}", stop) for number in range(3)]
        copies = [Copies(copy, stop) for copy in (copy_by_skopeo, push_by_buildah)]
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
