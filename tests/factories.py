"""Values that tests begin with: complete, valid, and changed by keyword."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from receiver.actions import Action, Actions, Context, Later
from receiver.clock import VirtualClock
from receiver.errors import ActionError
from receiver.policy.alert import Alert, Notification, Status
from receiver.policy.authority import Speaker
from receiver.policy.decay import FORGETS, Decay
from receiver.policy.dormancy import Dormancy
from receiver.policy.fingerprint import fingerprint
from receiver.policy.guards.situation import Around, Asking, Bounds, Past, Situation, Wishes
from receiver.policy.matcher import Matcher
from receiver.policy.matcher_syntax import parse_item
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.judgement import Judgement
from receiver.policy.signal import UNASKED, ConditionState, Signal, SignalDoubt
from receiver.policy.strategy import Budget, Expect, StepSpec, Strategy
from receiver.services import Inventory

NOW = 1_800_000_000.0


def alert(**changes: Any) -> Alert:
    labels = changes.pop("labels", {"alertname": "HighLatency", "service": "checkout"})
    values: dict[str, Any] = {
        "fingerprint": fingerprint(labels),
        "status": Status.FIRING,
        "labels": labels,
        "annotations": {},
        "starts_at": NOW - 60,
        "ends_at": None,
        "generator_url": "http://prometheus.example/graph?g0.expr=up+%3D%3D+0",
    }
    return Alert(**{**values, **changes})


def resolved(of: Alert, ends_at: float = NOW) -> Alert:
    return msgspec.structs.replace(of, status=Status.RESOLVED, ends_at=ends_at)


def notification(*alerts: Alert, **changes: Any) -> Notification:
    return Notification(alerts=alerts, external_url="http://am.example", **changes)


def step(action: str = "spy", **changes: Any) -> StepSpec:
    values: dict[str, Any] = {"action": action, "params": Spy.Params(), "timeout": 10.0}
    return StepSpec(**{**values, **changes})


def strategy(**changes: Any) -> Strategy:
    values: dict[str, Any] = {
        "name": "latency",
        "match": (parse_matcher('alertname="HighLatency"'),),
        "target": ("service",),
        "actions": (step(),),
        "budget": (Budget(runs=3, per=3600.0),),
    }
    return Strategy(**{**values, **changes})


def parse_matcher(text: str) -> Matcher:
    (found,) = parse_item(text)
    return found


GROUPS = ("upstream", "wishes", "bounds", "asking", "past", "around")


def situation(**changes: Any) -> Situation:
    """Everything allows, but for *changes*: of a situation, or of one of its groups."""
    values: dict[str, Any] = {
        "now": NOW,
        "strategy": strategy(),
        "target": 'service="checkout"',
        "alert": alert(),
        "last_seen": NOW,
        "left_out": "",
        "upstream": msgspec.structs.replace(UNASKED, signal=Signal.FIRING),
        "wishes": Wishes(
            enabled=True,
            preventive=True,
            dry_run=False,
            pause=None,
            rejected="",
            maintenance=None,
        ),
        "bounds": Bounds(
            stale_after=18_000.0,
            approval_for=3_600.0,
            max_concurrent_runs=8,
            storm_targets=10,
            backoff=0.0,
        ),
        "asking": Asking(run=0, asked_at=None, approved_at=None, fault="", absent=""),
        "past": Past(
            last_end=None,
            restored_at=None,
            last_healed=None,
            last_outcome=None,
            forgets_at=None,
            starts=(),
            latest_starts=(),
        ),
        "around": Around(
            holder=None,
            holder_reason="",
            acting=0,
            affected=1,
            treated=0,
            breakers=(),
            dormancy=Dormancy(),
        ),
    }
    for name, value in changes.items():
        group = next((g for g in GROUPS if name in values[g].__struct_fields__), None)
        if group is None:
            values[name] = value
        else:
            values[group] = msgspec.structs.replace(values[group], **{name: value})
    return Situation(**values)


class Spy(Action):
    """An action that does what the test says, and remembers that it was called."""

    name: ClassVar[str] = "spy"

    class Params(msgspec.Struct, frozen=True, kw_only=True):
        name: str = "one"
        fails: bool = False
        undo: str = "works"
        """`works`, `fails` or `none`."""
        repeatable: bool = False
        later: float = 0.0
        skips: bool = False
        saves: str = ""
        service: str = ""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.found: list[dict[str, Any]] = []
        """What each call found saved."""
        self.before: Callable[[], None] = lambda: None

    def idempotent(self, params: Params) -> bool:
        return params.repeatable

    def run(self, params: Params, context: Context) -> dict[str, Any] | Later:
        if params.later and context.now < context.started_at + params.later:
            return Later(context.started_at + params.later)
        self.calls.append(f"run {params.name}")
        self.found.append(dict(context.saved))
        if params.saves and not context.saved:
            context.save({"was": params.saves})
        self.before()
        if params.fails:
            raise ActionError("it failed", output="what it said")
        return {"skipped": "nothing to do"} if params.skips else {"said": params.name}

    def undoable(self, params: Params) -> bool:
        return params.undo != "none"

    def rollback(
        self, params: Params, context: Context, result: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        self.calls.append(f"undo {params.name}")
        self.found.append(dict(context.saved))
        if params.undo == "fails":
            raise ActionError("it cannot be undone")
        return {"of": None if result is None else dict(result)}


def context(**changes: Any) -> Context:
    """What an action is told, but for what the test says."""
    plain: dict[str, Any] = {
        "run_id": 7,
        "step": 0,
        "strategy": "high-cpu",
        "target": 'service="checkout"',
        "alert": {"fingerprint": "0123456789abcdef", "labels": {}, "annotations": {}},
        "timeout": 10.0,
        "started_at": 1000.0,
        "now": 1000.0,
        "inventory": Inventory({}),
        "save": lambda _: None,
    }
    return Context(**(plain | changes))


def actions(spy: Spy) -> Actions:
    return Actions([spy])


class ScriptedProver:
    """Stands in for Prometheus: answers what the test says. The real one is in acceptance/."""

    def __init__(self) -> None:
        self.signal = Signal.FIRING
        self.signals: dict[str, Signal] = {}
        """By `instance`, where alerts of one target differ."""
        self.doubt = SignalDoubt.NOBODY
        """Unknown, and the notification stands."""
        self.own: Signal | None = None
        """What a strategy's own query says, if it says anything else."""
        self.expression: str | None = None
        """The rule's, if it is another one than that of the alert's link."""
        self.speakers: list[Speaker] = []
        self.holds = ConditionState.TRUE
        self.conditions: dict[str, ConditionState] = {}
        """By the query, where it is another one for each alert."""
        self.asked: list[tuple[str | None, float]] = []
        self.labels: dict[str, str] = {}
        self.listed: bool | None = False
        self.suspicion = ""
        self.unasked = False
        self.alert_decay = self.query_decay = FORGETS

    def confirm(
        self,
        alert_labels: Mapping[str, str],
        said: str | None,
        *,
        speaker: Speaker = Speaker.SENDER,
        starts_at: float = 0.0,
    ) -> Judgement:
        self.asked.append((said, 0.0))
        self.labels = dict(alert_labels)
        self.speakers.append(speaker)
        expression = self.expression or said
        bound = Binding(expression=expression or "", labels=dict(alert_labels), fed_at=1.0)
        judged = self._says(
            self._signal(alert_labels), SignalDoubt.BLIND if self.unasked else self.doubt
        )
        return msgspec.structs.replace(judged, expression=expression, binding=bound)

    def look(
        self,
        binding: Binding | None,
        *,
        since: float,
        expect: Expect = Expect.EMPTY,
        accept_gone: bool = False,
    ) -> Judgement:
        assert binding is not None
        self.asked.append((binding.expression, since))
        self.labels = dict(binding.labels)
        signal = self._signal(binding.labels)
        if binding.own and self.own is not None:
            signal = self.own
        return self._says(signal, SignalDoubt.BLIND if self.unasked else SignalDoubt.DATA)

    def _signal(self, labels: Mapping[str, str]) -> Signal:
        return self.signals.get(labels.get("instance", ""), self.signal)

    def _says(self, signal: Signal, doubt: SignalDoubt) -> Judgement:
        return Judgement(signal, 1.0, f"scripted {signal}", doubt=doubt)

    def decay(
        self, alert_labels: Mapping[str, str], expression: str | None, *, own_query: bool = False
    ) -> Decay:
        return self.query_decay if own_query else self.alert_decay

    def condition(self, query: str) -> tuple[ConditionState, str]:
        self.asked.append((query, 0.0))
        holds = self.conditions.get(query, self.holds)
        return holds, f"scripted {holds}"

    def lists(self, alert_labels: Mapping[str, str]) -> bool | None:
        return self.listed

    def suspect(self, alert_labels: Mapping[str, str], expression: str | None) -> str:
        return self.suspicion


class FakeClock(VirtualClock):
    def __init__(self, now: float = NOW) -> None:
        super().__init__(now)
