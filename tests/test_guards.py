from __future__ import annotations

from typing import Any

import msgspec
import pytest

from receiver.policy.breaker import MAIN, Breaker
from receiver.policy.decide import GUARDS, decide
from receiver.policy.dormancy import Dormancy
from receiver.policy.guards.reasons import (
    INDEPENDENT_OF_UPSTREAM,
    MEANINGS,
    PASSED_ON,
    VERDICTS,
    Wake,
)
from receiver.policy.guards.situation import (
    ALLOW,
    Answer,
    Hold,
    Reason,
    Situation,
    Verdict,
    deny,
    wait,
)
from receiver.policy.run import Outcome
from receiver.policy.signal import ConditionState, Signal, SignalDoubt, Silencing
from receiver.policy.strategy import Budget, Limits, Mode, WhenBlind
from tests.factories import GROUPS, NOW, alert, situation, strategy

ASKING = strategy(mode=Mode.APPROVE)
LIMITED = strategy(limits=Limits(targets=2, per=60.0))
OPEN = Breaker(failures=5, trips=1, tripped_at=NOW - 50, until=NOW + 10)
OPEN_LONGER = msgspec.structs.replace(OPEN, until=NOW + 20)
HALF_OPEN = msgspec.structs.replace(OPEN, until=NOW)
TRIED = msgspec.structs.replace(HALF_OPEN, trial=7)
FOR_GOOD = msgspec.structs.replace(OPEN, until=None)
TWO_WINDOWS = strategy(budget=(Budget(runs=2, per=60.0), Budget(runs=3, per=3600.0)))

