"""Breakers, dormancy, pauses, vetoes and the audit as rows and back; in any database."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from receiver.journal.steering import Anchor, Audit, Illness, Pause, Steering, Transition, Untold
from receiver.policy.breaker import (
    Breaker,
    BreakerEvent,
    BreakerState,
    Happening,
    Thresholds,
    after,
)
from receiver.policy.dormancy import AWAKE, Dormancy
from receiver.policy.target import Key

BIGGEST: Final = 2**63 - 1
_MEMORY: Final = (
    "failures", "trips", "tripped_at", "until", "trial",
    "healed", "forgot_failures", "forgot_trips",
)  # fmt: skip
"""What a breaker remembers besides the targets that it has counted."""

_encode = msgspec.json.Encoder().encode
_thresholds = msgspec.json.Decoder(Thresholds).decode
_targets = msgspec.json.Decoder(tuple[str, ...]).decode


class Row(Protocol):
    """Values by position and by name."""

    def __getitem__(self, key: int | str, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def keys(self) -> Sequence[str]: ...


class Cursor(Protocol):
    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Row | None: ...
    def fetchall(self) -> list[Row]: ...
    def __iter__(self) -> Iterator[Row]: ...


class SteeringRows(Steering):
    @abstractmethod
    def _execute(self, query: str, /, **values: Any) -> Cursor:
        """Execute a named query."""

    @abstractmethod
    def _list(self, values: Sequence[int]) -> Any:
        """Return some numbers as one value of a query of this database."""

    @abstractmethod
    def _changed(self, query: str, /, **values: Any) -> int:
        """Execute a named query, and return how many rows it has changed."""

    def _one(self, query: str, /, **values: Any) -> Any:
        """Return the one value that a query always has."""
        row = self._execute(query, **values).fetchone()
        assert row is not None
        return row[0]

    # -- what stops us

    def breaker(self, name: str) -> Breaker:
        row = self._execute("breaker", name=name).fetchone()
        return Breaker() if row is None else breaker_in(row)

    def breakers(self) -> Mapping[str, Breaker]:
        return {row["name"]: breaker_in(row) for row in self._execute("breakers")}

    def happen(self, name: str, happening: Happening) -> BreakerState | None:
        before = self.breaker(name)
        became = after(before, happening)
        if became == before:
            return None
        state = became.state(happening.at)
        self._execute(
            "put_breaker", name=name, now=happening.at,
            failing=_encode(became.failing).decode(),
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
            thresholds=_encode(happening.thresholds).decode(),
            state=state,
        )
        trial_begins = happening.event is BreakerEvent.TRIAL
        return state if trial_begins or state is not before.state(happening.at) else None

    def transitions(
        self, *, run: int | None = None, breaker: str | None = None
    ) -> list[Transition]:
        return [
            Transition(
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
            for row in self._execute("breaker_events", run=run, breaker=breaker)
        ]

    def dormancy(self) -> Dormancy:
        return dormancy_in(self._execute("dormancy").fetchone())

    def put_dormancy(self, dormancy: Dormancy) -> None:
        values = msgspec.structs.asdict(dormancy)
        self._execute("put_dormancy", **{**values, "failing": _encode(dormancy.failing).decode()})

    # -- how far it may spread

    def illness(self, key: Key, *, limit: int, since: float) -> Illness:
        strategy, target = key
        ill = self._one("ill", strategy=strategy, most=limit + 1)
        held = self._one("held_and_well", strategy=strategy)
        if ill + held <= limit:
            return Illness(ill + held, 0)
        treated = self._one("treated", strategy=strategy, target=target, since=since)
        return Illness(ill + held, treated)

    def latest_starts(self, key: Key, *, since: float) -> list[float]:
        return [
            row[0]
            for row in self._execute(
                "latest_starts", strategy=key.strategy, target=key.target, since=since
            )
        ]

    def pending_for(self, reason: str) -> list[Key]:
        return [Key(row[0], row[1]) for row in self._execute("pending_for", reason=reason)]

    # -- people

    def pauses(self, *, now: float) -> list[Pause]:
        return [pause_in(row) for row in self._execute("pauses", now=now)]

    def put_pause(
        self, scope: str, *, reason: str, by: str, now: float, until: float | None
    ) -> Pause:
        pause = self._one("put_pause", scope=scope, reason=reason, by=by, now=now, until=until)
        return Pause(id=pause, scope=scope, reason=reason, by=by, since=now, until=until)

    def lift_pauses(self, scope: str, *, now: float) -> list[Pause]:
        return [
            pause_in(row) for row in self._execute("lift_pauses", scope=scope, now=now).fetchall()
        ]

    def put_veto(self, key: Key, *, by: str, reason: str, now: float) -> None:
        self._execute(
            "put_veto", strategy=key.strategy, target=key.target, by=by, reason=reason, now=now
        )

    def put_audit(
        self, action: str, object_: str, *, by: str, reason: str, now: float, detail: str = ""
    ) -> None:
        self._execute(
            "put_audit", action=action, object=object_, by=by, reason=reason, now=now, detail=detail
        )

    def audits(self, *, limit: int, before: int | None = None) -> list[Audit]:
        rows = self._execute("audits", limit=limit, before=BIGGEST if before is None else before)
        return [Audit(**dict(row)) for row in rows]

    # -- what must outlive a restart besides

    def unlogged(self, *, limit: int) -> list[int]:
        return [row[0] for row in self._execute("unlogged", limit=limit)]

    def logged(self, runs: list[int]) -> None:
        self._execute("logged", runs=self._list(runs))

    def put_untold(self, run: int, what: Literal["asked", "ended"]) -> None:
        self._execute("put_untold", run=run, what=what)

    def untold(self, *, limit: int) -> list[Untold]:
        return [Untold(*row) for row in self._execute("untold", limit=limit)]

    def told(self, ids: list[int]) -> None:
        self._execute("told", ids=self._list(ids))

    def acted_runs(
        self, *, after: tuple[float, int], limit: int, strategy: str | None = None
    ) -> list[tuple[float, int]]:
        end, run = after
        rows = self._execute("acted_runs", end=end, id=run, limit=limit, strategy=strategy)
        return [(row[0], row[1]) for row in rows]

    def strategies(self) -> list[str]:
        return [row[0] for row in self._execute("strategies")]

    def anchor(self) -> Anchor | None:
        row = self._execute("anchor").fetchone()
        return None if row is None else Anchor(**dict(row))

    def put_anchor(self, anchor: Anchor) -> None:
        self._execute("put_anchor", **msgspec.structs.asdict(anchor))


def dormancy_in(row: Row | None) -> Dormancy:
    return AWAKE if row is None else Dormancy(**{**dict(row), "failing": _failing(row)})


def breaker_in(row: Row) -> Breaker:
    return Breaker(**{field: row[field] for field in _MEMORY}, failing=_failing(row))


def _failing(row: Row) -> tuple[str, ...]:
    """Return the targets that are counted.

    More of them than failures are those of a row that another version has ended during a rolling
    upgrade, which knew of none.
    """
    targets = _targets(row["failing"])
    return targets if len(targets) <= row["failures"] else ()


def pause_in(row: Row) -> Pause:
    return Pause(
        id=row["id"],
        scope=row["scope"],
        reason=row["reason"],
        by=row["by"],
        since=row["since"],
        until=row["until"],
    )
