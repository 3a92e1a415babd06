"""Make it sick, follow what happens, and hold Prometheus to its word.

The story has stages, each with its own patience. It ends well only when promheal says that it
healed *and* Prometheus says so when it is asked here, not through promheal.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from receiver.clock import Clock
from receiver.demo.chain import Chain, DemoError
from receiver.demo.faults import SERVICE, Fault
from receiver.demo.narrator import Narrator, Tone
from receiver.demo.run_view import RunView
from receiver.demo.watch import FIRING, INACTIVE, PENDING, Watch
from receiver.errors import UpstreamError
from receiver.policy.run import Outcome

LIMIT: Final = 60.0
"""Seconds that all stages together may take."""
FRESH: Final = 3.0
"""Seconds: an older sample does not say how the service is now. Three scrapes."""
SCRAPES: Final = 4
"""How often the service was seen well before it is made sick: enough for a rate."""

_POLL: Final = 0.1  # seconds
_ASK: Final = 5.0  # seconds for one request


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What Prometheus answered when the story was over."""

    rule: str
    """The state of the alert's rule."""
    series_returned: int
    """By the alert's expression; 0 when nothing is ill."""
    sample_age_seconds: float
    """Of the newest scrape of the service that succeeded."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How long it took, by the clocks of those who did it."""

    run: int
    alert_to_action_seconds: float
    """From the alert's startsAt to the first step."""
    alert_to_clear_seconds: float
    """From the alert's startsAt to the proof."""
    notification_to_action_milliseconds: float
    """From the notification, received and stored, to the step that heals."""
    sick_to_healed_seconds: float
    """From the moment at which it was made sick to the proof."""
    prometheus: Proof


class _Stage(msgspec.Struct, frozen=True):
    name: str
    seconds: float
    reached: Callable[[], bool]
    waiting: str
    """For what, in words."""
    program: str
    """Whose log says more when it is not reached."""