BOLD = strategy(when_blind=WhenBlind.ACT)
BELIEVED: dict[str, Any] = {"signal": Signal.UNKNOWN, "doubt": SignalDoubt.NOBODY}

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
    # Unknown is not yes: what Prometheus does not confirm waits ...
    (
        {"signal": Signal.UNKNOWN, "doubt": SignalDoubt.DATA},
        "current", Answer.WAIT, Reason.CONDITION_UNKNOWN, NOW + 10,
    ),
    (
        {"signal": Signal.UNKNOWN, "doubt": SignalDoubt.BLIND},
        "current", Answer.WAIT, Reason.CONDITION_UNKNOWN, NOW + 10,
    ),
    (
        {"signal": Signal.UNKNOWN, "doubt": SignalDoubt.RULE},
        "current", Answer.WAIT, Reason.RULE_UNKNOWN, NOW + 60,
    ),
    # ... unless the operator's word stands for it ...
    ({"signal": Signal.UNKNOWN, "doubt": SignalDoubt.NOBODY}, "current", Answer.ALLOW, None, None),
    ({"signal": Signal.UNKNOWN, "doubt": SignalDoubt.VOUCHED}, "current", Answer.ALLOW, None, None),
    *(
        (
            {"signal": Signal.UNKNOWN, "doubt": doubt, "condition": ConditionState.TRUE},
            "current", Answer.ALLOW, None, None,
        )
        for doubt in set(SignalDoubt) - {SignalDoubt.ELSEWHERE}
    ),
    (
        {"signal": Signal.UNKNOWN, "doubt": SignalDoubt.BLIND, "strategy": BOLD},
        "current", Answer.ALLOW, None, None,
    ),
    # ... which is for blindness alone, and never answers a `when`.
    (
        {"signal": Signal.UNKNOWN, "doubt": SignalDoubt.DATA, "strategy": BOLD},
        "current", Answer.WAIT, Reason.CONDITION_UNKNOWN, NOW + 10,
    ),
    (
        {"signal": Signal.UNKNOWN, "doubt": SignalDoubt.RULE, "strategy": BOLD},
        "current", Answer.WAIT, Reason.RULE_UNKNOWN, NOW + 60,
    ),
    (
        {
            "signal": Signal.UNKNOWN, "doubt": SignalDoubt.BLIND, "strategy": BOLD,
            "condition": ConditionState.UNKNOWN,
        },
        "current", Answer.WAIT, Reason.CONDITION_UNKNOWN, NOW + 10,
    ),
    # A notification is believed until it is too old ...
    (
        BELIEVED | {"last_seen": NOW - 100, "stale_after": 100.0},
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
        BELIEVED | {"last_seen": NOW - 10, "last_healed": NOW - 11},
        "current", Answer.ALLOW, None, None,
    ),
    # Prometheus' own word counts more than both.
    (
        {"last_seen": NOW - 10**6, "last_healed": NOW - 1},
        "current", Answer.ALLOW, None, None,
    ),
    ({"condition": ConditionState.TRUE}, "current", Answer.ALLOW, None, None),
    (
        {"condition": ConditionState.FALSE},
        "current", Answer.WAIT, Reason.CONDITION_FALSE, NOW + 10,
    ),
    (
        {"condition": ConditionState.UNKNOWN},
        "current", Answer.WAIT, Reason.CONDITION_UNKNOWN, NOW + 10,
    ),
    ({"holder": 7}, "busy", Answer.WAIT, Reason.BUSY, None),
    ({"absent": ""}, "worker", Answer.ALLOW, None, None),
    ({"absent": "web-1"}, "worker", Answer.WAIT, Reason.NO_WORKER, NOW + 10),
    ({"acting": 7, "max_concurrent_runs": 8}, "concurrency", Answer.ALLOW, None, None),
    ({"acting": 8, "max_concurrent_runs": 8}, "concurrency", Answer.WAIT, Reason.CONCURRENCY, None),
    (
        {"last_end": NOW - 299.0},
        "grace", Answer.WAIT, Reason.GRACE_PERIOD, NOW + 1,
    ),
    ({"last_end": NOW - 300.0}, "grace", Answer.ALLOW, None, None),
    (  # it fires since before the last run, of what its rule still remembers
        {"last_end": NOW - 50.0, "forgets_at": NOW + 900.0},
        "grace", Answer.WAIT, Reason.GRACE_PERIOD, NOW + 900.0,
    ),
    (
        {"last_end": NOW - 50.0, "forgets_at": NOW + 10.0},
        "grace", Answer.WAIT, Reason.GRACE_PERIOD, NOW + 250.0,
    ),
    ({"last_end": NOW - 400.0, "forgets_at": NOW}, "grace", Answer.ALLOW, None, None),
    ({"restored_at": NOW - 299.0}, "grace", Answer.WAIT, Reason.GRACE_PERIOD, NOW + 1.0),
    ({"restored_at": NOW - 300.0}, "grace", Answer.ALLOW, None, None),
    (
        {"restored_at": NOW - 10.0, "last_end": NOW - 200.0},
        "grace", Answer.WAIT, Reason.GRACE_PERIOD, NOW + 290.0,
    ),
    (  # it has ended in between
        {"last_end": NOW - 400.0, "forgets_at": NOW + 900.0, "alert": alert(starts_at=NOW - 9.0)},
        "grace", Answer.ALLOW, None, None,
    ),
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
    ({"rejected": "anna: no"}, "paused", Answer.DENY, Reason.REJECTED, None),
    ({"pause": Hold("anna: deploy")}, "paused", Answer.WAIT, Reason.PAUSED, None),
    ({"pause": Hold("anna: deploy", NOW + 60)}, "paused", Answer.WAIT, Reason.PAUSED, NOW + 60),
    (
        {"strategy": strategy(preventive=True), "preventive": False},
        "paused", Answer.DENY, Reason.DISABLED, None,
    ),
    ({"strategy": strategy(preventive=True)}, "paused", Answer.ALLOW, None, None),
    ({"preventive": False}, "paused", Answer.ALLOW, None, None),
    (
        {"dormancy": Dormancy(failures=10, failed_at=NOW - 999, since=NOW - 999, reason="worn")},
        "dormant", Answer.WAIT, Reason.DORMANT, None,
    ),
    (
        {"maintenance": Hold("backup", NOW + 60)},
        "maintenance", Answer.WAIT, Reason.MAINTENANCE, NOW + 60,
    ),
    ({"silencing": Silencing("silence 1")}, "maintenance", Answer.WAIT, Reason.SILENCED, NOW + 10),
    (
        {"silencing": Silencing("silence 1", "no answer")},
        "maintenance",
        Answer.WAIT,
        Reason.SILENCE_UNKNOWN,
        NOW + 10,
    ),
    (
        {"suspect": "its scrape fails"},
        "monitoring", Answer.WAIT, Reason.MONITORING_SUSPECT, NOW + 10,
    ),
    (
        {"dormancy": Dormancy(failures=2, failed_at=NOW - 9), "backoff": 10.0},
        "backoff", Answer.WAIT, Reason.BACKOFF, NOW + 1,
    ),
    (
        {"dormancy": Dormancy(failures=2, failed_at=NOW - 10), "backoff": 10.0},
        "backoff", Answer.ALLOW, None, None,
    ),
    # It takes both: too many that are ill, and enough of them in treatment.
    ({"affected": 11, "treated": 10}, "storm", Answer.WAIT, Reason.STORM, None),
    ({"affected": 11, "treated": 9}, "storm", Answer.ALLOW, None, None),
    ({"affected": 10, "treated": 10}, "storm", Answer.ALLOW, None, None),
    ({"affected": 3, "treated": 2, "storm_targets": 2}, "storm", Answer.WAIT, Reason.STORM, None),
    (
        {"strategy": LIMITED, "latest_starts": (NOW - 50, NOW - 40, NOW - 30)},
        "storm", Answer.WAIT, Reason.BLAST_RADIUS, NOW + 20,
    ),
    (
        {"strategy": LIMITED, "latest_starts": (NOW - 50, NOW - 40)},
        "storm", Answer.WAIT, Reason.BLAST_RADIUS, NOW + 10,
    ),
    (
        {"strategy": LIMITED, "latest_starts": (NOW - 60, NOW - 40)},
        "storm", Answer.ALLOW, None, None,
    ),
    ({"latest_starts": (NOW,) * 9}, "storm", Answer.ALLOW, None, None),
    ({"breakers": ((MAIN, Breaker(failures=4)),)}, "breaker", Answer.ALLOW, None, None),
    (
        {"breakers": ((MAIN, OPEN), ("strategy:latency", OPEN_LONGER), ("target:x", Breaker()))},
        "breaker", Answer.WAIT, Reason.BREAKER_OPEN, NOW + 20,
    ),
    # Half open: the trial is let through, by its own number too, and nobody else.
    ({"breakers": ((MAIN, HALF_OPEN),)}, "breaker", Answer.ALLOW, None, None),
    (
        {"breakers": ((MAIN, TRIED),), "run": 8},
        "breaker", Answer.WAIT, Reason.BREAKER_OPEN, None,
    ),
    (
        {"breakers": ((MAIN, TRIED),), "run": 7},
        "breaker", Answer.ALLOW, None, None,
    ),
    # Open for good outweighs open for a while, whichever comes first.
    (
        {"breakers": ((MAIN, OPEN), ("strategy:latency", FOR_GOOD))},
        "breaker", Answer.WAIT, Reason.BREAKER_PERMANENT_OPEN, None,
    ),
    ({"strategy": ASKING}, "approval", Answer.WAIT, Reason.AWAITING_APPROVAL, NOW + 3600),
    (
        {"strategy": ASKING, "asked_at": NOW - 3599, "approval_for": 3600.0},
        "approval", Answer.WAIT, Reason.AWAITING_APPROVAL, NOW + 1,
    ),
    (
        {"strategy": ASKING, "asked_at": NOW - 3600},
        "approval", Answer.DENY, Reason.APPROVAL_EXPIRED, None,
    ),
    (
        {"strategy": ASKING, "asked_at": NOW - 9, "approved_at": NOW - 1},
        "approval", Answer.ALLOW, None, None,
    ),
    # A yes does not hold for ever.
    (
        {"strategy": ASKING, "asked_at": NOW - 3700, "approved_at": NOW - 3600},
        "approval", Answer.DENY, Reason.APPROVAL_EXPIRED, None,
    ),
    (
        {"last_outcome": Outcome.ROLLBACK_FAILED},
        "approval", Answer.WAIT, Reason.AWAITING_APPROVAL, NOW + 3600,
    ),
    ({"last_outcome": Outcome.FAILED}, "approval", Answer.ALLOW, None, None),
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


