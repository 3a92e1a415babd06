"""What does a test expect at a time, and what never?"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from receiver.policy.breaker import BreakerState
from receiver.policy.duration import Duration
from receiver.policy.guards.situation import Reason
from receiver.policy.run import Outcome, State, StepState


class ExpectedDecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    verdict: Literal["allow", "wait", "deny", "none"]
    """`none`: nothing was decided yet."""
    reason: Reason | None = None
    until: Duration | None = None
    """From the beginning of the test."""


class DecisionTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    eval_time: Duration
    """From the beginning of the test; after what promheal does at this time."""
    strategy: str
    target: str | None = None
    """Needed where the strategy has several in this test."""
    exp_decision: ExpectedDecision
    """The last one that was made by then. What is left out is not compared."""


class ExpectedRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    strategy: str
    target: str | None = None
    started: Duration | None = None
    """From the beginning of the test, as `finished`."""
    finished: Duration | None = None
    outcome: Outcome | None = None
    state: State | None = None
    steps: tuple[dict[str, StepState], ...] | None = None
    """`[{rate_limit: done}, {restart_service: failed}]`: all of them, in order."""
    undone: tuple[str, ...] | None = None
    """The actions that were undone, in the order of their undoing."""


class RunTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    eval_time: Duration
    strategy: str | None = None
    """Only the runs of this strategy."""
    exp_runs: tuple[ExpectedRun, ...]
    """All runs that have begun to act, the oldest first. What is left out is not compared."""
    some: bool = False
    """There may be others."""


class CallTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    eval_time: Duration
    exp_calls: tuple[str, ...]
    """All executions of actions, each as `1m15s restart_service service=checkout`: when it began,
    and its parameters that are not the defaults."""
    some: bool = False
    """There may be others."""


class BreakerTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    eval_time: Duration
    name: str
    """`self-healing-main`, `strategy:NAME` or `target:MATCHERS`."""
    exp_state: BreakerState


class MetricTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    eval_time: Duration
    exp_samples: tuple[str, ...]
    """Each as in a scrape: `promheal_heals_total{strategy="high-cpu",outcome="healed"} 1`."""


class MoreThan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    runs: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Runs of one strategy on one target."""
    calls: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Executions of one action on one target."""
    per: Annotated[Duration, msgspec.Meta(gt=0)]

    def __post_init__(self) -> None:
        if (self.runs is None) == (self.calls is None):
            raise ValueError("write one of `runs` and `calls`")


class WhileInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alert: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    """While an alert with these labels fires."""


class Never(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must not happen at any time of a test. Each key narrows it down."""

    strategy: str = "*"
    """`*`: any."""
    target: str | None = None
    action: str | None = None
    """An execution of this action, and not a run as a whole."""
    outcome: Outcome | None = None
    """A run that ends so."""
    more_than: MoreThan | None = None
    """Not more often than this, within any such time; without, not even once."""
    condition: WhileInput | None = msgspec.field(name="while", default=None)
