"""What stops us by itself: breakers with everything that changed them, and dormancy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from receiver.journal.statements import Row, Statements, json_text
from receiver.policy.breaker import (
    Breaker,
    BreakerEvent,
    BreakerState,
    Happening,
    Thresholds,
    after,
    names,
)
from receiver.policy.dormancy import AWAKE, Dormancy

_MEMORY: Final = (
    "failures", "trips", "tripped_at", "until", "trial",
    "healed", "forgot_failures", "forgot_trips",
)  # fmt: skip
"""What a breaker remembers besides the targets that it has counted."""

_thresholds = msgspec.json.Decoder(Thresholds).decode
_targets = msgspec.json.Decoder(tuple[str, ...]).decode


class BreakerChange(msgspec.Struct, frozen=True, kw_only=True):
    """Something that changed a breaker, and what it became."""

    breaker: str
    happening: Happening
    state: BreakerState


class BreakerRows(Statements):
    def breaker(self, name: str) -> Breaker:
        row = self._execute("breaker", name=name).fetchone()
        return Breaker() if row is None else breaker_in(row)

    def breakers(self) -> Mapping[str, Breaker]:
        """Return those that have something to remember, by name."""
        return {row["name"]: breaker_in(row) for row in self._execute("breakers")}

    def breakers_before(self, strategy: str, target: str) -> Mapping[str, Breaker]:
        """Return those that stand before a run, in the order of `names`, with one question."""
        first, second, third = names(strategy, target)
        rows = self._execute("breakers_named", first=first, second=second, third=third)
        known = {row["name"]: breaker_in(row) for row in rows}
        return {name: known.get(name, Breaker()) for name in (first, second, third)}

    def happen(
        self, name: str, happening: Happening, before: Breaker | None = None
    ) -> BreakerState | None:
        """Apply what happened to a breaker; return its state if that changed, and None if not.

        *before* is what the breaker is, if that is known.
        """
        before = self.breaker(name) if before is None else before
        became = after(before, happening)
        if became == before:
            return None
        state = became.state(happening.at)
        self._execute(
            "put_breaker", name=name, now=happening.at,
            failing=json_text(became.failing),
            **{field: getattr(became, field) for field in _MEMORY},
        )  # fmt: skip
        self._execute(
            "put_breaker_event",
            breaker=name,
            event=happening.event,
            at=happening.at,
            run=happening.run,
            started_at=happening.started_at,
            target=happening.target,
            thresholds=json_text(happening.thresholds),
            state=state,
        )
        trial_begins = happening.event is BreakerEvent.TRIAL
        return state if trial_begins or state is not before.state(happening.at) else None

    def transitions(
        self, *, run: int | None = None, breaker: str | None = None
    ) -> list[BreakerChange]:
        """Everything that changed this breaker, or that this run changed, in order."""
        if run is not None:
            rows = self._execute("breaker_events_of_run", run=run)
        elif breaker is not None:
            rows = self._execute("breaker_events_of_breaker", breaker=breaker)
        else:
            rows = self._execute("breaker_events")
        return [
            BreakerChange(
                breaker=row["breaker"],
                happening=Happening(
                    event=BreakerEvent(row["event"]),
                    at=row["at"],
                    run=row["run"],
                    started_at=row["started_at"],
                    target=row["target"],
                    thresholds=_thresholds(row["thresholds"]),
                ),
                state=BreakerState(row["state"]),
            )
            for row in rows
        ]

    def dormancy(self) -> Dormancy:
        return dormancy_in(self._execute("dormancy").fetchone())

    def put_dormancy(self, dormancy: Dormancy) -> None:
        values = msgspec.structs.asdict(dormancy)
        self._execute("put_dormancy", **{**values, "failing": json_text(dormancy.failing)})


def dormancy_in(row: Row | None) -> Dormancy:
    return AWAKE if row is None else Dormancy(**{**dict(row), "failing": _failing(row)})


def breaker_in(row: Row) -> Breaker:
    return Breaker(**{field: row[field] for field in _MEMORY}, failing=_failing(row))


def _failing(row: Row) -> tuple[str, ...]:
    """Return the targets that are counted.

    When there are more than failures, an older version reset the row during a rolling upgrade: it
    knows of no targets, and leaves them in place.
    """
    targets = _targets(row["failing"])
    return targets if len(targets) <= row["failures"] else ()
