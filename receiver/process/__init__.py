"""What happens when this argv runs? Nothing that it starts outlives its deadline.

Each argv gets a supervisor of its own (`receiver.process.supervise`), which enforces the deadline,
and does so too when we are killed. Never a shell, and nothing of our environment. Linux only: it
rests on child sub-reapers and /proc.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

from receiver.errors import ActionError
from receiver.process.invocation import Invocation
from receiver.process.supervision import Output, supervised

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Final = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/"}
"""All that an argv inherits, before its own `env`."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How an argv ended. Neither a bad exit code nor the deadline is an exception."""

    argv: tuple[str, ...]
    exit_code: int | None
    """None when a signal ended it."""
    signal: int | None
    timed_out: bool
    cancelled: bool = False
    killed: int
    """Processes that had to be killed, at the deadline or left behind by the main process."""
    seconds: float
    output: str
    """stdout and stderr as they came, head and tail; undecodable bytes and NUL are U+FFFD."""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.timed_out and not self.cancelled


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    leftovers: Literal["kill", "leave"] = "kill",
    output_limit: int = 65536,
    cancelled: Callable[[], bool] | None = None,
) -> Finished:
    """Run *argv* and return once it ended: at most *timeout* seconds, and 2 to kill what resists.

    *env* is added to `ENVIRONMENT`; *cwd* is `/` unless given. *leftovers* says what becomes of
    processes that live on when the main process ended in time: a restart wants its daemon left.
    *cancelled* is asked four times a second; once it says yes, everything is ended as at the
    deadline. At most about *output_limit* bytes of output are kept.

    Raises ActionError when *argv* cannot be started, and when its end cannot be vouched for:
    the supervisor was killed, or processes withstood SIGKILL.
    """
    if not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout}")
    invocation = Invocation(argv=tuple(argv), env={**ENVIRONMENT, **(env or {})}, cwd=cwd or "/")
    output = Output(output_limit)
    began = time.monotonic()
    with supervised(invocation, leftovers=leftovers, timeout=timeout, output=output) as supervision:
        pid = supervision.started()
        report = supervision.finished(pid, timeout, cancelled)
    if report.unkillable:
        pids = " ".join(map(str, report.unkillable))
        raise ActionError(
            f"{invocation.name} is over, but {len(report.unkillable)} of its processes withstood "
            f"SIGKILL (another user's, or stuck in the kernel); end them by hand: {pids}",
            output=output.text(),
        )
    return Finished(
        argv=invocation.argv,
        exit_code=report.exit,
        signal=report.signal,
        timed_out=report.timed_out,
        cancelled=report.cancelled,
        killed=report.killed,
        seconds=time.monotonic() - began,
        output=output.text(),
    )


class Detached(msgspec.Struct, frozen=True):
    """A daemon that has just been started."""

    pid: int
    printed: Callable[[], str]
    """Return what it has printed so far, head and tail. To be called often: once the pipe is full,
    the daemon waits."""


@contextmanager
def spawn_detached(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    output_limit: int = 8192,
) -> Iterator[Detached]:
    """Start a daemon that outlives us and the block, in which it is seen what it prints.

    It has a session of its own, nothing to read, and after the block init as its parent. What it
    prints then is read and forgotten by a process of ours that ends with it: by one, since a pipe
    without a reader ends who writes to it. Both stay in our cgroup: systemd ends them with our unit
    unless that says `KillMode=process`. Raises ActionError when it cannot be started.
    """
    invocation = Invocation(argv=tuple(argv), env={**ENVIRONMENT, **(env or {})}, cwd=cwd or "/")
    output = Output(output_limit)
    with supervised(invocation, leftovers="detach", timeout=0.0, output=output) as supervision:
        yield Detached(supervision.started(), supervision.printed)
