"""Stamps the time at each station between a notification and its action, in a promheal that runs.

`sitecustomize.py` beside it is imported by each Python that `bench.path` starts, and calls `trace`:
what is measured is the program as it is, with some microseconds more for each stamp.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple

FILE: Final = "BENCH_TRACE"
"""The environment variable that names the file of the stamps."""

_local = threading.local()


class Station(NamedTuple):
    module: str
    name: str
    """Of a function, or of a method behind its class."""
    stage: str
    """What has been done when it is called."""
    who: Callable[..., Any] = lambda *_: getattr(_local, "target", None)
    """Returns what names the alert, of what it is called with; None: as the last on this thread."""


def _notified(_: Any, notification: Any, *__: Any) -> Any:
    return notification.alerts[0].labels.get("instance")


def _recorded(recording: Any, _: Any) -> Any:
    return _notified(None, recording._notification)  # noqa: SLF001  it is of the program measured


STATIONS: Final = (
    Station("receiver.web.webhook", "Webhook.answer", "sent, headers read"),
    Station("receiver.healing.intake", "Intake.submit", "body read and parsed", _notified),
    Station(
        "receiver.healing.intake", "_Recording.write", "strategies matched, writer's turn",
        _recorded,
    ),
    Station("receiver.healing.intake", "_Recording.told", "alerts committed", _recorded),
    Station(
        "receiver.healing.reconciler", "Reconciler.consider", "engine thread woken",
        lambda _, key: key.target,
    ),
    Station("receiver.healing.reconciler", "choose", "history read", lambda *_: None),
    Station("receiver.healing.reconciler", "plan_or_fault", "others asked", lambda *_: None),
    Station(
        "receiver.healing.settling", "Settling.settle", "steps rendered, writer's turn",
        lambda _, __, case, *___: case.target,
    ),
    Station(
        "receiver.healing.steps", "Steps.forward", "decision and first step committed",
        lambda _, run, **__: run.target,
    ),
    Station("receiver.process", "run", "told, parameters ready", lambda *_, **__: None),
)  # fmt: skip
"""In their order."""


def trace(file: str) -> None:
    """Stamp each station from now on, as lines of position, name and nanoseconds."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for position, station in enumerate(STATIONS):
        _wrap(station, position, descriptor)


def found(station: Station) -> tuple[Any, str, Callable[..., Any]]:
    """Return where a station's function is an attribute, by which name, and the function."""
    owner: Any = import_module(station.module)
    *classes, name = station.name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    return owner, name, getattr(owner, name)


def _wrap(station: Station, position: int, descriptor: int) -> None:
    owner, name, function = found(station)

    def stamped(*arguments: Any, **options: Any) -> Any:
        now = time.time_ns()
        if position == 0:
            _local.began = now  # nobody knows yet whose it is
            return function(*arguments, **options)
        target = station.who(*arguments, **options)
        if target is None:
            target = getattr(_local, "target", "")
        _local.target = target
        if position == 1:
            os.write(descriptor, f"0\t{target}\t{_local.began}\n".encode())
        os.write(descriptor, f"{position}\t{target}\t{now}\n".encode())
        return function(*arguments, **options)

    setattr(owner, name, stamped)
