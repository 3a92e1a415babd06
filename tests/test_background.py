"""Real timers, real threads and short intervals; the clock only where it must step."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from operator import contains
from pathlib import Path

import pytest

from receiver import clock as clocks
from receiver.clock import steady_clock
from receiver.engine.background import THREADS, Background, TaskExists
from receiver.engine.periodic_task import Load, PeriodicTask, load
from receiver.engine.timers import Timers
from receiver.errors import ActionError
from tests.factories import FakeClock

HOUR, DAY = 3_600.0, 86_400.0


class Job:
    """A task's `run`, and what it saw."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.starts: list[float] = []
        self.ends = 0
        self.overlaps = 0
        self.seconds = seconds
        self.raises: list[BaseException] = []
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self._now = 0

    def __call__(self) -> None:
        with self._lock:
            self.starts.append(time.monotonic())
            self._now += 1
            self.overlaps += self._now > 1
        self.gate.wait(20)
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
            self.ends += 1
        if self.raises:
            raise self.raises.pop(0)

    def wait_for(self, count: int, within: float = 20.0) -> None:
        deadline = time.monotonic() + within
        while self.ends < count and time.monotonic() < deadline:
            time.sleep(0.002)
        assert self.ends >= count, self.starts


def task(
    id_: str,
    run: Callable[[], object],
    every: float | Callable[[], float] = HOUR,
    wanted: Callable[[], bool] = lambda: True,
) -> PeriodicTask:
    return PeriodicTask(
        id=id_, run=run, every=every if callable(every) else lambda: every, wanted=wanted
    )


@pytest.fixture
def make() -> Iterator[Callable[..., Background]]:
    made: list[tuple[Background, Timers]] = []

    def make_one(*tasks: PeriodicTask, clock: Callable[[], float] | None = None) -> Background:
        clock = clock or steady_clock()
        timers = Timers(clock)
        background = Background(clock=clock, timers=timers, tasks=tasks)
        made.append((background, timers))
        return background

    yield make_one
    for background, timers in made:
        assert background.stop(10)
        timers.stop()


Make = Callable[..., Background]


def ids(background: Background) -> list[str]:
    return [state.id for state in background.tasks]


# --- when they run --------------------------------------------------------------------------------


def test_the_first_run_is_an_interval_after_the_start_and_each_next_one_an_interval_later(
    make: Make,
) -> None:
    job = Job()
    background = make(task("a", job, 0.2))
    time.sleep(0.25)
    began = time.monotonic()
    background.start()

    job.wait_for(3)

    gaps = [b - a for a, b in zip([began, *job.starts], job.starts, strict=False)]
    assert all(0.1 < gap < 1.0 for gap in gaps[:3]), gaps


