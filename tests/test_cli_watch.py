"""`promheal watch` as a process, and what it takes for new, pass by pass."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner

from receiver.app import Promheal
from receiver.cli.alert_file import read_alert_file
from receiver.cli.passes import acting_service, take
from receiver.cli.watch import _Watch, command
from receiver.errors import JournalError
from receiver.journal import Journal, open_journal

SLOW = """\
  slow:
    match: ['alertname="Slow"']
    target: [service]
    actions: [{action: wait, duration: 3s}, {action: log, message: "late: {{ labels.service }}"}]
"""


def reading(at: float, metric: str = "HighLatency", service: str = "shop") -> dict[str, Any]:
    return {"timestamp": at, "metric": metric, "value": 1, "service": service}


def payload(*names: str, started: str = "2026-11-22T04:31:42Z") -> dict[str, Any]:
    return {
        "version": "4",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": name, "service": "shop"},
                "startsAt": started,
            }
            for name in names
        ],
    }


def write(path: Path, content: Any) -> None:
    """Put it there in one piece, as who cares about readers does."""
    new = path.with_suffix(".new")
    new.write_text(content if isinstance(content, str) else json.dumps(content))
    new.rename(path)


def eventually(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, f"not within 20 s: {what}"
        time.sleep(0.02)


@pytest.fixture
def journal(config: Path) -> Iterator[Journal]:
    """The journal of a process: made before it, since two at once would be in each other's way."""
    journal = open_journal(f"sqlite:///{config}/journal.db")
    yield journal
    journal.close()


def states(journal: Journal) -> list[str]:
    return [run.state for run in journal.read(lambda t: t.runs(limit=9))]


# -- as a process


