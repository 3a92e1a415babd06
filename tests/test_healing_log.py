"""The healing log beside a real journal, and its export as a process."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from receiver.cli import log as cli
from receiver.errors import JournalError
from receiver.healing.asked import Asked
from receiver.healing.plan import plan_for
from receiver.journal import Admission, Episode, Journal, Want, open_journal
from receiver.policy.alert import Alert
from receiver.policy.run import Outcome, Phase, Run, State, Step, StepState
from receiver.policy.target import Key
from receiver.reporting import healing_log, rotating_file
from receiver.reporting.healing_log_line import (
    MAX_TEXT,
    HealingLogLine,
    encode,
    line_in,
    would_have,
)
from receiver.services import Inventory
from receiver.settings import HealingLogSettings
from tests.factories import NOW, FakeClock, alert, step, strategy
from tests.test_log import HOSTILE
from tests.tools import REPOSITORY

FIELDS = (
    "timestamp", "strategy", "metric", "value", "severity", "actions_executed", "actions_total",
    "success", "dry_run", "run", "target", "outcome", "reason", "fingerprint", "duration_seconds",
    "rolled_back", "doubt", "relapsed",
)  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "healing_log.jsonl"


@pytest.fixture
def make(journal: Journal, file: Path) -> Callable[..., healing_log.HealingLog]:
    """Makes a log as each start of promheal does."""

    def make(path: Path | None = file, **settings: Any) -> healing_log.HealingLog:
        chosen = HealingLogSettings(file=None if path is None else str(path), **settings)
        return healing_log.HealingLog(
            journal=journal, settings=lambda: chosen, folder=Path("nowhere")
        )

    return make


def begun(
    journal: Journal,
    about: Alert | None = None,
    *,
    value: float | None = None,
    planned: bool = True,
) -> Run:
    """A run on a target of its own whose first step of two is done."""
    about = about or alert()
    key = Key("latency", f'service="{os.urandom(4).hex()}"')
    want = Want(*key, about.fingerprint)
    journal.atomically(lambda t: t.admit(Admission([about]), [want], sender="am", now=NOW))
    episode: Episode | None = journal.read(lambda t: t.wanted(key))
    assert episode is not None
    wanted = episode
    two = strategy(actions=(step(), step()), target=())
    asked = Asked(episode=wanted, value=value)
    plan = plan_for(two, key[1], asked, inventory=Inventory({})) if planned else None

    def write(t: Any) -> Run:
        run: Run = t.open_run(key, State.ACTING, episode=wanted, now=NOW, plan=plan)
        if planned:
            t.put_step(
                run.id,
                Step(index=0, phase=Phase.RUN, action="spy", state=StepState.DONE, started_at=NOW),
            )
        return run

    return journal.atomically(write)


def ended(
    journal: Journal, at: float = NOW + 10, outcome: Outcome = Outcome.HEALED, **changes: Any
) -> int:
    """A run that acted and has ended."""
    reason = changes.pop("reason", "")
    run = begun(journal, **changes)
    journal.atomically(lambda t: t.finish(run, outcome, reason, now=at))
    return run.id


def lines(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def runs(file: Path) -> list[int]:
    return [line["run"] for line in lines(file)]


def unlogged(journal: Journal) -> list[int]:
    return journal.read(lambda t: t.unlogged(limit=1_000))


Make = Callable[..., healing_log.HealingLog]


# -- a line


def test_a_run_that_ended_is_one_line_with_all_that_is_asked_for(
    journal: Journal, make: Make, file: Path
) -> None:
    labels = {"alertname": "HighLatency", "severity": "critical", "service": "checkout"}
    about = alert(labels=labels)
    run = ended(journal, NOW + 10.25, about=about, value=0.95, reason="it no longer fires")

    make().write()

    (line,) = lines(file)
    assert tuple(line) == FIELDS
    target = line.pop("target")
    assert target.startswith('service="')
    assert line == {
        "timestamp": "2027-01-15T08:00:10.250Z",
        "strategy": "latency",
        "metric": "HighLatency",
        "value": 0.95,
        "severity": "critical",
        "actions_executed": 1,
        "actions_total": 2,
        "success": True,
        "dry_run": False,
        "run": run,
        "outcome": "healed",
        "reason": "it no longer fires",
        "fingerprint": about.fingerprint,
        "duration_seconds": 10.25,
        "rolled_back": False,
        "doubt": None,
        "relapsed": False,
    }


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_what_is_healed_is_a_success(
    journal: Journal, make: Make, file: Path, outcome: Outcome
) -> None:
    ended(journal, outcome=outcome)

    make().write()

    (line,) = lines(file)
    assert (line["outcome"], line["success"]) == (outcome, outcome is Outcome.HEALED)


@pytest.mark.parametrize(
    ("cause", "outcome", "undone"),
    [
        (Outcome.FAILED, Outcome.ROLLED_BACK, True),
        (Outcome.INEFFECTIVE, Outcome.INEFFECTIVE, True),
        (Outcome.FAILED, Outcome.ROLLBACK_FAILED, False),
    ],
)
def test_a_line_tells_whether_all_was_undone(
    journal: Journal, make: Make, file: Path, cause: Outcome, outcome: Outcome, undone: bool
) -> None:
    run = begun(journal)
    back = Step(index=0, phase=Phase.ROLLBACK, action="spy", state=StepState.DONE, started_at=NOW)

    def write(t: Any) -> None:
        undoing = t.change(run, State.ROLLING_BACK, cause=cause)
        t.put_step(run.id, back)
        t.finish(undoing, outcome, "", now=NOW + 1)

    journal.atomically(write)
    make().write()

    (line,) = lines(file)
    assert line["rolled_back"] is undone
    assert line["actions_executed"] == 1, "an undoing is no action"


@pytest.mark.parametrize(
    ("labels", "annotations", "asked", "metric", "value"),
    [
        ({"alertname": "A"}, {}, None, "A", None),
        ({"alertname": "A", "metric": "cpu"}, {}, 2.5, "cpu", 2.5),
        ({"alertname": "A", "metric": ""}, {"value": "0.9"}, None, "A", 0.9),
        ({"alertname": "A"}, {"value": "0.9"}, 0.0, "A", 0.0),
        ({"service": "a"}, {"value": "95%"}, None, "", None),
        ({"service": "a"}, {"value": "NaN"}, None, "", None),
        ({"service": "a"}, {}, float("inf"), "", None),
    ],
)
def test_metric_and_value_are_the_readings_where_it_has_them(
    journal: Journal, make: Make, file: Path, labels: dict[str, str], annotations: dict[str, str],
    asked: float | None, metric: str, value: float | None,
) -> None:  # fmt: skip
    about = alert(labels=labels, annotations=annotations)
    ended(journal, about=about, value=asked)

    make().write()

    (line,) = lines(file)
    assert (line["metric"], line["value"], line["severity"]) == (metric, value, "")


def test_a_run_that_failed_before_it_was_planned_tells_what_it_was_about(
    journal: Journal, make: Make, file: Path
) -> None:
    about = alert()
    ended(journal, outcome=Outcome.FAILED, about=about, planned=False)

    make().write()

    (line,) = lines(file)
    assert (line["metric"], line["fingerprint"]) == ("HighLatency", about.fingerprint)
    assert (line["actions_executed"], line["actions_total"]) == (0, 0)


def test_a_run_that_never_acted_has_no_line(journal: Journal, make: Make, file: Path) -> None:
    about = alert()
    journal.atomically(lambda t: t.admit(Admission([about]), [], sender="am", now=NOW))
    (episode,) = journal.read(lambda t: t.open_episodes(limit=1))

    def write(t: Any) -> None:
        run = t.open_run(Key("latency", "t"), State.PENDING, episode=episode, now=NOW)
        t.finish(run, Outcome.CANCELLED, "resolved", now=NOW)

    journal.atomically(write)
    make().write()

    assert not file.exists()


def test_hostile_labels_are_one_line_of_printable_and_bounded_text(
    journal: Journal, make: Make, file: Path
) -> None:
    labels = {"alertname": HOSTILE, "severity": '","success":true,"x":"' + HOSTILE * 2_000}
    ended(journal, about=alert(labels=labels), outcome=Outcome.FAILED, reason="\0" * 5_000)

    make().write()

    written = file.read_bytes()
    assert written.count(b"\n") == 1
    assert written.decode()[:-1].isprintable()
    (line,) = lines(file)
    assert line["metric"] == HOSTILE
    assert line["success"] is False
    assert line["severity"] == labels["severity"][: MAX_TEXT - 1] + "…"
    assert len(line["reason"]) == MAX_TEXT


def test_a_batch_is_never_longer_than_what_is_looked_at_after_a_crash() -> None:
    worst = "\0" * 1_000
    line = would_have(Key(worst, worst), alert(labels={"metric": worst, "severity": worst}),
                      value=-1.7e-308, actions=10**6, now=NOW)  # fmt: skip
    line = msgspec.structs.replace(line, run=2**63, reason=line.target, outcome=Outcome.HEALED)

    assert len(encode(line)) * healing_log.BATCH < rotating_file.TAIL


# -- the order, and once


def test_lines_are_in_the_order_of_the_ends(journal: Journal, make: Make, file: Path) -> None:
    late, early, middle = ended(journal, NOW + 9), ended(journal, NOW + 1), ended(journal, NOW + 5)

    make().write()

    assert runs(file) == [early, middle, late]
    assert unlogged(journal) == []


def test_what_ended_while_there_was_no_log_is_caught_up_with(
    journal: Journal, make: Make, file: Path
) -> None:
    expected = [ended(journal, NOW + n) for n in range(3 * healing_log.BATCH + 1)]

    make().write()

    assert runs(file) == expected
    assert unlogged(journal) == []


def test_a_run_that_has_its_line_gets_no_other(journal: Journal, make: Make, file: Path) -> None:
    log = make()
    first = ended(journal, NOW + 1)
    log.write()
    log.write()
    second = ended(journal, NOW + 2)
    log.write()
    make().write()

    assert runs(file) == [first, second]


class _Died(BaseException):
    """Stands for SIGKILL."""


def dies(journal: Journal, monkeypatch: pytest.MonkeyPatch, log: healing_log.HealingLog) -> None:
    """Write, and die before the journal knows."""

    def die(*_: object) -> None:
        raise _Died

    with monkeypatch.context() as patched:
        patched.setattr(journal, "atomically", die)
        with pytest.raises(_Died):
            log.write()


def test_a_line_whose_process_died_before_the_journal_knew_is_not_written_twice(
    journal: Journal, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [ended(journal, NOW + n) for n in range(3)]
    dies(journal, monkeypatch, make())
    assert runs(file) == before == unlogged(journal)
    between = ended(journal, NOW + 1.5)
    after = ended(journal, NOW + 7)

    make().write()

    assert runs(file) == [*before, between, after]
    assert unlogged(journal) == []


def test_the_same_holds_when_the_next_line_begins_a_new_file(
    journal: Journal, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [ended(journal, NOW + n) for n in range(3)]
    dies(journal, monkeypatch, make())
    after = ended(journal, NOW + 7)

    make(max_bytes=file.stat().st_size).write()

    assert runs(file.with_name(file.name + ".1")) == before
    assert runs(file) == [after]


def test_a_journal_that_cannot_store_it_does_not_make_two_lines(
    journal: Journal, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make()
    log.write()

    def full(*_: object) -> None:
        raise JournalError("database or disk is full")

    run = ended(journal)
    with monkeypatch.context() as patched:
        patched.setattr(journal, "atomically", full)
        log.write()
    assert unlogged(journal) == [run]
    other = ended(journal, NOW + 20)
    log.write()

    assert runs(file) == [run, other]
    assert unlogged(journal) == []


def test_the_runs_of_a_journal_before_this_one_are_others(
    journal: Journal, make: Make, file: Path, tmp_path: Path
) -> None:
    before = open_journal(f"sqlite:///{tmp_path}/before.db")
    run = ended(before, NOW - 1_000)
    log = healing_log.HealingLog(journal=before, settings=HealingLogSettings, folder=file.parent)
    log.write()
    before.close()
    assert ended(journal) == run, "numbers begin anew"

    make().write()

    assert runs(file) == [run, run]


@pytest.mark.parametrize("written", [5, 60, -1])
def test_a_line_that_was_cut_off_in_the_middle_is_written_anew(
    journal: Journal, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    log = make()
    first = ended(journal, NOW)
    log.write()
    whole = file.read_bytes()
    second = ended(journal, NOW + 1)
    dies(journal, monkeypatch, log)
    torn = file.read_bytes()[len(whole) :][:written]
    file.write_bytes(whole + torn)

    make().write()
    assert runs(file) == [first, second]
    third = ended(journal, NOW + 2)
    make().write()

    assert runs(file) == [first, second, third]


def test_what_another_process_left_torn_spoils_no_line(
    journal: Journal, make: Make, file: Path
) -> None:
    log = make()
    first = ended(journal, NOW)
    log.write()
    with file.open("ab") as other:
        other.write(b'{"timestamp":"2027-01-15T08:00:00')
    second = ended(journal, NOW + 1)

    log.write()

    assert runs(file) == [first, second]


@pytest.mark.parametrize("text", ["what is this", '{"timestamp": "mine"}', "[" * 100_000])
def test_what_somebody_else_wrote_is_kept(
    journal: Journal, make: Make, file: Path, text: str
) -> None:
    file.parent.mkdir()
    file.write_text(f"{text}\n{text}")
    ended(journal)

    make().write()

    assert file.read_text().startswith(f"{text}\n{text}\n" + '{"timestamp":"2027')


# -- the file


def test_the_file_is_for_its_owner_and_group(journal: Journal, make: Make, file: Path) -> None:
    ended(journal)
    mask = os.umask(0)
    try:
        make().write()
    finally:
        os.umask(mask)

    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_file_is_filled_to_its_last_byte_and_not_beyond(
    journal: Journal, make: Make, file: Path
) -> None:
    first, second, third = (ended(journal, NOW + n) for n in range(3))
    sizes = [len(encode(line)) for line in all_lines(journal)]
    room = sum(sizes[:2])

    make(max_bytes=room).write()
    assert runs(file.with_name(file.name + ".1")) == [first, second]
    assert runs(file) == [third]

    file.unlink()
    journal.atomically(
        lambda t: [t.finish(begun_in(t, n), Outcome.HEALED, "", now=NOW) for n in "ab"]
    )
    make(max_bytes=room - 1).write()
    assert len(runs(file)) == 1


def begun_in(t: Any, name: str) -> Any:
    (episode,) = t.open_episodes(limit=1)
    return t.open_run(
        Key("latency", f'service="0000000{name}"'), State.ACTING, episode=episode, now=NOW
    )


def all_lines(journal: Journal) -> list[HealingLogLine]:
    found = journal.read(lambda t: [line_in(t, run) for run in t.unlogged(limit=1_000)])
    return [line for line in found if line is not None]


def test_older_files_move_up_and_the_oldest_is_removed(
    journal: Journal, make: Make, file: Path
) -> None:
    log = make(max_bytes=1, keep=2)
    all_runs = []
    for n in range(5):
        all_runs.append(ended(journal, NOW + n))
        log.write()

    assert sorted(path.name for path in file.parent.iterdir()) == [
        file.name, f"{file.name}.1", f"{file.name}.2",
    ]  # fmt: skip
    found = [runs(file.with_name(file.name + end)) for end in (".2", ".1", "")]
    assert found == [[run] for run in all_runs[2:]], "a line is never split, however long"


def test_fewer_files_are_kept_when_fewer_are_wanted(
    journal: Journal, make: Make, file: Path
) -> None:
    for keep, count in [(4, 6), (2, 1)]:
        log = make(max_bytes=1, keep=keep)
        for _ in range(count):
            ended(journal)
            log.write()

    assert len(list(file.parent.iterdir())) == 3


def test_a_file_that_is_larger_than_it_should_be_now_is_closed_at_the_next_line(
    journal: Journal, make: Make, file: Path
) -> None:
    first = ended(journal)
    make().write()
    second = ended(journal)
    make(max_bytes=100).write()

    assert (runs(file.with_name(file.name + ".1")), runs(file)) == ([first], [second])


def test_where_no_file_is_wanted_nothing_piles_up(journal: Journal, make: Make, file: Path) -> None:
    for _ in range(2 * healing_log.BATCH):
        ended(journal)
    log = make(None)
    log.add(would_have(Key("latency", "t"), alert(), value=None, actions=1, now=NOW))

    assert unlogged(journal) == []
    assert log._pending == []
    assert not file.parent.exists()


def folder(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def no_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file")


@pytest.mark.parametrize(
    ("obstacle", "said"),
    [
        (folder, "Is a directory"),
        (link, "a symbolic link is not followed"),
        (pipe, "not a regular file"),
        (no_folder, "exists"),
    ],
)
def test_what_cannot_be_written_waits_and_is_told_once_an_hour(
    journal: Journal, file: Path, caplog: pytest.LogCaptureFixture,
    obstacle: Callable[[Path], None], said: str,
) -> None:  # fmt: skip
    file.parent.mkdir()
    obstacle(file)
    clock = FakeClock(5.0)
    log = healing_log.HealingLog(
        journal=journal, settings=HealingLogSettings, folder=file.parent, uptime=clock
    )
    run = ended(journal)

    log.write()
    clock.now += 3_599
    log.write()
    assert len(caplog.records) == 1
    assert said in caplog.text
    clock.now += 1
    log.write()
    assert len(caplog.records) == 2
    assert unlogged(journal) == [run]
    assert not file.with_name("elsewhere").exists()

    if file.is_dir():
        file.rmdir()
    else:
        (file if file.parent.is_dir() else file.parent).unlink()
    log.write()
    assert runs(file) == [run]


def test_a_full_disk_leaves_no_half_a_line(
    journal: Journal, make: Make, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = make()
    first = ended(journal, NOW)
    log.write()
    second = ended(journal, NOW + 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # The journal is larger than that already, and not written to in between.
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, limits[1]))
    try:
        log.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert "No space left on device" in caplog.text
    assert runs(file) == [first]
    log.write()
    assert runs(file) == [first, second]


def test_a_closed_journal_is_told_and_raises_nothing(
    journal: Journal, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    log = make()
    journal.close()

    log.write()

    assert "the journal is closed" in caplog.text


def test_whoever_heals_does_not_fail_for_a_journal_with_nonsense_in_it(
    journal: Journal, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    run = ended(journal)
    spoil(journal, run)

    make().write()

    assert "Traceback" in caplog.text


def spoil(journal: Journal, run: int) -> None:
    def write(t: Any) -> None:
        t.connection.execute("update run set plan = '[]' where id = ?", (run,))

    journal.atomically(write)


# -- with --dry-run


def test_what_would_have_been_done_is_a_line_too(journal: Journal, make: Make, file: Path) -> None:
    about = alert(labels={"alertname": "A", "severity": "page"}, annotations={"value": "7"})
    make().add(would_have(Key("latency", "t"), about, value=None, actions=3, now=NOW))

    (line,) = lines(file)
    assert tuple(line) == FIELDS
    assert line == {
        "timestamp": "2027-01-15T08:00:00.000Z", "strategy": "latency", "metric": "A", "value": 7.0,
        "severity": "page", "actions_executed": 0, "actions_total": 3, "success": False,
        "dry_run": True, "run": None, "target": "t", "outcome": None, "reason": "dry_run",
        "fingerprint": about.fingerprint, "duration_seconds": None, "rolled_back": False,
        "doubt": None, "relapsed": False,
    }  # fmt: skip


def test_lines_without_a_run_wait_for_the_file_too_but_not_without_bound(
    make: Make, file: Path
) -> None:
    log = make()
    file.mkdir(parents=True)
    line = would_have(Key("latency", "t"), alert(), value=None, actions=3, now=NOW)
    for n in range(healing_log.MOST_PENDING + 5):
        log._pending.append(line) if 0 < n < healing_log.MOST_PENDING else log.add(line)
    file.rmdir()

    log.write()

    assert len(lines(file)) == healing_log.MOST_PENDING


def test_lines_without_a_run_do_not_hide_that_one_is_in_doubt(
    journal: Journal, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(journal)
    dies(journal, monkeypatch, make())
    log = make()
    line = would_have(Key("latency", "t"), alert(), value=None, actions=3, now=NOW)
    log._pending += [line] * healing_log.BATCH  # a whole batch is before the run's

    log.write()

    assert runs(file) == [run] + [None] * healing_log.BATCH


# -- at the same time


def test_many_threads_write_each_run_once_and_in_order(
    journal: Journal, make: Make, file: Path
) -> None:
    log = make(max_bytes=20_000, keep=100)
    each = 40

    def heal() -> None:
        for _ in range(each):
            ended(journal, time.time())
            log.write()

    threads = [threading.Thread(target=heal) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    log.write()
    older = sorted(file.parent.glob("*.jsonl.*"), key=lambda path: -int(path.suffix[1:]))
    found = [run for path in [*older, file] for run in runs(path)]
    assert len(older) > 1
    assert max(path.stat().st_size for path in older) <= 20_000
    assert sorted(found) == list(range(1, 8 * each + 1))
    assert unlogged(journal) == []


def test_nobody_waits_for_a_file_that_hangs(
    journal: Journal, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, go_on = threading.Event(), threading.Event()
    fsync = os.fsync

    def hang(descriptor: int) -> None:
        hanging.set()
        go_on.wait(10)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hang)
    log = make()
    first = ended(journal, NOW)
    one = threading.Thread(target=log.write)
    one.start()
    assert hanging.wait(10)
    second = ended(journal, NOW + 1)
    before = time.monotonic()
    log.write()
    assert time.monotonic() - before < 1
    go_on.set()
    one.join()

    assert runs(file) == [first, second], "who was writing came back for it"


def test_a_file_that_another_process_holds_is_left_alone_and_tried_again(
    journal: Journal, make: Make, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = ended(journal)
    file.parent.mkdir()
    with file.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        make().write()
        assert "another process holds it" in caplog.text
        assert file.read_bytes() == b""

    make().write()
    assert runs(file) == [run]


def test_a_file_that_another_process_has_just_renamed_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    opened = rotating_file._open(path)
    try:
        path.rename(tmp_path / "log.1")
        assert not rotating_file._hold(opened, path), "nothing is there"
        path.touch()
        assert not rotating_file._hold(opened, path), "it is another file"
        (tmp_path / "log.1").replace(path)
        assert rotating_file._hold(opened, path)
    finally:
        os.close(opened)


# -- promheal log export


def export(*arguments: str) -> str:
    done = CliRunner().invoke(cli.command, ["export", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def url(journal: Journal, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


def test_the_export_is_what_the_log_says(
    journal: Journal, make: Make, file: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "PAGE", 7)
    monkeypatch.setattr(cli, "CHUNK", 3)
    for n in range(20):
        about = alert(labels={"alertname": HOSTILE, "n": str(n)})
        ended(journal, NOW + n % 4, about=about, outcome=list(Outcome)[n % 8])
    begun(journal)  # has not ended
    make().write()

    assert export("--storage.url", url) == file.read_text()
    assert len(runs(file)) == 20


def test_the_export_can_be_narrowed(journal: Journal, url: str) -> None:
    now = max(time.time(), NOW)  # the journal was told something at NOW
    ended(journal, now - 7_300)
    ended(journal, now - 7_000)

    def count(*arguments: str) -> int:
        return export("--storage.url", url, *arguments).count("\n")

    assert count() == 2
    assert count("--since", "2h") == 1
    assert count("--since", "1h") == 0
    assert count("--strategy", "latency") == 2
    assert count("--strategy", "other") == 0


def test_the_export_of_a_strategy_that_never_ran_is_told(journal: Journal, url: str) -> None:
    ended(journal)
    call = ["export", "--storage.url", url, "--strategy", "latecny"]

    done = CliRunner().invoke(cli.command, call, standalone_mode=False)

    assert (done.return_value, done.stdout) == (3, "")
    told = "promheal: warning: no run of strategy 'latecny' is here; did you mean 'latency'?\n"
    assert done.stderr == told
    call[-1] = "latency"
    assert CliRunner().invoke(cli.command, call, standalone_mode=False).return_value == 0


def test_csv_has_a_header_and_no_formula(journal: Journal, url: str, tmp_path: Path) -> None:
    labels = {"alertname": '=HYPERLINK("http://evil.example","a\nb")', "severity": "-1"}
    ended(journal, about=alert(labels=labels), value=-1.5)
    out = tmp_path / "out.csv"

    assert export("--storage.url", url, "-o", "csv", "--out", str(out)) == ""

    text = out.read_text()
    assert text.count("\n") == 2
    (row,) = csv.DictReader(io.StringIO(text))
    assert tuple(row) == FIELDS
    assert row["metric"] == r"""'=HYPERLINK("http://evil.example","a\u000ab")"""
    assert (row["severity"], row["value"]) == ("'-1", "-1.5")
    assert (row["success"], row["outcome"], row["run"]) == ("true", "healed", "1")


