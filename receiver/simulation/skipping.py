"""Which looks at Prometheus can change nothing? Those between two changes of what it says.

A run that is proven is looked at every few seconds. As long as its alert goes on firing, each look
says what the one before said; so the next one that may say something else is enough, on the same
grid of times. What a run ends with is the same, and a property test holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf

import msgspec

from receiver.clock import Clock
from receiver.journal import Journal
from receiver.policy.looks import cleared_since, wait_of
from receiver.policy.role import At, Next
from receiver.policy.run import Run, State
from receiver.policy.signal import Signal
from receiver.policy.target import Key
from receiver.simulation.upstream import SimulatedUpstream


class _Skipped(msgspec.Struct, frozen=True):
    """Looks from *first* on, every *distance* seconds until *end*, of which most are left out."""

    labels: tuple[dict[str, str], ...]
    first: float
    distance: float
    end: float

    def at_or_after(self, time: float) -> float:
        """Return the first look that is not before *time*."""
        number = max(0, ceil((min(time, self.end) - self.first) / self.distance))
        return min(self.first + number * self.distance, self.end)


class Skipping:
    """Puts off looks that can change nothing; *wake* brings them up when something has changed."""

    def __init__(
        self,
        *,
        journal: Journal,
        upstream: SimulatedUpstream,
        clock: Clock,
        wake: Callable[[Key, float], None],
    ) -> None:
        self._journal = journal
        self._upstream = upstream
        self._clock = clock
        self._wake = wake
        self._skipped: dict[Key, _Skipped] = {}

    def next(self, key: Key, again: Next) -> Next:
        """Return when *key* must be looked at again, which its own answer is *again*."""
        self._skipped.pop(key, None)
        now = self._clock()
        if not isinstance(again, At) or again.time <= now or not self._upstream.looked:
            return again
        self._upstream.looked = False
        run = self._journal.read(lambda t: t.unfinished(key))
        if run is None or run.state is not State.VERIFYING or run.plan is None:
            return again
        end = self._end(run)
        if run.plan.verify_query is not None or end is None or end <= again.time:
            return again
        labels = (run.plan.alert["labels"], *(each.labels for each in run.plan.also))
        skipped = _Skipped(labels, again.time, again.time - now, end)
        self._skipped[key] = skipped
        return At(skipped.at_or_after(self._next_change(labels)))

    def changed(self) -> None:
        """What Prometheus will say has changed: look again where that matters."""
        for key, skipped in list(self._skipped.items()):
            if (at := skipped.at_or_after(self._next_change(skipped.labels))) > self._clock():
                self._wake(key, at)

    def _end(self, run: Run) -> float | None:
        """Return the look at which *run* ends if nothing changes; None where that is not known."""
        assert run.plan is not None
        assert run.verify_from is not None
        looks = self._journal.read(lambda t: t.observations(run.id))
        wait = wait_of(run.plan, run.verify_from)
        cleared = cleared_since(looks)
        if cleared is not None:
            return cleared + wait.hold
        return wait.deadline if looks and looks[-1].verdict == Signal.FIRING else None

    def _next_change(self, labels: tuple[dict[str, str], ...]) -> float:
        return min((self._upstream.next_change(one, self._clock()) for one in labels), default=inf)