class Watching:
    """A process that watches, and what it has written so far."""

    def __init__(self, config: Path, *more: str) -> None:
        self.file = config / "alerts.json"
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "receiver", "watch", "--alerts", str(self.file),
                "--interval", "100ms", "--config.file", str(config / "promheal.yml"),
                "--storage.url", f"sqlite:///{config}/journal.db", *more,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.out, self.log = "", ""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, "out")),
            threading.Thread(target=self._read, args=(self._process.stderr, "log")),
        ]
        for reader in self._readers:
            reader.start()

    def says(self, text: str) -> None:
        eventually(lambda: text in self.log or not self.runs, text)
        assert text in self.log

    def prints(self, text: str, times: int = 1) -> None:
        eventually(lambda: self.out.count(text) >= times, text)

    def send(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end; return how it did."""
        self.send(number)
        return self.ended()

    def ended(self) -> int:
        try:
            return self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            for reader in self._readers:
                reader.join()

    def _read(self, stream: IO[str], name: str) -> None:
        for line in stream:
            setattr(self, name, getattr(self, name) + line)
        stream.close()


@pytest.fixture
def watch(config: Path) -> Iterator[Callable[..., Watching]]:
    path = config / "healing_strategies.yml"
    path.write_text(path.read_text() + SLOW)
    started: list[Watching] = []

    def start(*more: str) -> Watching:
        started.append(Watching(config, *more))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_waits_for_the_file_takes_what_is_new_and_ends_cleanly(
    watch: Callable[..., Watching], number: signal.Signals
) -> None:
    watching = watch()
    watching.says("alerts.json: No such file or directory")
    write(watching.file, "{ half")
    watching.says("alerts.json: no JSON")
    write(watching.file, reading(time.time() - 3600))
    watching.says("since it may be over (--max-age)")
    write(watching.file, reading(time.time()))
    watching.prints("inconclusive")
    watching.says('"slow: shop"')
    watching.says("nothing new; waiting")
    write(watching.file, reading(time.time() + 1))
    watching.prints("grace_period")

    assert watching.end(number) == 0
    for once in ("No such file", "no JSON", "it may be over"):
        assert watching.log.count(once) == 1, once
    assert watching.log.count("nothing new; waiting") <= 2
    assert "Traceback" not in watching.log


def test_nobody_acts_beside_it(watch: Callable[..., Watching], config: Path) -> None:
    first = watch()
    first.says("No such file")

    second = watch()

    second.says("promheal: a server acts on")
    assert (second.ended(), first.end()) == (2, 0)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    watch: Callable[..., Watching], config: Path, journal: Journal
) -> None:
    assert journal.acquire(), "somebody acts, and that is no obstacle"
    write(config / "alerts.json", reading(time.time()))

    watching = watch("--dry-run", "-o", "json")

    watching.prints('"actions": [')
    assert watching.end() == 0
    (result,) = json.loads(watching.out)["results"]
    assert (result["result"], result["actions"]) == ("allow", ["log"])
    assert journal.read(lambda t: (t.runs(limit=9), t.keys())) == ([], set())


def test_every_pass_is_a_document_of_its_own(watch: Callable[..., Watching]) -> None:
    watching = watch("-o", "yaml")
    for number in (1, 2):
        write(watching.file, reading(time.time() + number))
        watching.prints("strategy: latency", number)

    assert watching.end() == 0
    assert watching.out.count("---\n") == 2


def test_what_is_under_way_at_the_end_is_taken_up_by_the_next_one(
    watch: Callable[..., Watching], config: Path, journal: Journal
) -> None:
    write(config / "alerts.json", reading(time.time(), "Slow"))
    first = watch()
    eventually(lambda: states(journal) == ["waiting"], "waiting")
    begun = time.monotonic()
    assert first.end() == 0
    assert time.monotonic() - begun < 2, "it does not wait for the timer"
    assert "promheal ends; to be taken up again" in first.out

    (config / "alerts.json").unlink()
    second = watch()

    second.prints("inconclusive")
    assert "late: shop" in second.log


def test_a_second_signal_ends_it_at_once(
    watch: Callable[..., Watching], config: Path, journal: Journal
) -> None:
    path = config / "healing_strategies.yml"
    path.write_text(
        path.read_text() + "  stuck:\n    match: ['alertname=\"Stuck\"']\n    target: [service]\n"
        "    actions: [{action: command, argv: [/bin/sleep, '60'], timeout: 70s}]\n"
    )
    write(config / "alerts.json", reading(time.time(), "Stuck"))
    watching = watch()
    eventually(lambda: states(journal) == ["acting"], "acting")

    watching.send(signal.SIGTERM)
    time.sleep(0.5)
    assert watching.runs, "the action may end"
    assert watching.end() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing option '--alerts'"),
        (["--alerts", "x", "--interval", "0"], "must be longer than nothing"),
        (["--alerts", "x", "--interval", "often"], "'often' is not a duration"),
        (["--alerts", "/"], "is a directory"),
    ],
)
def test_a_wrong_call_is_told(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(command, arguments)

    assert done.exit_code == 2
    assert says in done.stderr


# -- what is new


@pytest.fixture
def service(config: Path) -> Iterator[Promheal]:
    with acting_service(
        config / "promheal.yml", f"sqlite:///{config}/journal.db", dry_run=False
    ) as service:
        yield service


@pytest.fixture
def passes(
    service: Promheal, config: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., tuple[int | None, list[str]]]:
    """One pass over some content: how many results there are, and what is said."""
    file = config / "alerts.json"
    watch = _Watch(service, file, 300.0, dry_run=False, ending=threading.Event())
    caplog.set_level(logging.INFO, logger="promheal.watch")

    def look(content: Any = None, *, age: float = 0.0) -> tuple[int | None, list[str]]:
        caplog.clear()
        if content is not None:
            write(file, content)
            os.utime(file, (time.time() - age, time.time() - age))
        results = watch.look()
        said = [r.getMessage() for r in caplog.records if r.name == "promheal.watch"]
        return None if results is None else len(results), said

    return look


Passes = Callable[..., tuple[int | None, list[str]]]


def test_a_file_is_taken_once_however_often_it_is_written_the_same(passes: Passes) -> None:
    now = time.time()

    assert passes([reading(now)])[0] == 1
    assert passes()[0] is None
    assert passes([reading(now)])[0] is None
    assert passes([reading(now + 1)])[0] == 1


def test_of_a_file_that_grows_only_what_is_new_is_taken(passes: Passes, service: Promheal) -> None:
    now = time.time()

    assert passes([reading(now - 900, service="old"), reading(now, service="a")])[0] == 1
    grown = [
        reading(now - 900, service="old"),
        reading(now, service="a"),
        reading(now, service="b"),
    ]
    assert passes(grown)[0] == 1
    services = {
        episode.alert.labels["service"]
        for episode in service.journal.read(lambda t: t.open_episodes(limit=9))
    }
    assert services == {"a", "b"}


def test_alertmanagers_payload_is_new_whenever_it_is_said_again(passes: Passes) -> None:
    assert passes(payload("HighLatency"), age=20.0)[0] == 1, "however long ago it began to fire"
    assert passes()[0] is None
    assert passes(payload("HighLatency"), age=10.0)[0] == 1
    assert passes(payload("HighLatency"), age=301.0)[0] is None


def test_the_same_trouble_is_said_once_and_other_trouble_again(passes: Passes) -> None:
    assert len(passes()[1]) == 1, "no such file"
    assert passes()[1] == []
    assert len(passes("[")[1]) == 1
    assert passes()[1] == []
    assert "left out" in passes([reading(0)])[1][0]
    assert passes()[1] == []
    assert passes([reading(-1e300), reading(1)])[1] == [], "others, as old"
    (said,) = passes({"version": "4", "alerts": [{"status": "firing"}]})[1]
    assert "labels" in said
    assert "nothing new" in passes({"version": "4", "alerts": []})[1][0]
    assert passes([reading(time.time())])[1] == ["alerts taken"]
    assert "nothing new" in passes()[1][0]
    assert passes()[1] == []


def test_what_could_not_be_stored_is_taken_again(
    passes: Passes, service: Promheal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise JournalError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(service.journal, "atomically", full)
        assert passes([reading(time.time())]) == (
            None, ["taken again at the next pass: the disk is full"],
        )  # fmt: skip
        assert passes() == (None, [])
    assert passes()[0] == 1


def test_alerts_that_no_strategy_wants_are_taken_once_too(passes: Passes) -> None:
    assert passes([reading(time.time(), "Other")])[0] == 0
    assert passes()[0] is None


# -- once, whose way it goes


def taken(service: Promheal, config: Path, content: Any) -> list[dict[str, Any]]:
    write(config / "alerts.json", content)
    notification = read_alert_file(config / "alerts.json").notification
    return take(service, notification, dry_run=False)


def test_what_has_ended_already_is_not_done_again(service: Promheal, config: Path) -> None:
    ended = payload("HighLatency")
    ended["alerts"][0] |= {"status": "resolved", "endsAt": "2026-11-22T04:41:42Z"}
    assert taken(service, config, payload("HighLatency"))[0]["result"] == "inconclusive"
    assert taken(service, config, ended) == []

    (result,) = taken(service, config, payload("HighLatency", started="2026-11-22T04:32:00Z"))

    assert (result["result"], result["reason"], result["run"]) == ("deny", "resolved", None)


def test_with_auto_detection_off_nothing_is_asked_and_that_is_said(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (config / "promheal.yml").write_text("flags: {auto_detection: false}\n")
    url = f"sqlite:///{config}/journal.db"
    with acting_service(config / "promheal.yml", url, dry_run=False) as service:
        assert taken(service, config, reading(time.time())) == []

    assert "auto detection is switched off" in caplog.text


def test_ctrl_c_does_not_wait_for_a_timer(config: Path, journal: Journal) -> None:
    path = config / "healing_strategies.yml"
    path.write_text(path.read_text() + SLOW.replace("3s", "1h"))
    write(config / "alerts.json", reading(time.time(), "Slow"))
    process = subprocess.Popen(
        [
            sys.executable, "-m", "receiver", "once", "--alerts", str(config / "alerts.json"),
            "--config.file", str(config / "promheal.yml"),
            "--storage.url", f"sqlite:///{config}/journal.db",
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: states(journal) == ["waiting"], "waiting")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
        process.wait()
