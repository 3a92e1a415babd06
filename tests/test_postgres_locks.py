"""Who waits for whom in PostgreSQL, and what no two write past each other: each is held on its way.

A process is stopped in the middle of its transaction, by an event, and another one comes beside it.
docs/explanation/locks.md has the table that these tests hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
import pytest

from receiver.errors import FencedError
from receiver.journal import OWN, Admission, Extent, Transaction, Want, Worker, of_alerts
from receiver.journal.alert_locks import ALL_THE_ALERTS, MANY, SOME_ALERTS, locks_of_alerts
from receiver.journal.extent import EVERYTHING, Lane
from receiver.journal.postgres import PostgresJournal
from receiver.policy.breaker import (
    MAIN,
    BreakerEvent,
    BreakerState,
    Happening,
    StrategyThresholds,
    Thresholds,
)
from receiver.policy.strategy import Limits, Mode
from receiver.policy.target import Key
from tests.brokers import eventually
from tests.factories import NOW, Spy, alert, notification, resolved, step, strategy
from tests.world import World

ONE, OTHER = (Key("latency", f'service="{name}"') for name in ("one", "other"))
WAITING = """
    select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'"""
FETCHED = "select id from procrastinate_fetch_job_v2(null, null) where id is not null"


@pytest.fixture
def journals(database: str) -> Iterator[tuple[PostgresJournal, PostgresJournal]]:
    """Two processes on one database, as far as the database can tell."""
    first, second = PostgresJournal(database), PostgresJournal(database)
    yield first, second
    first.close()
    second.close()


class Beside:
    """Work in a thread of its own, as in another process."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001  the test looks at it
            self.result = error

    def over(self, within: float = 10.0) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive()


class Stop:
    """Stops who comes by, until it is let go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *_: Any) -> None:
        self.reached.set()
        assert self.go_on.wait(20)


@contextmanager
def held(
    journal: PostgresJournal, work: Callable[[Transaction], Any], extent: Extent
) -> Iterator[Beside]:
    """Stop a process in the middle of its transaction, after *work*."""
    stop = Stop()

    def worked(transaction: Transaction) -> Any:
        done = work(transaction)
        transaction.newest()  # in a pipeline, only who waits for an answer sends what it has
        stop()
        return done

    beside = Beside(lambda: journal.atomically(worked, extent))
    assert stop.reached.wait(10)
    try:
        yield beside
    finally:
        stop.go_on.set()
        assert beside.over()


def stopped_in(world: World, method: str) -> Stop:
    """Have *world* stop in a transaction that decides, or that ends a run, after all its writes."""
    stop = Stop()
    owner: Any = world.reconciler._aftermath if method == "finish" else world.reconciler._settling
    does = getattr(owner, method)

    def stopping(*args: Any, **named: Any) -> Any:
        done = does(*args, **named)
        args[0].newest()  # in a pipeline, only who waits for an answer sends what it has
        if not stop.go_on.is_set():
            stop()
        return done

    setattr(owner, method, stopping)
    return stop


def waits(journal: PostgresJournal, beside: Beside) -> None:
    """See that *beside* waits for a lock, or else that it is over."""
    with psycopg.connect(journal.url, autocommit=True) as asked:

        def there() -> bool:
            row = asked.execute(WAITING).fetchone()
            return beside.over(0.01) or (row is not None and row[0] > 0)

        eventually(there, "it waits, or is over")


def of_service(name: str) -> Any:
    return alert(labels={"alertname": "HighLatency", "service": name})


def both(journals: tuple[PostgresJournal, PostgresJournal], **changes: Any) -> tuple[World, World]:
    """Two receivers with a strategy, and two targets that fire."""
    first, second = (World(journal, strategy(**changes)) for journal in journals)
    for name in ("one", "other"):
        first.fire(labels={"alertname": "HighLatency", "service": name})
    return first, second


# -- what is counted over several targets


def _limited(first: World, second: World) -> None:
    pass


def _one_at_once(first: World, second: World) -> None:
    for world in (first, second):
        world.set(engine=msgspec.structs.replace(world.settings.engine, max_concurrent_runs=1))