# What is unusual, the guard that says so, and what an operator reads.
TOLD: list[tuple[dict[str, Any], str, str]] = [
    ({"enabled": False}, "paused", "the flag auto_healing is off"),
    (
        {"strategy": strategy(preventive=True), "preventive": False},
        "paused", "the flag preventive_healing is off",
    ),
    ({"rejected": "anna: no"}, "paused", "anna: no"),
    ({"pause": Hold("anna: deploy")}, "paused", "anna: deploy"),
    ({"dormancy": Dormancy(failures=10, since=NOW, reason="worn")}, "dormant", "worn"),
    ({"maintenance": Hold("backup", NOW + 60)}, "maintenance", "backup"),
    ({"silencing": Silencing("silence 1")}, "maintenance", "silence 1"),
    ({"alert": None}, "current", "no alert fires for this target"),
    ({"signal": Signal.CLEARED, "detail": "0 series"}, "current", "0 series"),
    (
        {"signal": Signal.UNKNOWN, "last_healed": NOW},
        "current", "healed, and not notified since",
    ),
    (
        {"signal": Signal.UNKNOWN, "last_seen": 0.0},
        "current", "not notified for too long, and Prometheus cannot confirm it",
    ),
    ({"condition": ConditionState.FALSE, "detail": "up == 1"}, "current", "up == 1"),
    ({"condition": ConditionState.UNKNOWN, "detail": "timeout"}, "current", "timeout"),
    ({"suspect": "its scrape fails"}, "monitoring", "its scrape fails"),
    ({"holder": 7}, "busy", "run 7 holds the target"),
    (
        {"holder": 7, "holder_reason": "its proof takes an hour"},
        "busy", "run 7 holds the target; its proof takes an hour",
    ),
    ({"absent": "web-1"}, "worker", "no worker for web-1: start promheal work there"),
    ({"acting": 9}, "concurrency", "9 runs are acting"),
    ({"last_end": NOW}, "grace", ""),
    ({"starts": (NOW,) * 3}, "budget", "3 runs in 1h"),
    ({"strategy": TWO_WINDOWS, "starts": (NOW - 9,) * 2}, "budget", "2 runs in 1m"),
    # Of two windows that have room at the same moment, the first.
    (
        {"strategy": TWO_WINDOWS, "starts": (NOW - 3570, NOW - 30, NOW - 10)},
        "budget", "2 runs in 1m",
    ),
    (
        {"dormancy": Dormancy(failures=2, failed_at=NOW), "backoff": 10.0},
        "backoff", "2 targets have failed since the last heal",
    ),
    (
        {"affected": 11, "treated": 12},
        "storm", "more than 10 targets are affected, and 12 others are being treated",
    ),
    ({"strategy": LIMITED, "latest_starts": (NOW,) * 3}, "storm", "2 targets in 1m"),
    ({"breakers": ((MAIN, OPEN),)}, "breaker", MAIN),
    (
        {"breakers": (("target:x", Breaker()), ("strategy:y", FOR_GOOD), (MAIN, FOR_GOOD))},
        "breaker", "strategy:y: Exceeded permanent failure threshold",
    ),
    (
        {"breakers": ((MAIN, HALF_OPEN), ("target:x", TRIED))},
        "breaker", "target:x: run 7 is its trial",
    ),
    ({"dry_run": True}, "mode", "it would act; started with --dry-run"),
    ({"strategy": strategy(mode=Mode.OBSERVE)}, "mode", "it would act; mode: observe"),
    ({"dry_run": True, "fault": "it would fail: x"}, "mode",
     "it would fail: x; started with --dry-run"),
    ({"strategy": strategy(mode=Mode.OBSERVE), "fault": "it would fail: x"}, "mode",
     "it would fail: x; mode: observe"),
    ({"strategy": ASKING}, "approval", "mode: approve"),
    (
        {"last_outcome": Outcome.ROLLBACK_FAILED},
        "approval", "undoing failed on this target the last time",
    ),
    ({"strategy": ASKING, "asked_at": 0.0}, "approval", "nobody approved it in time"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "guard", "detail"), TOLD)
