"""The heap against the simplest model of it, and the thread with real and with scripted clocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from receiver import clock as clocks
from receiver.clock import steady_clock
from receiver.engine.timers import TimerHeap, Timers
from tests.factories import FakeClock

NAMES = st.sampled_from("abcdef")
TIMES = st.floats(min_value=0.0, max_value=100.0)


class HeapMachine(RuleBasedStateMachine):
    """The model is a list of what is set, in order of setting."""

    def __init__(self) -> None:
        super().__init__()
        self.heap = TimerHeap()
        self.model: list[tuple[str, float, int]] = []
        self.rung: list[int] = []
        self.number = 0
        self.now = 0.0

    @rule(name=NAMES, at=TIMES)
    def set(self, name: str, at: float) -> None:
        self.number += 1
        self.heap.set(name, at, partial(self.rung.append, self.number))
        self.model = [one for one in self.model if one[0] != name]
        self.model.append((name, at, self.number))

    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        self.heap.cancel(name)
        self.model = [one for one in self.model if one[0] != name]

    @rule(seconds=TIMES)
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = sorted((one for one in self.model if one[1] <= self.now), key=lambda one: one[1])
        self.rung.clear()
        while (ring := self.heap.pop(self.now)) is not None:
            ring()
        assert self.rung == [number for _, _, number in due], "in order, none left out, none twice"
        self.model = [one for one in self.model if one not in due]

    @invariant()
    def the_earliest_is_known(self) -> None:
        assert self.heap.earliest() == min((at for _, at, _ in self.model), default=None)
        assert {name: self.heap.at(name) for name in "abcdef"} == {
            **dict.fromkeys("abcdef"), **{name: at for name, at, _ in self.model},
        }  # fmt: skip


TestHeap = HeapMachine.TestCase


@given(times=st.lists(TIMES, min_size=1))
def test_what_is_replaced_over_and_over_takes_no_room(times: list[float]) -> None:
    heap = TimerHeap()
    for number in range(2_000):
        heap.set("a", times[number % len(times)], lambda: None)

    assert len(heap._heap) < 100
    assert heap.earliest() == times[1_999 % len(times)]


# -- the thread


class Rings:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.times: list[float] = []

    def __call__(self, name: str) -> None:
        self.calls.append(name)
        self.times.append(time.monotonic())

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.calls) < count and time.monotonic() < deadline:
            time.sleep(0.002)
        assert len(self.calls) >= count, self.calls


@pytest.fixture
def rings() -> Rings:
    return Rings()


@pytest.fixture
def make() -> Iterator[Callable[..., Timers]]:
    made: list[Timers] = []

    def make_one(clock: Callable[[], float]) -> Timers:
        made.append(Timers(clock))
        return made[-1]

    yield make_one
    for timers in made:
        timers.stop()


Make = Callable[[Callable[[], float]], Timers]


def test_it_rings_in_order_and_not_before_the_time(make: Make, rings: Rings) -> None:
    clock = steady_clock()
    timers = make(clock)
    now, began = clock(), time.monotonic()
    for name, delay in {"c": 0.3, "a": 0.1, "b": 0.2}.items():
        timers.set(name, now + delay, partial(rings, name))
    timers.start()
    timers.start()

    rings.wait_for(3)

    assert rings.calls == ["a", "b", "c"]
    assert rings.times[0] - began >= 0.09


def test_one_that_comes_first_is_not_waited_past(make: Make, rings: Rings) -> None:
    clock = steady_clock()
    timers = make(clock)
    timers.start()
    timers.set("late", clock() + 3_600, partial(rings, "late"))
    time.sleep(0.05)

    timers.set("soon", clock() + 0.05, partial(rings, "soon"))

    rings.wait_for(1)
    assert rings.calls == ["soon"]


def test_set_replaces_and_set_earlier_keeps_what_comes_first(make: Make, rings: Rings) -> None:
    clock = FakeClock()
    timers = make(clock)
    timers.set("set", clock.now + 1, partial(rings, "replaced"))
    timers.set("set", clock.now + 5, partial(rings, "set"))
    timers.set_earlier("earlier", clock.now + 2, partial(rings, "first"))
    timers.set_earlier("earlier", clock.now + 4, partial(rings, "second"))
    timers.set("off", clock.now + 3, partial(rings, "cancelled"))
    timers.cancel("off")
    timers.cancel("never set")
    clock.now += 86_400

    timers.start()

    rings.wait_for(2)
    time.sleep(0.05)
    assert rings.calls == ["first", "set"], "however late, each once"


def test_a_step_of_the_wall_clock_moves_nothing(
    make: Make, rings: Rings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = steady_clock()
    timers = make(clock)
    timers.start()
    timers.set("rarely", clock() + 1_800, partial(rings, "rarely"))
    real = clocks.wall
    for step in (86_400.0, -86_400.0):
        monkeypatch.setattr(clocks, "wall", lambda step=step: real() + step)
        rings.calls.clear()
        timers.set("often", clock() + 0.1, partial(rings, "often"))

        rings.wait_for(1)
        assert rings.calls == ["often"]


def test_a_ring_that_raises_does_not_end_the_others(
    make: Make, rings: Rings, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    timers = make(clock)
    timers.set("a", clock.now - 2, lambda: 1 / 0)
    timers.set("b", clock.now - 1, partial(rings, "b"))

    timers.start()

    rings.wait_for(1)
    assert timers.alive
    assert "a timer failed" in caplog.text


def test_a_ring_may_set_timers_and_take_the_lock_of_who_sets_them(make: Make, rings: Rings) -> None:
    clock = steady_clock()
    timers = make(clock)
    lock = threading.Lock()

    def again() -> None:
        with lock:
            rings("again")
            timers.set("again", clock() + 0.001, again)

    timers.start()
    with lock:
        timers.set("again", clock(), again)
        time.sleep(0.05)
        timers.set("other", clock(), partial(rings, "other"))

    rings.wait_for(20)


def test_at_rest_it_does_not_run(make: Make) -> None:
    clock = steady_clock()
    timers = make(clock)
    timers.start()
    timers.set("far", clock() + 1e300, lambda: None)
    timers.set("later", clock() + 3_600, lambda: None)
    time.sleep(0.1)
    before = switches(timers._thread)

    for _ in range(100):
        timers.set_earlier("later", clock() + 7_200, lambda: None)
        timers.set("later still", clock() + 7_200, lambda: None)
        timers.cancel("later still")
    time.sleep(0.5)

    assert switches(timers._thread) == before


def switches(thread: threading.Thread) -> list[str]:
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return [line for line in status.splitlines() if "ctxt_switches" in line]


def test_after_the_stop_nothing_rings(make: Make, rings: Rings) -> None:
    clock = FakeClock()
    timers = make(clock)
    assert timers.alive, "not started"
    timers.start()
    timers.set("a", clock.now + 1, partial(rings, "a"))

    timers.stop()
    clock.now += 2
    timers.set("b", clock.now, partial(rings, "b"))
    timers._thread.join(5)

    assert not timers._thread.is_alive()
    assert timers.alive, "ended as it was told"
    assert rings.calls == []
    timers.start()
