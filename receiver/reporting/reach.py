"""Do those whom promheal asks answer? Each is asked a small question now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from receiver.clock import Clock
from receiver.errors import UpstreamError

log: Final = logging.getLogger("promheal.reach")

UPSTREAMS: Final = ("prometheus", "alertmanager")


class Probeable(Protocol):
    """Prometheus or Alertmanager."""

    def probe(self) -> None:
        """Ask something small. Raises UpstreamError when the answer is none of theirs."""


class Reached(msgspec.Struct, frozen=True):
    """What came of the last question."""

    name: str
    """One of UPSTREAMS."""
    problem: str
    """Why there was no answer; empty when there was."""
    since: float
    """Since when it is so, seconds since the epoch."""


class Reach:
    def __init__(self, *, upstreams: Callable[[], Sequence[tuple[str, Probeable]]], clock: Clock):
        """*upstreams* returns those that the configuration in force names."""
        self._upstreams = upstreams
        self._clock = clock
        self._found: tuple[tuple[Probeable, Reached], ...] = ()

    @property
    def found(self) -> tuple[Reached, ...]:
        """Return what is known of those in force; who has not been asked yet is not in it."""
        asked = dict(self._found)
        return tuple(asked[one] for _, one in self._upstreams() if one in asked)

    def look(self) -> None:
        """Ask them all; what has changed since the last time is logged."""
        before = dict(self._found)
        found = []
        for name, upstream in self._upstreams():
            last = before.get(upstream)
            problem = _problem(upstream)
            since = self._clock()
            if last is not None and bool(last.problem) == bool(problem):
                since = last.since
            elif problem:
                log.warning("%s cannot be asked: %s", name, problem, extra={"upstream": name})
            elif last is not None:
                log.info("%s answers again", name, extra={"upstream": name})
            found.append((upstream, Reached(name, problem, since)))
        self._found = tuple(found)


def _problem(upstream: Probeable) -> str:
    try:
        upstream.probe()
    except UpstreamError as error:
        return str(error)
    return ""
