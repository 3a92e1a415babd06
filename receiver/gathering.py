"""What is known before a decision, and what would be done? History, Prometheus, the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from receiver.alert import Alert
from receiver.clock import Clock
from receiver.decide import decide
from receiver.errors import ActionError
from receiver.guards.situation import Condition, Reason, Signal, Situation
from receiver.journal import Episode, Journal, Key, Transaction
from receiver.run import Plan, PlannedStep, Run
from receiver.services import Inventory
from receiver.settings import Settings
from receiver.strategy import Expect, OnFailure, Strategies, Strategy, condition_holds
from receiver.template import Variables, render_params, render_promql
from receiver.verification import Judgement


class Prover(Protocol):
    """Prometheus, asked for evidence."""

    def judge(
        self,
        alert_labels: Mapping[str, str],
        expression: str | None,
        *,
        since: float,
        expect: Expect = Expect.EMPTY,
        own_query: bool = False,
    ) -> Judgement:
        """Whether the alert's series is still returned, and the data is there, newer than *since*.

        *own_query*: *expression* is the strategy's and not the rule's.
        """

    def condition(self, query: str) -> tuple[Condition, str]:
        """Whether *query* returns anything, and what was answered."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants now. A reload makes a new one; a run under way keeps its plan."""

    settings: Settings
    strategies: Strategies
    inventory: Inventory
    prover: Prover
    hash: str
    dry_run: bool = False


class Asked(msgspec.Struct, frozen=True):
    """What Prometheus answered before a decision."""

    signal: Signal = Signal.UNKNOWN
    condition: Condition = Condition.NONE
    value: float | None = None
    detail: str = ""


class Case(msgspec.Struct, frozen=True):
    """What is being decided, by which configuration."""

    config: Config
    strategy: Strategy
    target: str

    @property
    def key(self) -> Key:
        return (self.strategy.name, self.target)


class Gathering:
    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock

    def situation(
        self,
        transaction: Transaction,
        case: Case,
        episode: Episode | None,
        run: Run | None,
        asked: Asked,
    ) -> Situation:
        """Return what a decision rests on, the history read in *transaction*."""
        config, strategy, key = case.config, case.strategy, case.key
        now = self._clock()
        furthest = max((budget.per for budget in strategy.budget), default=0.0)
        history = transaction.history(key, but=0 if run is None else run.id, since=now - furthest)
        engine = config.settings.engine
        return Situation(
            now=now,
            strategy=strategy,
            target=key[1],
            alert=None if episode is None else episode.alert,
            last_seen=0.0 if episode is None else episode.last_seen,
            stale_after=engine.stale_after,
            signal=asked.signal,
            condition=asked.condition,
            upstream_detail=asked.detail,
            enabled=config.settings.flags.auto_healing,
            dry_run=config.dry_run,
            holder=history.holder,
            acting=history.acting,
            max_concurrent_runs=engine.max_concurrent_runs,
            last_end=history.last_end,
            last_healed=history.last_healed,
            starts=history.starts,
        )

    def ask(self, case: Case, episode: Episode | None) -> Asked:
        """Ask Prometheus, unless the answer could not matter: in a storm most have to queue."""
        if episode is None:
            return Asked()
        hopeful = Asked(Signal.FIRING, Condition.TRUE)
        situation = self._journal.read(
            lambda t: self.situation(t, case, episode, t.unfinished(case.key), hopeful)
        )
        if decide(situation).verdict.reason in {
            Reason.DISABLED, Reason.BUSY, Reason.CONCURRENCY
        }:  # fmt: skip
            return hopeful
        alert = episode.alert
        judgement = case.config.prover.judge(alert.labels, alert.expression, since=0.0)
        condition, detail = Condition.NONE, judgement.detail
        if case.strategy.when is not None and judgement.signal is not Signal.CLEARED:
            try:
                query = render_promql(
                    case.strategy.when,
                    _variables(case.strategy, case.key[1], episode, judgement.value),
                )
            except ActionError as error:
                condition, detail = Condition.UNKNOWN, str(error)
            else:
                condition, detail = case.config.prover.condition(query)
        return Asked(judgement.signal, condition, judgement.value, detail)


def plan_for(strategy: Strategy, target: str, episode: Episode, value: float | None) -> Plan:
    """Render everything now: a run under way does not see a reload.

    Raises TemplateError.
    """
    alert = episode.alert
    variables = _variables(strategy, target, episode, value)
    steps = []
    for spec in strategy.actions:
        skip = ""
        params: dict[str, Any] = {}
        if condition_holds(spec.condition, alert.labels):
            rendered = render_params(spec.params, variables)
            params = msgspec.to_builtins(rendered)
        else:
            skip = "if: " + ", ".join(str(matcher) for matcher in spec.condition)
        steps.append(
            PlannedStep(action=spec.action, params=params, timeout=spec.timeout, skip=skip)
        )
    verify = strategy.verify
    return Plan(
        steps=tuple(steps),
        rollback=strategy.on_failure is OnFailure.ROLLBACK,
        verify_within=verify.within,
        verify_query=None if verify.query is None else render_promql(verify.query, variables),
        verify_expect=verify.expect,
        alert=_about(alert),
        target_labels={name: alert.labels[name] for name in strategy.target} or alert.labels,
        value=value,
    )


def _about(alert: Alert) -> dict[str, Any]:
    """What actions and templates may know of an alert, as JSON."""
    return {
        "fingerprint": alert.fingerprint,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "starts_at": alert.starts_at,
        "expression": alert.expression,
    }


def _variables(strategy: Strategy, target: str, episode: Episode, value: float | None) -> Variables:
    return Variables(
        labels=episode.alert.labels,
        annotations=episode.alert.annotations,
        alert=_about(episode.alert),
        strategy=strategy.name,
        target=target,
        value=value,
    )
