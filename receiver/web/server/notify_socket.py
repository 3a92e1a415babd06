"""What does systemd hear? That promheal is ready, how it fares, and that it lives: sd_notify(3).

gunicorn says READY=1 as soon as it listens, before there is anything behind it, and never
WATCHDOG=1. So its socket is taken from it, and the worker speaks: READY=1 once it can receive, and
WATCHDOG=1 only while what must live does. Where it says no more, systemd restarts it.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final

log: Final = logging.getLogger("promheal")

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What systemd says in the environment, and nobody else below us is to read."""

_SOON: Final = 1.0
"""Seconds until the first look at how it fares: the engine starts beside us."""
_SELDOM: Final = 60.0
"""Seconds between two looks where there is no watchdog."""


class NotifySocket:
    """Tells systemd, in a thread of its own, from `start()` to `close()`.

    *variables* are those of VARIABLES that the environment had; without a socket nothing happens.
    *dead* returns why it cannot be called alive, or an empty text; when it does not return at all,
    that is no life either. *status* returns a line for `systemctl status`.
    """

    def __init__(
        self, variables: Mapping[str, str], dead: Callable[[], str], status: Callable[[], str]
    ) -> None:
        address = variables.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watchdog = variables.get("WATCHDOG_USEC", "")
        self._watched = watchdog.isdecimal() and int(watchdog) > 0
        self._every = int(watchdog) / 2_000_000 if self._watched else _SELDOM
        self._dead = dead
        self._status = status
        self._reason = ""
        self._said = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="notify-socket", daemon=True)

    def start(self) -> None:
        if self._address:
            self._tell("READY=1")
            self._thread.start()

    def close(self) -> None:
        if self._address:
            self._closing.set()
            self._tell("STOPPING=1", "STATUS=ending")

    def _beat(self) -> None:
        pause = min(_SOON, self._every)
        while not self._closing.wait(pause):
            self._look()
            pause = self._every

    def _look(self) -> None:
        reason = self._dead()
        lines = []
        if not reason and self._watched:
            lines.append("WATCHDOG=1")
        if reason and reason != self._reason:
            log.error("not alive, and systemd is not told otherwise", extra={"reason": reason})
        self._reason = reason
        status = reason or self._status()
        if status != self._said:
            lines.append(f"STATUS={status}")
        if lines and self._tell(*lines):
            self._said = status

    def _tell(self, *lines: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.settimeout(1.0)
                ours.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("systemd cannot be told: %s", error)
            return False
        return True
