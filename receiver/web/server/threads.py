"""Who answers? A few threads from the start, and more of them when all have something to do."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from logging import Logger
from typing import Final

from receiver.web.server.connection import Connection

FIRST: Final = 4
"""Threads that are there from the start: they answer also when no other can be started."""


class Threads:
    """Calls *answer*, which raises nothing, for each connection that is put, by any thread."""

    def __init__(self, most: int, answer: Callable[[Connection], None], log: Logger) -> None:
        self._most = most
        self._answer = answer
        self._log = log
        self._ready: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        # One for each thread that has no connection, and that `put` has not counted on yet.
        self._idle = threading.Semaphore(0)
        self._starting = threading.Lock()
        self._started = 0

    def start(self) -> None:
        while self._started < min(FIRST, self._most):
            self._start_one()
            self._idle.release()

    def put(self, conn: Connection) -> None:
        """Have a thread answer: one that waits, else one more, else the first that is free."""
        self._ready.put(conn)
        if self._idle.acquire(blocking=False):
            return
        try:
            self._start_one()
        except RuntimeError as error:  # those that are there will do
            self._log.debug("%s: %d threads answer", error, self._started)

    def _start_one(self) -> None:
        with self._starting:
            if self._started < self._most:
                name = f"request-{self._started}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
                self._started += 1

    def _work(self) -> None:
        while True:
            self._answer(self._ready.get())
            self._idle.release()
