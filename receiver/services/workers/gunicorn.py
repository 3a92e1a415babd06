"""Workers of a gunicorn: TTIN to its master is one more, TTOU one fewer.

https://docs.gunicorn.org/en/stable/signals.html. A reload (HUP) goes back to the configured number.
"""

from __future__ import annotations

import signal
from pathlib import Path

from receiver.errors import ActionError
from receiver.services.pidfile import Found, named_by
from receiver.services.workers import Scaled


class Gunicorn(Scaled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pidfile: str
    """Of its master, as `--pid` has it."""

    def count(self, *, timeout: float) -> int:  # noqa: ARG002  /proc does not wait
        with named_by(self.pidfile, "gunicorn") as master:
            return len(_workers(self._there(master)))

    def step(self, now: int, wanted: int, *, timeout: float) -> None:  # noqa: ARG002
        with named_by(self.pidfile, "gunicorn") as master:
            self._there(master).send(signal.SIGTTIN if wanted > now else signal.SIGTTOU)

    @property
    def patience(self) -> float:
        # One that answers a request to its end goes only then: gunicorn's graceful_timeout is 30 s.
        return 35.0

    def probe(self, *, timeout: float) -> list[str]:  # noqa: ARG002
        with named_by(self.pidfile, "gunicorn") as master:
            if master is None:
                return [f"no gunicorn runs as {self.pidfile} says; start it with --pid"]
            if not master.may_be_signalled():
                return [f"promheal's user may not signal {master.words}: it is another user's"]
        return []

    def _there(self, master: Found | None) -> Found:
        if master is None:
            raise ActionError(f"no gunicorn runs as {self.pidfile} says")
        return master


def _workers(master: Found) -> list[int]:
    """Return the pids of its children that are workers.

    A worker is a fork of its master, so they have one command line, but for setproctitle, which
    names each. Other children are helpers, of hooks for example.
    """
    own = _words(master.pid)
    found = []
    for task in Path(f"/proc/{master.pid}/task").iterdir():
        for pid in map(int, (task / "children").read_text(encoding="ascii").split()):
            words = _words(pid)
            if words and (words == own or words.startswith(b"gunicorn: worker")):
                found.append(pid)
    return found


def _words(pid: int) -> bytes:
    """Return a process's command line; a zombie has none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
