"""Services that are started and stopped by commands of their own."""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec

from receiver import process
from receiver.errors import ActionError
from receiver.policy.texts import Argv
from receiver.services import ServiceState, ServiceStatus

_POLL_FIRST: Final = 0.05  # seconds; a poll is a process, so it becomes rarer
_POLL_MAX: Final = 1.0  # seconds


class CommandManager(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service of which only its commands are known."""

    restart_argv: Annotated[Argv, msgspec.Meta(min_length=1)] = msgspec.field(name="restart")
    """Stops and starts it. What it leaves running is left."""
    status_argv: Argv = msgspec.field(name="status", default=())
    """Exits with 0 when it runs; asked until it does. Without it, the exit code of `restart` is
    believed."""

    def status(self, *, timeout: float) -> ServiceStatus:
        if not self.status_argv:
            raise ActionError("its state is not known: the manager has no `status` command")
        if timeout <= 0:
            raise ActionError(f"no time left to ask {self.status_argv[0]!r}")
        finished = process.run(self.status_argv, timeout=timeout, output_limit=4096)
        if finished.timed_out:
            raise ActionError(
                f"{self.status_argv[0]!r} did not end within {timeout:.1f} s",
                output=finished.output,
            )
        return ServiceStatus(
            state=ServiceState.RUNNING if finished.ok else ServiceState.STOPPED,
            detail=finished.output.strip()[:1000] or ending(finished),
        )

    def restart(self, *, timeout: float) -> ServiceStatus:
        """Run the command, then ask `status` until it runs; without one, believe the exit code."""
        deadline = time.monotonic() + timeout
        finished = process.run(self.restart_argv, timeout=timeout, leftovers="leave")
        if not finished.ok:
            raise ActionError(
                f"{self.restart_argv[0]!r} {ending(finished)}", output=finished.output
            )
        if not self.status_argv:
            return ServiceStatus(
                state=ServiceState.RUNNING, detail="as its restart command says; no `status`"
            )
        pause = _POLL_FIRST
        while True:
            left = deadline - time.monotonic()
            status = self.status(timeout=max(left, 1.0))
            if status.state is ServiceState.RUNNING:
                return status
            if left <= pause:
                raise ActionError(
                    f"{self.restart_argv[0]!r} succeeded, but {self.status_argv[0]!r} does not "
                    f"say that it runs: {status.detail}",
                    output=finished.output,
                )
            time.sleep(pause)
            pause = min(pause * 2, _POLL_MAX)


def ending(finished: process.Finished) -> str:
    """Return how a command ended, as the end of a sentence."""
    if finished.timed_out:
        return f"did not end within {finished.seconds:.1f} s"
    if finished.signal is not None:
        return f"was ended by signal {finished.signal}"
    return f"ended with exit code {finished.exit_code}"
