"""Which alerts, which actions in which order, how carefully?

A strategy is read from `healing_strategies.yml` by config/strategies.py, and never changes after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from receiver.policy.alert import Alert
from receiver.policy.breaker import StrategyThresholds
from receiver.policy.duration import Duration
from receiver.policy.matcher import Matcher
from receiver.policy.matcher_syntax import MatcherText
from receiver.policy.target import FINGERPRINT, LabelName, name_of
from receiver.policy.value_pattern import ValuePatternText

MAX_TARGET: Final = 1_024
"""Bytes of a target's key; an alert with longer label values is not named, so not healed."""


_Query = Annotated[str, msgspec.Meta(extra={"type": "PromQL"})]


class Mode(StrEnum):
    OBSERVE = "observe"
    """Decide and record, never act."""
    APPROVE = "approve"
    """Act when a person has said so."""
    AUTO = "auto"


class OnFailure(StrEnum):
    ROLLBACK = "rollback"
    KEEP = "keep"


class Expect(StrEnum):
    EMPTY = "empty"
    """It returns the series while the target is unhealthy, as an alert's expression does."""
    PRESENT = "present"
    """It returns the series while the target is healthy."""


class WhenBlind(StrEnum):
    """What to do while Prometheus cannot be asked whether the alert fires."""

    WAIT = "wait"
    ACT = "act"
    """Believe the notification."""


class Gone(StrEnum):
    SUCCEEDED = "succeeded"
    """A target that is gone counts as healed when a healthy one took its place."""
    ACCEPT = "accept"
    """A target that is gone counts as healed: the strategy is meant to remove targets."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `runs` runs on a target within any window of `per`."""

    runs: Annotated[int, msgspec.Meta(ge=1)]
    """At most so many runs of this strategy on one target."""
    per: Annotated[Duration, msgspec.Meta(gt=0)]
    """Within any such time."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The blast radius: at most `targets` targets acted on within any window of `per`."""

    targets: Annotated[int, msgspec.Meta(ge=1)]
    """The [blast radius](decisions.md#blast_radius): this strategy begins on at most so many
    targets. Without the section `limits`, on as many as there are."""
    per: Annotated[Duration, msgspec.Meta(gt=0)]
    """Within any such time."""


