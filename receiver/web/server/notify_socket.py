"""sd_notify(3): tells systemd that promheal is ready, alive, and in which state.

gunicorn sends READY=1 as soon as it listens, before there is anything behind it, and never
WATCHDOG=1. So the socket is taken from it, and the worker sends READY=1 once it can receive, and
WATCHDOG=1 only while every vital thread is alive. When that stops, systemd restarts promheal.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final

log: Final = logging.getLogger("promheal")

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""systemd's variables, which must not reach our child processes."""

_SOON: Final = 1.0
"""Seconds until the first check: the engine starts concurrently."""
_SELDOM: Final = 60.0
"""Seconds between two checks without a watchdog."""


class NotifySocket:
    """Notifies systemd in a thread of its own, from `start()` to `close()`.

    *variables* are those of VARIABLES that the environment had; without a socket nothing happens.
    *dead* returns why promheal is not alive, or an empty text; while it hangs, no WATCHDOG=1 is
    sent. *status* returns a line for `systemctl status`.
    """

    def __init__(
        self, variables: Mapping[str, str], dead: Callable[[], str], status: Callable[[], str]
    ) -> None:
        address = variables.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watchdog = variables.get("WATCHDOG_USEC", "")
        self._watchdog = watchdog.isdecimal() and int(watchdog) > 0
        self._every = int(watchdog) / 2_000_000 if self._watchdog else _SELDOM
        self._dead = dead
        self._status = status
        self._reason = ""
        self._last_status = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="notify-socket", daemon=True)

    def start(self) -> None:
        if self._address:
            self._send("READY=1")
            self._thread.start()

    def close(self) -> None:
        if self._address:
            self._closing.set()
            self._send("STOPPING=1", "STATUS=ending")

    def _beat(self) -> None:
        pause = min(_SOON, self._every)
        while not self._closing.wait(pause):
            self._look()
            pause = self._every

    def _look(self) -> None:
        reason = self._dead()
        lines = []
        if not reason and self._watchdog:
            lines.append("WATCHDOG=1")
        if reason and reason != self._reason:
            log.error("not alive: systemd gets no WATCHDOG=1", extra={"reason": reason})
        self._reason = reason
        status = reason or self._status()
        if status != self._last_status:
            lines.append(f"STATUS={status}")
        if lines and self._send(*lines):
            self._last_status = status

    def _send(self, *lines: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.settimeout(1.0)
                ours.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("cannot notify systemd: %s", error)
            return False
        return True