def promheal(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    call = "import sys; from receiver.cli import main, root; from receiver.cli.log import command; "
    call += "root.add_command(command); root.get_command = lambda *_: command; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", call, "log", "export", *arguments],
        text=True, timeout=60, check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--storage.url", "sqlite:///nowhere.db"], "nowhere.db: there is no journal"),
        (["--storage.url", "nowhere.db"], "write sqlite:///PATH"),
        (["--since", "1 day"], "is not a duration"),
        (["--out", "missing/out.csv"], "--out missing/out.csv: No such file"),
    ],
)
def test_what_cannot_be_exported_is_said(
    arguments: list[str], said: str, url: str, tmp_path: Path
) -> None:
    done = promheal("--storage.url", url, *arguments, cwd=tmp_path, env=with_path())

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (tmp_path / "nowhere.db").exists(), "it is not made"


def with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}


def test_the_export_works_beside_a_server_and_into_a_pipe_that_closes(
    journal: Journal, url: str
) -> None:
    assert journal.acquire()
    for n in range(1_000):
        ended(journal, NOW + n)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = promheal("--storage.url", url, stdout=pipe)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert promheal("--storage.url", url).stdout.count("\n") == 1_000


def test_a_long_export_tells_on_a_terminal_how_far_it_is(
    journal: Journal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(journal)
    master, terminal = os.openpty()
    done = promheal("--storage.url", url, stderr=terminal)
    os.close(terminal)

    assert done.stdout.count("\n") == 1
    assert b"1 runs" in os.read(master, 1_000)
    os.close(master)
    assert isinstance(cli.command, click.Group)


# -- the page


def test_the_page_tells_every_field_in_its_order_and_shows_a_real_line() -> None:
    page = (REPOSITORY / "docs/reference/healing-log.md").read_text(encoding="utf-8")
    fields, _, rest = page.partition("## Settings")

    assert tuple(re.findall(r"^\| `(\w+)` \|", fields, re.MULTILINE)) == FIELDS
    assert HealingLogLine.__struct_fields__ == FIELDS
    (shown,) = re.findall(r"```json\n(.*)\n```", fields)
    assert encode(msgspec.json.decode(shown, type=HealingLogLine)).decode() == shown + "\n"
    told = dict(re.findall(r"^\| `(\w+)` \| `(\S+)` \|", rest, re.MULTILINE))
    assert told == {name: str(value) for name, value in
                    msgspec.structs.asdict(HealingLogSettings()).items()}  # fmt: skip
    assert f"truncated to {MAX_TEXT} characters" in page
