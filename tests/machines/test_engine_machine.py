"""Targets that fail in a row, backoff and dormancy, held to a model of the rules' text alone.

The engine is the real one on a real journal, with its clock and Prometheus in the test's hand. The
model is told what is done to it, and predicts each decision, each outcome and what is remembered.
What is inconclusive again and again, and what relapses, is in it: neither counts here.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import reduce
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from receiver.errors import RefusedError
from receiver.journal import Journal, open_journal
from receiver.policy.breaker import (
    MAIN,
    Breaker,
    Happening,
    MainThresholds,
    StrategyThresholds,
    Thresholds,
    after,
)
from receiver.policy.signal import Signal, SignalDoubt
from receiver.policy.strategy import Strategy, Verify
from receiver.policy.target import Key
from receiver.settings import BackoffSettings, EngineSettings, StormSettings
from tests.factories import Spy, alert, notification, parse_matcher, resolved, step, strategy
from tests.figures import Record, scaled
from tests.world import World

STEPS: Final = scaled(5_000, 10_000)
EXAMPLES: Final = scaled(50, 80)
LENGTH: Final = 100

DORMANT_AFTER: Final = 4
FIRST, MOST = 5.0, 40.0
WITHIN: Final = 100.0
STALE: Final = 5_000.0
NEVER: Final = Thresholds(failures=10**9)
SERVICES: Final = ("a", "b", "c", "d")

done: Counter[str] = Counter()


def happened(journal: Journal, name: str) -> list[Happening]:
    return [one.happening for one in journal.read(lambda t: t.transitions(breaker=name))]


def named(key: tuple[str, str]) -> str:
    return f'kind="{key[0]}",service="{key[1]}"'


class Ill:
    """What the model knows of one target."""

    def __init__(self) -> None:
        self.fires = False
        self.seen = 0.0
        self.healed: float | None = None
        self.proof_until: float | None = None
        """Set while its run is being verified."""


class Engine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = self.made()
        # The model: all that the rules speak of.
        self.targets = {(name, s): Ill() for name in ("good", "bad") for s in SERVICES}
        self.failing: set[tuple[str, str]] = set()
        """Targets that have failed in a row, as long as it is awake."""
        self.main: set[tuple[str, str]] = set()
        """The same, for the main breaker, which dormancy does not stop from counting."""
        self.failed_at: float | None = None
        self.dormant = False
        self.acted = 0

    def made(self) -> World:
        def one(name: str, *, fails: bool) -> Strategy:
            return strategy(
                name=name,
                match=(parse_matcher(f'kind="{name}"'),),
                target=("kind", "service"),
                actions=(step(params=Spy.Params(fails=fails, undo="none")),),
                grace_period=0.0,
                budget=(),
                breaker=StrategyThresholds(failures=10**9),
                verify=Verify(within=WITHIN),
            )

        world = World(
            open_journal(f"sqlite:///{self.folder.name}/journal.db"),
            one("good", fails=False),
            one("bad", fails=True),
        )
        world.set(
            engine=EngineSettings(
                max_concurrent_runs=100,
                stale_after=STALE,
                dormant_after=DORMANT_AFTER,
                backoff=BackoffSettings(first=FIRST, most=MOST),
                storm=StormSettings(targets=100),
                main_breaker=MainThresholds(failures=10**9),
                target_breaker=NEVER,
            )
        )
        return world

    def teardown(self) -> None:
        journal = self.world.journal
        done["relapsed"] += int(sum(self.world.totals("relapses").values()))
        for name, kept in journal.read(lambda t: t.breakers()).items():
            assert kept == reduce(after, happened(journal, name), Breaker())
        journal.close()
        self.folder.cleanup()

    @property
    def now(self) -> float:
        return self.world.clock.now

    def labels(self, key: tuple[str, str]) -> dict[str, str]:
        return {"alertname": "A", "kind": key[0], "service": key[1]}

    key = st.tuples(st.sampled_from(["good", "bad"]), st.sampled_from(SERVICES))

    @rule(key=key)
    def notify(self, key: tuple[str, str]) -> None:
        done["steps"] += 1
        ill = self.targets[key]
        start = self.now if not ill.fires else self.now - 1
        self.world.intake.admit(notification(alert(labels=self.labels(key), starts_at=start)))
        ill.fires, ill.seen = True, self.now

    @rule(key=key)
    def resolve(self, key: tuple[str, str]) -> None:
        done["steps"] += 1
        ended = resolved(alert(labels=self.labels(key)), ends_at=self.now)
        self.world.intake.admit(notification(ended))
        self.targets[key].fires = False
        self.world.clock.now += 1.0

    @rule(seconds=st.sampled_from([0.5, 3.0, 5.0, 7.0, 20.0, 41.0, 100.0, 6_000.0]))
    def wait(self, seconds: float) -> None:
        done["steps"] += 1
        self.world.clock.now += seconds

    @rule(signal=st.sampled_from([Signal.FIRING, Signal.FIRING, Signal.CLEARED, Signal.UNKNOWN]))
    def prometheus_says(self, signal: Signal) -> None:
        done["steps"] += 1
        self.world.verifier.signal = signal

    @rule(doubt=st.sampled_from([SignalDoubt.NOBODY, SignalDoubt.NOBODY, *SignalDoubt]))
    def it_does_so_because(self, doubt: SignalDoubt) -> None:
        """Why it knows nothing, whenever it does not."""
        done["steps"] += 1
        self.world.verifier.doubt = doubt

    @rule()
    def restart(self) -> None:
        done["steps"] += 1
        before = self.world
        before.journal.close()
        self.world = self.made()
        self.world.clock.now = before.clock.now
        self.world.verifier.signal = before.verifier.signal
        self.world.verifier.doubt = before.verifier.doubt
        self.world.spy.calls = before.spy.calls

    @precondition(lambda self: self.dormant)
    @rule()
    def resume(self) -> None:
        done["steps"] += 1
        assert self.world.control.resume(by="anna", reason="looked at").dormancy_ended
        done["resumed"] += 1
        self.dormant = False
        self.begin_anew()

    @rule()
    def reset_the_main_breaker(self) -> None:
        done["steps"] += 1
        done["reset"] += bool(self.failing)
        self.world.control.reset(MAIN, by="anna", reason="looked at")
        self.begin_anew()

    def begin_anew(self) -> None:
        """A run healed, or a person has looked at it: dormant, it stays as it is."""
        self.main = set()
        if not self.dormant:
            self.failing, self.failed_at = set(), None

    @precondition(lambda self: not self.dormant)
    @rule()
    def resume_awake(self) -> None:
        done["steps"] += 1
        with pytest.raises(RefusedError):
            self.world.control.resume(by="anna", reason="looked at")

    @precondition(lambda self: self.dormant)
    @rule(reason=st.sampled_from(["", "  ", "\n"]))
    def resume_without_a_reason(self, reason: str) -> None:
        done["steps"] += 1
        with pytest.raises(RefusedError):
            self.world.control.resume(by="anna", reason=reason)

    @rule(key=key)
    def insist(self, key: tuple[str, str]) -> None:
        """It fires when everything that passes by itself has passed."""
        self.world.clock.now += MOST
        self.notify(key)
        self.consider(key)

    @rule(service=st.sampled_from(SERVICES))
    def get_well(self, service: str) -> None:
        """It fires, is acted on where that is allowed, and does not fire any more."""
        self.world.verifier.signal = Signal.FIRING
        self.insist(("good", service))
        self.world.verifier.signal = Signal.CLEARED
        self.consider(("good", service))

    @rule(times=st.integers(1, 3), resumed=st.booleans())
    def fall_asleep(self, times: int, *, resumed: bool) -> None:
        """All fail until nothing is tried any more, and somebody may have looked at it."""
        self.prometheus_says(Signal.FIRING)
        for service in SERVICES:
            for _ in range(times):
                self.insist(("bad", service))
        assert self.dormant
        if resumed:
            self.resume()

    @rule(service=st.sampled_from(SERVICES), seconds=st.sampled_from([0.0, 3.0, FIRST]))
    def fail_once_more(self, service: str, seconds: float) -> None:
        """And then another one wants to begin soon."""
        self.prometheus_says(Signal.FIRING)
        self.insist(("bad", service))
        self.world.clock.now += seconds
        self.consider(("bad", service))

    @rule(key=key, doubt=st.sampled_from(SignalDoubt))
    def doubt(self, key: tuple[str, str], doubt: SignalDoubt) -> None:
        """It is said to fire, and Prometheus knows nothing of it."""
        self.it_does_so_because(doubt)
        self.prometheus_says(Signal.UNKNOWN)
        self.insist(key)

    @rule(key=key)
    def forget(self, key: tuple[str, str]) -> None:
        """Nobody says anything any more, and Prometheus cannot tell."""
        self.notify(key)
        self.world.clock.now += STALE + 1
        self.world.verifier.signal = Signal.UNKNOWN
        self.consider(key)

    @rule(key=key)
    def consider(self, key: tuple[str, str]) -> None:
        done["steps"] += 1
        again = self.world.consider(Key(key[0], named(key)))
        ill = self.targets[key]
        if ill.proof_until is not None:
            self.expect_proof(key)
            return
        if not ill.fires:
            assert again is None
            return
        expected, until = self.expected(ill)
        done[expected] += 1
        verdict = self.world.verdict(Key(key[0], named(key)))
        assert verdict[1] == ("" if expected == "acts" else expected), (verdict, expected)
        if expected == "acts":
            self.acted += 1
            if key[0] == "bad":
                self.fail(key)
            else:
                # Verified for the first time at once.
                ill.proof_until = self.now + WITHIN
                self.expect_proof(key)
            return
        assert again == until
        if expected in {"resolved", "stale"} and ill.seen < self.now - STALE:
            ill.fires = False  # given up: nobody has said for too long that it fires

    def expected(self, ill: Ill) -> tuple[str, float | None]:
        found = None if self.dormant else self.said(ill)  # who cannot act asks nobody
        if found is not None:
            return found
        if self.dormant:
            return "dormant", None
        if self.failing:
            assert self.failed_at is not None
            until = self.failed_at + min(MOST, FIRST * 2 ** (len(self.failing) - 1))
            if self.now < until:
                return "backoff", until
        return "acts", None

    def said(self, ill: Ill) -> tuple[str, float | None] | None:
        """What follows from what Prometheus says, or does not say."""
        verifier = self.world.verifier
        if verifier.signal is Signal.CLEARED:
            return "resolved", None
        if verifier.signal is Signal.FIRING:
            return None
        if ill.healed is not None and ill.healed >= ill.seen:
            return "resolved", None
        if self.now - ill.seen > STALE:
            return "stale", None
        waits = {
            SignalDoubt.RULE: ("rule_unknown", 60.0),
            SignalDoubt.ELSEWHERE: ("condition_unknown", 60.0),
            SignalDoubt.DATA: ("condition_unknown", 10.0),
            SignalDoubt.BLIND: ("condition_unknown", 10.0),
        }
        if verifier.doubt not in waits:
            return None  # the notification's own word stands
        reason, seconds = waits[verifier.doubt]
        return reason, self.now + seconds

    def expect_proof(self, key: tuple[str, str]) -> None:
        ill = self.targets[key]
        assert ill.proof_until is not None
        signal = self.world.verifier.signal
        if signal is Signal.CLEARED:
            ill.healed, ill.proof_until = self.now, None
            self.begin_anew()
            done["healed"] += 1
        elif self.now >= ill.proof_until:
            ill.proof_until = None
            if signal is Signal.FIRING:
                self.fail(key)
            done["unproven"] += 1

    def fail(self, key: tuple[str, str]) -> None:
        self.main.add(key)
        if self.dormant:
            return
        done["again"] += key in self.failing
        self.failing.add(key)
        self.failed_at = self.now
        self.dormant = len(self.failing) >= DORMANT_AFTER

    @invariant()
    def nothing_diverges(self) -> None:
        kept = self.world.journal.read(lambda t: t.dormancy())
        main = self.world.journal.read(lambda t: t.breaker(MAIN))
        assert kept.failures == len(kept.failing)
        assert set(kept.failing) == {named(key) for key in self.failing}
        assert set(main.failing) == {named(key) for key in self.main}
        assert kept.failed_at == self.failed_at
        assert (kept.since is not None) is self.dormant
        assert len(self.world.spy.calls) == self.acted


@pytest.mark.slow
def test_the_engine_does_as_the_rules_say(record_property: Record) -> None:
    done.clear()
    machine = settings(
        max_examples=EXAMPLES,
        stateful_step_count=LENGTH,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    Engine.TestCase.settings = machine
    Engine.TestCase("runTest").runTest()

    record_property("steps", done["steps"])
    assert done["steps"] >= STEPS, done
    for what in (
        "acts", "backoff", "dormant", "resumed", "healed", "resolved", "stale", "unproven",
        "relapsed", "condition_unknown", "rule_unknown", "again", "reset",
    ):  # fmt: skip
        assert done[what] > 3, f"{what} hardly ever came up: {done}"
