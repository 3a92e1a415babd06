"""The port's sentences as named queries, rows as values and back; in any database."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from receiver.journal import (
    Admission,
    Admitted,
    Episode,
    History,
    Recorded,
    Snapshot,
    Transaction,
    Want,
)
from receiver.journal.steering_rows import (
    BIGGEST,
    Row,
    SteeringRows,
    breaker_in,
    dormancy_in,
    pause_in,
)
from receiver.policy.alert import Alert, Quarantined, Status
from receiver.policy.breaker import Breaker, names
from receiver.policy.decide import Decision
from receiver.policy.life import FOLLOWERS
from receiver.policy.role import LEASE, UNBOUND
from receiver.policy.run import (
    Doubt,
    Observation,
    Outcome,
    Phase,
    Plan,
    Run,
    State,
    Step,
    StepState,
)
from receiver.policy.target import Key
from receiver.redaction import redact, redact_json

_PAGE: Final = 1_000
_WORDS: Final = frozenset({"reason", "detail", "error", "why", "problem", "raw"})
"""Values of the queries that repeat what others said."""
_WORDS_IN_JSON: Final = frozenset({"answers", "result"})
_CHANGEABLE: Final = (
    "outcome", "cause", "reason", "until", "acted_at", "verify_from", "finished_at",
    "doubt", "forgets_at",
    "config_hash", "asked_at", "approved_at", "plan", "runs_on",
)  # fmt: skip

_PRUNED: Final = (
    "decisions", "runs", "episodes", "quarantine",
    "breakers", "breaker_events", "pauses", "vetoes", "audit",
)  # fmt: skip

_Total = tuple[str, tuple[str, ...]]
"""(metric, label values)."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode
_decode_labels = msgspec.json.Decoder(dict[str, str]).decode
_decode_plan = msgspec.json.Decoder(Plan).decode