class Story:
    def __init__(self, chain: Chain, watch: Watch, narrator: Narrator, clock: Clock) -> None:
        self._chain = chain
        self._watch = watch
        self._narrator = narrator
        self._clock = clock
        self._began = clock()  # what the lines count from
        self._proof: Proof | None = None

    def wait_well(self, fault: Fault) -> None:
        """Return when Prometheus has seen the service well for some scrapes; raises DemoError."""
        query = f'count_over_time(http_request_duration_seconds_count{{service="{SERVICE}"}}[1m])'

        def well() -> bool:
            rule = self._watch.rules.get(fault.alert)
            answer = self._watch.prometheus.query(query)
            return (
                rule is not None
                and rule.state == INACTIVE
                and rule.health == "ok"
                and any(sample.value >= SCRAPES for sample in answer)
            )

        stage = _Stage("healthy", 30.0, well, f"{SCRAPES} scrapes of the service", "prometheus")
        self._reach(stage, fault, self._clock() + stage.seconds)
        self._narrator.note(f"The service is well: {self._watch.gauge(fault)}.")

    def tell(self, fault: Fault) -> Figures:
        """Make the service sick and return how it was healed; raises DemoError when it was not."""
        began = self._began = self._clock()
        _post(self._chain.addresses["shop"], f"/sick?how={fault.name}")
        self._narrator.line(0.0, "demo", f"makes the service sick: {fault.words}", Tone.ILL)
        for stage in self._stages(fault):
            self._reach(stage, fault, began + LIMIT)
            self._give_up_if_not_healed()
        run, proof = self._watch.run, self._proof
        assert run is not None
        assert proof is not None
        return _figures(run, proof, began)

    def follow(self) -> None:
        """Tell what happens, until a signal; raises DemoError when something ends by itself."""
        while True:
            self._look()
            time.sleep(_POLL)

    @property
    def outcome(self) -> Outcome | None:
        """What promheal says of its newest run."""
        return None if self._watch.run is None else self._watch.run.outcome

    def _stages(self, fault: Fault) -> tuple[_Stage, ...]:
        watch, alert = self._watch, fault.alert
        expecting = "Prometheus to see it"

        def fires() -> bool:
            return (alert, FIRING) in watch.states

        return (
            _Stage("pending", 15.0, lambda: fires() or (alert, PENDING) in watch.states,
                   expecting, "prometheus"),
            _Stage("firing", 10.0, fires, "the alert to fire", "prometheus"),
            _Stage("notification", 10.0, lambda: watch.run is not None,
                   "Alertmanager to notify promheal", "alertmanager"),
            _Stage("action", 10.0, lambda: watch.run is not None and watch.run.healing is not None,
                   "promheal to act", "promheal"),
            _Stage("verification", 35.0, lambda: self.outcome is not None,
                   "the proof", "promheal"),
            _Stage("rule inactive", 10.0, lambda: watch.rules[alert].state == INACTIVE,
                   "the rule to be inactive", "prometheus"),
            _Stage("resolved", 10.0, lambda: not watch.open,
                   "Alertmanager to say that it is over", "alertmanager"),
            _Stage("proof", 10.0, lambda: self._proven(fault),
                   "Prometheus' own word", "prometheus"),
        )  # fmt: skip

    def _reach(self, stage: _Stage, fault: Fault, limit: float) -> None:
        deadline = min(self._clock() + stage.seconds, limit)
        while True:
            self._look()
            trouble = self._watch.trouble
            try:
                if stage.reached():
                    return
            except UpstreamError as error:
                trouble = str(error)
            gauge = self._watch.gauge(fault)
            what = "; ".join(filter(None, (stage.waiting, gauge, trouble)))
            if self._clock() >= deadline:
                raise DemoError(f"{stage.name}: waited in vain for {what}", program=stage.program)
            self._give_up_if_not_healed()
            self._narrator.waiting(f"waiting for {what}", self._clock() - self._began)
            time.sleep(_POLL)

    def _look(self) -> None:
        self._chain.check()
        for news in self._watch.look():
            self._narrator.line(news.at - self._began, news.who, news.what, news.tone)

    def _give_up_if_not_healed(self) -> None:
        run = self._watch.run
        if run is not None and run.outcome not in {None, Outcome.HEALED}:
            raise DemoError(
                f"run {run.id} ended as {run.outcome}: {run.reason}", program="promheal"
            )

    def _proven(self, fault: Fault) -> bool:
        """Ask Prometheus itself, by questions of our own."""
        prometheus = self._watch.prometheus
        rule = next(rule for rule in prometheus.rules(fault.alert))
        returned = prometheus.query(rule.query)
        up = f'up{{service="{SERVICE}"}}'
        # timestamp() knows a sample's own time only right at its selector.
        ages = prometheus.query(f"time() - timestamp({up}) and {up} == 1")
        if rule.state != INACTIVE or rule.health != "ok" or returned:
            return False
        if not ages or ages[0].value > FRESH:
            return False
        self._proof = Proof(
            rule=rule.state,
            series_returned=len(returned),
            sample_age_seconds=round(ages[0].value, 3),
        )
        return True


def _figures(run: RunView, proof: Proof, began: float) -> Figures:
    assert run.starts_at is not None
    assert run.acted_at is not None
    assert run.healing is not None
    assert run.proof is not None
    return Figures(
        run=run.id,
        alert_to_action_seconds=round(run.acted_at - run.starts_at, 3),
        alert_to_clear_seconds=round(run.proof.at - run.starts_at, 3),
        notification_to_action_milliseconds=round(
            (run.healing.started_at - run.notified_at) * 1000, 1
        ),
        sick_to_healed_seconds=round(run.proof.at - began, 3),
        prometheus=proof,
    )


def _post(address: str, path: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=_ASK)
    try:
        connection.request("POST", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise DemoError(f"the service cannot be made sick: {error}", program="shop") from None
    finally:
        connection.close()
    if status != 200:
        raise DemoError(f"the service cannot be made sick: it answers {status}", program="shop")


def report(figures: Figures) -> list[tuple[str, Any]]:
    """Return the figures as people read them, each with what it is."""
    proof = figures.prometheus
    series = "no series" if not proof.series_returned else f"{proof.series_returned} series"
    age = f"{proof.sample_age_seconds:.1f} s"
    return [
        ("made sick to healed and proven", f"{figures.sick_to_healed_seconds:.1f} s"),
        ("alert to action", f"{figures.alert_to_action_seconds:.2f} s"),
        ("alert to proof", f"{figures.alert_to_clear_seconds:.1f} s"),
        ("notification to action", f"{figures.notification_to_action_milliseconds:.0f} ms"),
        ("Prometheus says", f"rule {proof.rule}, {series} returned, newest scrape {age} old"),
    ]
