"""What happens by the clock and not by an event: resync, retention, what is still owed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

log: Final = logging.getLogger("promheal.background")


class Task(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    every: Callable[[], float]
    """Seconds between the starts of two executions, asked each time: a reload may change it."""
    run: Callable[[], object]


class Background:
    """Runs each task at its interval, one after the other, in one thread."""

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        self._tasks = tasks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="background", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        due = {task.name: monotonic() + task.every() for task in self._tasks}
        while not self._stop.wait(max(0.0, min(due.values()) - monotonic())):
            for task in self._tasks:
                if due[task.name] <= monotonic():
                    try:
                        task.run()
                    except Exception:
                        log.exception("background task %s failed", task.name)
                    due[task.name] = monotonic() + task.every()
