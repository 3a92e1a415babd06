"""A decision, its run and the start of its first step are one commit, if nothing has to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from receiver.errors import JournalError
from receiver.healing.slots import Slots
from receiver.journal import Journal, Transaction, open_journal
from receiver.policy.role import ProcessRole
from receiver.policy.run import Outcome, State
from receiver.policy.strategy import Strategy
from receiver.settings import EngineSettings
from tests.commits import Failing
from tests.factories import Spy, parse_matcher, step, strategy
from tests.machines.run_model import Killed
from tests.world import World

SKIPPED = step(condition=(parse_matcher('severity="critical"'),))


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    url = f"sqlite:///{tmp_path}/journal.db"
    if request.param == "postgres":
        url = request.getfixturevalue("database")
    opened = open_journal(url)
    yield opened
    opened.close()


def commits_before_the_action(journal: Journal, *strategies: Strategy) -> list[int]:
    """Return how many commits there had been when each action was called."""
    world = World(journal, *strategies)
    world.fire()
    commits = Failing(journal)
    found: list[int] = []
    world.spy.before = lambda: found.append(commits.commits)
    world.consider()
    return found


def test_one_commit_stands_before_the_first_action_and_two_before_the_next(
    either: Journal,
) -> None:
    assert commits_before_the_action(either, strategy(actions=(step(), step()))) == [1, 3]


def test_a_first_step_that_is_skipped_is_no_start(journal: Journal) -> None:
    assert commits_before_the_action(journal, strategy(actions=(SKIPPED, step()))) == [3]


def test_what_is_executed_elsewhere_is_not_started_here(journal: Journal) -> None:
    world = World(journal, role=ProcessRole(executes=frozenset(), decides=True))
    world.fire()
    world.consider()

    assert [(run.state, run.steps) for run in world.runs()] == [(State.ACTING, ())]


def test_without_a_free_slot_the_run_begins_and_its_step_waits(journal: Journal) -> None:
    world = World(journal)
    world.set(engine=EngineSettings(max_concurrent_runs=1))
    slots = world.reconciler._healing._steps._slots
    taken = slots.try_take()
    assert taken is not None
    world.fire()
    thread = threading.Thread(target=world.consider)
    waits = threading.Event()
    taking = slots.taken

    def tell() -> Any:
        waits.set()
        return taking()

    slots.taken = tell  # type: ignore[method-assign]
    thread.start()
    assert waits.wait(10)

    assert [(run.state, run.steps) for run in world.runs()] == [(State.ACTING, ())]
    assert world.spy.calls == []
    taken.give_back()
    thread.join(10)
    assert [(s.state, world.spy.calls) for run in world.runs() for s in run.steps] == [
        ("done", ["run one"])
    ]


def test_who_comes_last_takes_no_slot_before_those_who_wait() -> None:
    slots = Slots(lambda: 1)
    first = slots.try_take()
    assert first is not None
    assert slots.try_take() is None
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        with slots.taken():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    first.give_back()
    first.give_back()  # once more changes nothing
    assert entered.wait(10)
    assert slots.try_take() is None
    leave.set()
    thread.join(10)
    assert slots.try_take() is not None


@pytest.mark.parametrize(
    "verdict",
    [lambda w: w.set(flags=type(w.settings.flags)(auto_healing=False)),
     lambda w: setattr(w.spy, "before", lambda: (_ for _ in ()).throw(Killed))],
    ids=["refused", "killed"],
)  # fmt: skip
def test_the_slot_is_given_back_however_it_ends(
    journal: Journal, verdict: Callable[[World], None]
) -> None:
    world = World(journal)
    world.set(engine=EngineSettings(max_concurrent_runs=1))
    verdict(world)
    world.fire()
    with suppress(Killed):
        world.consider()

    assert world.reconciler._healing._steps._slots.try_take() is not None


@pytest.mark.parametrize("repeatable", [False, True])
def test_found_started_it_may_have_happened_though_nothing_was_called(
    journal: Journal, repeatable: bool
) -> None:
    world = World(journal, strategy(actions=(step(params=Spy.Params(repeatable=repeatable)),)))
    world.fire()
    commit = journal.atomically

    def die(work: Callable[[Transaction], Any], *_: object) -> None:
        commit(work)
        raise Killed

    journal.atomically = die  # type: ignore[method-assign, assignment]
    with pytest.raises(Killed):
        world.consider()
    journal.atomically = commit  # type: ignore[method-assign]
    assert [s.state for run in world.runs() for s in run.steps] == ["started"]
    assert world.spy.calls == []

    world.consider()

    (run,) = world.runs()
    if repeatable:
        assert (run.steps[0].attempt, world.spy.calls) == (2, ["run one"])
    else:
        assert run.cause is Outcome.UNKNOWN or run.outcome is Outcome.UNKNOWN
        assert "run one" not in world.spy.calls


def test_what_was_not_committed_starts_nothing(journal: Journal) -> None:
    world = World(journal)
    world.fire()
    Failing(journal, 1)

    with pytest.raises(JournalError):
        world.consider()

    assert (world.runs(), world.spy.calls) == ([], [])
