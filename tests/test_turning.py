"""The facts that would have turned a decision: the fewest, and those that it was decided by."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from receiver.policy import turning as turned
from receiver.policy.decide import GUARDS, decide
from receiver.policy.guards.situation import Hold, Reason
from receiver.policy.signal import Signal
from receiver.policy.strategy import Mode
from receiver.policy.turning import turning
from tests.factories import NOW, situation, strategy
from tests.test_guards import TABLE

REFUSED = [
    pytest.param(changes, guard, reason, id=f"{number}-{reason}")
    for number, (changes, guard, _, reason, _) in enumerate(TABLE)
    if reason is not None
]


@pytest.mark.parametrize(("changes", "guard", "reason"), REFUSED)
def test_for_every_reason_there_is_a_fact_that_turns_it(
    changes: dict[str, Any], guard: str, reason: Reason
) -> None:
    then = situation(**changes)
    found = turning(then)

    assert {fact.guard for fact in found.facts} == decide(then).refused_by
    assert reason in {fact.reason for fact in found.facts if fact.guard == guard}
    # Re-deciding with them allows, and with any of them left out does not: it is the shortest list.
    wanted = [
        change
        for guard, changes in turned._CHANGES.items()
        for change in changes
        if change.name in {fact.name for fact in found.facts}
    ]
    assert turned._allows(turned._with(then, wanted))
    for some in combinations(wanted, len(wanted) - 1):
        assert not turned._allows(turned._with(then, some))


def test_where_all_refuse_each_guard_has_its_fact() -> None:
    every = situation(
        enabled=False, pause=Hold("anna"), signal=Signal.CLEARED, holder=3, dry_run=True,
        starts=(NOW - 10, NOW - 9, NOW - 8, NOW - 7), strategy=strategy(mode=Mode.OBSERVE),
    )  # fmt: skip
    assert [(fact.guard, fact.name) for fact in turning(every).facts] == [
        ("paused", "wishes.enabled"), ("paused", "wishes.pause"), ("current", "upstream.signal"),
        ("busy", "around.holder"), ("budget", "past.starts"), ("mode", "wishes.dry_run"),
        ("mode", "strategy.mode"),
    ]  # fmt: skip
    assert turning(every).at is None, "time alone does not do it"


def test_what_time_alone_turns_has_its_time() -> None:
    held = situation(last_end=NOW - 10, pause=Hold("anna", NOW + 1_000), starts=(NOW - 99,) * 3)
    assert turning(held).at == NOW - 99 + 3_600
    assert turning(situation(last_end=NOW - 10)).at == NOW + 290
    assert turning(situation(pause=Hold("anna", NOW + 5), last_end=NOW - 10)).at == NOW + 290
    assert turning(situation(pause=Hold("anna"), last_end=NOW - 10)).at is None
    assert turning(situation(strategy=strategy(mode=Mode.APPROVE))).at is None, "it expires"


def test_what_was_allowed_has_nothing_to_turn() -> None:
    assert turning(situation()) == turned.Turning(facts=(), at=None)


def test_every_guard_has_facts() -> None:
    assert [*turned._CHANGES] == [name for name, _ in GUARDS]
