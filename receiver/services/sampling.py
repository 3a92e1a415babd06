"""How are the services? The process monitor: the newest word of each one's manager.

Each is asked by a thread of its own, a few at a time. A manager that does not come back keeps its
thread and nothing else: the others are asked, and it is not asked again until it has answered.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, Literal

import msgspec

from receiver.clock import Clock
from receiver.errors import ActionError
from receiver.process.table import stat_fields
from receiver.services import Inventory, Service, ServiceState, ServiceStatus
from receiver.services.process import Process
from receiver.services.supervisor import Supervisor

log: Final = logging.getLogger("promheal.services")

AT_ONCE: Final = 4
PATIENCE: Final = 5.0
"""Seconds for one answer. The manager gets less, so that its own message comes first."""
_MANAGERS_PATIENCE: Final = 4.0
PASS: Final = 30.0
"""Seconds for a pass. Who was not asked by then is among the first in the next one."""
_MAX_DETAIL: Final = 1_000  # characters


class ServiceSample(msgspec.Struct, frozen=True, kw_only=True):
    """What a manager said of its service at one time."""

    name: str
    state: ServiceState | Literal["unknown"]
    """`unknown`: the manager could not be asked; `detail` says why."""
    detail: str
    checked_at: float
    """Seconds since the epoch."""
    pid: int | None = None
    cpu_seconds: int | None = None
    """Used by the process `pid` since it started, without its children."""
    resident_bytes: int | None = None


class Sampling:
    """The newest sample of each service."""

    def __init__(self, *, inventory: Callable[[], Inventory], clock: Clock) -> None:
        self._inventory = inventory  # asked each time: a reload may change it
        self._clock = clock
        self._changed = threading.Condition()
        # All below is guarded by _changed.
        self._samples: dict[str, ServiceSample] = {}
        self._asking: dict[str, _Question] = {}  # the newest of each name, until it is answered

    @property
    def samples(self) -> tuple[ServiceSample, ...]:
        """Those of the services that are in the inventory, in its order."""
        names = self._inventory().names
        with self._changed:
            return tuple(self._samples[name] for name in names if name in self._samples)

    def sample(self) -> None:
        """Ask each service's manager once; return when all have answered or time is up."""
        inventory = self._inventory()
        end = monotonic() + PASS
        with self._changed:
            for gone in self._samples.keys() - set(inventory.names):
                del self._samples[gone]
            waiting = deque(
                service
                for name in sorted(inventory.names, key=self._checked_at)
                if not self._is_asked(service := inventory.get(name))
            )
            open_: list[_Question] = []
            while (waiting or open_) and monotonic() < end:
                while waiting and len(open_) < AT_ONCE:
                    open_.append(self._ask(waiting.popleft()))
                patience = min(question.until for question in open_)
                self._changed.wait(max(0.0, min(patience, end) - monotonic()))
                for question in open_:
                    if question.until <= monotonic():
                        self._give_up(question)
                open_ = [question for question in open_ if question.open]
            for question in open_:
                self._give_up(question)

    def _checked_at(self, name: str) -> float:
        """Return when it was sampled; never comes before all times."""
        return self._samples[name].checked_at if name in self._samples else float("-inf")

    def _is_asked(self, service: Service) -> bool:
        """Say whether this very question is unanswered; a reload may have made it another one."""
        question = self._asking.get(service.name)
        return question is not None and question.service == service

    def _ask(self, service: Service) -> _Question:
        question = _Question(service, monotonic() + PATIENCE)
        threading.Thread(
            target=self._answer, args=(question,), name=f"sample-{service.name}", daemon=True
        ).start()
        self._asking[service.name] = question
        return question

    def _answer(self, question: _Question) -> None:
        sample = _sample(question.service, self._clock)
        with self._changed:
            if self._asking.get(sample.name) is question:
                del self._asking[sample.name]
            if question.open:
                question.open = False
                self._samples[sample.name] = sample
            self._changed.notify_all()

    def _give_up(self, question: _Question) -> None:
        if question.open:
            question.open = False
            self._samples[question.service.name] = ServiceSample(
                name=question.service.name,
                state="unknown",
                detail="its manager did not answer in time; it is asked again when it has answered",
                checked_at=self._clock(),
            )


class _Question:
    def __init__(self, service: Service, until: float) -> None:
        self.service = service
        self.until = until  # as `monotonic` tells the time
        self.open = True
        """Neither answered nor given up. An answer that comes later is of a time long past."""


def _sample(service: Service, clock: Clock) -> ServiceSample:
    """Ask the manager; what goes wrong is a sample, too."""
    status: ServiceStatus | None = None
    try:
        status = service.manager.status(timeout=_MANAGERS_PATIENCE)
        detail = status.detail
    except ActionError as error:
        detail = str(error)
    except Exception as error:
        log.exception("asking the manager of service %s failed", service.name)
        detail = f"{type(error).__name__}; the log says more"
    pid = None if status is None else status.pid
    cpu_seconds, resident_bytes = _figures(pid) if _is_here(service.manager) else (None, None)
    return ServiceSample(
        name=service.name,
        state="unknown" if status is None else status.state,
        detail=detail[:_MAX_DETAIL],
        checked_at=clock(),
        pid=pid,
        cpu_seconds=cpu_seconds,
        resident_bytes=resident_bytes,
    )


def _is_here(manager: object) -> bool:
    """Say whether a pid that it names is one of this machine; elsewhere it is another process."""
    if isinstance(manager, Supervisor):
        return manager.socket is not None
    return isinstance(manager, Process)


def _figures(pid: int | None) -> tuple[int | None, int | None]:
    """Return CPU seconds and resident bytes; nothing when there is no such process."""
    if pid is None:
        return None, None
    try:
        # utime and stime are fields 14 and 15, in ticks, and rss is field 24, in pages.
        fields = stat_fields(pid)
    except OSError:
        return None, None
    ticks = int(fields[11]) + int(fields[12])
    return ticks // os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
