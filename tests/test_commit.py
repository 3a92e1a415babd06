"""What is told when everything succeeds but the commit? That nothing was stored, to everybody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.app import Promheal
from receiver.errors import JournalError
from receiver.healing.intake import Intake
from receiver.journal import (
    Admission,
    Journal,
    Stored,
    Transaction,
    not_stored,
    of_alerts,
    open_journal,
)
from receiver.policy.run import Outcome
from receiver.policy.signal import Signal
from receiver.policy.strategy import Strategies
from tests.brokers import eventually
from tests.commits import SPOILERS, Failing, spoil
from tests.factories import NOW, FakeClock, alert, notification, step, strategy
from tests.world import KEY, World

WAYS = ["sqlite", *(f"postgres, {how}" for how in SPOILERS)]


class Spoilt:
    def __init__(self, journal: Journal, how: str) -> None:
        self.journal = journal
        self.how = how

    def spoil(self, transaction: Transaction) -> str:
        spoil(transaction, self.how)
        return "done"

    def admit(self, name: str) -> Callable[[Transaction], object]:
        admission = Admission([alert(labels={"alertname": name})])
        return lambda t: t.admit(admission, (), sender="am", now=NOW)

    def names(self) -> set[str]:
        found = self.journal.read(lambda t: t.open_episodes(limit=99))
        return {episode.alert.name for episode in found}

    def store(self, name: str) -> None:
        """Store an alert, as soon as it can be: a connection that was cut takes a moment."""

        def stored() -> bool:
            try:
                self.journal.atomically(self.admit(name))
            except JournalError:
                return False
            return True

        eventually(stored, "it can be stored again", within=10)

    def together(self, *works: Callable[[Transaction], Any]) -> list[Stored[Any]]:
        """Do some works in one group; what each was told, in order."""
        entered, leave = threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            entered.set()
            leave.wait(10)

        told: dict[int, Stored[Any]] = {}
        self.journal.submit(hold, lambda _: None)
        assert entered.wait(10)
        for number, work in enumerate(works):
            self.journal.submit(work, lambda stored, n=number: told.update({n: stored}))  # type: ignore[misc]
        leave.set()
        eventually(lambda: len(told) == len(works), "each is told")
        return [told[number] for number in range(len(works))]


@pytest.fixture(params=WAYS)
def spoilt(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spoilt]:
    kind, _, how = request.param.partition(", ")
    url = f"sqlite:///{tmp_path}/journal.db"
    if kind == "postgres":
        url = request.getfixturevalue("database")
    journal = open_journal(url)
    yield Spoilt(journal, how or "violated")
    journal.close()


def test_the_value_of_what_is_not_stored_cannot_be_had() -> None:
    def followed(_: object) -> None:
        pytest.fail("it was followed")

    for stored in (
        not_stored(JournalError("full")),
        not_stored(JournalError("full")).then(followed),
    ):
        with pytest.raises(JournalError, match="full"):
            _ = stored.value
    assert Stored(2).then(lambda value: value + 1).value == 3
    with pytest.raises(ZeroDivisionError):
        _ = Stored(2).then(lambda value: value / 0).value


def test_a_commit_that_fails_raises_and_the_next_one_is_stored(spoilt: Spoilt) -> None:
    with pytest.raises(JournalError, match="cannot store"):
        spoilt.journal.atomically(lambda t: (spoilt.admit("Lost")(t), spoilt.spoil(t)))

    spoilt.store("Kept")

    assert spoilt.names() == {"Kept"}
    assert spoilt.journal.alive


def test_nobody_whose_group_was_not_committed_is_told_that_it_is_stored(spoilt: Spoilt) -> None:
    told = spoilt.together(spoilt.admit("A"), spoilt.spoil, spoilt.admit("B"))

    assert [isinstance(stored.error, JournalError) for stored in told] == [True] * 3
    for stored in told:
        with pytest.raises(JournalError):
            _ = stored.value
    spoilt.store("C")
    assert spoilt.names() == {"C"}


def test_nor_when_one_of_them_is_at_fault_and_they_were_done_one_by_one(spoilt: Spoilt) -> None:
    def wrong(_: Transaction) -> None:
        raise ZeroDivisionError

    told = spoilt.together(spoilt.admit("A"), wrong, spoilt.spoil)

    assert all(isinstance(stored.error, JournalError) for stored in told)
    spoilt.store("C")
    assert spoilt.names() == {"C"}


def test_what_was_counted_in_a_transaction_that_was_not_committed_never_was(
    spoilt: Spoilt,
) -> None:
    spoilt.together(lambda t: t.count("notifications", "202"), spoilt.spoil)
    spoilt.store("C")

    totals = spoilt.journal.read(lambda t: t.stats()).totals

    assert ("notifications", ("202",)) not in totals


def test_it_can_store_again_only_when_it_has_stored(spoilt: Spoilt) -> None:
    if spoilt.how == "cut":
        return  # it says that it is away until it is back: test_postgres_journal.py
    with pytest.raises(JournalError):
        spoilt.journal.atomically(spoilt.spoil)
    before = (spoilt.journal.writable, bool(spoilt.journal.trouble))
    spoilt.journal.atomically(lambda t: t.give_up(before=0.0))
    idle = spoilt.journal.writable
    spoilt.journal.atomically(spoilt.admit("A"))

    assert before == (False, True)
    assert not idle, "a commit of nothing succeeds on a full disk, too"
    assert (spoilt.journal.writable, spoilt.journal.trouble) == (True, "")


def test_a_notification_whose_commit_fails_is_not_admitted_and_wakes_nobody(
    spoilt: Spoilt,
) -> None:
    woken: list[object] = []
    intake = Intake(
        journal=spoilt.journal,
        clock=FakeClock(),
        strategies=lambda: Strategies([strategy()]),
        wake=woken.append,
        fetch=lambda: None,
        ask=lambda _: pytest.fail("nobody asks"),
    )
    told: list[Stored[Any]] = []
    entered, leave = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        entered.set()
        leave.wait(10)

    spoilt.journal.submit(hold, lambda _: None, of_alerts(()))
    assert entered.wait(10)
    intake.submit(notification(alert()), told.append)
    spoilt.journal.submit(spoilt.spoil, lambda _: None, of_alerts(()))
    leave.set()
    eventually(lambda: told)

    assert isinstance(told[0].error, JournalError)
    assert woken == []
    spoilt.store("C")
    intake.admit(notification(alert()))
    assert spoilt.names() == {"C", "HighLatency"}
    assert woken


@pytest.mark.parametrize("number", range(1, 9))
def test_no_action_runs_twice_or_unwritten_whichever_commit_fails(
    tmp_path: Path, number: int
) -> None:
    journal = open_journal(f"sqlite:///{tmp_path}/journal.db")
    world = World(journal, strategy(actions=(step(), step())))
    world.fire()
    written: list[int] = []
    world.spy.before = lambda: written.append(
        sum(s.state == "started" for run in world.runs() for s in run.steps)
    )
    commits = Failing(journal, number)
    failures = 0
    for _ in range(6):
        try:
            world.consider()
        except JournalError:
            failures += 1

    assert world.spy.calls == ["run one", "run one"]
    assert written == [1, 1], "each step was on the disk as started before it ran"
    assert commits.commits > number
    assert failures == (number not in {2, 4}), "what a step did is stored as soon as it can be"
    world.verifier.signal = Signal.CLEARED
    world.clock.now += 60
    world.consider()
    assert [run.outcome for run in world.runs()] == [Outcome.HEALED]
    journal.close()


def test_a_decision_that_was_not_stored_is_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(f"sqlite:///{tmp_path}/journal.db")
    world = World(journal)
    world.fire()
    Failing(journal, 1)

    with caplog.at_level("INFO", logger="promheal"):
        with pytest.raises(JournalError):
            world.consider()
        assert "decided" not in caplog.messages
        world.consider()

    assert caplog.messages.count("decided") == 1
    journal.close()


def test_what_comes_while_the_journal_closes_is_stored_or_refused(tmp_path: Path) -> None:
    for _ in range(5):
        journal = open_journal(f"sqlite:///{tmp_path}/journal.db")
        told: list[Stored[Any]] = []
        asked = refused = 0

        def send(journal: Journal = journal, told: list[Stored[Any]] = told) -> None:
            nonlocal asked, refused
            while not refused:
                try:
                    journal.submit(lambda t: t.count("notifications", "202"), told.append)
                    asked += 1
                except JournalError:
                    refused += 1

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(0.002)
        journal.close()
        thread.join(10)

        assert len(told) == asked


def test_a_reload_on_a_full_disk_is_taken_and_matches_what_fires_when_there_is_room(
    service: Promheal, config: Path
) -> None:
    service.intake.admit(notification(alert()))
    disk = Failing(service.journal, all_of_them=True)
    path = config / "healing_strategies.yml"
    path.write_text(path.read_text().replace("latency:", "renamed:"))

    (warning,) = service.reload()

    assert "matched by the new strategies when the journal can store" in warning
    assert service.config.strategies.names == ("renamed",)
    assert service.journal.read(lambda t: t.keys()) == {KEY}
    disk.all = False
    service.intake.settle()
    assert service.journal.read(lambda t: t.keys()) == {("renamed", KEY[1])}
