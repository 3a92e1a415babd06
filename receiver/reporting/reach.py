"""Are the upstreams up? Prometheus and Alertmanager are probed now and then."""

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
        """Ask something small. Raises UpstreamError unless the answer is what it should be."""


class Reached(msgspec.Struct, frozen=True):
    """The result of the last probe."""

    name: str
    """One of UPSTREAMS."""
    problem: str
    """Why it failed; empty when it did not."""
    since: float
    """Since when the result has been the same, seconds since the epoch."""


class Reach:
    def __init__(self, *, upstreams: Callable[[], Sequence[tuple[str, Probeable]]], clock: Clock):
        """*upstreams* returns those that the configuration in force names."""
        self._upstreams = upstreams
        self._clock = clock
        self._found: tuple[tuple[Probeable, Reached], ...] = ()

    @property
    def found(self) -> tuple[Reached, ...]:
        """Return the last results of those in force that have been probed."""
        asked = dict(self._found)
        return tuple(asked[one] for _, one in self._upstreams() if one in asked)

    def look(self) -> None:
        """Probe them all; log what has changed since the last time."""
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