def test_a_guard_tells_the_operator_why(changes: dict[str, Any], guard: str, detail: str) -> None:
    decision = decide(situation(**changes))

    (said,) = [each for each in decision.answers if each.verdict != ALLOW]
    assert (said.guard, said.verdict.detail) == (guard, detail)
    assert decision.verdict == said.verdict


@pytest.mark.parametrize(
    ("mode", "answer", "asked"),
    [(Mode.AUTO, Answer.ALLOW, ""), (Mode.APPROVE, Answer.WAIT, "mode: approve; it would fail: x")],
)
def test_that_a_run_would_fail_is_told_and_forbids_nothing(
    mode: Mode, answer: Answer, asked: str
) -> None:
    decision = decide(situation(strategy=strategy(mode=mode), fault="it would fail: x"))

    details = {each.guard: each.verdict.detail for each in decision.answers}
    assert (details["mode"], details["approval"]) == ("it would fail: x", asked)
    assert decision.verdict.answer is answer


def test_the_first_no_decides_and_every_guard_is_heard() -> None:
    decision = decide(situation(enabled=False, holder=1, last_end=NOW, acting=9))

    assert decision.verdict.reason is Reason.DISABLED
    assert [each.guard for each in decision.answers] == [name for name, _ in GUARDS]
    assert [each.verdict.reason for each in decision.answers] == [
        Reason.DISABLED, None, None, None, None, Reason.BUSY, None, Reason.CONCURRENCY,
        Reason.GRACE_PERIOD, None, None, None, None, None, None,
    ]  # fmt: skip


