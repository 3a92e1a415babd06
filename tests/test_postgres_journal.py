"""What PostgreSQL's journal promises besides: one writer among many, and a server that goes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from receiver.errors import AwayError, ConfigError, JournalError
from receiver.journal import (
    Admission,
    Journal,
    Transaction,
    Want,
    Worker,
    open_journal,
    prepare_journal,
)
from receiver.journal.migrate import scripts
from receiver.journal.postgres import PostgresJournal
from receiver.policy.run import State
from receiver.web import application
from tests.brokers import eventually
from tests.factories import NOW, alert, resolved
from tests.postgres import Postgres, postgres

KEY = ("latency", 'service="checkout"')


@pytest.fixture
def journals(database: str) -> Iterator[tuple[PostgresJournal, PostgresJournal]]:
    """Two processes on one database, as far as the database can tell."""
    first, second = PostgresJournal(database), PostgresJournal(database)
    yield first, second
    first.close()
    second.close()


@pytest.fixture(scope="module")
def mortal() -> Iterator[Postgres]:
    """One that a test may end."""
    with postgres() as server:
        yield server


def test_it_is_prepared_without_a_thread(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forked then may find a lock of OpenSSL held for ever by a thread that was ending."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread"))
        assert prepare_journal(database)
    with psycopg.connect(database) as connection:
        assert connection.execute("select max(version) from promheal.migration").fetchone() == (
            len(scripts("postgres")),
        )


def test_what_one_reads_and_then_writes_no_other_changes_meanwhile(
    journals: tuple[Journal, Journal], database: str
) -> None:
    def add(transaction: Transaction) -> None:
        before = transaction.dormancy()
        time.sleep(0.002)  # time enough for another to come between
        changed = type(before)(failures=before.failures + 1, reason="")
        transaction.put_dormancy(changed)

    threads = [
        threading.Thread(target=lambda journal=each: [journal.atomically(add) for _ in range(50)])
        for each in journals
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert journals[0].read(lambda t: t.dormancy().failures) == 200


def test_two_receivers_that_take_the_same_alert_open_one_episode(
    journals: tuple[Journal, Journal],
) -> None:
    alerts = [alert(labels={"alertname": f"A{n}", "service": "checkout"}) for n in range(50)]

    def admit(journal: Journal) -> None:
        for each in alerts:
            admission = Admission([each])
            wants = (Want(*KEY, each.fingerprint),)
            journal.atomically(
                lambda t, a=admission, w=wants: t.admit(a, w, sender="am", now=NOW)  # type: ignore[misc]
            )

    threads = [threading.Thread(target=admit, args=(journal,)) for journal in journals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = journals[0].read(lambda t: t.open_episodes(limit=100))
    assert len(found) == 50
    assert {episode.notifications for episode in found} == {2}


def test_many_alerts_of_one_notification_are_admitted_and_ended(
    journals: tuple[Journal, Journal],
) -> None:
    alerts = [alert(labels={"alertname": f"A{n}", "service": f"s{n}"}) for n in range(2_000)]
    wants = [Want("latency", f"s{n}", each.fingerprint) for n, each in enumerate(alerts)]
    opening = Admission(alerts)
    ending = Admission([resolved(each) for each in alerts])

    opened = journals[0].atomically(lambda t: t.admit(opening, wants, sender="am", now=NOW))
    closed = journals[1].atomically(lambda t: t.admit(ending, (), sender="am", now=NOW))

    assert (opened.opened, closed.closed, len(closed.released)) == (2_000, 2_000, 2_000)


def test_one_of_several_keeps_house_and_another_takes_over(
    journals: tuple[Journal, Journal],
) -> None:
    first, second = journals
    assert first.acquire()
    assert first.acquire(), "it still does"
    assert not second.acquire()

    first.close()

    eventually(second.acquire, "the server frees the lock with the connection")


def test_a_promheal_that_is_stuck_in_a_transaction_holds_up_no_other_for_long(
    journals: tuple[Journal, Journal],
) -> None:
    first, second = journals
    entered, leave = threading.Event(), threading.Event()

    def stuck(transaction: Transaction) -> None:
        transaction.put_audit("pause", "all", by="anna", reason="", now=NOW)
        entered.set()
        leave.wait(30)

    errors: list[BaseException | None] = []
    first.submit(stuck, lambda stored: errors.append(stored.error))
    assert entered.wait(10)
    began = time.monotonic()

    second.atomically(lambda t: t.put_audit("resume", "all", by="bob", reason="", now=NOW))

    assert time.monotonic() - began < 15, "who waits longer than PATIENCE ends who is stuck"
    leave.set()
    eventually(lambda: errors, "who was stuck is told")
    assert isinstance(errors[0], JournalError)
    audits = second.read(lambda t: t.audits(limit=9))
    assert [one.by for one in audits] == ["bob"], "and nothing of it was stored"


@pytest.mark.slow
def test_while_the_server_is_away_it_says_so_at_once_and_it_recovers(mortal: Postgres) -> None:
    journal = open_journal(mortal.create())
    put = lambda t: t.put_audit("pause", "all", by="anna", reason="", now=NOW)  # noqa: E731
    journal.atomically(put)
    mortal.stop()

    with pytest.raises(JournalError, match="away"):
        journal.atomically(put)
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(JournalError, match="away"):
            journal.atomically(put)
    with pytest.raises(JournalError):
        journal.read(lambda t: t.newest())
    assert time.monotonic() - began < 0.5, "nothing is tried for a caller"
    assert not bool(journal.writable)

    mortal.start()

    def stored() -> bool:
        try:
            journal.atomically(put)
        except JournalError:
            return False
        return True

    eventually(stored, "it recovers by itself", within=10)
    assert len(journal.read(lambda t: t.audits(limit=99))) == 2
    assert journal.writable
    journal.close()


@pytest.mark.slow
def test_a_server_that_was_restarted_meanwhile_costs_no_notification(mortal: Postgres) -> None:
    journal = open_journal(mortal.create())
    mortal.stop(signal.SIGINT)
    mortal.start()

    journal.atomically(lambda t: t.put_audit("pause", "all", by="anna", reason="", now=NOW))

    assert len(journal.read(lambda t: t.audits(limit=9))) == 1
    journal.close()


def test_a_sign_of_life_waits_for_no_writer(journals: tuple[PostgresJournal, ...]) -> None:
    first, second = journals
    entered, leave = threading.Event(), threading.Event()

    def slow(_: Transaction) -> None:
        entered.set()
        leave.wait(10)

    first.submit(slow, lambda _: None)
    assert entered.wait(10)
    worker = Worker(id="w", host="web-1", names=("web-1",), version="1", seen=0.0)

    second.aside(lambda t: t.beat(worker, "3", 1, []))

    assert second.read(lambda t: t.has_worker("web-1"))
    leave.set()


def test_text_that_the_server_does_not_take_is_stored_without_it(
    journals: tuple[Journal, Journal],
) -> None:
    journal, _ = journals
    one = alert(annotations={"summary": "a\0b"}, generator_url="http://p/\0")

    journal.atomically(lambda t: t.admit(Admission([one]), (), sender="a\0m", now=NOW))

    (episode,) = journal.read(lambda t: t.open_episodes(limit=9))
    assert episode.alert.annotations == {"summary": "a\0b"}
    assert (episode.sender, episode.alert.generator_url) == ("a\ufffdm", "http://p/\ufffd")


def test_what_a_statement_finds_wrong_is_the_works_own_fault(
    journals: tuple[Journal, Journal],
) -> None:
    journal, _ = journals
    results: list[BaseException | None] = []
    ready = threading.Event()

    def wait(_: Transaction) -> None:
        ready.wait(10)

    def wrong(transaction: Transaction) -> None:
        transaction.put_message(999, "ended")  # of a run that does not exist

    journal.submit(wait, lambda _: None)
    journal.submit(wrong, lambda stored: results.append(stored.error))
    journal.submit(
        lambda t: t.put_audit("a", "b", by="c", reason="", now=NOW),
        lambda stored: results.append(stored.error),
    )
    ready.set()

    eventually(lambda: len(results) == 2)
    assert isinstance(results[0], psycopg.errors.ForeignKeyViolation)
    assert results[1] is None, "who shared its transaction is not harmed"


def test_a_schema_of_the_next_version_is_worked_with_if_it_says_so(database: str) -> None:
    open_journal(database).close()
    newest = len(scripts("postgres"))

    def record(number: int, works_with: int) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "insert into promheal.migration (version, works_with) values (%s, %s)",
                (number, works_with),
            )

    record(newest + 1, newest)
    open_journal(database).close()

    record(newest + 2, newest + 1)
    with pytest.raises(JournalError, match="newer version, which must be used"):
        open_journal(database)


@pytest.mark.parametrize("known", range(1, len(scripts("postgres"))))
def test_a_journal_of_each_earlier_version_is_brought_up_to_date_with_what_it_holds(
    empty_database: str, known: int
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as old:
        old.execute("create schema promheal")
        old.execute("set search_path to promheal")
        old.execute(
            "create table migration (version integer primary key, works_with integer not null, "
            "at timestamptz not null default now())"
        )
        for number, script in enumerate(scripts("postgres")[:known], 1):
            old.execute(script.encode())
            old.execute("insert into migration values (%s, %s)", (number, number))
        old.execute(
            "insert into run (strategy, target, state, episode, created_at, notified_at, acted_at)"
            " values ('latency', 'x', 'acting', 1, 5, 5, 6)"
        )

    journal = open_journal(empty_database)

    run = journal.read(lambda t: t.run(1))
    assert run is not None
    assert (run.state, run.acted_at, run.runs_on) == (State.ACTING, 6.0, "")
    assert journal.read(lambda t: t.newest()) == 6.0
    journal.close()


def test_two_that_start_at_once_migrate_once(empty_database: str) -> None:
    opened: list[Journal] = []
    threads = [
        threading.Thread(target=lambda: opened.append(open_journal(empty_database)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(opened) == 4
    for journal in opened:
        journal.close()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("postgresql://promheal@127.0.0.1:1/x", "127.0.0.1:1/x: connection failed"),
        ("postgresql://promheal@127.0.0.1:99999/x", "99999"),
        ("postgresql://promheal:hunter2@127.0.0.1:1/x", "127.0.0.1:1"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named_without_its_password(
    url: str, error: str
) -> None:
    with pytest.raises(JournalError, match=error) as raised:
        open_journal(url)

    assert "hunter2" not in str(raised.value)


def test_what_the_server_refuses_is_not_waited_for(one_postgres: Postgres) -> None:
    with pytest.raises(JournalError, match='database "missing" does not exist') as refused:
        open_journal(one_postgres.url("missing"))
    assert not isinstance(refused.value, AwayError)

    with pytest.raises(AwayError):
        open_journal("postgresql://promheal@127.0.0.1:1/x")


@pytest.mark.slow
def test_a_server_that_is_away_at_the_start_is_waited_for(mortal: Postgres) -> None:
    url = mortal.create()
    mortal.stop()
    starting = threading.Timer(2.0, mortal.start)
    starting.start()

    assert application._prepared(url)

    starting.join()


def test_a_server_that_stays_away_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert application.WAIT == 60.0
    monkeypatch.setattr(application, "WAIT", 0.5)

    with pytest.raises(AwayError):
        application._prepared("postgresql://promheal@127.0.0.1:1/x")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "receiver.journal.postgres", None)

    with pytest.raises(ConfigError, match=r"pip install 'promheal\[postgres\]'"):
        open_journal("postgresql://localhost/x")