def _half_open(first: World, _: World) -> None:
    """The breaker of the strategy has been open for its time: one trial may begin."""

    def trip(transaction: Transaction) -> None:
        once = Thresholds(failures=1, open_for=60.0, permanent_after=9)
        failed = Happening(
            event=BreakerEvent.FAILURE, at=NOW - 100, started_at=NOW - 101, thresholds=once
        )
        transaction.happen("strategy:latency", failed)

    first.journal.atomically(trip)


@pytest.mark.parametrize(
    ("changes", "prepare", "reason"),
    [
        ({"limits": Limits(targets=1, per=600.0)}, _limited, "blast_radius"),
        ({}, _one_at_once, "concurrency"),
        ({}, _half_open, "breaker_open"),
    ],
    ids=["limits", "concurrency", "trial"],
)
def test_no_two_receivers_begin_what_only_one_may(
    journals: tuple[PostgresJournal, PostgresJournal],
    changes: dict[str, Any],
    prepare: Callable[[World, World], None],
    reason: str,
) -> None:
    first, second = both(journals, **changes)
    prepare(first, second)
    acting = Stop()
    first.spy.before = acting
    stop = stopped_in(first, "settle")

    begins = Beside(lambda: first.consider(ONE))
    assert stop.reached.wait(10)
    also = Beside(lambda: second.consider(OTHER))
    waits(journals[1], also)
    stop.go_on.set()

    assert also.over()
    assert second.verdict(OTHER) == ("wait", reason)
    acting.go_on.set()
    assert begins.over()
    assert [run.target for run in second.runs() if run.acted_at] == [ONE.target]


