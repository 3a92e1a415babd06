"""What is known before a decision, and what would be done? History, Prometheus, the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.actions.parameters import render_params
from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.errors import ActionError
from receiver.journal import ActivePause, Episode, Illness, Transaction
from receiver.policy.alert import Alert
from receiver.policy.decay import FORGETS, Decay
from receiver.policy.decide import OF_THE_OPERATOR, Decision, decide
from receiver.policy.dormancy import backoff
from receiver.policy.guards.reasons import INDEPENDENT_OF_UPSTREAM
from receiver.policy.guards.situation import RETRY, Hold, Situation
from receiver.policy.maintenance import Window, active
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.verifier import Judgement
from receiver.policy.role import UNBOUND
from receiver.policy.run import Asker, Plan, PlannedStep, Run
from receiver.policy.signal import ConditionState, Signal, SignalDoubt, Silencing
from receiver.policy.strategy import OnFailure, Strategy, condition_holds
from receiver.policy.target import Key
from receiver.services import Inventory
from receiver.template import Variables, render_promql

_REASON: Final = 500
"""Characters of the pause file that are read."""


class Also(msgspec.Struct, frozen=True, kw_only=True):
    """Another alert that fires, and asks for the same act."""

    episode: Episode
    value: float | None
    expression: str | None
    binding: Binding | None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What Prometheus and Alertmanager answered before a decision."""

    episode: Episode | None = None
    """The alert that is decided on."""
    also: tuple[Also, ...] = ()
    over: tuple[int, ...] = ()
    """Episodes of the target that are over, though their end was not told."""
    left_out: str = ""
    """Which others do not ask for the act, and why."""
    unproven: int = 0
    """Others that were not asked, although it may be acted on."""
    signal: Signal = Signal.UNKNOWN
    doubt: SignalDoubt = SignalDoubt.DATA
    condition: ConditionState = ConditionState.NONE
    expression: str | None = None
    """By which it was judged; it is what a run is proven by."""
    binding: Binding | None = None
    """The alert's series, by which it is known again after the action."""
    value: float | None = None
    detail: str = ""
    suspect: str = ""
    silencing: Silencing = Silencing()
    answered: bool = False
    """The signal is Prometheus' own, of just now."""
    complete: bool = False
    """Nothing was left unasked: only then may it be acted on."""
    decay: Decay = FORGETS
    """Of what will prove the heal."""
    alert_decay: Decay = FORGETS
    """Of the alert's own expression."""


OPTIMISTIC: Final = Asked(signal=Signal.FIRING, condition=ConditionState.TRUE)


class Case(msgspec.Struct, frozen=True):
    """What is being decided, by which configuration."""

    config: Config
    strategy: Strategy
    target: str

    @property
    def key(self) -> Key:
        return Key(self.strategy.name, self.target)


