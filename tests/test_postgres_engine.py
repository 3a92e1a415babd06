"""What the engine of many machines promises besides: leases, epochs, places, and a shared line."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import psycopg
import pytest
from procrastinate.schema import SchemaManager

from receiver.clock import steady_clock
from receiver.engine import Consider, leases
from receiver.engine import postgres as engines
from receiver.engine.postgres import PostgresEngine
from receiver.errors import FencedError, JournalError
from receiver.journal import Journal, Transaction, Worker, claims
from receiver.journal.jobs import CENTRAL, install, queue_of
from receiver.journal.postgres import PostgresJournal
from receiver.journal.postgres_transaction import PostgresTransaction
from receiver.policy.role import EVERYWHERE, LEASE, Next, ProcessRole, Rest
from receiver.policy.target import Key
from tests.brokers import eventually
from tests.factories import NOW

KEY = Key("latency", 'service="checkout"')

Start = Callable[..., PostgresEngine]


@pytest.fixture
def start(database: str) -> Iterator[Start]:
    """Starts an engine as another process would have it: with a journal of its own."""
    started: list[PostgresEngine] = []

    def make(consider: Consider, role: ProcessRole = EVERYWHERE) -> PostgresEngine:
        engine = PostgresEngine(
            journal=PostgresJournal(database), role=role, threads=lambda: 4, clock=steady_clock()
        )
        engine.start(consider)
        started.append(engine)
        return engine

    yield make
    for engine in started:
        engine.stop(10)
        engine._journal.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of a second."""
    monkeypatch.setattr(leases, "LEASE", 1.0)
    monkeypatch.setattr(engines, "LEASE", 1.0)
    monkeypatch.setattr(claims, "LEASE", 1.0)
    monkeypatch.setattr(leases, "BEAT", 0.2)


@pytest.fixture
def journal(database: str) -> Iterator[PostgresJournal]:
    opened = PostgresJournal(database)
    yield opened
    opened.close()


