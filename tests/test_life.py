"""The life of a run as a table: what it allows, and what no sequence of events can break."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from receiver.journal.queries import queries
from receiver.policy.life import (
    CANCELLABLE,
    FOLLOWERS,
    TABLE,
    Effect,
    LifeEvent,
    heard,
    transition,
)
from receiver.policy.role import DUTIES, EVERYWHERE, Duty, ProcessRole
from receiver.policy.run import Outcome, State
from tests.tools import REPOSITORY

UNFINISHED = [state for state in State if state is not State.FINISHED]


def test_the_documented_diagram_is_the_table() -> None:
    page = (REPOSITORY / "docs/reference/decisions.md").read_text("utf-8")
    drawn = set(re.findall(r"^ {4}([a-z_]+) --> ([a-z_]+)", page, re.MULTILINE))

    assert drawn == {
        (str(before), str(after))
        for before, those in FOLLOWERS.items()
        for after in those
        if before is not after
    }


@pytest.mark.parametrize("state", UNFINISHED)
def test_every_state_can_come_to_an_end_and_the_end_is_final(state: State) -> None:
    reached = {state}
    while more := {after for one in reached for after in FOLLOWERS[one]} - reached:
        reached |= more

    assert State.FINISHED in reached
    assert FOLLOWERS[State.FINISHED] == frozenset()


@pytest.mark.parametrize("event", LifeEvent)
def test_what_is_not_in_the_table_cannot_happen(event: LifeEvent) -> None:
    for state in State:
        if (state, event) in TABLE:
            continue
        for ask in (lambda s: heard(s, event, cancel=True), lambda s: transition(s, event)):
            with pytest.raises(ValueError, match=f"{state} cannot be {event}"):
                ask(state)


def test_a_person_can_end_all_but_what_is_ending() -> None:
    assert frozenset(UNFINISHED) - CANCELLABLE == {State.ROLLING_BACK}


def test_only_what_has_acted_or_may_have_is_undone() -> None:
    undone = {(state, event) for (state, event), row in TABLE.items() if row.undoes}

    assert undone == {
        (State.ACTING, LifeEvent.FAILED),
        (State.ACTING, LifeEvent.LOST),
        (State.ACTING, LifeEvent.CANCELLED),
        (State.WAITING, LifeEvent.CANCELLED),
        (State.VERIFYING, LifeEvent.INEFFECTIVE), (State.VERIFYING, LifeEvent.CANCELLED),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [(None, "rolled_back"), (Outcome.FAILED, "rolled_back"), (Outcome.UNKNOWN, "unknown"),
     (Outcome.CANCELLED, "cancelled"), (Outcome.INEFFECTIVE, "ineffective")],
)  # fmt: skip
def test_what_was_undone_ends_as_its_cause_says(cause: Outcome | None, outcome: str) -> None:
    assert transition(State.ROLLING_BACK, LifeEvent.UNDONE, cause=cause).outcome == outcome
    failed = transition(State.ROLLING_BACK, LifeEvent.UNDO_FAILED, cause=cause)
    assert failed.outcome == "rollback_failed"


def test_sql_sends_the_steps_of_a_run_where_the_table_says() -> None:
    literal = re.search(r"r\.state in \(([^)]+)\)", queries("postgres")["routes"])
    assert literal is not None

    assert set(re.findall(r"'(\w+)'", literal[1])) == {
        str(state) for state, duty in DUTIES.items() if duty is Duty.EXECUTE
    }


def test_each_state_is_carried_by_those_who_can() -> None:
    host = ProcessRole(frozenset({"web-1"}), decides=False)

    assert {s for s in UNFINISHED if EVERYWHERE.carries(s, "")} == set(UNFINISHED)
    assert {s for s in UNFINISHED if EVERYWHERE.carries(s, "web-1")} == {"pending", "verifying"}
    executed = {"acting", "waiting", "rolling_back"}
    assert {s for s in UNFINISHED if host.carries(s, "web-1")} == executed
    assert {s for s in UNFINISHED if host.carries(s, "")} == set()


class Life(NamedTuple):
    """A life as far as it has come."""

    state: State = State.PENDING
    outcome: Outcome | None = None
    cause: Outcome | None = None
    cancel: bool = False
    """A person wants its end, and it has not been heard."""
    began: bool = False
    undone: bool = False

    def after(self, event: LifeEvent, *, undoable: bool) -> Life:
        event = heard(self.state, event, cancel=self.cancel)
        change = transition(self.state, event, undoable=undoable, cause=self.cause)
        assert change.state in FOLLOWERS[self.state]
        ends = change.state is State.FINISHED
        assert (Effect.RELEASE in change.effects) == ends
        assert (Effect.FREE_SLOT in change.effects) == (
            self.state is State.ACTING and change.state in {"waiting", "verifying"}
        )
        assert (Effect.COUNT_ROLLBACK in change.effects) == (self.state is State.ROLLING_BACK)
        back = change.state is State.ROLLING_BACK
        assert back == (undoable and self.began and event in UNDOING)
        return Life(
            change.state,
            change.outcome if ends else None,
            change.outcome if back else self.cause,
            self.cancel and event is not LifeEvent.CANCELLED,
            self.began or change.state is State.ACTING,
            self.undone or back,
        )


UNDOING = {LifeEvent.FAILED, LifeEvent.LOST, LifeEvent.INEFFECTIVE, LifeEvent.CANCELLED}


def all_lives() -> set[Life]:
    """Return every stage of every life: any event that can happen, and a wish at any time."""
    reached: set[Life] = set()
    ahead = [Life()]
    while ahead:
        life = ahead.pop()
        if life in reached:
            continue
        reached.add(life)
        if life.state in CANCELLABLE and life.began:
            ahead.append(life._replace(cancel=True))
        ahead += [
            life.after(event, undoable=undoable)
            for state, event in TABLE
            for undoable in (False, True)
            if state is life.state
        ]
    return reached


def test_no_order_of_events_breaks_a_promise() -> None:
    lives = all_lives()

    assert {life.state for life in lives} == set(State)
    assert {life.outcome for life in lives} == {None, *Outcome}
    for life in lives:
        assert (life.outcome is not None) == (life.state is State.FINISHED)
        assert (life.cause is not None) == life.undone
        if life.outcome is Outcome.HEALED:
            assert not life.cancel, "who cancels is heard before it is called healed"
            assert not life.undone
        if life.outcome is not None and not life.began:
            assert life.outcome is Outcome.CANCELLED
        if life.outcome is Outcome.ROLLED_BACK:
            assert life.cause is Outcome.FAILED