def test_a_task_that_raises_is_logged_and_counted_and_runs_again(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job()
    job.raises = [
        ValueError("http://user:secret@db"),
        ActionError(""),
        SystemExit(3),
        ActionError("no disk"),
    ]
    background = make(task("a", job, 0.05))
    seen = []
    background.start()
    for count in range(1, 6):
        job.wait_for(count)
        while background.tasks[0].runs < count:
            time.sleep(0.001)
        state = background.tasks[0]
        seen.append((state.runs, state.failures, state.last_error))

    assert seen == [
        (1, 1, "ValueError; the log says more"),
        (2, 2, "ActionError; the log says more"),
        (3, 3, "SystemExit; the log says more"),
        (4, 4, "no disk"),
        (5, 4, ""),
    ]
    logged = [record for record in caplog.records if record.name == "promheal.background"]
    assert [(record.getMessage(), bool(record.exc_info)) for record in logged] == [
        *[("background task a failed", True)] * 3,
        ("background task a failed: no disk", False),  # which is ours, and says it all
    ]


def test_one_task_never_overlaps_and_what_a_slow_one_missed_is_one_run_at_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job(seconds=0.25)
    background = make(task("slow", job, 0.2))
    background.start()

    job.wait_for(5)

    gaps = [b - a for a, b in zip(job.starts, job.starts[1:], strict=False)]
    assert job.overlaps == 0
    assert min(gaps) < 0.35, "the next time after a skipped one would be 0.4 s later"
    assert not [record for record in caplog.records if record.levelname == "WARNING"], "skipped"


def test_a_slow_task_does_not_delay_the_others(make: Make) -> None:
    slow = [Job() for _ in range(3)]
    for job in slow:
        job.gate.clear()
    quick = Job()
    background = make(
        *(task(f"slow:{n}", job, 0.02) for n, job in enumerate(slow)), task("quick", quick, 0.05)
    )
    background.start()

    quick.wait_for(10, within=5.0)

    assert [(len(job.starts), job.ends) for job in slow] == [(1, 0)] * 3
    for job in slow:
        job.gate.set()


def test_the_interval_is_asked_after_each_run(make: Make) -> None:
    intervals = iter([0.05, 0.3])
    job = Job()
    background = make(task("a", job, lambda: next(intervals, HOUR)))
    background.start()

    job.wait_for(2)

    assert job.starts[1] - job.starts[0] > 0.2
    while background.tasks[0].runs < 2:
        time.sleep(0.001)
    assert background.tasks[0].interval == HOUR


def test_an_interval_that_cannot_be_told_stays_as_it_was(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[float] = [0.05, 0.0, float("nan")]
    job = Job()
    background = make(task("a", job, lambda: answers.pop(0)))
    background.start()

    job.wait_for(4)

    assert background.tasks[0].interval == 0.05
    assert "background task a keeps its interval" in caplog.text


def test_a_machine_that_was_suspended_runs_what_it_missed_once(make: Make) -> None:
    clock, job, other = FakeClock(), Job(), Job()
    background = make(task("a", job, 60.0), task("b", other, 2 * DAY), clock=clock)
    background.start()

    clock.now += DAY
    background.run_now("b")  # the kernel wakes it in reality

    job.wait_for(1)
    other.wait_for(1)
    time.sleep(0.1)
    assert (job.ends, other.ends) == (1, 1)
    assert background.tasks[0].next_run == clock.now + 60


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-DAY, -HOUR, HOUR, DAY])
def test_a_patched_wall_clock_that_steps_changes_no_interval(
    make: Make, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the machine's clock cannot be made here, so `wall`, its only reader, makes it."""
    often, rarely = Job(), Job()
    background = make(task("often", often, 0.2), task("rarely", rarely, HOUR / 2))
    background.start()
    often.wait_for(1)

    real = clocks.wall
    monkeypatch.setattr(clocks, "wall", lambda: real() + step)

    often.wait_for(4)
    gaps = [b - a for a, b in zip(often.starts, often.starts[1:], strict=False)]
    assert all(0.1 < gap < 1.0 for gap in gaps), gaps
    assert rarely.starts == []


def test_it_sleeps_until_something_is_due(make: Make) -> None:
    background = make(*(task(f"t{n}", Job(), HOUR) for n in range(3)))
    before = set(threading.enumerate())
    background.start()
    started = set(threading.enumerate()) - before
    assert len(started) == THREADS + 1, "and one to wait"
    time.sleep(0.2)

    switches = [switched(thread) for thread in started]
    time.sleep(1.5)

    assert [switched(thread) for thread in started] == switches


def switched(thread: threading.Thread) -> list[str]:
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return [line for line in status.splitlines() if "ctxt_switches" in line]


# --- the registry ---------------------------------------------------------------------------------


def test_a_task_may_be_registered_before_and_after_the_start(make: Make) -> None:
    before, after = Job(), Job()
    background = make()
    background.register(task("before", before, 0.05))
    assert background.tasks[0].next_run is None
    background.start()
    background.register(task("after", after, 0.05))

    before.wait_for(2)
    after.wait_for(2)

    assert ids(background) == ["before", "after"]


def test_two_tasks_of_one_id_are_refused(make: Make) -> None:
    background = make(task("a", Job()))
    with pytest.raises(TaskExists, match="'a' is registered already"):
        background.register(task("a", Job()))


@pytest.mark.parametrize("id_", ["", "A", "a b", "a\n", "é", "a/b", "a" * 65])
def test_an_id_is_of_few_characters(id_: str) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        task(id_, Job())


@pytest.mark.parametrize("every", [0.0, -1.0, float("nan"), float("inf")])
def test_an_interval_is_more_than_nothing(make: Make, every: float) -> None:
    background = make()
    with pytest.raises(ValueError, match="background task a every"):
        background.register(task("a", Job(), every))
    assert background.tasks == ()
    background.register(task("a", Job(), 1.0))


def test_what_is_unregistered_runs_no_more(make: Make) -> None:
    job = Job()
    background = make(task("a", job, 0.03), task("b", Job()))
    background.start()
    job.wait_for(1)

    assert background.unregister("a")

    runs = job.ends
    time.sleep(0.2)
    assert job.ends <= runs + 1, "one may have been under way"
    assert ids(background) == ["b"]
    assert not background.unregister("a")
    assert not background.unregister("never")


def test_one_that_is_unregistered_while_it_runs_ends_and_runs_no_more(make: Make) -> None:
    job = Job()
    job.gate.clear()
    background = make(task("a", job, 0.03))
    background.start()
    while not job.starts:
        time.sleep(0.002)

    background.unregister("a")
    job.gate.set()

    job.wait_for(1)
    time.sleep(0.15)
    assert len(job.starts) == 1


def test_one_that_is_unregistered_and_registered_while_it_runs_does_not_run_twice(
    make: Make,
) -> None:
    job = Job()
    job.gate.clear()
    background = make(task("a", job, 0.03))
    background.start()
    while not job.starts:
        time.sleep(0.002)

    background.unregister("a")
    background.register(task("a", job, 0.03))
    time.sleep(0.2)
    assert len(job.starts) == 1
    job.gate.set()

    job.wait_for(3)
    assert job.overlaps == 0


def test_cleanup_removes_what_is_not_wanted_and_brings_back_what_is(make: Make) -> None:
    wanted = {"a", "b", "c"}
    background = make(
        *(task(name, Job(), wanted=partial(contains, wanted, name)) for name in "abcd")
    )
    background.start()
    assert ids(background) == ["a", "b", "c"], "d is known, and not wanted"
    assert background.cleanup() == ((), ())

    background.unregister("a")
    wanted.symmetric_difference_update("bd")

    assert background.cleanup() == (("b",), ("a", "d"))
    assert ids(background) == ["c", "a", "d"]
    assert background.cleanup() == ((), ())


def test_cleanup_that_cannot_ask_changes_nothing(make: Make) -> None:
    wanted = iter([True, True, False])
    every = iter([HOUR])
    background = make(
        task("a", Job(), wanted=lambda: next(wanted)), task("b", Job(), lambda: next(every))
    )
    background.unregister("b")
    assert next(wanted)

    with pytest.raises(StopIteration):
        background.cleanup()

    assert ids(background) == ["a"]


def test_refresh_takes_new_intervals_and_leaves_the_others_at_their_time(make: Make) -> None:
    clock, intervals = FakeClock(), {"a": 600.0, "b": 600.0, "c": 600.0}
    jobs = {name: Job() for name in intervals}
    wanted = set(intervals)
    background = make(
        *(
            task(n, jobs[n], partial(intervals.__getitem__, n), partial(contains, wanted, n))
            for n in intervals
        ),
        clock=clock,
    )
    background.start()
    began = clock.now
    clock.now += 300

    intervals.update(a=100.0, b=900.0)
    wanted.discard("c")
    background.refresh()

    jobs["a"].wait_for(1)  # it was due 200 s ago
    states = {state.id: state for state in background.tasks}
    assert states.keys() == {"a", "b"}
    assert (states["a"].last_run, states["a"].next_run) == (clock.now, clock.now + 100)
    assert (states["b"].interval, states["b"].next_run) == (900, began + 900)

    clock.now += 10
    background.refresh()
    assert {state.id: state.next_run for state in background.tasks} == {
        "a": began + 400, "b": began + 900,
    }  # fmt: skip


def test_the_state_of_a_task_tells_all(make: Make) -> None:
    clock, job = FakeClock(), Job()
    background = make(task("a", job, 60.0), clock=clock)
    background.start()
    began = clock.now
    (state,) = background.tasks
    assert (state.last_run, state.next_run, state.runs) == (None, began + 60, 0)
    job.gate.clear()
    assert background.run_now("a")
    while not job.starts:
        time.sleep(0.002)
    clock.now += 7

    (state,) = background.tasks
    assert (state.last_run, state.next_run, state.runs) == (began, began + 60, 0)
    job.gate.set()
    while background.tasks[0].runs == 0:
        time.sleep(0.002)

    (state,) = background.tasks
    assert (state.last_run, state.next_run, state.runs) == (began, began + 60, 1)
    assert (state.failures, state.last_error, state.last_duration) == (0, "", 7.0)


def hold_all_threads(background: Background) -> Job:
    """Have every thread run the job that is returned, until its gate is open."""
    job = Job()
    job.gate.clear()
    for number in range(THREADS):
        background.register(task(f"hold:{number}", job, HOUR))
        assert background.run_now(f"hold:{number}")
    while len(job.starts) < THREADS:
        time.sleep(0.002)
    return job


def test_a_refresh_does_not_put_off_what_is_due(make: Make) -> None:
    intervals, job = [HOUR, HOUR, HOUR / 2, DAY], Job()
    background = make(task("a", job, lambda: intervals.pop(0)))
    background.start()
    holding = hold_all_threads(background)
    assert background.run_now("a")

    background.refresh()
    background.refresh()
    assert background.tasks[0].interval == HOUR / 2
    holding.gate.set()

    job.wait_for(1)


# --- pause, run now, stop -------------------------------------------------------------------------


def test_paused_tasks_do_not_run_and_what_they_missed_is_one_run(make: Make) -> None:
    first, late = Job(), Job()
    background = make(task("first", first, 0.3))
    background.start()
    first.wait_for(1)

    background.pause_all()
    background.register(task("late", late, 0.3))
    runs = first.ends
    time.sleep(0.5)

    assert first.ends <= runs + 1, "one may have been under way"
    assert late.starts == []
    assert [(state.paused, state.next_run) for state in background.tasks] == [(True, None)] * 2
    assert not background.run_now("first")

    paused_at = first.ends
    resumed = time.monotonic()
    background.resume_all()
    first.wait_for(paused_at + 2)
    late.wait_for(1)
    began = [start - resumed for start in first.starts[paused_at:]]
    assert began[0] < 0.2, "at once"
    assert began[1] > 0.2, "and then an interval later"
    assert not any(state.paused for state in background.tasks)


def test_a_pause_leaves_a_running_task_alone_and_it_goes_on_after_the_resume(make: Make) -> None:
    job = Job()
    job.gate.clear()
    background = make(task("a", job, 0.03))
    background.start()
    while not job.starts:
        time.sleep(0.002)

    background.pause_all()
    background.resume_all()
    background.pause_all()
    job.gate.set()
    job.wait_for(1)
    time.sleep(0.15)
    assert len(job.starts) == 1

    background.resume_all()
    job.wait_for(3)
    assert job.overlaps == 0


def test_what_is_paused_before_the_start_begins_with_the_resume(make: Make) -> None:
    job = Job()
    background = make(task("a", job, 0.03))
    background.pause_all()
    background.start()
    time.sleep(0.15)
    assert job.starts == []

    background.resume_all()
    job.wait_for(2)


def test_run_now_moves_the_next_run(make: Make) -> None:
    clock, job = FakeClock(), Job()
    background = make(task("a", job, 600.0), clock=clock)
    assert not background.run_now("a"), "nothing runs yet"
    background.start()
    clock.now += 100

    assert background.run_now("a")

    job.wait_for(1)
    while background.tasks[0].runs == 0:
        time.sleep(0.002)
    assert background.tasks[0].next_run == clock.now + 600
    assert not background.run_now("b")
    background.unregister("a")
    assert not background.run_now("a")


def test_run_now_does_not_run_what_runs(make: Make) -> None:
    job = Job()
    job.gate.clear()
    background = make(task("a", job))
    background.start()
    assert background.run_now("a")
    while not job.starts:
        time.sleep(0.002)

    assert not background.run_now("a")

    job.gate.set()
    job.wait_for(1)
    time.sleep(0.1)
    assert len(job.starts) == 1


def test_stop_waits_for_what_runs_and_nothing_begins_after_it(make: Make) -> None:
    job, other = Job(seconds=0.3), Job()
    background = make(task("a", job, 0.03), task("b", other, 0.4))
    background.start()
    while not job.starts:
        time.sleep(0.002)

    assert background.stop(10)

    assert job.ends == 1
    background.start()
    background.resume_all()
    assert not background.run_now("a")
    time.sleep(0.5)
    assert (len(job.starts), len(other.starts)) == (1, 0)
    assert all(state.next_run is None for state in background.tasks)


def test_stop_waits_no_longer_than_it_may(make: Make) -> None:
    job = Job()
    job.gate.clear()
    background = make(task("a", job, 0.03))
    background.start()
    while not job.starts:
        time.sleep(0.002)

    began = time.monotonic()
    assert not background.stop(0.2)

    assert 0.2 <= time.monotonic() - began < 1.0
    job.gate.set()


@pytest.mark.parametrize("then", ["stop", "pause_all", "unregister"])
def test_what_is_due_and_has_not_begun_does_not_begin_any_more(make: Make, then: str) -> None:
    job = Job()
    background = make(task("a", job))
    background.start()
    holding = hold_all_threads(background)
    assert background.run_now("a")
    while background._due.empty():
        time.sleep(0.002)

    if then == "stop":
        assert not background.stop(0.1)
    elif then == "pause_all":
        background.pause_all()
    else:
        background.unregister("a")
    holding.gate.set()

    holding.wait_for(THREADS)
    time.sleep(0.1)
    assert job.starts == []


def test_a_task_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    code = """
import threading, time
from receiver.clock import steady_clock
from receiver.engine.background import Background
from receiver.engine.periodic_task import PeriodicTask
from receiver.engine.timers import Timers
began = threading.Event()
def hang():
    began.set()
    time.sleep(1000)
clock = steady_clock()
tasks = [PeriodicTask(id="a", every=lambda: 0.01, run=hang)]
background = Background(clock=clock, timers=Timers(clock), tasks=tasks)
background.start()
began.wait()
print(background.stop(0.1))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_stop_before_the_start_is_the_end() -> None:
    clock = steady_clock()
    background = Background(clock=clock, timers=Timers(clock), tasks=[task("a", Job(), 0.01)])
    assert background.stop(1)
    background.start()
    assert not [thread for thread in threading.enumerate() if "background-" in thread.name]


def test_many_threads_may_do_everything_at_once(make: Make) -> None:
    jobs = {f"t{n}": Job() for n in range(6)}
    off: set[str] = set()

    def entry(name: str) -> PeriodicTask:
        return task(name, jobs[name], lambda: random.uniform(0.001, 0.01), lambda: name not in off)

    background = make(*map(entry, jobs))
    background.start()
    until = time.monotonic() + 2.0
    deeds: list[Callable[[str], object]] = [
        background.unregister,
        background.run_now,
        lambda name: off.symmetric_difference_update({name}),
        lambda _: background.cleanup(),
        lambda _: background.refresh(),
        lambda _: background.pause_all(),
        lambda _: background.resume_all(),
        lambda _: background.tasks,
    ]
    wrong: list[BaseException] = []

    def meddle() -> None:
        try:
            while time.monotonic() < until:
                random.choice(deeds)(random.choice(list(jobs)))
                time.sleep(0.0005)
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=meddle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert wrong == []
    off.clear()
    background.cleanup()
    background.resume_all()

    assert {state.id for state in background.tasks} == jobs.keys()
    for job in jobs.values():
        job.wait_for(job.ends + 3)
        assert job.overlaps == 0


@pytest.mark.parametrize(
    ("total", "expected"),
    [(0, "normal"), (3, "normal"), (5, "normal"), (6, "caution"), (10, "caution"),
     (11, "overload"), (1000, "overload")],
)  # fmt: skip
def test_too_many_tasks_are_told(total: int, expected: Load) -> None:
    assert load(total) == expected
