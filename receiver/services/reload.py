"""How does a service learn that its settings were changed?"""

from __future__ import annotations

import os
import signal
import time
from typing import Annotated, Literal

import msgspec

from receiver import process
from receiver.clients.http_exchange import exchange
from receiver.errors import ActionError
from receiver.policy.texts import Argv, Url
from receiver.services.manager import Manager


class HttpReload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that is answered with 2xx when the new settings are in force."""

    url: Annotated[Url, msgspec.Meta(examples=["http://127.0.0.1:8080/-/reload"])]
    """Answers 2xx when the settings are in force."""
    method: Literal["POST", "PUT", "GET"] = "POST"
    """How it is called."""


class Reload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the service learns of its new settings: one of these."""

    signal: Annotated[str, msgspec.Meta(extra={"type": "signal"})] | None = None
    """`HUP` or another, to the process that the manager names."""
    command: Argv = ()
    """An argv that ends with 0 when the settings are in force."""
    http: HttpReload | None = None
    restart: bool = False
    """Through its manager, for a service that reads its settings only at its start."""

    def __post_init__(self) -> None:
        ways = (self.signal is not None, bool(self.command), self.http is not None, self.restart)
        if sum(ways) != 1:
            raise ValueError("a reload is one of signal, command, http and restart")
        if self.signal is not None and f"SIG{self.signal}" not in signal.Signals.__members__:
            raise ValueError(f"unknown signal {self.signal!r}; write for example HUP or USR1")


def inform(reload: Reload | None, manager: Manager, *, timeout: float) -> str:
    """Have the service read its settings; return what was done. Raises ActionError."""
    match reload:
        case None:
            return "it watches its file"
        case Reload(signal=str(name)):
            return _signalled(manager, name, timeout)
        case Reload(restart=True):
            manager.restart(timeout=timeout)
            return "restarted"
        case Reload(http=HttpReload(url=url, method=method)):
            answer = exchange(method, url, timeout=timeout)
            if not 200 <= answer.status < 300:
                raise ActionError(f"{method} {url} answered {answer.words}", output=answer.body)
            return f"{method} {url} answered {answer.status}"
        case _:
            finished = process.run(reload.command, timeout=timeout)
            if not finished.ok:
                how = (
                    "did not end in time"
                    if finished.timed_out
                    else f"ended with {finished.exit_code}"
                )
                raise ActionError(
                    f"{reload.command[0]!r}, which has it read its settings, {how}",
                    output=finished.output,
                )
            return "its reload command succeeded"


def _signalled(manager: Manager, name: str, timeout: float) -> str:
    deadline = time.monotonic() + timeout
    pid = manager.status(timeout=timeout).pid
    if pid is None:
        raise ActionError("its manager names no process that could get the signal")
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        raise ActionError(f"process {pid} has just ended: {error.strerror}") from None
    try:
        # From here on the number stands for this process; is it still the service's?
        again = manager.status(timeout=max(0.1, deadline - time.monotonic())).pid
        if again != pid:
            raise ActionError(f"the service was restarted by someone else: {pid} became {again}")
        signal.pidfd_send_signal(descriptor, signal.Signals[f"SIG{name}"])
    except ProcessLookupError:
        raise ActionError(f"process {pid} has just ended") from None
    except PermissionError:
        raise ActionError(f"process {pid} may not be signalled: it is another user's") from None
    finally:
        os.close(descriptor)
    return f"SIG{name} to process {pid}"
