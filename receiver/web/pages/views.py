"""The values for the pages' templates, each page from one read of the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

import msgspec

from receiver.app import Promheal
from receiver.healing.explaining import Evidence, evidence, explain
from receiver.journal import DecisionRecord, Episode, Transaction
from receiver.policy.breaker import Breaker
from receiver.policy.duration import format_duration
from receiver.policy.guards.situation import Answer, Reason
from receiver.policy.looks import wait_of
from receiver.policy.run import FAILURES, Observation, Outcome, Phase, Run, State
from receiver.policy.strategy import Strategy
from receiver.policy.target import Key
from receiver.reporting.journal_metrics import budget_left
from receiver.reporting.present import Seen
from receiver.web import status
from receiver.web.pages import chart

SHOWN: Final = 25
"""Rows of a list whose rest is on a page of its own, or in the API."""
PAGE: Final = 50
EXPLAINED: Final = 5
"""Refusals of a run whose explanation is on its page; each has a page of its own."""

_UNDER_WAY: Final = tuple(state for state in State if state not in {State.PENDING, State.FINISHED})


class Reaction(msgspec.Struct, frozen=True):
    """What a strategy does about an alert: its open run, or its last decision."""

    strategy: str
    run: Run | None
    decision: DecisionRecord | None


class Firing(msgspec.Struct, frozen=True):
    episode: Episode
    reactions: tuple[Reaction, ...]


class RunProgress(msgspec.Struct, frozen=True):
    """A run under way, and its place in the plan."""

    run: Run
    step: str
    number: int
    """From 1: the number of steps that were started."""
    steps: int


class StrategyRow(msgspec.Struct, frozen=True):
    """A strategy in the overview."""

    strategy: Strategy
    firing: int
    holding: int
    healed: int
    failed: int
    budget: tuple[tuple[float, int, int], ...]
    """(seconds, runs left on the target with the fewest, runs) of each window."""


class TimelineEntry(msgspec.Struct, frozen=True):
    """One line of a run's timeline."""

    at: float
    what: str
    detail: str = ""
    tone: str = ""
    """A state or an outcome, which has a colour."""


def overview(service: Promheal) -> dict[str, Any]:
    present, seen = status.look(service)
    strategies = service.config.strategies

    def read(transaction: Transaction) -> dict[str, Any]:
        pending = transaction.runs(limit=SHOWN, state=State.PENDING)
        return {
            "firing": [
                Firing(episode, tuple(_reactions(transaction, service, episode)))
                for episode in transaction.open_episodes(limit=SHOWN)
            ],
            "pending": [
                (run, transaction.last_decision(Key(run.strategy, run.target))) for run in pending
            ],
            "under_way": [
                _progress(transaction.run(run.id) or run)
                for state in _UNDER_WAY
                for run in transaction.runs(limit=SHOWN, state=state)
            ],
            "rows": [_row(transaction, seen, strategy) for strategy in strategies],
            "runs": transaction.runs(limit=SHOWN),
        }

    return {
        "status": status.status(service, present, seen),
        "tasks": service.background.tasks,
        "asks": Reason.AWAITING_APPROVAL,
        **service.journal.read(read),
    }


def listed(
    service: Promheal, *, strategy: str | None, outcome: str | None, before: int
) -> dict[str, Any]:
    found = service.journal.read(
        lambda t: t.runs(limit=PAGE + 1, before=before, strategy=strategy, outcome=outcome)
    )
    more = len(found) > PAGE
    return {
        "runs": found[:PAGE],
        "older": found[PAGE - 1].id if more else None,
        "strategy": strategy,
        "names": service.config.strategies.names,
        "outcome": outcome,
        "outcomes": list(Outcome),
    }


def one_run(service: Promheal, number: int) -> dict[str, Any] | None:
    """Return everything about a run; None if the journal has none of this number."""

    def read(
        t: Transaction,
    ) -> tuple[Run | None, list[DecisionRecord], list[Observation], list[Evidence]]:
        decisions = t.decisions(number)
        refused = [one for one in decisions if one.verdict != Answer.ALLOW][-EXPLAINED:]
        evident = [evidence(t, one) for one in refused]
        return t.run(number), decisions, t.observations(number), evident

    run, decisions, observations, evident = service.journal.read(read)
    if run is None:
        return None
    wait = None
    if run.plan is not None and run.verify_from is not None:
        wait = wait_of(run.plan, run.verify_from)
    return {
        "run": run,
        "wait": wait,
        "reach": wait.reach if wait is not None and isfinite(wait.reach) else None,
        "progress": _progress(run),
        "decisions": decisions,
        "whys": {one.decision.id: explain(one, service.actions) for one in evident},
        "observations": observations,
        "chart": chart.draw(observations, run.verify_from),
        "query": None if run.plan is None
        else run.plan.verify_query or run.plan.alert.get("expression"),
        "timeline": sorted(_moments(run, decisions, observations), key=lambda one: one.at),
        "asks": Reason.AWAITING_APPROVAL,
    }  # fmt: skip