class Gathering:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def situation(
        self,
        transaction: Transaction,
        case: Case,
        episode: Episode | None,
        run: Run | None,
        asked: Asked,
        *,
        runs_on: str = UNBOUND,
        fault: str = "",
    ) -> Situation:
        """Return what a decision rests on, the history read in *transaction*.

        *runs_on* is where the steps of what is planned are to be executed, *fault* why nothing can
        be planned.
        """
        config, strategy, key = case.config, case.strategy, case.key
        settings = config.settings
        engine = settings.engine
        now = self._clock()
        alert = None if episode is None else episode.alert
        furthest = max((budget.per for budget in strategy.budget), default=0.0)
        most, lately = engine.storm.targets, now - engine.stale_after
        history = transaction.history(
            key,
            now=now,
            but=0 if run is None else run.id,
            since=now - furthest,
            most=most,
            lately=lately,
        )
        dormancy = history.dormancy
        # To find out how many are ill costs more than all else here.
        illness = Illness(0, 0)
        if history.touched >= most:
            illness = transaction.illness(key, limit=most, since=lately)
        return Situation(
            now=now,
            strategy=strategy,
            target=key.target,
            alert=alert,
            last_seen=0.0 if episode is None else episode.last_seen,
            stale_after=engine.stale_after,
            signal=asked.signal,
            doubt=asked.doubt,
            condition=asked.condition,
            upstream_detail=asked.detail,
            suspect=asked.suspect,
            silencing=asked.silencing,
            left_out="" if episode is None else asked.left_out,
            enabled=settings.flags.auto_healing,
            preventive=settings.flags.preventive_healing,
            dry_run=config.dry_run,
            pause=_pause(config.pause_file, history.pauses, key, now),
            rejected=history.veto,
            maintenance=_maintenance(settings.maintenance, alert, now),
            approval_for=engine.approval,
            asked_at=None if run is None else run.asked_at,
            approved_at=None if run is None else run.approved_at,
            run=0 if run is None else run.id,
            holder=history.holder,
            holder_reason=history.holder_reason,
            acting=history.acting,
            max_concurrent_runs=engine.max_concurrent_runs,
            last_end=history.last_end,
            last_healed=history.last_healed,
            last_outcome=history.last_outcome,
            forgets_at=history.forgets_at,
            starts=history.starts,
            dormancy=dormancy,
            backoff=backoff(
                dormancy.failures, first=engine.backoff.first, most=engine.backoff.most
            ),
            ill=illness.ill,
            treated=illness.treated,
            storm_targets=engine.storm.targets,
            latest_starts=(
                ()
                if strategy.limits is None
                else tuple(transaction.latest_starts(key, since=now - strategy.limits.per))
            ),
            breakers=history.breakers,
            fault=f"it would fail before its first step: {fault}" if fault else "",
            absent=_absent(transaction, runs_on),
        )

    def of(self, situation: Situation, case: Case, episode: Episode) -> Situation:
        """Return *situation* as it is for another alert of the same target."""
        now = self._clock()
        return msgspec.structs.replace(
            situation,
            now=now,
            alert=episode.alert,
            last_seen=episode.last_seen,
            maintenance=_maintenance(case.config.settings.maintenance, episode.alert, now),
        )

    def heard(self, situation: Situation, asked: Asked) -> Decision:
        """Decide by what was answered."""
        return decide(
            msgspec.structs.replace(
                situation,
                now=self._clock(),
                signal=asked.signal,
                doubt=asked.doubt,
                condition=asked.condition,
                upstream_detail=asked.detail,
                suspect=asked.suspect,
                silencing=asked.silencing,
            )
        )

    def glance(
        self, transaction: Transaction, case: Case, episode: Episode, run: Run | None
    ) -> Situation:
        """Return what a decision would rest on if others said what lets us act."""
        return self.situation(transaction, case, episode, run, OPTIMISTIC)

    def ask(
        self, case: Case, episode: Episode, situation: Situation, blind: Asked | None = None
    ) -> Asked:
        """Ask Prometheus and Alertmanager about one alert, unless the answer could not matter.

        *situation* is what a `glance` has seen. In a storm most have to queue, and while everything
        is paused nobody needs to know. *blind* is that Prometheus could not be asked a moment ago:
        it is not waited for once more.
        """
        if decide(situation).verdict.reason in INDEPENDENT_OF_UPSTREAM:
            return msgspec.structs.replace(OPTIMISTIC, episode=episode)
        asked = blind or self._signal(case, episode)
        asked = msgspec.structs.replace(asked, episode=episode)
        # What only stands before the act is asked only then; also where a person is to judge it.
        if self.heard(situation, asked).refused_by - OF_THE_OPERATOR:
            return asked
        labels = episode.alert.labels
        decay = alert_decay = case.config.verifier.decay(labels, asked.expression)
        if case.strategy.verify.query is not None:
            decay = self._decay_of_query(case, episode, asked)
        suspect = ""
        if not _acts_blind(asked):
            suspect = case.config.verifier.suspect(labels, asked.expression)
        return msgspec.structs.replace(
            asked,
            decay=decay,
            alert_decay=alert_decay,
            suspect=asked.suspect or suspect,
            silencing=case.config.silenced(episode.alert),
            complete=True,
        )

    def _signal(self, case: Case, episode: Episode) -> Asked:
        """Ask whether the alert fires, and whether `when` holds for it."""
        judgement = self._judge(case, episode)
        condition, detail = ConditionState.NONE, judgement.detail
        if case.strategy.when is not None and judgement.signal is not Signal.CLEARED:
            try:
                query = render_promql(
                    case.strategy.when,
                    _variables(
                        case.strategy,
                        case.key.target,
                        episode,
                        judgement.value,
                        judgement.expression,
                    ),
                )
            except ActionError as error:
                condition, detail = ConditionState.UNKNOWN, str(error)
            else:
                condition, detail = case.config.verifier.condition(query)
        return Asked(
            signal=judgement.signal,
            doubt=judgement.doubt,
            expression=judgement.expression,
            binding=judgement.binding,
            condition=condition,
            value=judgement.value,
            detail=detail,
            suspect=judgement.suspect,
            answered=True,
        )

    @staticmethod
    def _decay_of_query(case: Case, episode: Episode, asked: Asked) -> Decay:
        strategy = case.strategy
        variables = _variables(strategy, case.target, episode, asked.value, asked.expression)
        assert strategy.verify.query is not None
        try:
            query = render_promql(strategy.verify.query, variables)
        except ActionError as error:
            return Decay(None, str(error))
        return case.config.verifier.decay(
            _target_labels(strategy, episode.alert.labels), query, own_query=True
        )

    def _judge(self, case: Case, episode: Episode) -> Judgement:
        """Ask whether the alert fires; by the strategy's own query where its rule does not tell."""
        judgement = case.config.judge(episode)
        verify = case.strategy.verify
        if (
            verify.query is None
            or judgement.signal is not Signal.UNKNOWN
            or judgement.doubt not in {SignalDoubt.RULE, SignalDoubt.DATA}
            or judgement.suspect
        ):
            return judgement
        variables = _variables(case.strategy, case.key.target, episode, None, None)
        try:
            query = render_promql(verify.query, variables)
        except ActionError:
            return judgement
        target = _target_labels(case.strategy, episode.alert.labels)
        binding = Binding(expression=query, labels=target, fed_at=self._clock(), own=True)
        own = case.config.verifier.look(binding, since=0.0, expect=verify.expect)
        if own.signal is Signal.UNKNOWN:
            return judgement
        return msgspec.structs.replace(
            judgement,
            signal=own.signal,
            detail=f"{judgement.detail}; verify.query: {own.detail}",
        )