def test_no_two_ends_are_counted_as_one(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    fails = step(params=Spy.Params(fails=True, undo="none"))
    first, second = both(journals, actions=(fails,), breaker=StrategyThresholds(failures=2))
    second.spy.before = acting = Stop()
    other = Beside(lambda: second.consider(OTHER))
    assert acting.reached.wait(10)

    stop = stopped_in(first, "finish")
    one = Beside(lambda: first.consider(ONE))
    assert stop.reached.wait(10)
    acting.go_on.set()
    waits(journals[1], other)
    stop.go_on.set()
    assert one.over()
    assert other.over()

    known = journals[0].read(lambda t: t.breakers())
    assert known[MAIN].failures == 2
    assert known["strategy:latency"].state(NOW) is BreakerState.OPEN
    assert journals[0].read(lambda t: t.dormancy()).failures == 2


def test_who_begins_to_wait_while_room_is_made_looks_once_more(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    """Nobody could wake it: who made room did not see it wait yet."""
    first, second = both(journals)
    _one_at_once(first, second)
    first.woken.clear()
    first.spy.before = acting = Stop()
    acts = Beside(lambda: first.consider(ONE))
    assert acting.reached.wait(10)
    stop = stopped_in(second, "settle")
    waiting = Beside(lambda: second.consider(OTHER))
    assert stop.reached.wait(10), "it has found no room"

    acting.go_on.set()
    assert acts.over()
    assert first.woken == [], "nobody could be seen to wait"
    stop.go_on.set()

    assert waiting.over()
    assert second.verdict(OTHER) == ("wait", "concurrency")
    assert waiting.result == second.clock.now, "it is considered again at once"


# -- who waits for nobody


@pytest.mark.parametrize("extent", [EVERYTHING, OWN], ids=["a count", "a run"])
def test_who_accepts_alerts_waits_for_no_run(
    journals: tuple[PostgresJournal, PostgresJournal], extent: Extent
) -> None:
    """Not even for one of the same target, whose next look is being put."""
    first, second = both(journals)

    def writes(transaction: Any) -> None:
        transaction.count("bench", "same")
        transaction.wake([ONE], NOW)
        transaction.record(ONE, _decided(first), run=None, now=NOW)

    with held(journals[0], writes, extent):
        accepted = Beside(
            lambda: second.fire(labels={"alertname": "HighLatency", "service": "one"})
        )
        assert accepted.over(5)
        assert accepted.result is None


def _decided(world: World) -> Any:
    episodes = world.journal.read(lambda t: t.asking(ONE, limit=2))
    return world.reconciler.weigh(world.strategies.get("latency"), ONE.target, episodes)  # type: ignore[arg-type]


@pytest.mark.parametrize("extent", [EVERYTHING, OWN], ids=["a count", "a run"])
def test_runs_of_different_targets_do_not_wait_for_each_other(
    journals: tuple[PostgresJournal, PostgresJournal], extent: Extent
) -> None:
    first, second = journals
    epochs = {}
    for journal, key in ((first, ONE), (second, OTHER)):
        epochs[key] = journal.atomically(lambda t, k=key: t.claim(k.target, "w"), OWN)  # type: ignore[misc]

    def writes(transaction: Any) -> None:
        transaction.check(ONE.target, epochs[ONE])
        transaction.hold(ONE.target, 60.0)
        transaction.count("steps", "done")
        transaction.wake([ONE], NOW)

    def also_writes(transaction: Any) -> None:
        transaction.count("steps", "done")
        transaction.wake([OTHER], NOW)

    with held(first, writes, extent), second.fenced(OTHER.target, epochs[OTHER] or 0):
        other = Beside(lambda: second.atomically(also_writes, OWN))
        assert other.over(5)
        assert other.result is None


# -- one target


def test_who_takes_a_target_over_waits_for_what_is_written_and_sees_it(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    first, second = journals
    epoch = first.atomically(lambda t: t.claim("t", "old"), OWN)
    assert epoch is not None

    def writes(transaction: Any) -> None:
        transaction.check("t", epoch)
        transaction.put_audit("step", "started", by="old", reason="", now=NOW)
        # Its lease ends meanwhile.
        with psycopg.connect(first.url, autocommit=True) as other:
            other.execute("update promheal.claim set until = now() - interval '1 s'")

    with held(first, writes, OWN):
        takes = Beside(lambda: second.atomically(lambda t: t.claim("t", "new"), OWN))
        waits(second, takes)
        assert not takes.over(0.1), "or it would act on what it does not see"
    assert takes.over()

    assert takes.result > epoch
    assert len(second.read(lambda t: t.audits(limit=9))) == 1
    with pytest.raises(FencedError), first.fenced("t", epoch):
        first.atomically(lambda _: None, OWN)


def test_an_approval_is_not_lost_to_who_decides_meanwhile(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    first, second = both(journals, mode=Mode.APPROVE)
    first.consider(ONE)
    (run,) = first.runs()
    first.clock.now += 1
    stop = stopped_in(first, "_relapsed")  # when it has read the run, and not yet written it

    decides = Beside(lambda: first.consider(ONE))
    assert stop.reached.wait(10)
    approves = Beside(lambda: second.control.approve(run.id, by="anna", reason="go"))
    waits(second.journal, approves)  # type: ignore[arg-type]
    stop.go_on.set()
    assert decides.over()
    assert approves.over()

    assert second.runs()[0].approved_at is not None


def test_nobody_begins_a_job_before_what_it_is_for_can_be_seen(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    """The job waits already: it would be begun at once, and find nothing new."""
    first, _ = journals
    first.atomically(lambda t: t.wake([ONE]), of_alerts(()))

    def wakes(transaction: Any) -> None:
        transaction.wake([ONE])
        transaction.keep_woken()
        transaction.put_woken()  # as at the end of the transaction

    with psycopg.connect(first.url, autocommit=True, options="-csearch_path=promheal") as worker:
        with held(first, wakes, of_alerts(())):
            assert worker.execute(FETCHED).fetchall() == []
        assert len(worker.execute(FETCHED).fetchall()) == 1
        assert worker.execute(FETCHED).fetchall() == [], "one job waits, not two"


# -- alerts


def test_peers_that_say_the_same_in_another_order_wait_in_no_circle(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    alerts = [of_service(f"s{number}") for number in range(20)]

    def say(journal: PostgresJournal, said: list[Any]) -> None:
        for turn in range(20):
            for batch in (said, [resolved(each, NOW + turn) for each in said]):
                admission = Admission(batch)
                wants = [Want(*ONE, each.fingerprint) for each in batch if each.ends_at is None]
                journal.atomically(
                    lambda t, a=admission, w=wants: (  # type: ignore[misc]
                        t.admit(a, w, sender="am", now=NOW), t.count("received", "firing"),
                        t.wake([ONE, OTHER]),
                    ),
                    of_alerts(each.fingerprint for each in batch),
                )  # fmt: skip

    threads = [
        Beside(lambda: say(journals[0], alerts)),
        Beside(lambda: say(journals[1], alerts[::-1])),
    ]
    assert all(thread.over(30) for thread in threads)

    assert [thread.result for thread in threads] == [None, None]
    totals = journals[0].read(lambda t: t.stats()).totals
    assert totals["received", ("firing",)] == 80


def test_alerts_are_locked_in_one_order_and_not_too_many_of_them() -> None:
    assert locks_of_alerts([()]) == []
    one, other = locks_of_alerts([("a", "b"), ("c",)]), locks_of_alerts([("c", "b"), ("a",)])
    assert one == other
    assert one[0] == SOME_ALERTS
    many = tuple(str(number) for number in range(MANY + 1))
    assert locks_of_alerts([many]) == locks_of_alerts([("a",), None]) == [ALL_THE_ALERTS]


def test_who_counts_the_same_waits_for_nobody(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    first, second = journals

    def counts(transaction: Any) -> int:
        transaction.count("steps", "done")
        transaction.keep_counts()
        transaction.write_counts()  # as at the end of the transaction
        part = transaction._ask("select mod(pg_backend_pid(), 64)").fetchone()
        return int(part[0])

    with held(first, counts, OWN) as other:
        also = Beside(lambda: second.atomically(counts, OWN))
        waited = not also.over(5)

    assert also.over()
    assert not waited or also.result == other.result, "only one connection in 64 does"


def test_what_each_process_counts_adds_up_and_is_copied_as_one(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    for journal in journals:
        journal.atomically(lambda t: t.count("heals", "latency", by=2), OWN)

    rows = journals[0].read(lambda t: list(t.dump("total", 9)))
    assert journals[0].read(lambda t: t.number("total")) == 1
    assert [row["value"] for row in rows[0]] == [4.0]


# -- what the one lock did unseen


def test_what_is_said_while_its_alert_is_given_up_is_not_lost(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    """It begins anew: who was told 202 has an episode for it, and what it asks for."""
    first, second = both(journals)
    (episode,) = first.journal.read(lambda t: t.asking(ONE, limit=1))
    first.clock.now += 1000
    second.clock.now += 1000

    def gives_up(transaction: Transaction) -> None:
        assert transaction.give_up(before=first.clock.now - 500, episode=episode.id) == 1

    with held(journals[0], gives_up, OWN):
        said = Beside(lambda: second.fire(
            labels={"alertname": "HighLatency", "service": "one"}, starts_at=second.clock.now - 1
        ))  # fmt: skip
        waits(journals[1], said)
    assert said.over()
    assert said.result is None

    (again,) = first.journal.read(lambda t: t.asking(ONE, limit=2))
    assert again.id != episode.id


def test_who_stands_in_the_line_while_a_job_ends_is_called(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    """It is called when it could be begun, and not before: nobody asks again for seconds."""
    first, second = journals
    job = begun(first)
    queue = "procrastinate_queue_v1#central"

    with psycopg.connect(first.url, autocommit=True) as worker:
        worker.execute(f'listen "{queue}"')
        with held(first, lambda t: t.end_job(job, ONE, None), OWN):  # type: ignore[attr-defined]
            second.atomically(lambda t: t.wake([ONE]), of_alerts(()))
            assert list(worker.notifies(timeout=5, stop_after=1)), "too early"
        assert list(worker.notifies(timeout=5, stop_after=1)), "and never again"


def begun(journal: PostgresJournal) -> int:
    """Return the job of a key that is being considered."""
    journal.atomically(lambda t: t.wake([ONE]), of_alerts(()))
    with psycopg.connect(journal.url, autocommit=True, options="-csearch_path=promheal") as worker:
        row = worker.execute(FETCHED).fetchone()
    assert row is not None
    return int(row[0])


def test_a_heartbeat_waits_for_no_step_that_is_being_written(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    """Or a claim of which the transaction is stuck would cost the process all others."""
    journal, _ = journals
    worker = Worker(id="w", host="h", names=("",), version="1", seen=0.0)
    targets = [key.target for key in (ONE, OTHER)]
    epochs = [journal.atomically(lambda t, n=name: t.claim(n, "w"), OWN) for name in targets]  # type: ignore[misc]
    with psycopg.connect(journal.url, autocommit=True) as other:
        other.execute("update promheal.claim set until = now() + interval '1 s'")

    with held(journal, lambda t: t.hold(ONE.target, 60.0), OWN):
        beats = Beside(lambda: journal.aside(lambda t: t.beat(worker, "3", 1, epochs)))
        assert beats.over(3)
        assert beats.result is None
        until = journal.read(lambda t: t.claimed_until(OTHER.target))
        assert until is not None
        assert until > journal.now() + 10


def test_what_an_older_promheal_wakes_is_considered_though_nobody_is_to_look_again(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    """During a rolling upgrade: it puts a job for now under the name of that for a time."""
    journal, _ = journals
    job = begun(journal)
    journal.atomically(lambda t: t.wake([ONE], NOW), OWN)
    with psycopg.connect(journal.url, autocommit=True, options="-csearch_path=promheal") as older:
        older.execute("update procrastinate_jobs set scheduled_at = null where status = 'todo'")

        journal.atomically(lambda t: t.end_job(job, ONE, None), OWN)

        assert len(older.execute(FETCHED).fetchall()) == 1


def test_retention_deletes_nothing_that_is_new_again_when_it_may_be_deleted(
    journals: tuple[PostgresJournal, PostgresJournal],
) -> None:
    """An old claim that is taken over, an old episode that fires after all."""
    first, _ = both(journals)
    first.intake.admit(notification(resolved(of_service("one"))))
    (old,) = first.journal.read(lambda t: t.episodes_of(of_service("one").fingerprint, limit=2))
    assert old.ended_by == "told"
    journals[0].atomically(lambda t: t.claim("t", "old"), OWN)
    with psycopg.connect(journals[0].url, autocommit=True) as other:
        other.execute("update promheal.claim set until = now() - interval '1 year'")

    def is_new_again(transaction: Any) -> None:
        assert transaction.claim("t", "new") is not None
        transaction.hold("t", 1e8)  # beyond NOW
        transaction.settle_conflict(old, [Want(*ONE, old.alert.fingerprint)], now=NOW + 1000)

    with held(journals[0], is_new_again, of_alerts([old.alert.fingerprint])):
        prunes = Beside(
            lambda: journals[1].atomically(lambda t: t.prune(before=NOW + 500, limit=9))
        )
        waits(journals[1], prunes)
    assert prunes.over()

    assert journals[1].read(lambda t: t.claimed_until("t")) is not None
    assert journals[1].read(lambda t: t.wanted(ONE)) is not None


def test_a_deadlock_where_a_transaction_begins_is_tried_again(
    journals: tuple[PostgresJournal, PostgresJournal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a notification of two alerts that one decision gives up in another order."""
    first, _ = both(journals)
    writer = journals[0]._writers[Lane.ALERTS]
    deadlock = "do $$ begin raise 'by the test' using errcode = 'deadlock_detected'; end $$"
    locks = iter([[deadlock]])
    real = writer._locks
    monkeypatch.setattr(writer, "_locks", lambda batch: next(locks, None) or real(batch))

    first.fire(labels={"alertname": "HighLatency", "service": "third"})

    assert next(locks, None) is None
    assert journals[1].read(lambda t: t.number_firing()) == 3
