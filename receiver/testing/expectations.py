"""What is expected at a time, and what came? Each kind returns how they differ, or nothing."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

import msgspec

from receiver.policy.duration import parse_duration
from receiver.policy.target import Key
from receiver.simulation.world import VirtualWorld
from receiver.testing.difference import Difference
from receiver.testing.expected import BreakerTest, CallTest, DecisionTest, MetricTest, RunTest
from receiver.testing.expected_runs import compare_runs
from receiver.testing.samples import parse_sample, samples_of
from receiver.testing.seen import close, decided, guards, last, latest, shown_time, text

_CALL: Final = re.compile(r"(?P<at>\S+)\s+(?P<rest>(?:undo\s+)?(?P<action>\S+)(?:\s.*)?)")
Check = DecisionTest | RunTest | CallTest | BreakerTest | MetricTest


class CallPattern(msgspec.Struct, frozen=True):
    at: float
    """Seconds from the beginning."""
    action: str
    text: str
    """Without the time."""


def parse_call(text: str) -> CallPattern:
    """Return the call of an expectation. Raises ValueError with a remedy."""
    found = _CALL.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is no call; write for example 1m15s restart_service service=checkout"
        )
    rest = " ".join(found["rest"].split())
    return CallPattern(parse_duration(found["at"]), found["action"], rest)


def compare(world: VirtualWorld, check: Check) -> Difference | None:
    """Return how *check*, whose time has come, differs from what is."""
    match check:
        case DecisionTest():
            return _decision(world, check)
        case RunTest():
            return compare_runs(world, check)
        case CallTest():
            return _calls(world, check)
        case BreakerTest():
            return _breaker(world, check)
        case MetricTest():
            return _samples(world, check)


# -- decisions


def _decision(world: VirtualWorld, check: DecisionTest) -> Difference | None:
    expected = check.exp_decision
    shown = _shown_decision(expected.verdict, expected.reason, expected.until)
    targets = sorted(key.target for key in decided(world) if key.strategy == check.strategy)
    target = check.target
    if target is None and len(targets) > 1:
        named = ", ".join(targets[:5])
        return Difference(
            expected=(shown,), got=(f"decisions on {len(targets)} targets; name one: {named}",)
        )
    target = target or (targets[0] if targets else None)
    record = None
    if target is not None:
        record = last(world, Key(check.strategy, target))
    if record is None:
        if expected.verdict == "none":
            return None
        return Difference(expected=(shown,), got=("nothing was decided",), why=_unmatched(world))
    until = None if record.until is None else record.until - world.start
    same = (
        record.verdict == expected.verdict
        and (expected.reason is None or record.reason == expected.reason)
        and (expected.until is None or (until is not None and close(until, expected.until)))
    )
    if same:
        return None
    got = _shown_decision(record.verdict, record.reason or None, until)
    made = f"{got}, decided at {shown_time(world, record.last_at)}"
    return Difference(expected=(shown,), got=(made,), why=guards(world, record))


def _unmatched(world: VirtualWorld) -> tuple[str, ...]:
    """Return which alerts no strategy is for: the usual reason for no decision."""
    found = world.journal.read(lambda t: t.open_episodes(limit=5))
    return tuple(
        f"no strategy is for the alert {one.alert.labels}"
        for one in found
        if not world.loaded.strategies.select(one.alert)
    ) or (() if found else ("no alert fires then",))


def _shown_decision(verdict: str, reason: str | None, until: float | None) -> str:
    when = "" if until is None else f"until {text(until)}"
    return " ".join(filter(None, [verdict, str(reason or ""), when]))


# -- what was called, breakers and metrics


def _calls(world: VirtualWorld, check: CallTest) -> Difference | None:
    got = [f"{text(call.at - world.start)} {call.text}" for call in world.stage.calls]
    calls = [(call.at - world.start, call.text) for call in world.stage.calls]
    expected = [parse_call(one) for one in check.exp_calls]

    def same(want: CallPattern, call: tuple[float, str]) -> bool:
        return want.text == call[1] and close(want.at, call[0])

    if check.some:
        fine = all(any(same(want, call) for call in calls) for want in expected)
    else:
        fine = len(calls) == len(expected) and all(map(same, expected, calls))
    if fine:
        return None
    return Difference(
        expected=tuple(check.exp_calls) or ("no calls",),
        got=tuple(got) or ("no calls",),
        why=latest(world, None),
    )


def _breaker(world: VirtualWorld, check: BreakerTest) -> Difference | None:
    breaker = world.journal.read(lambda t: t.breaker(check.name))
    state = breaker.state(world.clock())
    if state is check.exp_state:
        return None
    return Difference(expected=(f"{check.name} {check.exp_state}",), got=(f"{check.name} {state}",))


def _samples(world: VirtualWorld, check: MetricTest) -> Difference | None:
    found = {one.series: one for one in samples_of(world)}
    by_labels = {(one.name, frozenset(one.labels.items())): one for one in found.values()}
    expected, got = [], []
    for line in check.exp_samples:
        want = parse_sample(line)
        one = by_labels.get((want.name, frozenset(want.labels.items())))
        if one is not None and one.equals(want.value):
            continue
        expected.append(want.text)
        if one is None:
            near = get_close_matches(want.series, found, 1)
            hint = f"; the nearest is {near[0]}" if near else ""
            got.append(f"there is no {want.series}{hint}")
        else:
            got.append(one.text)
    return Difference(expected=tuple(expected), got=tuple(got)) if expected else None
