"""Background tasks: what runs by the clock and not by an event.

A registry of tasks. Each has a timer for its next time, and a few threads execute what is due. The
timer is set for one time only, and anew when the task has run. So two executions of one task never
overlap, and the runs that a slow one missed are one run, at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from functools import partial
from queue import SimpleQueue
from time import monotonic
from typing import Final

from receiver.clock import Clock
from receiver.engine.periodic_task import PeriodicTask, TaskState, interval_of
from receiver.engine.timers import Timers
from receiver.errors import PromhealError

log: Final = logging.getLogger("promheal.background")

THREADS: Final = 4
"""Tasks that may run at the same moment: a slow one does not delay the others."""


class TaskExists(PromhealError):  # noqa: N818  named for what is the case
    """A task of this id is registered already."""


class Background:
    """The tasks that are registered, each run at its interval from `start` to `stop`.

    Every method may be called by any thread at any time. None calls a task's `run`; `every` and
    `wanted` are called under the lock, and must not wait.
    """

    def __init__(self, *, clock: Clock, timers: Timers, tasks: Iterable[PeriodicTask] = ()) -> None:
        self._clock = clock
        self._timers = timers
        self._lock = threading.RLock()
        # All below is guarded by _lock.
        self._known: dict[str, _Entry] = {}  # in order of registration
        self._paused = False
        self._stopped = False
        self._started = False
        self._due: SimpleQueue[tuple[str, int] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        for task in tasks:
            self.register(task)

    def start(self) -> None:
        """Begin: each task runs for the first time when its interval has passed."""
        with self._lock:
            if self._stopped or self._started:
                return
            self._started = True
            self._timers.start()
            for number in range(THREADS):
                thread = threading.Thread(
                    target=self._work, name=f"background-{number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
            for entry in self._registered():
                self._begin(entry)

    def stop(self, timeout: float) -> bool:
        """Begin nothing new, ever; True when all that ran has ended within *timeout* seconds."""
        with self._lock:
            self._stopped = True
            for entry in self._known.values():
                self._disarm(entry)
            threads = list(self._threads)
        for _ in threads:
            self._due.put(None)
        deadline = monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def register(self, task: PeriodicTask) -> None:
        """Take *task*; it is run while it is wanted, as the last `cleanup` or `refresh` found.

        Raises TaskExists when one of its id is registered. One that was unregistered, or is not
        wanted, is replaced.
        """
        with self._lock:
            entry = self._known.get(task.id)
            if entry is not None and entry.registered:
                raise TaskExists(
                    f"the background task {task.id!r} is registered already; unregister it first"
                )
            interval = interval_of(task) if task.wanted() else None
            if entry is None:
                entry = self._known[task.id] = _Entry(task)
            entry.task = task
            if interval is not None:
                self._enter(entry, interval)

    def unregister(self, task_id: str) -> bool:
        """Run it no more; an execution under way ends by itself. False when there is none."""
        with self._lock:
            entry = self._known.get(task_id)
            if entry is None or not entry.registered:
                return False
            self._leave(entry)
            return True

    def cleanup(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Run those that are wanted and no others, also those that were unregistered by hand.

        Returns the ids that were removed, and those that were registered again.
        """
        with self._lock:
            wanted = {id_: entry.task.wanted() for id_, entry in self._known.items()}
            known = list(self._known.values())
            removed = [e for e in known if e.registered and not wanted[e.task.id]]
            missing = [e for e in known if not e.registered and wanted[e.task.id]]
            intervals = [interval_of(entry.task) for entry in missing]  # raises before any change
            for entry in removed:
                self._leave(entry)
            for entry, interval in zip(missing, intervals, strict=True):
                self._enter(entry, interval)
            return tuple(e.task.id for e in removed), tuple(e.task.id for e in missing)

    def refresh(self) -> None:
        """After a reload: run those that are wanted now, at the intervals that hold now."""
        with self._lock:
            self.cleanup()
            entries = list(self._registered())
            for entry, interval in zip(
                entries, [interval_of(e.task) for e in entries], strict=True
            ):
                entry.interval = interval
                if entry.due > self._clock():  # else it runs at once, and counts from there
                    self._arm(entry, entry.since + interval)

    def pause_all(self) -> None:
        """Begin no execution, not even of tasks that are registered from now on."""
        with self._lock:
            self._paused = True
            for entry in self._registered():
                self._disarm(entry)

    def resume_all(self) -> None:
        """Go on; a task whose time has come during the pause runs once, at once."""
        with self._lock:
            if not self._paused:
                return
            self._paused = False
            for entry in self._registered():
                self._arm(entry, entry.due)

    def run_now(self, task_id: str) -> bool:
        """Run it now; its next time is an interval later.

        False when there is none, it runs already, it is paused, or nothing runs: before `start`
        and after `stop`.
        """
        with self._lock:
            entry = self._known.get(task_id)
            if entry is None or not entry.registered or entry.running:
                return False
            if not self._runs:
                return False
            self._arm(entry, self._clock())
            return True

    @property
    def tasks(self) -> tuple[TaskState, ...]:
        """Those that are registered, in the order in which they were."""
        with self._lock:
            idle = not self._runs
            return tuple(
                TaskState(
                    id=entry.task.id,
                    interval=entry.interval,
                    paused=self._paused,
                    last_run=entry.last_run,
                    next_run=None if idle else entry.due,
                    runs=entry.runs,
                    failures=entry.failures,
                    last_error=entry.last_error,
                    last_duration=entry.last_duration,
                )
                for entry in self._registered()
            )

    @property
    def _runs(self) -> bool:
        return self._started and not self._stopped and not self._paused

    def _registered(self) -> Iterable[_Entry]:
        return (entry for entry in self._known.values() if entry.registered)

    def _enter(self, entry: _Entry, interval: float) -> None:
        self._known[entry.task.id] = self._known.pop(entry.task.id)  # the last in order
        entry.registered = True
        entry.interval = interval
        self._begin(entry)

    def _begin(self, entry: _Entry) -> None:
        entry.since = self._clock()
        self._arm(entry, entry.since + entry.interval)

    def _arm(self, entry: _Entry, at: float) -> None:
        entry.due = at
        if entry.running or not self._runs:
            return  # `start`, `resume_all` or the end of its execution will
        entry.ticket += 1
        due = entry.task.id, entry.ticket
        self._timers.set(entry.task.id, at, partial(self._due.put, due))

    def _disarm(self, entry: _Entry) -> None:
        entry.ticket += 1  # it may be queued already
        self._timers.cancel(entry.task.id)

    def _leave(self, entry: _Entry) -> None:
        entry.registered = False
        self._disarm(entry)

    def _work(self) -> None:
        while (due := self._due.get()) is not None:
            self._execute(*due)

    def _execute(self, task_id: str, ticket: int) -> None:
        with self._lock:
            entry = self._known[task_id]
            if entry.ticket != ticket:
                return  # unregistered, paused or rescheduled since
            entry.running = True
            entry.since = entry.last_run = began = self._clock()
            entry.due = began + entry.interval
            task = entry.task
        error = _run(task)
        with self._lock:
            entry.running = False
            entry.runs += 1
            entry.failures += bool(error)
            entry.last_error = error
            entry.last_duration = self._clock() - began
            if entry.registered:
                try:
                    entry.interval = interval_of(entry.task)
                except Exception:
                    # Without a next time it would never run again.
                    log.exception("background task %s keeps its interval", task_id)
                self._arm(entry, entry.since + entry.interval)


class _Entry:
    """The state of a task, registered or not."""

    def __init__(self, task: PeriodicTask) -> None:
        self.task = task
        self.registered = False
        self.running = False
        self.ticket = 0  # of the timer that counts; earlier ones are void
        self.interval = 0.0
        self.since = 0.0  # of the last execution, else of the registration or start
        self.due = 0.0
        self.last_run: float | None = None
        self.last_duration: float | None = None
        self.last_error = ""
        self.runs = 0
        self.failures = 0


def _run(task: PeriodicTask) -> str:
    """Return why it failed, or an empty text."""
    try:
        task.run()
    except BaseException as error:  # `sys.exit` in a task must not end the thread that others need
        # The state is shown to every viewer. What we raise names no secrets; what a library says
        # may hold a URL with its password.
        if isinstance(error, PromhealError) and str(error):
            log.error("background task %s failed: %s", task.id, error)  # noqa: TRY400
            return str(error)
        log.exception("background task %s failed", task.id)
        return f"{type(error).__name__}; the log says more"
    return ""