class Rows(SteeringRows, Transaction):
    """A transaction of one thread at a time."""

    pruned: ClassVar[tuple[str, ...]] = ()
    """What this database has besides that is forgotten in time."""

    def __init__(self) -> None:
        self._counting: list[tuple[_Total, float]] = []  # by the piece of work that is running
        self._counts: dict[_Total, float] = {}  # by those of the transaction that have succeeded

    # -- counters are summed up in memory and written once for each group of transactions

    def count(self, metric: str, *labels: str, by: float = 1) -> None:
        self._counting.append(((metric, labels), by))

    def keep_counts(self) -> None:
        """The piece of work has succeeded: what it counted belongs to the group."""
        for total, by in self._counting:
            self._counts[total] = self._counts.get(total, 0.0) + by
        self._counting.clear()

    def forget_counts(self) -> None:
        """The piece of work has failed."""
        self._counting.clear()

    def write_counts(self) -> None:
        for (metric, labels), by in self._counts.items():
            self._execute("count_total", metric=metric, labels=_text(labels), value=by)
        self._counts.clear()

    def forget_group(self) -> None:
        """The transaction has failed, and what it counted has not happened."""
        self._counting.clear()
        self._counts.clear()

    # -- all of it, from one journal into another; *table* is one of receiver.journal.copying

    def number(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self._ask(f"select count(*) from {table}").fetchone()[0])  # noqa: S608

    @abstractmethod
    def dump(self, table: str, batch: int) -> Iterator[list[Row]]:
        """Yield all rows of a table, so many at once."""

    @abstractmethod
    def load(self, table: str, rows: list[Row]) -> None:
        """Write rows of the same table of another journal."""

    def loaded(self, table: str) -> None:
        """All rows of a table are there: the next one has a number of its own."""

    @abstractmethod
    def _ask(self, sql: str) -> Any:
        """Execute SQL that is not among the named queries."""

    # -- what arrives

    def admit(
        self,
        admission: Admission,
        wants: Sequence[Want],
        *,
        sender: str,
        now: float,
        vouched_by: str = "",
    ) -> Admitted:
        repeated, opened = self._admit_firing(
            admission, sender=sender, vouched_by=vouched_by, now=now
        )
        late = admission.firing_alerts - opened - repeated
        if late:
            firing, width = admission.firing, Admission.WIDTH
            said = [firing[at : at + 2] for at in range(0, len(firing), width)]
            self._execute("dispute", **self._table(said), now=now)
        self._want(wants)
        resolved = admission.resolved
        closed: list[int] = []
        released: frozenset[Key] = frozenset()
        if resolved:
            found = self._execute("admit_resolved", **self._table(resolved), sender=sender, now=now)
            closed = [row[0] for row in found.fetchall()]
            if closed:
                released = frozenset(self._unwant(closed))
        return Admitted(
            opened=opened,
            repeated=repeated + admission.said_twice,
            late=late,
            closed=len(closed),
            not_open=len(resolved) - len(closed),
            released=released,
        )

    @abstractmethod
    def _admit_firing(
        self, admission: Admission, *, sender: str, vouched_by: str, now: float
    ) -> tuple[int, int]:
        """Note the alerts that fire; return how many were said again, and how many are new."""

    @abstractmethod
    def _table(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Return some rows of equal length as the values of a query of this database."""

    def _want(self, wants: Sequence[Want]) -> None:
        """Note what the open episodes of these alerts ask for."""
        if wants:
            pairs = [(want.strategy, want.target, want.fingerprint) for want in wants]
            self._execute("admit_wanted", **self._table(pairs))

    def _unwant(self, episodes: list[int]) -> list[Key]:
        found = self._execute("unwant", episodes=self._list(episodes)).fetchall()
        return [Key(row[0], row[1]) for row in found]

    def quarantine(self, bad: Iterable[Quarantined], *, sender: str, now: float) -> None:
        for one in bad:
            self._execute("quarantine", now=now, sender=sender, problem=one.problem, raw=one.raw)

    def open_episodes(self, *, limit: int, offset: int = 0) -> list[Episode]:
        return [_episode(row) for row in self._execute("open_episodes", limit=limit, offset=offset)]

    def episode(self, episode: int) -> Episode | None:
        row = self._execute("episode_by_id", id=episode).fetchone()
        return None if row is None else _episode(row)

    def give_up(self, *, before: float, episode: int | None = None) -> int:
        if episode is None:
            return self._changed("give_up", before=before)
        given_up = self._changed("give_up_one", id=episode, before=before)
        if given_up:
            self._unwant([episode])
        return given_up

    def disputed(self, *, limit: int) -> list[tuple[Episode, float]]:
        return [
            (_episode(row), row["disputed_at"]) for row in self._execute("disputed", limit=limit)
        ]

    def settle_dispute(self, episode: Episode, wants: Iterable[Want] | None, *, now: float) -> None:
        if wants is None:
            self._execute("let_rest", id=episode.id)
            return
        if not self._changed("reopen", id=episode.id, now=now):
            self._execute("let_rest", id=episode.id)
            return
        for want in wants:
            self._execute("want", strategy=want.strategy, target=want.target, episode=episode.id)

    def rematch(self, select: Callable[[Alert], Iterable[Want]]) -> None:
        self._execute("want_nothing")
        offset = 0
        while page := self.open_episodes(limit=_PAGE, offset=offset):
            self._want([want for episode in page for want in select(episode.alert)])
            offset += len(page)

    # -- what is to be considered

    def keys(self) -> set[Key]:
        return {
            Key(row[0], row[1])
            for name in ("all_wanted", "unfinished_keys")
            for row in self._execute(name)
        }

    def firing(self) -> list[tuple[Key, int]]:
        return [(Key(row[0], row[1]), row[2]) for row in self._execute("firing")]

    def unfinished_runs(self) -> list[tuple[Key, int, State]]:
        return [
            (Key(row[0], row[1]), row[2], State(row[3])) for row in self._execute("unfinished_runs")
        ]

    def known_targets(self) -> list[str]:
        return [row[0] for row in self._execute("known_targets")]

    def asking(self, key: Key, *, limit: int) -> list[Episode]:
        rows = self._execute("asking", strategy=key.strategy, target=key.target, limit=limit)
        return [_episode(row) for row in rows]

    def unfinished(self, key: Key) -> Run | None:
        row = self._execute("unfinished_run", strategy=key.strategy, target=key.target).fetchone()
        return None if row is None else self._run(row)

    def history(
        self, key: Key, *, now: float, but: int, since: float, most: int, lately: float
    ) -> History:
        strategy, target = key
        first, second, third = names(*key)
        # All are on their way before the first answer is waited for.
        seen = self._execute("history", strategy=strategy, target=target, but=but)
        starts = self._execute("starts", strategy=strategy, target=target, since=since)
        dormancy = self._execute("dormancy")
        pauses = self._execute("pauses", now=now)
        veto = self._execute("veto", strategy=strategy, target=target)
        known = self._execute("breakers_named", first=first, second=second, third=third)
        touched = self._execute("touched", strategy=strategy, most=most, since=lately)
        row, no, few = seen.fetchone(), veto.fetchone(), touched.fetchone()
        assert row is not None
        assert few is not None
        ended = row["last_outcome"]
        breakers = {one["name"]: breaker_in(one) for one in known}
        return History(
            holder=row["holder"],
            holder_reason=row["holder_reason"] or "",
            acting=row["acting"],
            last_end=row["last_end"],
            last_healed=row["last_healed"],
            last_outcome=None if ended is None else Outcome(ended),
            forgets_at=row["forgets_at"],
            starts=tuple(start[0] for start in starts),
            dormancy=dormancy_in(dormancy.fetchone()),
            pauses=tuple(pause_in(one) for one in pauses),
            veto="" if no is None else f"{no['by']}: {no['reason']}",
            breakers=tuple(
                (name, breakers.get(name, Breaker())) for name in (first, second, third)
            ),
            touched=few[0],
        )

    def pending_on(self, target: str) -> list[Key]:
        return [Key(row[0], row[1]) for row in self._execute("pending_on_target", target=target)]

    def next_pending(self, reason: str) -> Key | None:
        row = self._execute("next_pending", reason=reason).fetchone()
        return None if row is None else Key(row[0], row[1])

    # -- what was decided and done

    def record(self, key: Key, decision: Decision, *, run: int | None, now: float) -> bool:
        strategy, target = key
        verdict = decision.verdict
        reason = verdict.reason or ""
        answers = _text(
            [
                {
                    "guard": a.guard,
                    "verdict": a.verdict.answer,
                    "reason": a.verdict.reason or "",
                    "until": a.verdict.until,
                    "detail": a.verdict.detail,
                }
                for a in decision.answers
            ]
        )
        latest = self._execute("last_decision", strategy=strategy, target=target)
        firing = self._execute("firing_for", strategy=strategy, target=target)
        last, span = latest.fetchone(), firing.fetchone()
        assert span is not None
        oldest, newest = span
        if (
            last is not None
            and (last["verdict"], last["reason"], last["run"]) == (verdict.answer, reason, run)
            and _goes_on(last["episode"], oldest)
        ):
            self._execute(
                "repeat_decision",
                id=last["id"],
                episode=newest,
                now=now,
                until=verdict.until,
                detail=verdict.detail,
                answers=answers,
            )
            return False
        self._execute(
            "put_decision",
            strategy=strategy,
            target=target,
            verdict=verdict.answer,
            reason=reason,
            until=verdict.until,
            detail=verdict.detail,
            answers=answers,
            run=run,
            episode=newest,
            now=now,
        )
        return True

    def open_run(
        self,
        key: Key,
        state: State,
        *,
        episode: Episode,
        now: float,
        reason: str = "",
        until: float | None = None,
        plan: Plan | None = None,
        config_hash: str = "",
    ) -> Run:
        acted_at = now if state is State.ACTING else None
        opened = self._execute(
            "open_run",
            strategy=key.strategy,
            target=key.target,
            state=state,
            reason=reason,
            until=until,
            episode=episode.id,
            now=now,
            notified_at=episode.first_seen,
            acted_at=acted_at,
            config_hash=config_hash,
            plan=None if plan is None else _text(plan),
            runs_on=_place(plan),
        ).fetchone()
        assert opened is not None
        return Run(
            id=opened[0],
            strategy=key.strategy,
            target=key.target,
            state=state,
            reason=reason,
            until=until,
            episode=episode.id,
            created_at=now,
            notified_at=episode.first_seen,
            acted_at=acted_at,
            config_hash=config_hash,
            runs_on=_place(plan),
            plan=plan,
        )

    def change(self, run: Run, state: State, **changes: Any) -> Run:
        assert state in FOLLOWERS[run.state], f"run {run.id}: {run.state} -> {state}"
        after = msgspec.structs.replace(run, state=state, **changes)
        after = msgspec.structs.replace(after, runs_on=_place(after.plan))
        values = {name: getattr(after, name) for name in _CHANGEABLE}
        values["plan"] = None if after.plan is None else _text(after.plan)
        changed = self._changed("change_run", id=run.id, before=run.state, state=state, **values)
        assert changed == 1, f"run {run.id} is not {run.state} any more"
        return after

    def finish(
        self,
        run: Run,
        outcome: Outcome,
        reason: str,
        *,
        now: float,
        doubt: Doubt | None = None,
        forgets_at: float | None = None,
    ) -> Run:
        if run.acted_at is not None:
            self._execute("put_unlogged", run=run.id)
        return self.change(
            run,
            State.FINISHED,
            outcome=outcome,
            reason=reason,
            until=None,
            finished_at=now,
            doubt=doubt,
            forgets_at=forgets_at,
        )

    def doubtful(self, key: Key) -> int:
        return int(self._one("doubtful", strategy=key.strategy, target=key.target))

    def last_heal(self, key: Key) -> Run | None:
        row = self._execute("last_heal", strategy=key.strategy, target=key.target).fetchone()
        return None if row is None else _run(row, ())

    def put_relapse(self, run: int, now: float) -> None:
        self._execute("put_relapse", id=run, now=now)

    def relapses(self, *, since: float) -> Mapping[Key, int]:
        return {Key(row[0], row[1]): row[2] for row in self._execute("relapses", since=since)}

    def ask_cancel(self, run: int, why: str) -> None:
        self._execute("ask_cancel", id=run, why=why)

    def put_step(self, run: int, step: Step) -> None:
        self._execute(
            "put_step",
            run=run,
            phase=step.phase,
            position=step.index,
            action=step.action,
            state=step.state,
            started_at=step.started_at,
            finished_at=step.finished_at,
            attempt=step.attempt,
            result=_text(step.result),
            error=step.error,
        )

    def save_step(self, run: int, index: int, saved: Mapping[str, Any]) -> None:
        self._execute("save_step", run=run, position=index, saved=_text(saved))

    def put_observation(self, run: int, observation: Observation) -> None:
        self._execute("put_observation", run=run, **msgspec.structs.asdict(observation))

    # -- what people and metrics ask

    def run(self, run: int) -> Run | None:
        row = self._execute("run_by_id", id=run).fetchone()
        return None if row is None else self._run(row)

    def runs(
        self,
        *,
        limit: int,
        before: int | None = None,
        strategy: str | None = None,
        state: str | None = None,
        outcome: str | None = None,
    ) -> list[Run]:
        before = BIGGEST if before is None else before
        return [
            _run(row, ())
            for row in self._execute(
                "runs",
                before=before,
                limit=limit,
                strategy=strategy,
                state=state,
                outcome=outcome,
            )
        ]

    def pending_runs(self, reason: str, *, limit: int) -> list[Run]:
        return [_run(row, ()) for row in self._execute("pending_runs", reason=reason, limit=limit)]

    def unhealed(self, *, limit: int) -> list[Run]:
        return [_run(row, ()) for row in self._execute("unhealed", limit=limit)]

    def last_run(self, key: Key) -> Run | None:
        row = self._execute("last_run", strategy=key.strategy, target=key.target).fetchone()
        return None if row is None else self._run(row)

    def last_decision(self, key: Key) -> Recorded | None:
        row = self._execute("last_decision", strategy=key.strategy, target=key.target).fetchone()
        return None if row is None else _recorded(row)

    def observations(self, run: int) -> list[Observation]:
        return [
            Observation(at=at, verdict=verdict, value=value, detail=detail)
            for at, verdict, value, detail in self._execute("observations", run=run)
        ]

    def decisions(self, run: int) -> list[Recorded]:
        return [_recorded(row) for row in self._execute("decisions_of_run", run=run)]

    def latest_decisions(
        self, *, limit: int, before: int | None = None, strategy: str | None = None
    ) -> list[Recorded]:
        before = BIGGEST if before is None else before
        rows = self._execute("decisions", before=before, limit=limit, strategy=strategy)
        return [_recorded(row) for row in rows]

    def snapshot(self) -> Snapshot:
        return Snapshot(
            totals={
                (metric, tuple(_decode(labels))): value
                for metric, labels, value in self._execute("totals")
            },
            firing={row[0]: row[1] for row in self._execute("firing_by_strategy")},
            open_alerts=self._one("open_alerts"),
            in_progress={row[0]: row[1] for row in self._execute("in_progress")},
            states={row[0]: row[1] for row in self._execute("states")},
            waiting={row[0]: row[1] for row in self._execute("waiting_for")},
            workers=tuple(self.workers()),
            without_worker=self._one("without_worker", lease=LEASE),
            size_bytes=self._one("size"),
        )

    def most_starts(self, strategy: str, *, since: float) -> int:
        return int(self._one("most_starts", strategy=strategy, since=since))

    def newest(self) -> float:
        return float(self._one("newest") or 0.0)

    def prune(self, *, before: float, limit: int) -> int:
        return sum(
            self._changed(f"prune_{kind}", before=before, limit=limit)
            for kind in (*_PRUNED, *self.pruned)
        )

    def _run(self, row: Row) -> Run:
        if row["state"] == State.PENDING:
            return _run(row, ())
        return _run(row, tuple(_step(step) for step in self._execute("steps", run=row["id"])))


def storable(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a query without the secrets in what others said."""
    for said, clean in ((_WORDS, redact), (_WORDS_IN_JSON, redact_json)):
        for name in said & values.keys():
            if isinstance(values[name], str):
                values[name] = clean(str(values[name]))
    return values


def _goes_on(newest_then: int | None, oldest_now: int | None) -> bool:
    """Whether what fires now does so without a break since then; episodes are numbered in order."""
    if newest_then is None or oldest_now is None:
        return newest_then is oldest_now
    return oldest_now <= newest_then


def _place(plan: Plan | None) -> str:
    return UNBOUND if plan is None else plan.runs_on


def _text(value: object) -> str:
    return _encode(value).decode()


def _episode(row: Row) -> Episode:
    return Episode(
        id=row["id"],
        alert=Alert(
            fingerprint=row["fingerprint"],
            status=Status.FIRING if row["ends_at"] is None else Status.RESOLVED,
            labels=_decode_labels(row["labels"]),
            annotations=_decode_labels(row["annotations"]),
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            generator_url=row["generator_url"],
        ),
        sender=row["sender"],
        vouched_by=row["vouched_by"],
        vouched_link=row["vouched_link"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        notifications=row["notifications"],
    )


def _recorded(row: Row) -> Recorded:
    return Recorded(**{**dict(row), "answers": _decode(row["answers"])})


def _run(row: Row, steps: tuple[Step, ...]) -> Run:
    return Run(
        id=row["id"],
        strategy=row["strategy"],
        target=row["target"],
        state=State(row["state"]),
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        cause=None if row["cause"] is None else Outcome(row["cause"]),
        reason=row["reason"],
        until=row["until"],
        episode=row["episode"],
        created_at=row["created_at"],
        notified_at=row["notified_at"],
        acted_at=row["acted_at"],
        verify_from=row["verify_from"],
        finished_at=row["finished_at"],
        doubt=None if row["doubt"] is None else Doubt(row["doubt"]),
        forgets_at=row["forgets_at"],
        relapsed_at=row["relapsed_at"],
        config_hash=row["config_hash"],
        asked_at=row["asked_at"],
        approved_at=row["approved_at"],
        cancel=row["cancel"],
        runs_on=row["runs_on"],
        plan=None if row["plan"] is None else _decode_plan(row["plan"]),
        steps=steps,
    )


def _step(row: Row) -> Step:
    return Step(
        index=row["position"],
        phase=Phase(row["phase"]),
        action=row["action"],
        state=StepState(row["state"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        attempt=row["attempt"],
        result=_decode(row["result"]),
        error=row["error"],
        saved=_decode(row["saved"]),
    )
