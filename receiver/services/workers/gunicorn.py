"""Workers of a gunicorn: TTIN to its master is one more, TTOU one fewer.

https://docs.gunicorn.org/en/stable/signals.html. A reload (HUP) goes back to the configured number.
How many its master wants only its control socket tells, which it has from 25.1 on; without it they
are its children, and those that a reload has told to end count until they have.
"""

from __future__ import annotations

import signal
import struct
import time
from pathlib import Path
from typing import Final

import msgspec

from receiver.clients.dial import dial
from receiver.errors import ActionError
from receiver.policy.texts import FilePath
from receiver.services.pidfile import PidfileProcess, named_by
from receiver.services.workers import Counted, Inferred, Scaled

_MAX_ANSWER: Final = 1 << 20  # bytes


class Gunicorn(Inferred, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pidfile: FilePath
    """The pidfile of its master, as `--pid` has it."""
    control_socket: FilePath | None = None
    """Its `--control-socket`, which tells how many workers it wants."""

    def count(self, *, timeout: float) -> Counted:
        if self.control_socket is None:
            return super().count(timeout=timeout)
        return Scaled.count(self, timeout=timeout)

    def look(self, *, timeout: float) -> Counted:
        with named_by(self.pidfile, "gunicorn") as master:
            there = len(_workers(self._there(master)))
        if self.control_socket is None:
            return Counted(wanted=there, ready=there)
        wanted = _target(self.control_socket, timeout)
        return Counted(wanted=wanted, ready=min(wanted, there), leaving=max(0, there - wanted))

    def step(self, wanted: int, *, timeout: float) -> None:
        now = self.look(timeout=timeout).wanted
        with named_by(self.pidfile, "gunicorn") as master:
            if now != wanted:
                self._there(master).send(signal.SIGTTIN if wanted > now else signal.SIGTTOU)

    @property
    def patience(self) -> float:
        # One that answers a request to its end goes only then: gunicorn's graceful_timeout is 30 s.
        return 35.0

    def probe(self, *, timeout: float) -> list[str]:
        with named_by(self.pidfile, "gunicorn") as master:
            if master is None:
                return [f"no gunicorn runs as {self.pidfile} says; start it with --pid"]
            if not master.may_be_signalled():
                return [f"promheal's user may not signal {master.words}: it is another user's"]
        if self.control_socket is not None:
            _target(self.control_socket, timeout)
        return []

    def _there(self, master: PidfileProcess | None) -> PidfileProcess:
        if master is None:
            raise ActionError(f"no gunicorn runs as {self.pidfile} says")
        return master


class _Stats(msgspec.Struct):
    workers_target: int


class _Answer(msgspec.Struct):
    data: _Stats


def _target(path: str, timeout: float) -> int:
    """Return how many workers the master wants: `show stats` of gunicorn/ctl/protocol.py."""
    request = msgspec.json.encode({"id": 1, "command": "show stats"})
    try:
        with (
            dial("", 0, time.monotonic() + timeout, socket_path=path) as sock,
            sock.makefile("rb") as answers,
        ):
            sock.sendall(struct.pack(">I", len(request)) + request)
            head = answers.read(4)
            size = struct.unpack(">I", head)[0] if len(head) == 4 else 0
            body = answers.read(min(size, _MAX_ANSWER))
        return msgspec.json.decode(body, type=_Answer).data.workers_target
    except OSError as error:
        why = (
            "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        )
        raise ActionError(
            f"gunicorn's control socket {path} cannot be asked: {why}; correct `control_socket`, "
            "or start gunicorn 25.1 or later with --control-socket"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ActionError(f"what answers at {path} is no gunicorn: {error}") from None


def _workers(master: PidfileProcess) -> list[int]:
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