def one_strategy(service: Promheal, name: str) -> dict[str, Any] | None:
    """Return everything about a strategy; None if there is none of this name."""
    strategy = service.config.strategies.get(name)
    if strategy is None:
        return None
    _, seen = status.look(service)

    def read(transaction: Transaction) -> dict[str, Any]:
        return {
            "row": _row(transaction, seen, strategy),
            "runs": transaction.runs(limit=SHOWN, strategy=name),
            "decisions": transaction.latest_decisions(limit=SHOWN, strategy=name),
        }

    scope = f"strategy:{name}"
    return {
        "strategy": strategy,
        "steps": [(step, _written(step.params)) for step in strategy.actions],
        "breaker": status.breaker(scope, seen.breakers.get(scope, Breaker()), seen.now),
        "pauses": [pause for pause in seen.pauses if pause.scope == scope],
        **service.journal.read(read),
    }


def moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def exact(at: float) -> str:
    """Return a time to the millisecond, for events in quick succession."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def took(seconds: float) -> str:
    """Return a duration, to two digits below ten seconds."""
    return f"{seconds:.2g} s" if seconds < 10 else format_duration(round(seconds))


def word(value: Any) -> str:
    """Return a value as an operator would write it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()


def _reactions(transaction: Transaction, service: Promheal, episode: Episode) -> Iterator[Reaction]:
    for strategy in service.config.strategies.select(episode.alert):
        target = strategy.target_of(episode.alert)
        assert target is not None  # it was selected
        key: Key = Key(strategy.name, target)
        yield Reaction(strategy.name, transaction.unfinished(key), transaction.last_decision(key))


def _progress(run: Run) -> RunProgress:
    steps = [step for step in run.steps if step.phase is Phase.RUN]
    undoing = [step for step in run.steps if step.phase is Phase.ROLLBACK]
    planned = 0 if run.plan is None else len(run.plan.steps)
    if run.state is State.ROLLING_BACK and undoing:
        return RunProgress(run, f"undo {undoing[-1].action}", len(steps), planned)
    if run.state is State.VERIFYING:
        return RunProgress(run, "asking Prometheus", len(steps), planned)
    return RunProgress(run, steps[-1].action if steps else "", len(steps), planned)


def _written(params: msgspec.Struct) -> dict[str, Any]:
    """Return what the operator wrote, without the values of headers, which may be secrets."""
    written = {
        field.encode_name: getattr(params, field.name)
        for field in msgspec.structs.fields(params)
        if getattr(params, field.name) not in (field.default, _default(field))
    }
    return {
        name: dict.fromkeys(value, "…") if name == "headers" else value
        for name, value in written.items()
    }


def _default(field: msgspec.structs.FieldInfo) -> Any:
    factory = field.default_factory
    return factory() if callable(factory) else field.default


def _row(transaction: Transaction, seen: Seen, strategy: Strategy) -> StrategyRow:
    name = strategy.name
    return StrategyRow(
        strategy,
        seen.snapshot.firing.get(name, 0),
        seen.snapshot.in_progress.get(name, 0),
        status.heals(seen.snapshot, Outcome.HEALED, strategy=name),
        status.heals(seen.snapshot, *FAILURES, strategy=name),
        tuple(
            (window.per, left, window.runs)
            for window, left in budget_left(transaction, strategy, now=seen.now)
        ),
    )


def _moments(
    run: Run, decisions: list[DecisionRecord], observations: list[Observation]
) -> Iterator[TimelineEntry]:
    """Yield the run's timeline, not yet in order."""
    starts = None if run.plan is None else _starts_at(run.plan.alert)
    known: tuple[tuple[float | None, str, str, str], ...] = (
        (starts, "The alert fired", "", ""),
        (run.notified_at, "Alertmanager told promheal", "", ""),
        (run.asked_at, "A person was asked to approve it", "", "wait"),
        (run.approved_at, "A person approved it", "", "allow"),
        (run.verify_from, "The last step ended: only newer data proves anything", "", ""),
        (run.finished_at, f"Ended: {run.outcome}", run.reason, run.outcome or ""),
        (run.relapsed_at, "It fired again: the heal had not held", "", Outcome.INEFFECTIVE),
    )
    for one in decisions:
        times = f" {one.times} times, last at {moment(one.last_at)}" if one.times > 1 else ""
        reason = f" ({one.reason})" if one.reason else ""
        yield TimelineEntry(
            one.at, f"Decided: {one.verdict}{reason}{times}", one.detail, one.verdict
        )
    yield from _of_steps(run)
    before = ""
    for look in observations:
        if look.verdict != before:
            yield TimelineEntry(look.at, f"Prometheus: {look.verdict}", look.detail, look.verdict)
        before = look.verdict
    for at, what, detail, tone in known:
        if at is not None:
            yield TimelineEntry(at, what, detail, tone)


def _of_steps(run: Run) -> Iterator[TimelineEntry]:
    for step in run.steps:
        name = f"Undo {step.action}" if step.phase is Phase.ROLLBACK else step.action
        yield TimelineEntry(step.started_at, f"{name}: started", "", step.state)
        if step.finished_at is not None:
            yield TimelineEntry(step.finished_at, f"{name}: {step.state}", step.error, step.state)


def _starts_at(alert: Mapping[str, Any]) -> float | None:
    at = alert.get("starts_at")
    return float(at) if isinstance(at, int | float) else None