def _acts_blind(asked: Asked) -> bool:
    """Whether it may be acted on although Prometheus cannot be asked."""
    unanswered = asked.signal is Signal.UNKNOWN and asked.condition is ConditionState.NONE
    return unanswered and asked.doubt is SignalDoubt.BLIND


def _pause(file: Path | None, pauses: Iterable[ActivePause], key: Key, now: float) -> Hold | None:
    """Return the pause that is for *key* and lasts longest."""
    if file is not None:
        try:
            with file.open(encoding="utf-8", errors="replace") as opened:
                reason = opened.readline(_REASON).strip()
        except FileNotFoundError:
            pass
        except OSError as error:
            # Whether it is there cannot be said, and who wrote it meant business.
            return Hold(f"{file}: {error.strerror}", now + RETRY)
        else:
            return Hold(f"{file} exists: {reason}".rstrip(": "), now + RETRY)
    longest = max(
        (pause for pause in pauses if pause.covers(key)),
        key=lambda pause: inf if pause.until is None else pause.until,
        default=None,
    )
    if longest is None:
        return None
    return Hold(f"{longest.by}, {longest.scope}: {longest.reason}", longest.until)


def _maintenance(windows: tuple[Window, ...], alert: Alert | None, now: float) -> Hold | None:
    found = None if alert is None else active(windows, alert.labels, now)
    return None if found is None else Hold(found[0].name, found[1])