class Verify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the heal is proven."""

    within: Duration = 300.0
    """How long after the last step the proof may take; longer where the rule [looks further
    back](../how-to/prove-a-heal.md#what-the-rule-remembers)."""
    settle: Duration = 30.0
    """How long the rule must have forgotten what was before the action until it is called
    ineffective: a service needs time to warm up."""
    at_most: Duration = 3_600.0
    """How long the proof is waited for at most because the rule looks far back; `verify.within` is
    never cut short."""
    hold: Duration = 0.0
    """How long every look must find it cleared."""
    relapse: Duration = 600.0
    """How long after a heal it must not fire again, or the heal counts as a failure. `0s`:
    never."""
    gone: Gone = Gone.SUCCEEDED
    """When what fed the alert [has left discovery or does not exist any
    more](../explanation/verification.md#series-that-have-ended): whether it must have a successor
    that is well, or counts as healed without. `accept` is for strategies that scale down or
    drain."""
    query: _Query | None = None
    """Asked instead of the alert's own expression. May hold templates."""
    expect: Expect = Expect.EMPTY
    """What the query answers for this target when it is healthy; `present` needs `query`."""


class StepKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of every step; the parameters of its action stand beside them."""

    action: Annotated[str, msgspec.Meta(extra={"type": "name"})]
    """One of the [actions](actions/README.md)."""
    timeout: Annotated[Duration, msgspec.Meta(gt=0, extra={"default": "the action's"})] = 0.0
    """For all of it."""
    condition: tuple[MatcherText, ...] = msgspec.field(name="if", default=())
    """Over the alert's labels; where one fails, the step is skipped."""


class StepSpec(StepKeys, frozen=True, kw_only=True):
    """One step as the operator wrote it, its parameters checked but not yet rendered."""

    params: msgspec.Struct
    timeout: float
    """Seconds: the operator's, or the action's own."""


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    match: Annotated[
        tuple[MatcherText, ...],
        msgspec.Meta(min_length=1, examples=[['alertname="HighLatency"']]),
    ]
    """All must hold."""
    actions: Annotated[
        tuple[StepSpec, ...],
        msgspec.Meta(min_length=1, extra={"type": "list of [steps](configuration.md#a-step)"}),
    ]
    """One after the other. When one fails, those after it are not begun."""
    description: str = ""
    """For people."""
    target: tuple[LabelName, ...] = ()
    """Whose values name what is healed: one run at a time for each. An alert that lacks one of them
    is not for this strategy. Without any, each alert is its own target."""
    mode: Mode = Mode.AUTO
    """`observe`: decide and record, never act. `approve`: act when a [person has said
    yes](decisions.md#approval)."""
    grace_period: Duration = 300.0
    """After a run that acted, leave this target alone for so long, whichever strategy ran."""
    budget: Annotated[tuple[Budget, ...], msgspec.Meta(examples=[[{"runs": 3, "per": "1h"}]])] = (
        Budget(runs=3, per=3600.0),
    )
    """All windows must have room. `[]`: no limit."""
    limits: Limits | None = None
    """How many targets it may act on in a time; without, as many as there are."""
    breaker: StrategyThresholds = StrategyThresholds()
    """When it stops because it fails; each target has a breaker too, and so has everything."""
    when: _Query | None = None
    """Must return something before acting. May hold [templates](templates.md). While it returns
    nothing or cannot be asked, the run waits. It is your own word: while it holds, an alert counts
    that Prometheus itself cannot confirm."""
    when_blind: WhenBlind = WhenBlind.WAIT
    """What to do while Prometheus cannot be asked at all: [wait](decisions.md#condition_unknown),
    or believe the notification. With `act`, a `when` has to be answered all the same."""
    verify: Verify = Verify()
    values: Annotated[
        dict[str, ValuePatternText],
        msgspec.Meta(extra={"type": "mapping of [patterns](templates.md#values)"}),
    ] = {}
    """What a value of the alert may be that stands in an argument of a program: by the name of a
    label, `annotations.NAME`, `value`, `alert.starts_at` or `alert.fingerprint`. A run whose value
    does not match fails before its first step."""
    on_failure: OnFailure = OnFailure.ROLLBACK
    """What becomes of the steps when one fails, when the heal proves ineffective, or when the run
    is cancelled."""
    preventive: bool = False
    """It acts before harm is done, and only while the flag `preventive_healing` is on."""

    @property
    def named_by(self) -> tuple[str, ...]:
        """The labels that make up each of its targets."""
        return self.target or (FINGERPRINT,)

    def matches(self, alert: Alert) -> bool:
        """Whether this strategy is for *alert*: every matcher holds and the target can be named."""
        return self.target_of(alert) is not None and condition_holds(self.match, alert.labels)

    def selects(self, alert: Alert, target: str) -> bool:
        """Whether it is for *alert*, and names this target by it."""
        return self.target_of(alert) == target and condition_holds(self.match, alert.labels)

    def target_of(self, alert: Alert) -> str | None:
        """Return the target's key, `service="checkout"`, or None when one of its labels is missing.

        Such an alert is not healed: its targets would share one key, and lock each other out.
        """
        if not self.target:
            return name_of({FINGERPRINT: alert.fingerprint})
        labels = {label: alert.labels.get(label, "") for label in self.target}
        if not all(labels.values()):
            return None
        key = name_of(labels)
        return key if len(key.encode()) <= MAX_TARGET else None


class Strategies:
    """The strategies of one configuration in their order, with an index by alert name.

    Most alerts match no strategy. Strategies with `alertname=` are found by it, since a regular
    expression costs ten times a look-up (measured with RE2).
    """

    def __init__(self, strategies: Iterable[Strategy]) -> None:
        self._all = tuple(strategies)
        self._by_name = {strategy.name: strategy for strategy in self._all}
        self._generic: list[Strategy] = []
        self._candidates: dict[str, list[Strategy]] = {}
        for strategy in self._all:
            name = _alertname(strategy)
            if name is None:
                self._generic.append(strategy)
            else:
                # In the order of the file: general strategies that come first stay first.
                self._candidates.setdefault(name, self._generic.copy()).append(strategy)
                continue
            for candidates in self._candidates.values():
                candidates.append(strategy)

    def __iter__(self) -> Iterator[Strategy]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def get(self, name: str) -> Strategy | None:
        return self._by_name.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions that they use, each once."""
        return tuple(sorted({step.action for one in self._all for step in one.actions}))

    def select(self, alert: Alert) -> list[Strategy]:
        """Return the strategies for *alert*, in the order of the file."""
        candidates = self._candidates.get(alert.name, self._generic)
        return [strategy for strategy in candidates if strategy.matches(alert)]


def _alertname(strategy: Strategy) -> str | None:
    """The alert name that *strategy* requires by an equality matcher, if it does."""
    for matcher in strategy.match:
        if matcher.name == "alertname" and matcher.op == "=" and matcher.value:
            return matcher.value
    return None


def condition_holds(condition: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.matches(labels) for matcher in condition)
