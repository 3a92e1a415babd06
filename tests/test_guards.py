from __future__ import annotations

from typing import Any

import pytest

from receiver.decide import GUARDS, decide
from receiver.guards.situation import ALLOW, Answer, Condition, Reason, Signal
from receiver.metrics import VERDICTS
from receiver.strategy import Budget, Mode
from tests.factories import NOW, situation, strategy

TWO_WINDOWS = strategy(budget=(Budget(runs=2, per=60.0), Budget(runs=3, per=3600.0)))

# What is unusual, the guard that must answer, its answer, the reason, and when to ask again.
TABLE: list[tuple[dict[str, Any], str, Answer, Reason | None, float | None]] = [
    ({}, "paused", Answer.ALLOW, None, None),
    ({"enabled": False}, "paused", Answer.DENY, Reason.DISABLED, None),
    ({"dry_run": True}, "mode", Answer.DENY, Reason.DRY_RUN, None),
    (
        {"strategy": strategy(mode=Mode.OBSERVE)},
        "mode", Answer.DENY, Reason.OBSERVE_ONLY, None,
    ),
    ({"alert": None}, "current", Answer.DENY, Reason.RESOLVED, None),
    ({"signal": Signal.CLEARED}, "current", Answer.DENY, Reason.RESOLVED, None),
    # Prometheus cannot say: a notification is believed until it is too old ...
    ({"signal": Signal.UNKNOWN}, "current", Answer.ALLOW, None, None),
    (
        {"signal": Signal.UNKNOWN, "last_seen": NOW - 100, "stale_after": 100.0},
        "current", Answer.ALLOW, None, None,
    ),
    (
        {"signal": Signal.UNKNOWN, "last_seen": NOW - 101, "stale_after": 100.0},
        "current", Answer.DENY, Reason.STALE, None,
    ),
    # ... and never when it is older than the proof that the target was healed.
    (
        {"signal": Signal.UNKNOWN, "last_seen": NOW - 10, "last_healed": NOW - 10},
        "current", Answer.DENY, Reason.RESOLVED, None,
    ),
    (
        {"signal": Signal.UNKNOWN, "last_seen": NOW - 10, "last_healed": NOW - 11},
        "current", Answer.ALLOW, None, None,
    ),
    # Prometheus' own word counts more than both.
    (
        {"last_seen": NOW - 10**6, "last_healed": NOW - 1},
        "current", Answer.ALLOW, None, None,
    ),
    ({"condition": Condition.TRUE}, "current", Answer.ALLOW, None, None),
    (
        {"condition": Condition.FALSE},
        "current", Answer.WAIT, Reason.CONDITION_FALSE, NOW + 10,
    ),
    (
        {"condition": Condition.UNKNOWN},
        "current", Answer.WAIT, Reason.CONDITION_UNKNOWN, NOW + 10,
    ),
    ({"holder": 7}, "busy", Answer.WAIT, Reason.BUSY, None),
    ({"acting": 7, "max_concurrent_runs": 8}, "concurrency", Answer.ALLOW, None, None),
    ({"acting": 8, "max_concurrent_runs": 8}, "concurrency", Answer.WAIT, Reason.CONCURRENCY, None),
    (
        {"last_end": NOW - 299.0},
        "grace", Answer.WAIT, Reason.GRACE_PERIOD, NOW + 1,
    ),
    ({"last_end": NOW - 300.0}, "grace", Answer.ALLOW, None, None),
    ({"starts": (NOW - 3601, NOW - 2, NOW - 1)}, "budget", Answer.ALLOW, None, None),
    (
        {"starts": (NOW - 30, NOW - 2, NOW - 1)},
        "budget", Answer.WAIT, Reason.BUDGET_EXHAUSTED, NOW - 30 + 3600,
    ),
    # The window that is free last decides, and of four in a window of three the second must leave.
    (
        {"strategy": TWO_WINDOWS, "starts": (NOW - 50, NOW - 40)},
        "budget", Answer.WAIT, Reason.BUDGET_EXHAUSTED, NOW + 10,
    ),
    (
        {"strategy": TWO_WINDOWS, "starts": (NOW - 3000, NOW - 50, NOW - 40)},
        "budget", Answer.WAIT, Reason.BUDGET_EXHAUSTED, NOW + 600,
    ),
    (
        {"strategy": TWO_WINDOWS, "starts": (NOW - 3000, NOW - 2000, NOW - 1000, NOW - 500)},
        "budget", Answer.WAIT, Reason.BUDGET_EXHAUSTED, NOW + 1600,
    ),
    ({"strategy": strategy(budget=()), "starts": (NOW,) * 9}, "budget", Answer.ALLOW, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "guard", "answer", "reason", "until"), TABLE)
def test_a_guard_answers_its_question(
    changes: dict[str, Any],
    guard: str,
    answer: Answer,
    reason: Reason | None,
    until: float | None,
) -> None:
    answers = {each.guard: each.verdict for each in decide(situation(**changes)).answers}

    verdict = answers.pop(guard)

    assert (verdict.answer, verdict.reason, verdict.until) == (answer, reason, until)
    assert all(other == ALLOW for other in answers.values())


def test_the_first_no_decides_and_every_guard_is_heard() -> None:
    decision = decide(situation(enabled=False, holder=1, last_end=NOW, acting=9))

    assert decision.verdict.reason is Reason.DISABLED
    assert [each.guard for each in decision.answers] == [name for name, _ in GUARDS]
    assert [each.verdict.reason for each in decision.answers] == [
        Reason.DISABLED, None, Reason.BUSY, Reason.CONCURRENCY, Reason.GRACE_PERIOD, None, None,
    ]  # fmt: skip


def test_every_reason_that_a_guard_can_give_is_exported() -> None:
    given = {(answer, str(reason or "")) for _, _, answer, reason, _ in TABLE}

    assert given == set(VERDICTS)
    assert {reason for _, reason in VERDICTS} == {"", *Reason}


def test_every_guard_has_a_case_that_only_it_refuses() -> None:
    refusing = {guard for _, guard, answer, _, _ in TABLE if answer is not Answer.ALLOW}

    assert refusing == {name for name, _ in GUARDS}
