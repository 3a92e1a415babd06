"""What is asked about one alert before a decision, and what did Prometheus and Alertmanager say?"""

from __future__ import annotations

from typing import Any

import msgspec

from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.errors import ActionError
from receiver.journal import Episode
from receiver.policy.alert import Alert
from receiver.policy.decay import FORGETS, Decay
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.judgement import Judgement
from receiver.policy.signal import UNASKED, ConditionState, Signal, SignalDoubt, UpstreamState
from receiver.policy.strategy import Strategy
from receiver.policy.target import Key
from receiver.template import Variables, render_promql


class Case(msgspec.Struct, frozen=True):
    """What is being decided, by which configuration."""

    config: Config
    strategy: Strategy
    target: str

    @property
    def key(self) -> Key:
        return Key(self.strategy.name, self.target)


def variables(
    strategy: Strategy,
    target: str,
    episode: Episode,
    value: float | None,
    expression: str | None,
) -> Variables:
    """Return what templates may name: *value* is what *expression* returned for the alert."""
    return Variables(
        labels=episode.alert.labels,
        annotations=episode.alert.annotations,
        alert=about(episode.alert, expression),
        strategy=strategy.name,
        target=target,
        value=value,
    )


def about(alert: Alert, expression: str | None) -> dict[str, Any]:
    """Return what actions and templates may know of an alert, as JSON."""
    return {
        "fingerprint": alert.fingerprint,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "starts_at": alert.starts_at,
        "expression": expression,
    }


def target_labels(strategy: Strategy, labels: dict[str, str]) -> dict[str, str]:
    return {name: labels[name] for name in strategy.target} or labels


class Also(msgspec.Struct, frozen=True, kw_only=True):
    """Another firing alert that asks for the same run."""

    episode: Episode
    value: float | None
    expression: str | None
    binding: Binding | None
    """None where nothing could prove its end."""
    query: str | None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What Prometheus and Alertmanager answered before a decision."""

    episode: Episode | None = None
    """The alert that is decided on."""
    also: tuple[Also, ...] = ()
    over: tuple[int, ...] = ()
    """Episodes that are over although no notification said so."""
    cleared: tuple[int, ...] = ()
    """Episodes that Prometheus, asked for the alert's own expression, says have cleared."""
    left_out: str = ""
    """Which other alerts do not ask for the run, and why."""
    unproven: int = 0
    """Further alerts of the target that were not asked about."""
    upstream: UpstreamState = UNASKED
    expression: str | None = None
    """The expression by which it was judged, and by which a run is proven."""
    binding: Binding | None = None
    """The alert's series, by which it is known again after the action."""
    value: float | None = None
    query: str | None = None
    """The strategy's `verify.query` for this alert; None where it has none."""
    query_fault: str = ""
    """Why `verify.query` cannot be rendered."""
    answered: bool = False
    """The signal is Prometheus' own, of just now."""
    complete: bool = False
    """Nothing was left unasked: only then may it be acted on."""
    decay: Decay = FORGETS
    """How far back looks what will prove the heal."""
    alert_decay: Decay = FORGETS
    """How far back the alert's own expression looks."""


def confirmed(case: Case, episode: Episode, clock: Clock) -> Asked:
    """Ask whether the alert fires, and whether `when` holds for it."""
    judgement = case.config.judge(episode)
    asked = with_query(
        case,
        Asked(
            episode=episode,
            expression=judgement.expression,
            binding=judgement.binding,
            value=judgement.value,
            answered=True,
            cleared=(episode.id,) if judgement.signal is Signal.CLEARED else (),
        ),
    )
    judgement = _by_own_query(case, episode, asked, judgement, clock)
    condition, detail = _condition(case, episode, judgement)
    return msgspec.structs.replace(
        asked,
        upstream=msgspec.structs.replace(
            UNASKED,
            signal=judgement.signal,
            doubt=judgement.doubt,
            condition=condition,
            detail=detail,
            suspect=judgement.suspect,
        ),
    )


def completed(case: Case, episode: Episode, asked: Asked) -> Asked:
    """Ask what matters only if a run may begin: silences, scrapes, how far back queries look."""
    labels, verifier, upstream = episode.alert.labels, case.config.verifier, asked.upstream
    alert_decay = verifier.decay(labels, asked.expression)
    decay = _decay(case, episode, asked, alert_decay)
    suspect = ""
    if not _acts_blind(upstream):
        suspect = verifier.suspect(labels, asked.expression)
    return msgspec.structs.replace(
        asked,
        decay=decay,
        alert_decay=alert_decay,
        upstream=msgspec.structs.replace(
            upstream,
            suspect=upstream.suspect or suspect,
            silencing=case.config.silenced(episode.alert),
        ),
        complete=True,
    )


def _by_own_query(
    case: Case, episode: Episode, asked: Asked, judgement: Judgement, clock: Clock
) -> Judgement:
    """Ask the strategy's own query where the alert's rule does not tell."""
    if (
        asked.query is None
        or judgement.signal is not Signal.UNKNOWN
        or judgement.doubt not in {SignalDoubt.RULE, SignalDoubt.DATA}
        or judgement.suspect
    ):
        return judgement
    target = target_labels(case.strategy, episode.alert.labels)
    binding = Binding(expression=asked.query, labels=target, fed_at=clock(), own=True)
    own = case.config.verifier.look(binding, since=0.0, expect=case.strategy.verify.expect)
    if own.signal is Signal.UNKNOWN:
        return judgement
    return msgspec.structs.replace(
        judgement,
        signal=own.signal,
        detail=f"{judgement.detail}; verify.query: {own.detail}",
    )


def assumed(case: Case, episode: Episode, upstream: UpstreamState) -> Asked:
    """Return what stands in for an answer where nobody was asked."""
    return with_query(case, Asked(episode=episode, upstream=upstream))


def with_query(case: Case, asked: Asked) -> Asked:
    """Render `verify.query`: the same text is asked before the act and after it."""
    query, fault = case.strategy.verify.query, ""
    if query is None:
        return asked
    assert asked.episode is not None
    names = variables(case.strategy, case.target, asked.episode, asked.value, asked.expression)
    try:
        query = render_promql(query, names)
    except ActionError as error:
        query, fault = None, str(error)
    return msgspec.structs.replace(asked, query=query, query_fault=fault)


def _condition(case: Case, episode: Episode, judgement: Judgement) -> tuple[ConditionState, str]:
    """Return whether `when` holds, and what the operator is to know of both answers."""
    when = case.strategy.when
    if when is None or judgement.signal is Signal.CLEARED:
        return ConditionState.NONE, judgement.detail
    names = variables(case.strategy, case.target, episode, judgement.value, judgement.expression)
    try:
        query = render_promql(when, names)
    except ActionError as error:
        return ConditionState.UNKNOWN, str(error)
    return case.config.verifier.condition(query)


def _decay(case: Case, episode: Episode, asked: Asked, alert_decay: Decay) -> Decay:
    """Return how long what will prove the heal remembers."""
    if asked.query_fault:
        return Decay(None, asked.query_fault)
    if asked.query is None:
        return alert_decay
    target = target_labels(case.strategy, episode.alert.labels)
    return case.config.verifier.decay(target, asked.query, own_query=True)


def _acts_blind(upstream: UpstreamState) -> bool:
    """Whether it may be acted on although Prometheus cannot be asked."""
    unanswered = upstream.signal is Signal.UNKNOWN and upstream.condition is ConditionState.NONE
    return unanswered and upstream.doubt is SignalDoubt.BLIND