def test_the_guards_are_asked_in_the_order_that_is_documented() -> None:
    assert [name for name, _ in GUARDS] == [
        "paused", "dormant", "maintenance", "current", "monitoring", "busy", "worker",
        "concurrency", "grace", "budget", "backoff", "storm", "breaker", "mode", "approval",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"holder": 1, "dry_run": True}, Reason.BUSY),
        ({"pause": Hold("anna: deploy"), "condition": ConditionState.FALSE}, Reason.PAUSED),
    ],
)
def test_nothing_but_an_end_comes_before_its_turn(changes: dict[str, Any], reason: Reason) -> None:
    """Neither another guard's no, nor what `current` waits for."""
    assert decide(situation(**changes)).verdict.reason is reason


def test_what_is_over_is_not_waited_for_whatever_else_is_in_the_way() -> None:
    worn = Dormancy(failures=10, failed_at=NOW, since=NOW, reason="worn")

    decision = decide(situation(alert=None, dormancy=worn, pause=Hold("anna: deploy")))

    assert (decision.verdict.answer, decision.verdict.reason) == (Answer.DENY, Reason.RESOLVED)


def test_an_answer_says_no_more_than_it_was_given() -> None:
    assert deny(Reason.DISABLED) == Verdict(Answer.DENY, Reason.DISABLED)
    assert wait(Reason.BUSY) == Verdict(Answer.WAIT, Reason.BUSY)


def test_every_reason_that_a_guard_can_give_is_exported() -> None:
    given = {(answer, str(reason or "")) for _, _, answer, reason, _ in TABLE}

    assert given == set(VERDICTS)
    assert {reason for _, reason in VERDICTS} == {"", *Reason}


def test_every_reason_has_its_row() -> None:
    assert list(MEANINGS) == list(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_time_is_named_where_a_time_wakes(reason: Reason) -> None:
    named = any(until is not None for _, _, _, given, until in TABLE if given is reason)

    assert named == bool({Wake.TIME, Wake.RETRY} & set(MEANINGS[reason].wakes))


UPSTREAM = [
    {"signal": signal, "doubt": doubt, "condition": condition, "silencing": silencing}
    for signal in Signal
    for doubt in SignalDoubt
    for condition in ConditionState
    for silencing in (Silencing(), Silencing(by="silence abc"), Silencing(unknown="refused"))
]


@pytest.mark.parametrize("reason", sorted(INDEPENDENT_OF_UPSTREAM))
def test_what_is_independent_of_upstream_holds_whatever_it_says(reason: Reason) -> None:
    for changes, guard, _, given, _ in TABLE:
        if given is reason:
            answers = {dict(GUARDS)[guard](situation(**{**changes, **said})) for said in UPSTREAM}
            assert {answer.reason for answer in answers} == {reason}


def test_a_place_is_handed_over_to_what_can_wait_for_one() -> None:
    assert PASSED_ON == (Reason.CONCURRENCY, Reason.STORM)


def test_every_guard_has_a_case_that_only_it_refuses() -> None:
    refusing = {guard for _, guard, answer, _, _ in TABLE if answer is not Answer.ALLOW}

    assert refusing == {name for name, _ in GUARDS}


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_no_fact_has_a_default_that_would_stand_for_it_unfed(group: str) -> None:
    what = getattr(situation(), group) if group else situation()

    assert [f.name for f in msgspec.structs.fields(what) if not f.required] == []


def test_every_part_of_a_situation_is_looked_at() -> None:
    parts = {
        field.name
        for field in msgspec.structs.fields(Situation)
        if isinstance(field.type, type) and field.type.__module__.startswith("receiver.")
    }
    assert parts == {*GROUPS, "strategy"}