class Calls:
    """What several processes are called with, and whether any two had one target at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now: set[str] = set()
        self.calls: list[tuple[str, Key]] = []
        self.overlaps: list[str] = []

    def of(self, who: str, seconds: float = 0.0) -> Consider:
        def consider(key: Key) -> Next:
            with self.lock:
                self.calls.append((who, key))
                if key[1] in self.now:
                    self.overlaps.append(key[1])
                self.now.add(key[1])
            time.sleep(seconds)
            with self.lock:
                self.now.discard(key[1])
            return Rest()

        return consider


def audit(journal: Journal, by: str) -> None:
    journal.atomically(lambda t: t.put_audit("a", "b", by=by, reason="", now=NOW))


def audits(journal: Journal) -> list[str]:
    return [one.by for one in journal.read(lambda t: t.audits(limit=99))]


def jobs(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url, options="-c search_path=promheal") as connection:
        return connection.execute(
            "select queue_name, status::text from procrastinate_jobs order by id"
        ).fetchall()


# -- one line for each target, whoever considers it


def test_two_processes_share_the_work_and_never_a_target(start: Start) -> None:
    calls = Calls()
    first, second = start(calls.of("first", 0.02)), start(calls.of("second", 0.02))
    for number in range(60):
        (first if number % 2 else second).wake(Key(f"s{number}", f"t{number % 10}"))

    eventually(lambda: len(calls.calls) == 60)
    assert calls.overlaps == []
    assert {who for who, _ in calls.calls} == {"first", "second"}


def test_who_stands_next_in_line_need_not_wait_for_a_look_around(start: Start) -> None:
    calls = Calls()
    engine = start(calls.of("one", 0.3))
    began = time.monotonic()
    for number in range(4):
        engine.wake(Key(f"s{number}", "t"))

    eventually(lambda: len(calls.calls) == 4)
    assert time.monotonic() - began < 3.0 < engines.POLL
    assert [key[0] for _, key in calls.calls] == ["s0", "s1", "s2", "s3"]


def test_a_later_time_of_one_holds_up_no_other_on_its_target(start: Start) -> None:
    calls = Calls()
    engine = start(calls.of("one"))
    engine.wake(Key("waits", "t"), steady_clock()() + 600)

    engine.wake(Key("acts", "t"))

    eventually(lambda: calls.calls == [("one", ("acts", "t"))], within=2)


def test_a_wake_in_the_middle_of_a_look_around_is_not_lost(start: Start) -> None:
    calls = Calls()
    engine = start(calls.of("one"))
    began = time.monotonic()
    for number in range(30):  # each of the first is heard, and nothing is found for it
        engine.wake(Key("later", f"t{number}"), steady_clock()() + 600)
        engine.wake(Key("now", f"t{number}"))
        eventually(lambda n=number: len(calls.calls) == n + 1)  # type: ignore[misc]

    assert time.monotonic() - began < engines.POLL


def test_after_the_server_was_away_it_listens_again(start: Start, database: str) -> None:
    calls = Calls()
    engine = start(calls.of("one"))
    engine.wake(Key("one", "t0"))
    eventually(lambda: len(calls.calls) == 1)

    name = database.rpartition("/")[2]
    elsewhere = database.removesuffix(name) + "postgres"
    with psycopg.connect(elsewhere, autocommit=True) as server:
        server.execute(f"alter database {name} allow_connections false".encode())
        server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
        )
        time.sleep(3 * engines.AGAIN)
        server.execute(f"alter database {name} allow_connections true".encode())
    time.sleep(engines.POLL)
    began = time.monotonic()
    for number in range(1, 4):
        engine.wake(Key("one", f"t{number}"))
        eventually(lambda n=number: len(calls.calls) == n + 1)  # type: ignore[misc]

    assert time.monotonic() - began < engines.POLL


def test_a_time_is_kept_to_a_fraction_of_a_look_around(start: Start) -> None:
    calls = Calls()
    engine = start(calls.of("one"))
    began = time.monotonic()

    engine.wake(KEY, steady_clock()() + 1.0)

    eventually(lambda: calls.calls)
    assert 0.9 < time.monotonic() - began < 2.5


def test_what_is_put_in_a_transaction_that_fails_is_not_considered(
    start: Start, journal: PostgresJournal, database: str
) -> None:
    calls = Calls()
    start(calls.of("one"))

    def work(transaction: Transaction) -> None:
        transaction.wake([KEY])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        journal.atomically(work)

    assert jobs(database) == []
    assert calls.calls == []


def test_news_during_the_look_is_looked_at_again(start: Start, journal: PostgresJournal) -> None:
    looked: list[list[str]] = []
    looking, go_on = threading.Event(), threading.Event()

    def consider(_: Key) -> Next:
        looked.append(audits(journal))
        looking.set()
        go_on.wait(10)
        return Rest()

    engine = start(consider)
    engine.wake(KEY)
    assert looking.wait(10)

    def news(transaction: Transaction) -> None:
        transaction.put_audit("a", "b", by="news", reason="", now=NOW)
        transaction.wake([KEY])

    journal.atomically(news)
    go_on.set()

    eventually(lambda: looked == [[], ["news"]])


# -- leases and epochs


def claim(journal: PostgresJournal, worker: str = "w") -> int | None:
    return journal.atomically(lambda t: t.claim(KEY[1], worker))


def test_a_target_in_hand_is_nobody_elses_until_its_lease_ends(
    impatient: None, journal: PostgresJournal
) -> None:
    first = claim(journal)
    assert first is not None
    assert claim(journal) is None

    time.sleep(1.1)

    second = claim(journal)
    assert second is not None
    assert second > first


def test_a_lease_lasts_to_the_deadline_of_the_action_in_hand(
    impatient: None, journal: PostgresJournal
) -> None:
    claim(journal)
    journal.atomically(lambda t: t.hold(KEY[1], 3.0))

    time.sleep(1.2)
    assert claim(journal) is None
    journal.atomically(lambda t: t.hold(KEY[1], 0.0))
    time.sleep(1.2)
    assert claim(journal) is not None


def test_who_was_taken_over_stores_nothing_more(impatient: None, journal: PostgresJournal) -> None:
    mine = claim(journal)
    assert mine is not None
    with journal.fenced(KEY[1], mine):
        audit(journal, "before")
        time.sleep(1.1)
        audit(journal, "late, and nobody came")
        claim(journal, "another")
        with pytest.raises(FencedError, match="taken"):
            audit(journal, "after")

    audit(journal, "outside")
    assert audits(journal) == ["outside", "late, and nobody came", "before"]


def test_who_released_it_stores_nothing_more_either(journal: PostgresJournal) -> None:
    mine = claim(journal)
    assert mine is not None
    journal.atomically(lambda t: t.release(KEY[1], mine))

    with journal.fenced(KEY[1], mine), pytest.raises(FencedError):
        audit(journal, "after")


def test_what_a_dead_process_left_is_considered_anew_and_it_cannot_come_back(
    impatient: None, start: Start, journal: PostgresJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, died, back = threading.Event(), threading.Event(), threading.Event()
    zombie_said: list[str] = []

    def dies(_: Key) -> None:
        taken.set()
        died.wait(30)
        try:
            audit(zombie._journal, "zombie")
        except FencedError as error:
            zombie_said.append(str(error))
            raise
        finally:
            back.set()

    zombie = start(dies)
    # As if it were cut off: its heartbeats and its renewals reach nobody.
    monkeypatch.setattr(zombie._leases, "beat", lambda: None)
    zombie.wake(KEY)
    assert taken.wait(10)
    with psycopg.connect(journal.url, options="-c search_path=promheal") as connection:
        connection.execute("delete from procrastinate_workers")
    calls = Calls()
    start(calls.of("successor"))

    eventually(
        lambda: calls.calls == [("successor", KEY)], "it takes over when the lease has ended"
    )
    died.set()
    assert back.wait(10)

    eventually(lambda: len(zombie_said) == 1)
    assert audits(journal) == []
    time.sleep(0.5)
    assert calls.calls == [("successor", KEY)], "and the zombie ended no job of its successor"


def test_what_a_process_that_has_ended_left_on_this_machine_waits_for_no_lease(
    start: Start, journal: PostgresJournal
) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from receiver.clock import steady_clock\n"
        "from receiver.engine.postgres import PostgresEngine\n"
        "from receiver.journal.postgres import PostgresJournal\n"
        "from receiver.policy.role import EVERYWHERE\n"
        "journal = PostgresJournal(sys.argv[1])\n"
        "clock = steady_clock()\n"
        "engine = PostgresEngine(\n"
        "    journal=journal, role=EVERYWHERE, threads=lambda: 1, clock=clock\n"
        ")\n"
        "engine.start(lambda key: os.kill(os.getpid(), signal.SIGKILL))\n"
        "engine.wake(('latency', 't'))\n"
        "time.sleep(60)\n"
    )
    died = subprocess.run([sys.executable, "-c", code, journal.url], check=False)
    assert died.returncode == -signal.SIGKILL
    assert journal.read(lambda t: t.claimed_until("t")) is not None
    calls = Calls()
    began = time.monotonic()

    start(calls.of("successor"))

    eventually(lambda: calls.calls == [("successor", ("latency", "t"))])
    assert time.monotonic() - began < 5.0 < LEASE


def test_a_long_look_is_not_taken_over_while_its_process_lives(
    impatient: None, start: Start
) -> None:
    calls = Calls()
    first = start(calls.of("first", 4.0))
    first.wake(KEY)
    eventually(lambda: calls.calls)
    start(calls.of("second"))

    time.sleep(3.5)

    assert calls.calls == [("first", KEY)]


def test_what_could_not_be_stored_is_considered_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "RETRY", 0.1)
    monkeypatch.setattr(leases, "LEASE", 0.5)
    monkeypatch.setattr(engines, "LEASE", 0.5)
    monkeypatch.setattr(claims, "LEASE", 0.5)
    failures = iter([True] * 4)  # each is tried once more, alone
    release = PostgresTransaction.release

    def fails(self: PostgresTransaction, target: str, epoch: int) -> None:
        if next(failures, False):
            raise JournalError("the server is away")
        release(self, target, epoch)

    monkeypatch.setattr(PostgresTransaction, "release", fails)
    calls = Calls()
    engine = start(calls.of("one"))

    engine.wake(KEY)

    eventually(lambda: len(calls.calls) >= 3)
    assert calls.overlaps == []


# -- places


def test_a_process_is_listed_while_it_lives(start: Start, journal: PostgresJournal) -> None:
    role = ProcessRole(frozenset({"web-1", "zone=a"}), decides=False)
    engine = start(lambda _: Rest(), role)

    (worker,) = journal.read(lambda t: t.workers())

    assert worker.names == ("web-1", "zone=a")
    assert worker.version == version("promheal")
    assert journal.read(lambda t: (t.has_worker("web-1"), t.has_worker("web-2"))) == (True, False)
    assert journal.read(lambda t: t.stats().workers)[0].id == engine.worker.id
    engine.stop(10)
    assert journal.read(lambda t: t.workers()) == []


def test_who_is_not_heard_of_is_not_listed(impatient: None, journal: PostgresJournal) -> None:
    worker = Worker(id="w", host="web-1", names=("web-1",), version="1", seen=0.0)
    journal.atomically(lambda t: t.beat(worker, "3", 1, []))
    assert journal.read(lambda t: t.has_worker("web-1"))

    time.sleep(1.1)

    assert not journal.read(lambda t: t.has_worker("web-1"))
    while journal.atomically(lambda t: t.prune(before=journal.now() + 1, limit=5)):
        pass
    assert journal.read(lambda t: t.workers()) == []


@pytest.mark.parametrize("name", ["web-1", "zone=a", "h" * 100, "zone=" + "z" * 100])
def test_every_place_has_a_queue_of_its_own_that_can_be_listened_to(name: str) -> None:
    assert len(f"procrastinate_queue_v1#{queue_of(name)}".encode()) <= 63
    assert queue_of(name) != queue_of(name + "x") != CENTRAL


# -- procrastinate's schema


def _procrastinate_as_of(connection: psycopg.Connection[tuple[object, ...]], last: str) -> None:
    """Make the schema of an earlier version, as its own migrations do."""
    connection.execute("create schema promheal")
    connection.execute("set search_path to promheal")
    connection.execute("create table engine_migration (name text primary key)")
    for script in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql")):
        if script.name >= last:
            break
        connection.execute(script.read_bytes())
        connection.execute("insert into engine_migration values (%s)", (script.name,))


@pytest.mark.parametrize("alone", [True, False])
def test_the_schema_of_an_earlier_procrastinate_is_upgraded_with_its_jobs(
    empty_database: str, *, alone: bool
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        _procrastinate_as_of(connection, "03.03")
        connection.execute(
            "select procrastinate_defer_jobs_v1(array[row("
            "'central', 'consider', 0, 't', 's', '{}', null)::procrastinate_job_to_defer_v1])"
        )

        applied = install(connection, alone=alone)

        assert any("_pre_" in name for name in applied)
        assert any("_post_" in name for name in applied) is alone
        assert install(connection, alone=alone) == []
        worker = connection.execute("select * from procrastinate_register_worker_v1()").fetchone()
        fetched = connection.execute(
            "select queue_name from procrastinate_fetch_job_v2(array['central'], %s)", worker
        )
        assert fetched.fetchone() == ("central",)


def test_a_new_schema_is_the_one_that_all_migrations_make(database: str, journal: Journal) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        names = connection.execute("select name from promheal.engine_migration order by name")
        recorded = [row[0] for row in names]
    scripts = sorted(path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql"))

    assert recorded == scripts, "none of them is applied to it later"