def _absent(transaction: Transaction, runs_on: str) -> str:
    """Return the host or label that has no living worker, or an empty text."""
    return "" if runs_on == UNBOUND or transaction.has_worker(runs_on) else runs_on


def plan_for(
    strategy: Strategy,
    target: str,
    episode: Episode,
    value: float | None,
    expression: str | None = None,
    *,
    inventory: Inventory,
    undeclared: bool = False,
    binding: Binding | None = None,
    decay: Decay = FORGETS,
    alert_decay: Decay = FORGETS,
    also: Iterable[Also] = (),
    unproven: int = 0,
) -> Plan:
    """Render everything now: a run under way does not see a reload.

    *expression* is the one by which the alert was judged, *value* what it returned, *binding* the
    series that it was returned for; *also* are the others that asked for the act, and *unproven*
    how many more there may be. *undeclared*: values that the strategy does not declare may
    stand in arguments. Raises ActionError when a template cannot be rendered, a value is not what
    it may be, or it is not clear where it is to run.
    """
    alert = episode.alert
    variables = _variables(strategy, target, episode, value, expression)
    steps = []
    for spec in strategy.actions:
        skip = ""
        params: dict[str, Any] = {}
        if condition_holds(spec.condition, alert.labels):
            rendered = render_params(spec.params, variables, strategy.values, undeclared=undeclared)
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
        binding=None if binding is None else msgspec.to_builtins(binding),
        verify_gone=verify.gone,
        verify_settle=verify.settle,
        verify_at_most=verify.at_most,
        verify_hold=verify.hold,
        decay=decay.seconds,
        decay_problem=decay.problem,
        scrape=decay.scrape,
        alert_decay=alert_decay.seconds,
        alert=_about(alert, expression),
        also=tuple(_asker(strategy, target, each) for each in also),
        unproven=unproven,
        target_labels=_target_labels(strategy, alert.labels),
        value=value,
        runs_on=_runs_on(steps, alert.labels, inventory),
    )


def _asker(strategy: Strategy, target: str, also: Also) -> Asker:
    variables = _variables(strategy, target, also.episode, also.value, also.expression)
    query, binding = strategy.verify.query, also.binding
    if query is not None:
        try:
            query = render_promql(query, variables)
        except ActionError:
            query = binding = None  # it is not known what would prove it
    return Asker(
        fingerprint=also.episode.alert.fingerprint,
        labels=also.episode.alert.labels,
        binding=None if binding is None else msgspec.to_builtins(binding),
        verify_query=query,
    )


def _runs_on(steps: Iterable[PlannedStep], labels: Mapping[str, str], inventory: Inventory) -> str:
    """Return the one place in which all services of a run are to be touched."""
    places = {}
    for step in steps:
        name = step.params.get("service")
        if not step.skip and isinstance(name, str) and name in inventory.names:
            place = inventory.get(name).place(labels)
            if place != UNBOUND:
                places[place] = name
    if len(places) > 1:
        where = ", ".join(f"{name} on {place}" for place, name in places.items())
        raise ActionError(f"its services are in several places ({where}); one run has one place")
    return next(iter(places), UNBOUND)


def _target_labels(strategy: Strategy, labels: dict[str, str]) -> dict[str, str]:
    return {name: labels[name] for name in strategy.target} or labels


def _about(alert: Alert, expression: str | None) -> dict[str, Any]:
    """What actions and templates may know of an alert, as JSON."""
    return {
        "fingerprint": alert.fingerprint,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "starts_at": alert.starts_at,
        "expression": expression,
    }


def _variables(
    strategy: Strategy,
    target: str,
    episode: Episode,
    value: float | None,
    expression: str | None,
) -> Variables:
    return Variables(
        labels=episode.alert.labels,
        annotations=episode.alert.annotations,
        alert=_about(episode.alert, expression),
        strategy=strategy.name,
        target=target,
        value=value,
    )
