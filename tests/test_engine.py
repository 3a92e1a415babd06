"""What every engine promises; one's own promises are at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from receiver.clock import Clock, VirtualClock, steady_clock
from receiver.engine import Consider, Engine, embedded, virtual
from receiver.engine import postgres as on_postgres
from receiver.engine.embedded import EmbeddedEngine
from receiver.engine.postgres import PostgresEngine
from receiver.engine.timers import TimerHeap, Timers
from receiver.engine.virtual import Occupied, VirtualEngine
from receiver.errors import JournalError
from receiver.journal.postgres import PostgresJournal
from receiver.policy.role import EVERYWHERE, At, HandOver, Next, Rest
from receiver.policy.target import Key

Start = Callable[[Consider, int], Engine]


class Considered:
    """What `consider` was called with, and what it does; in virtual time, if there is a `virtual`.

    There it occupies its target where another one's thread would sleep.
    """

    def __init__(self) -> None:
        self.virtual: VirtualEngine | None = None
        self.clock: Clock = steady_clock()
        self.occupied: set[Key] = set()
        self.calls: list[Key] = []
        self.times: list[float] = []
        self.now: dict[str, int] = {}
        self.overlaps: list[str] = []
        self.most = 0
        self.lock = threading.Lock()
        self.again: dict[Key, Next] = {}
        self.seconds = 0.0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, key: Key) -> Next:
        if key not in self.occupied:
            with self.lock:
                self.calls.append(key)
                self.times.append(self.clock())
                self.now[key[1]] = self.now.get(key[1], 0) + 1
                if self.now[key[1]] > 1:
                    self.overlaps.append(key[1])
                self.most = max(self.most, sum(self.now.values()))
        self.take_time(key)
        with self.lock:
            self.now[key[1]] -= 1
        return self.again.pop(key, Rest())

    def take_time(self, key: Key) -> None:
        if self.virtual is None:
            self.gate.wait(20)
            time.sleep(self.seconds)
        elif not self.gate.is_set() or (self.seconds and key not in self.occupied):
            self.occupied.add(key)
            raise Occupied(self.clock() + (self.seconds or 0.01))
        self.occupied.discard(key)

    def let_pass(self, seconds: float) -> None:
        if self.virtual is None:
            time.sleep(seconds)
        else:
            self.virtual.run(self.clock() + seconds)

    def wait_for(self, count: int) -> None:
        if self.virtual is not None:
            for _ in range(2_000):
                if len(self.calls) < count:
                    self.let_pass(0.01)
        deadline = time.monotonic() + 20
        while len(self.calls) < count and time.monotonic() < deadline:
            time.sleep(0.002)
        assert len(self.calls) >= count, self.calls


def embedded_engine(threads: int) -> EmbeddedEngine:
    clock = steady_clock()
    return EmbeddedEngine(threads=lambda: threads, clock=clock, timers=Timers(clock))


@pytest.fixture
def considered() -> Considered:
    return Considered()


THREADED = ["embedded", "postgres"]


@pytest.fixture(params=[*THREADED, "virtual"])
def start(request: pytest.FixtureRequest, considered: Considered) -> Iterator[Start]:
    """Starts an engine with so many threads."""
    engines: list[Engine] = []
    journals: list[PostgresJournal] = []

    def make(consider: Consider, threads: int) -> Engine:
        clock = steady_clock()
        engine: Engine
        if request.param == "embedded":
            engine = embedded_engine(threads)
        elif request.param == "virtual":
            considered.clock = VirtualClock(1_800_000_000.0)
            engine = considered.virtual = VirtualEngine(considered.clock)
        else:
            journal = PostgresJournal(request.getfixturevalue("database"))
            journals.append(journal)
            engine = PostgresEngine(
                journal=journal, role=EVERYWHERE, threads=lambda: threads, clock=clock
            )
        engine.start(consider)
        engines.append(engine)
        return engine

    yield make
    considered.gate.set()
    for engine in engines:
        engine.stop(10)
    for journal in journals:
        journal.close()


@pytest.fixture
def engine(start: Start, considered: Considered) -> Engine:
    return start(considered, 4)


def test_a_wake_is_considered(engine: Engine, considered: Considered) -> None:
    engine.wake(Key("s", "t"))

    considered.wait_for(1)
    assert considered.calls == [("s", "t")]


def test_many_wakes_before_it_is_looked_at_are_one(engine: Engine, considered: Considered) -> None:
    considered.gate.clear()
    engine.wake(Key("s", "t"))
    considered.wait_for(1)
    for _ in range(100):
        engine.wake(Key("s", "t"))
    considered.gate.set()

    considered.wait_for(2)
    considered.let_pass(0.1)
    assert considered.calls == [("s", "t")] * 2, "once more, for what came meanwhile"


def test_one_target_is_considered_by_one_thread_at_a_time_in_the_order_of_wakes(
    engine: Engine, considered: Considered
) -> None:
    considered.seconds = 0.01
    for number in range(20):
        engine.wake(Key(f"s{number}", "t"))

    considered.wait_for(20)
    assert considered.overlaps == []
    assert [key[0] for key in considered.calls] == [f"s{number}" for number in range(20)]


@pytest.mark.parametrize("start", THREADED, indirect=True)
def test_different_targets_are_considered_in_parallel_by_no_more_than_its_threads(
    engine: Engine, considered: Considered
) -> None:
    considered.seconds = 0.02
    for number in range(40):
        engine.wake(Key("s", f"t{number}"))

    considered.wait_for(40)
    assert considered.most == 4


def test_a_target_that_is_stuck_holds_up_no_other(engine: Engine, considered: Considered) -> None:
    considered.gate.clear()
    for _ in range(3):
        engine.wake(Key("s", "stuck"))
    considered.wait_for(1)
    engine.wake(Key("other", "stuck"))

    engine.wake(Key("s", "free"))

    considered.wait_for(2)
    assert considered.calls[1] == ("s", "free")


def test_a_timer_is_kept_and_the_earliest_counts(engine: Engine, considered: Considered) -> None:
    start = considered.clock()
    engine.wake(Key("s", "t"), start + 60)
    engine.wake(Key("s", "t"), start + 0.2)
    engine.wake(Key("s", "t"), start + 30)

    considered.wait_for(1)
    assert considered.times[0] - start >= 0.2
    considered.let_pass(0.1)
    assert len(considered.calls) == 1


def test_what_it_returns_is_when_it_is_called_again(engine: Engine, considered: Considered) -> None:
    asked = considered.clock()
    considered.again[Key("s", "t")] = At(asked + 0.3)
    engine.wake(Key("s", "t"))

    considered.wait_for(2)
    # Not since the first call: how late that came is not the point.
    assert considered.times[1] - asked >= 0.25


def test_an_error_is_not_the_end(
    start: Start, considered: Considered, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in (embedded, on_postgres, virtual):
        assert engine.RETRY > 1, "in earnest it takes its time"
        monkeypatch.setattr(engine, "RETRY", 0.05)
    calls: list[Key] = []
    done = threading.Event()

    def consider(key: Key) -> Next:
        calls.append(key)
        if len(calls) < 3:
            raise ZeroDivisionError
        done.set()
        return Rest()

    one = start(consider, 1)
    one.wake(Key("s", "t"))
    considered.let_pass(0.2)

    assert done.wait(10)
    assert one.alive
    assert one.stop(5)


def test_a_journal_that_cannot_store_is_no_fault_of_promheal(
    start: Start,
    considered: Considered,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for engine in (embedded, on_postgres, virtual):
        monkeypatch.setattr(engine, "RETRY", 0.05)
    done = threading.Event()
    calls: list[Key] = []

    def consider(key: Key) -> Next:
        calls.append(key)
        if len(calls) == 1:
            raise JournalError("the disk is full")
        done.set()
        return Rest()

    one = start(consider, 1)
    with caplog.at_level("WARNING", logger="promheal.engine"):
        one.wake(Key("s", "t"))
        considered.let_pass(0.2)
        assert done.wait(10)

    (line,) = caplog.records
    assert "put off: the disk is full" in line.getMessage()
    assert line.exc_info is None, "a full disk needs no traceback every five seconds"
    assert one.stop(5)


def test_what_another_process_must_look_at_is_not_asked_for_in_a_circle(
    considered: Considered, caplog: pytest.LogCaptureFixture
) -> None:
    engine = embedded_engine(1)
    considered.again[Key("s", "t")] = HandOver("web-1")
    engine.start(considered)
    with caplog.at_level("WARNING", logger="promheal.engine"):
        engine.wake(Key("s", "t"))
        considered.wait_for(1)
        time.sleep(0.3)

    assert len(considered.calls) == 1
    assert [line.getMessage() for line in caplog.records] == [
        "s on t is left to web-1, which is not here"
    ]
    assert engine.stop(5)


@pytest.mark.parametrize("start", THREADED, indirect=True)
def test_stopping_waits_for_what_runs_and_begins_nothing_new(
    start: Start, considered: Considered
) -> None:
    engine = start(considered, 1)
    considered.gate.clear()
    engine.wake(Key("s", "running"))
    considered.wait_for(1)
    engine.wake(Key("s", "queued"))
    assert engine.length == 1

    assert not engine.stop(0.05), "it still runs"
    considered.gate.set()
    assert engine.stop(10)
    assert considered.calls == [("s", "running")]


def test_what_is_brought_up_all_together_is_considered(
    engine: Engine, considered: Considered
) -> None:
    engine.wake_all([Key("s", f"t{number}") for number in range(10)])

    considered.wait_for(10)
    assert {key[1] for key in considered.calls} == {f"t{number}" for number in range(10)}


def test_what_is_brought_up_all_together_need_not_wait_for_its_time(
    engine: Engine, considered: Considered
) -> None:
    for number in range(10):
        engine.wake(Key("s", f"t{number}"), considered.clock() + 600)

    engine.wake_all([Key("s", f"t{number}") for number in range(10)])

    considered.wait_for(10)


# -- in one process


def test_before_the_start_nothing_is_considered(considered: Considered) -> None:
    engine = embedded_engine(1)

    engine.wake(Key("s", "t"))

    assert engine.length == 0
    assert engine.stop(1)
    assert considered.calls == []


def test_an_idle_engine_does_not_run(considered: Considered) -> None:
    engine = embedded_engine(4)
    engine.start(considered)
    engine.wake(Key("s", "t"))
    engine.wake(Key("s", "later"), steady_clock()() + 3600)
    considered.wait_for(1)
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(1.0)

    assert time.process_time() - before < 0.005
    assert engine.stop(10)


@pytest.mark.parametrize("start", THREADED, indirect=True)
def test_what_no_thread_can_be_started_for_is_considered_later(
    considered: Considered, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    engine = start(considered, 2)
    begin = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("engine-"):
            raise RuntimeError("can't start new thread")
        begin(thread)

    for module in (embedded, on_postgres):
        monkeypatch.setattr(module, "RETRY", 0.2)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    engine.wake(Key("latency", "one"))
    engine.wake(Key("latency", "two"))
    time.sleep(0.5)
    assert (considered.calls, engine.alive) == ([], True)

    monkeypatch.setattr(threading.Thread, "start", begin)
    considered.wait_for(2)
    assert engine.trouble == ""


# -- in virtual time


@pytest.fixture
def heap() -> TimerHeap:
    return TimerHeap()


@pytest.fixture
def stepped(considered: Considered, heap: TimerHeap) -> VirtualEngine:
    considered.clock = clock = VirtualClock(0.0)
    considered.virtual = VirtualEngine(clock, heap)
    considered.virtual.start(considered)
    return considered.virtual


def test_a_month_takes_as_long_as_what_happens_in_it(
    stepped: VirtualEngine, considered: Considered
) -> None:
    stepped.wake(Key("s", "t"), 86_400.0)
    before = time.monotonic()

    stepped.run(30 * 86_400.0)

    assert considered.times == [86_400.0]
    assert considered.clock() == 30 * 86_400.0
    assert time.monotonic() - before < 1


def test_of_what_is_due_together_what_was_set_first_comes_first(
    stepped: VirtualEngine, heap: TimerHeap, considered: Considered
) -> None:
    said: list[str] = []
    stepped.wake(Key("b", "one"), 5.0)
    stepped.wake(Key("a", "two"), 5.0)
    heap.set("other", 5.0, lambda: said.append(f"after {len(considered.calls)}"))

    stepped.run(5.0)

    assert considered.calls == [("b", "one"), ("a", "two")]
    assert said == ["after 0"], "what others have set comes before what is considered"


def test_what_is_in_hand_is_considered_by_nobody_else(
    stepped: VirtualEngine, considered: Considered
) -> None:
    considered.seconds = 20.0
    stepped.wake(Key("first", "t"))
    stepped.wake(Key("second", "t"), 5.0)
    stepped.wake(Key("other", "u"), 6.0)

    stepped.run(100.0)

    assert considered.overlaps == []
    assert list(zip(considered.calls, considered.times, strict=True)) == [
        (("first", "t"), 0.0),
        (("other", "u"), 6.0),
        (("second", "t"), 20.0),
    ]


def test_once_it_is_stopped_its_time_stands_still_and_the_next_one_goes_on(
    stepped: VirtualEngine, heap: TimerHeap, considered: Considered
) -> None:
    said: list[float] = []
    heap.set("kill", 5.0, lambda: stepped.stop(0))
    heap.set("world", 8.0, lambda: said.append(considered.clock()))
    stepped.wake(Key("s", "t"), 5.0)
    stepped.wake(Key("s", "u"), 6.0)

    stepped.run(10.0)
    assert (considered.calls, considered.clock()) == ([], 5.0)

    following = VirtualEngine(VirtualClock(5.0), heap)
    following.start(considered)
    following.wake(Key("s", "t"), 7.0)
    following.run(10.0)
    assert considered.calls == [("s", "t")], "what the first one meant to consider has gone with it"
    assert len(said) == 1
