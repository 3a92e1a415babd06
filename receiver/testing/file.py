"""What does a test file say? Names and shapes are promtool's where promtool has one.

https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from receiver.policy.duration import Duration
from receiver.policy.matcher_syntax import MatcherText
from receiver.policy.window import Window
from receiver.settings import EngineSettings, FlagSettings
from receiver.simulation.series import SeriesText
from receiver.testing.expected import (
    BreakerTest,
    CallTest,
    DecisionTest,
    MetricTest,
    Never,
    RunTest,
)

MONDAY: Final = 1_767_571_200.0
"""2026-01-05T00:00:00Z"""


def _timestamp(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write for example 2026-01-05T00:00:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


Timestamp = Annotated[
    float,
    msgspec.Meta(
        extra={"type": "time", "parse": _timestamp},
        extra_json_schema={"type": "string", "examples": ["2026-01-05T00:00:00Z"]},
    ),
]
Positive = Annotated[Duration, msgspec.Meta(gt=0)]
Nth = Annotated[int, msgspec.Meta(ge=1)]


class InlineStrategies:
    """The strategies of a test file, in place of a `config_file`."""


class InlineServices:
    """Its services."""


class HealedBy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    action: str
    """The action that ends the alert, when it succeeds on the alert's target."""
    delay: Duration = msgspec.field(name="in", default=0.0)
    """How long after its end the expression no longer returns the alert."""
    nth: Nth | None = None
    """Only this one of its executions for the alert, from 1."""
    lasts: Positive | None = msgspec.field(name="for", default=None)
    """How long; afterwards the alert is what `firing` says. Without, for ever."""


class NotifyInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    group_wait: Duration = 0.0
    """As in Alertmanager; each alert is a group of its own. The defaults are those of the routes
    that `promheal config alertmanager` prints."""
    group_interval: Positive = 10.0
    """As in Alertmanager."""
    repeat_interval: Positive = 14_400.0
    """As in Alertmanager."""
    send_resolved: bool = True
    """As in Alertmanager."""


class AlertInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    labels: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    """All that it has, `alertname` too."""
    firing: SeriesText
    """What its expression returns at each interval: 0 nothing, another number the alert with this
    value, `_` that there is no data, as after the last value."""
    annotations: dict[str, str] = {}
    expr: str | None = None
    """Its expression. Shown; and how far back it looks decides how long a proof may take."""
    healed_by: HealedBy | None = None
    """What ends it, in place of `firing`."""
    notify: NotifyInput = NotifyInput()
    """When Alertmanager notifies of it."""


class QueryInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    query: str
    """A `when` or a `verify.query`, as it is after its templates."""
    values: SeriesText
    """What it returns at each interval: a number, `stale` for nothing, `_` where Prometheus does
    not answer, as after the last value."""


class ActionInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    action: str
    """Without an entry here an action succeeds at once. None is ever executed."""
    target: str | None = None
    """Only on this target, as `service="checkout"`."""
    nth: Nth | None = None
    """Only this one of its executions, from 1."""
    takes: Duration = 0.0
    """How long it takes; it fails when that is longer than its `timeout`."""
    fails: str = ""
    """Why it fails."""
    undo_fails: str = ""
    """Why its undoing fails."""
    skips: str = ""
    """Why there is nothing to do."""


class PauseInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    scope: str = "all"
    """`all`, `strategy:NAME` or `target:MATCHERS`."""
    lasts: Positive | None = msgspec.field(name="for", default=None)
    reason: str = "a test"


class ResumeInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    scope: str = "all"
    reason: str = "a test"


class RunInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    strategy: str
    """The newest run of this strategy is meant."""
    target: str | None = None
    """On this target."""
    reason: str = "a test"


class ResetInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    breaker: str
    """`self-healing-main`, `strategy:NAME` or `target:MATCHERS`."""
    force: bool = False
    reason: str = "a test"


class SilenceInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    matchers: Annotated[tuple[MatcherText, ...], msgspec.Meta(min_length=1)]
    lasts: Positive = msgspec.field(name="for")


class ScrapeInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    matchers: Annotated[tuple[MatcherText, ...], msgspec.Meta(min_length=1)]
    """The alerts whose target is meant."""
    up: bool
    """`false`: its scrape fails."""


class WorkerInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    """A host or a label of `runs_on`."""
    lives: bool


class WorldEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people and the world do: one of the keys beside `at`."""

    at: Duration
    """From the beginning of the test; before what promheal does at this time."""
    pause: PauseInput | None = None
    resume: ResumeInput | None = None
    approve: RunInput | None = None
    reject: RunInput | None = None
    cancel: RunInput | None = None
    reset: ResetInput | None = None
    silence: SilenceInput | None = None
    prometheus: Literal["up", "down"] | None = None
    """Whether promheal can ask it; Alertmanager notifies all the same."""
    alertmanager: Literal["up", "down"] | None = None
    scrape: ScrapeInput | None = None
    worker: WorkerInput | None = None
    restart: Literal["promheal"] | None = None
    """kill -9, and at once the next start."""
    during: str | None = None
    """With `restart`: not at once, but in the middle of the next execution of this action."""

    @property
    def chosen(self) -> tuple[str, Any]:
        """The key beside `at`, and its value."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        found = [
            (name, value)
            for name, value in given.items()
            if value is not None and name not in {"at", "during"}
        ]
        if len(found) != 1:
            names = ", ".join(n for n in self.__struct_fields__ if n not in {"at", "during"})
            raise ValueError(f"an event has `at` and one of {names}")
        return found[0]

    def __post_init__(self) -> None:
        name, _ = self.chosen
        if self.during is not None and name != "restart":
            raise ValueError("`during` goes with `restart: promheal`")


class StrategyTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = ""
    """For people, and for `--run`."""
    interval: Positive | None = None
    """Between two values of the series; without, `evaluation_interval`."""
    alerts: tuple[AlertInput, ...] = ()
    """What fires."""
    queries: tuple[QueryInput, ...] = ()
    """What Prometheus answers to the strategies' own queries."""
    actions: tuple[ActionInput, ...] = ()
    """What becomes of actions."""
    events: tuple[WorldEvent, ...] = ()
    """What people and the world do meanwhile."""
    decision_test: tuple[DecisionTest, ...] = ()
    run_test: tuple[RunTest, ...] = ()
    call_test: tuple[CallTest, ...] = ()
    breaker_test: tuple[BreakerTest, ...] = ()
    metric_test: tuple[MetricTest, ...] = ()
    never: tuple[Never, ...] = ()
    """As that of the file, for this test."""


class StrategyTests(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test file, or the second document of one of promtool's."""

    config_file: Annotated[str, msgspec.Meta(extra={"type": "path"})] | None = None
    """The configuration that is tested: its promheal.yml, relative to this file. Its `.env.local`
    counts, the environment does not."""
    strategies: InlineStrategies | None = None
    """As in healing_strategies.yml, in place of `config_file`."""
    services: InlineServices | None = None
    """As in services.yml; with `strategies`."""
    engine: EngineSettings | None = None
    """In place of the configuration's."""
    flags: FlagSettings | None = None
    """In place of the configuration's."""
    maintenance: tuple[Window, ...] | None = None
    """In place of the configuration's."""
    evaluation_interval: Positive = 15.0
    """Between two evaluations of the rules, two samples, and two values of a series."""
    start_timestamp: Timestamp = msgspec.field(default=MONDAY)
    """When each test begins: a Monday, for maintenance windows need a date."""
    tests: Annotated[tuple[StrategyTest, ...], msgspec.Meta(min_length=1)]
    never: tuple[Never, ...] = ()
    """What must not happen in any of the tests."""
