"""Who stores what: the writer thread, or the caller itself when nobody else is writing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.errors import JournalError
from receiver.journal import Journal, Transaction, open_journal
from receiver.journal.extent import Lane
from tests.brokers import eventually


@pytest.fixture(params=["sqlite", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    url = f"sqlite:///{tmp_path}/journal.db"
    if request.param == "postgres":
        url = request.getfixturevalue("database")
    opened = open_journal(url)
    yield opened
    opened.close()


class Held:
    """A piece of work that a thread is storing until it is let go."""

    def __init__(self, journal: Journal, *, alone: bool) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=journal.atomically, args=(self.hold,))
        if alone:
            self.thread.start()
        else:
            journal.submit(self.hold, lambda _: None)
        assert self.entered.wait(10)

    def hold(self, _: Transaction) -> None:
        self.entered.set()
        self.leave.wait(10)


def where(_: Transaction) -> str:
    return threading.current_thread().name.partition(" ")[0]


def beside(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()), name="beside")
    thread.start()
    return thread, found


def test_who_finds_nobody_writing_stores_it_by_itself(journal: Journal) -> None:
    assert journal.atomically(where) == threading.current_thread().name


def test_who_must_not_wait_for_a_disk_never_stores_by_itself(journal: Journal) -> None:
    told: list[Any] = []
    journal.submit(where, told.append)
    eventually(lambda: told, "it is stored")

    assert told[0].value == "journal"


@pytest.mark.parametrize("alone", [True, False])
def test_who_finds_somebody_writing_is_stored_by_the_writer(journal: Journal, alone: bool) -> None:
    held = Held(journal, alone=alone)
    thread, found = beside(lambda: journal.atomically(where))
    thread.join(0.05)
    assert found == [], "one writes at a time"

    held.leave.set()
    thread.join(10)

    assert found == ["journal"]


class Unfair:
    """A lock that is free for whoever does not wait, and not yet for the writer, who does."""

    def __init__(self) -> None:
        self.writers_turn = threading.Event()

    def __enter__(self) -> None:
        self.writers_turn.wait(10)

    def __exit__(self, *_: object) -> None:
        pass

    def acquire(self, *, blocking: bool) -> bool:
        return not blocking

    def release(self) -> None:
        pass


def test_nobody_overtakes_what_is_queued(journal: Journal) -> None:
    order: list[str] = []
    writer = getattr(journal, "_writers", {Lane.EVERYTHING: journal})[Lane.EVERYTHING]
    writer._writing = lock = Unfair()
    journal.submit(lambda _: order.append("first"), lambda _: None)
    thread, _ = beside(lambda: journal.atomically(lambda _: order.append("second")))
    thread.join(0.05)
    lock.writers_turn.set()
    thread.join(10)

    assert order == ["first", "second"]


def test_an_error_of_the_work_is_the_callers_and_the_next_finds_nobody_writing(
    journal: Journal,
) -> None:
    def wrong(_: Transaction) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        journal.atomically(wrong)

    assert journal.atomically(where) == threading.current_thread().name


def test_it_closes_when_who_stores_by_itself_has_done_so(journal: Journal) -> None:
    held = Held(journal, alone=True)
    thread, _ = beside(journal.close)
    thread.join(0.05)
    assert thread.is_alive()

    held.leave.set()
    thread.join(10)

    assert not thread.is_alive()
    with pytest.raises(JournalError, match="closed"):
        journal.atomically(where)
