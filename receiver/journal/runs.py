"""What was done: runs with their steps and what was observed afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from receiver.journal.episodes import Episode
from receiver.journal.statements import BIGGEST, Row, Statements, json_text
from receiver.policy.life import FOLLOWERS
from receiver.policy.role import UNBOUND
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
from receiver.policy.signal import Signal
from receiver.policy.target import Key

_CHANGEABLE: Final = (
    "outcome", "cause", "reason", "until", "acted_at", "verify_from", "finished_at",
    "doubt", "forgets_at",
    "config_hash", "asked_at", "approved_at", "plan", "runs_on",
)  # fmt: skip

_decode = msgspec.json.decode
_decode_plan = msgspec.json.Decoder(Plan).decode


class RunRows(Statements):
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
        opened = self._one(
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
            plan=None if plan is None else json_text(plan),
            runs_on=_runs_on(plan),
        )
        return Run(
            id=opened,
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
            runs_on=_runs_on(plan),
            plan=plan,
        )

    def change(self, run: Run, state: State, **changes: Any) -> Run:
        """Write a run's next state. Raises AssertionError for one that may not follow."""
        assert state in FOLLOWERS[run.state], f"run {run.id}: {run.state} -> {state}"
        after = msgspec.structs.replace(run, state=state, **changes)
        after = msgspec.structs.replace(after, runs_on=_runs_on(after.plan))
        values = {name: getattr(after, name) for name in _CHANGEABLE}
        values["plan"] = None if after.plan is None else json_text(after.plan)
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
        """End a run; one that acted is owed a line of the healing log."""
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

    def ask_cancel(self, run: int, why: str) -> None:
        """Note that an unfinished run is to be cancelled before its next step."""
        self._execute("ask_cancel", id=run, why=why)

    def put_step(self, run: int, step: Step) -> None:
        """Write a step, all but what it has saved."""
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
            result=json_text(step.result),
            error=step.error,
        )

    def save_step(self, run: int, index: int, saved: Mapping[str, Any]) -> None:
        """Write what undoing a step needs, in place of what it had saved before."""
        self._execute("save_step", run=run, position=index, saved=json_text(saved))

    def put_observation(self, run: int, observation: Observation) -> None:
        self._execute("put_observation", run=run, **msgspec.structs.asdict(observation))

    def observe(self, run: Run, observation: Observation) -> None:
        """Write down what a look has found, and of its alerts that their own expressions cleared.

        What the strategy's own query says is no proof about an alert.
        """
        self.put_observation(run.id, observation)
        plan = run.plan
        if plan is None or observation.verdict != Signal.CLEARED:
            return
        if plan.verify_query is None:
            self._execute("clear", id=run.episode, now=observation.at)
        for each in plan.also:
            if each.verify_query is None:
                self._execute("clear_firing", fingerprint=each.fingerprint, now=observation.at)

    # -- one run, with its steps

    def run(self, run: int) -> Run | None:
        return self._with_steps(self._execute("run_by_id", id=run).fetchone())

    def unfinished(self, key: Key) -> Run | None:
        """The run of this strategy on this target that has no outcome yet."""
        return self._with_steps(
            self._execute("unfinished_run", strategy=key.strategy, target=key.target).fetchone()
        )

    def last_run(self, key: Key) -> Run | None:
        return self._with_steps(
            self._execute("last_run", strategy=key.strategy, target=key.target).fetchone()
        )

    def observations(self, run: int) -> list[Observation]:
        return [
            Observation(at=at, verdict=verdict, value=value, detail=detail)
            for at, verdict, value, detail in self._execute("observations", run=run)
        ]

    # -- many runs, without their steps

    def runs(
        self,
        *,
        limit: int,
        before: int | None = None,
        strategy: str | None = None,
        state: str | None = None,
        outcome: str | None = None,
    ) -> list[Run]:
        """Newest first."""
        page: dict[str, Any] = {"before": BIGGEST if before is None else before, "limit": limit}
        if state is not None and state != State.FINISHED:
            if outcome is not None:
                return []  # which only finished ones have
            rows = self._execute("runs_in_state", state=state, strategy=strategy, **page)
        elif strategy is not None and outcome is not None:
            found = "runs_of_strategy_with_outcome"
            rows = self._execute(found, strategy=strategy, outcome=outcome, **page)
        elif strategy is not None:
            rows = self._execute("runs_of_strategy", strategy=strategy, state=state, **page)
        elif outcome is not None:
            rows = self._execute("runs_with_outcome", outcome=outcome, **page)
        else:
            rows = self._execute("runs" if state is None else "runs_finished", **page)
        return [run_in(row) for row in rows]

    def acted_runs(
        self, *, after: tuple[float, int], limit: int, strategy: str | None = None
    ) -> list[tuple[float, int]]:
        """Finished runs that acted, as (end, id) in that order, from behind *after*."""
        end, run = after
        rows = self._execute("acted_runs", end=end, id=run, limit=limit, strategy=strategy)
        return [(row[0], row[1]) for row in rows]

    def strategies(self) -> list[str]:
        """The names of all that have runs here, in order."""
        return [row[0] for row in self._execute("strategies")]

    def _with_steps(self, row: Row | None) -> Run | None:
        if row is None:
            return None
        if row["state"] == State.PENDING:
            return run_in(row)
        return run_in(row, tuple(_step(step) for step in self._execute("steps", run=row["id"])))


def run_in(row: Row, steps: tuple[Step, ...] = ()) -> Run:
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


def _runs_on(plan: Plan | None) -> str:
    return UNBOUND if plan is None else plan.runs_on
