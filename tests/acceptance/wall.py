"""A wall clock that a test can set, for one real `promheal serve` alone.

Debian's libfaketime stands between its processes and the C library, and says a wrong time for
CLOCK_REALTIME: by how much, it reads from a file at every call. The monotonic and the boot clock
stay the kernel's, as when a person or NTP sets the clock of a machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Promheal
from tests.tools import REPOSITORY

# libfaketime 0.9.10 takes the deadlines of two calls for times of the wall clock, though they are
# the monotonic clock's: time.sleep fails, and waiting for the interpreter's lock ends at once. So
# Python sleeps by another call, and waits for its lock for 5 ms, which it does anyway
# (sys.getswitchinterval). Nothing else in promheal waits in these two ways; clocks.py looks.
_SLEEP = """\
import select, time

def sleep(seconds):
    select.select([], [], [], seconds)

time.sleep = sleep
"""


class Wall:
    """Is ahead of the real one by as many seconds as were set last, for who has its `environ`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall"
        site = folder / "site"
        site.mkdir(parents=True)
        (site / "sitecustomize.py").write_text(_SLEEP)
        self.environ = {
            "LD_PRELOAD": str(_libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_WAIT_MS": "5",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(site),
        }
        self.set(0.0)

    def set(self, lead: float) -> None:
        """Step it. At one stroke, since it is read all the time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{lead:+.0f}\n")
        new.rename(self._file)


class Misled(Promheal):
    """A promheal whose wall clock is set while it runs, and while it is down."""

    def __init__(self, folder: Path, strategies: dict[str, Any], **settings: Any) -> None:
        super().__init__(folder, strategies, **settings)
        self.wall = Wall(folder / "wall")

    def launch(self) -> None:
        with pytest.MonkeyPatch.context() as environ:
            for name, value in self.wall.environ.items():
                environ.setenv(name, value)
            super().launch()

    def wait_ready(self, status: int = 200) -> None:
        assert self.process is not None
        pid = self.process.pid
        try:
            super().wait_ready(status)
        finally:
            # What libfaketime shares between arbiter and worker, who have it open by now: it would
            # remove it itself, but not when it is killed.
            for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
                Path("/dev/shm", name).unlink(missing_ok=True)


def _libfaketime() -> Path:
    """The variant for threads."""
    for root in (Path("/"), REPOSITORY / ".tools"):
        for found in root.glob("usr/lib/*/faketime/libfaketimeMT.so.1"):
            return found
    pytest.fail("libfaketime is not installed: run make develop", pytrace=False)
