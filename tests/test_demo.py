from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from receiver.clock import Clock
from receiver.demo import chain as chain_module
from receiver.demo.chain import Chain, DemoError, Programs, find_programs
from receiver.demo.faults import FAULTS
from receiver.demo.narrator import Narrator, Tone
from receiver.demo.run_view import RunView, StepView
from receiver.demo.story import Story
from receiver.demo.watch import Watch
from receiver.errors import ConfigError
from receiver.policy.promql import Rule, Sample, Samples
from receiver.policy.run import Observation, Outcome, Phase, StepState
from tests.chain import free_port, wait_until
from tests.tools import REPOSITORY, tool

pytestmark = pytest.mark.alone

PROMISED = 20.0
"""Seconds from sick to proven, on a machine that has a core to spare."""
LONGEST = 120.0
"""Seconds after which a demo hangs, whatever else the machine does."""

# --- the whole of it ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_heals_and_prometheus_agrees(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "demo", "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["outcome"] == "healed"
    assert said["error"] is None
    assert said["prometheus"]["rule"] == "inactive"
    assert said["prometheus"]["series_returned"] == 0
    assert 0 < said["alert_to_action_seconds"] < said["alert_to_clear_seconds"]
    assert said["notification_to_action_milliseconds"] > 0
    assert said["alert_to_clear_seconds"] < said["sick_to_healed_seconds"]
    if os.getloadavg()[0] <= len(os.sched_getaffinity(0)):
        assert said["sick_to_healed_seconds"] < PROMISED
    beats = ["sick", "is pending", "is firing", "notified", "decides", "started", "proven", "ended"]
    places = [done.stderr.index(beat) for beat in beats]
    assert places == sorted(places), done.stderr
    assert "is inactive" in done.stderr
    assert "resolved" in done.stderr
    assert "\x1b" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    for url in said["addresses"].values():
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "left"),
    [
        (signal.SIGINT, 130, 0),
        (signal.SIGTERM, 130, 0),
        (signal.SIGKILL, -9, 1),  # nobody is left who could remove the folder
    ],
)
def test_nothing_that_it_started_outlives_it(
    tmp_path: Path, number: signal.Signals, code: int, left: int
) -> None:
    with subprocess.Popen(
        # As a shell's background job without job control: SIGINT is ignored at the start.
        ["/bin/sh", "-c", 'trap "" INT; exec "$0" -m receiver demo', sys.executable],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            assert demo.stdout is not None
            assert any("makes the service sick" in line for line in demo.stdout)
            started = _descendants(demo.pid)
            assert len(started) >= 8  # supervise, supervisord, five programs, gunicorn's worker
            demo.send_signal(number)
            assert demo.wait(30) == code
        finally:
            demo.kill()
    wait_until(lambda: not any(map(_lives, started)), what="all of it has ended")
    assert len(list(tmp_path.iterdir())) == left


def test_what_is_missing_is_said_with_the_remedy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "demo", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 2
    assert "prometheus and prometheus-alertmanager not found" in done.stderr
    assert "make tools" in done.stderr
    assert done.stdout == ""


# --- the chain ------------------------------------------------------------------------------------


@pytest.fixture
def programs() -> Programs:
    return Programs(tool("prometheus"), tool("prometheus-alertmanager"))


@contextmanager
def _chain(folder: Path, programs: Programs) -> Iterator[Chain]:
    chain = Chain(folder, programs)
    try:
        yield chain
    finally:
        chain.close()


def test_a_port_that_is_taken_meanwhile_is_replaced(
    tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_addresses = chain_module._free_addresses
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = "{}:{}".format(*other.getsockname())
        turns = iter([[free_addresses(1)[0], taken, *free_addresses(2)]])
        monkeypatch.setattr(
            chain_module,
            "_free_addresses",
            lambda number: next(turns, None) or free_addresses(number),
        )
        with _chain(tmp_path, programs) as chain:
            chain.start(lambda _: None)
            assert taken not in chain.addresses.values()


def test_what_does_not_start_is_named_and_its_log_shown(tmp_path: Path, programs: Programs) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of order\nexit 1\n")
    broken.chmod(0o755)
    with _chain(tmp_path, msgspec.structs.replace(programs, prometheus=str(broken))) as chain:
        with pytest.raises(DemoError, match="prometheus ended") as caught:
            chain.start(lambda _: None)
        assert caught.value.program == "prometheus"
        assert chain.log("prometheus") == "out of order"


def test_a_folder_with_a_path_too_long_for_a_socket_is_refused(
    tmp_path: Path, programs: Programs
) -> None:
    with pytest.raises(ConfigError, match="TMPDIR"):
        Chain(tmp_path / ("x" * 100), programs)


def test_the_programs_are_found_where_make_tools_puts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / ".tools/usr/bin"
    folder.mkdir(parents=True)
    for name in ("prometheus", "prometheus-alertmanager"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    assert find_programs(tmp_path) == Programs(
        str(folder / "prometheus"), str(folder / "prometheus-alertmanager")
    )


def test_the_rules_are_sound() -> None:
    rules = REPOSITORY / "receiver/demo/rules.yml"
    done = subprocess.run([tool("promtool"), "check", "rules", str(rules)], check=False)
    assert done.returncode == 0
    text = rules.read_text()
    assert all(f"alert: {sickness.alert}\n" in text for sickness in FAULTS.values())


# --- the service ----------------------------------------------------------------------------------


@pytest.fixture
def shop() -> Iterator[str]:
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "receiver.demo.service", str(port)]) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _get(url + "/"), what="the service answers")
            yield url
        finally:
            process.kill()


def test_its_metrics_are_prometheus_text(shop: str) -> None:
    _get(shop + "/")
    text = _get(shop + "/metrics")
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, text=True, check=False
    )
    # 3: lint findings, such as a metric without help text; 1: cannot be read.
    assert done.returncode in {0, 3}
    assert 'http_requests_total{code="200"} 2' in text
    assert 'http_request_duration_seconds_bucket{le="+Inf"} 2' in text


def test_slow_means_every_answer(shop: str) -> None:
    _post(shop + "/sick?how=latency")
    began = time.monotonic()
    _get(shop + "/")
    assert time.monotonic() - began >= 0.8
    assert 'bucket{le="0.5"} 1' in _get(shop + "/metrics")


def test_a_leak_is_held_in_memory(shop: str) -> None:
    before = _metric(shop, "process_resident_memory_bytes")
    _post(shop + "/sick?how=memory")
    wait_until(lambda: _metric(shop, "process_resident_memory_bytes") > before + 190e6)


def test_spinning_takes_cpu(shop: str) -> None:
    _post(shop + "/sick?how=cpu")
    before = _metric(shop, "process_cpu_seconds_total")
    wait_until(lambda: _metric(shop, "process_cpu_seconds_total") > before + 0.2)


def test_an_unknown_sickness_is_refused(shop: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        _post(shop + "/sick?how=sorrow")


# --- the story: whom it believes ------------------------------------------------------------------


class _Chain:
    def __init__(self) -> None:
        self.addresses = {"shop": "127.0.0.1:1"}

    def check(self) -> None:
        pass


class _Prometheus:
    """Answers what it is told to."""

    def __init__(self, *, returned: int = 0, age: float = 0.5) -> None:
        self.rule = Rule(name="HighLatency", query="up == 0", health="ok", state="inactive")
        self.returned = returned
        self.age = age

    def rules(self, alertname: str | None = None) -> tuple[Rule, ...]:
        return (self.rule,)

    def query(self, expr: str) -> Samples:
        if expr == self.rule.query:
            return Samples([Sample({}, 1.0, 0.0)] * self.returned)
        return Samples([Sample({}, self.age, 0.0)] if self.age < 300 else [])


class _Watch:
    """Has seen it all, up to the end of the run."""

    def __init__(self, outcome: Outcome, prometheus: _Prometheus) -> None:
        self.prometheus = prometheus
        self.run = _run(outcome)
        self.rules = {"HighLatency": prometheus.rule}
        self.states = {("HighLatency", "pending"), ("HighLatency", "firing")}
        self.open = 0
        self.trouble = ""

    def look(self) -> list[Any]:
        return []

    def gauge(self, sickness: object) -> str:
        return ""


def _run(outcome: Outcome) -> RunView:
    step = StepView(
        index=1, phase=Phase.RUN, action="restart_service", state=StepState.DONE,
        started_at=1012.0125, finished_at=1013.5, attempt=1, result={}, error="",
    )  # fmt: skip
    return RunView(
        id=1, strategy="restart", target='service="shop"', outcome=outcome, reason="still returned",
        notified_at=1012.0, acted_at=1012.01, verify_from=1013.5, finished_at=1018.0,
        alert={"startsAt": 1011.9, "labels": {}}, steps=(step,), decisions=(),
        observations=(Observation(at=1018.0, verdict="cleared", value=None, detail=""),),
    )  # fmt: skip


def _told(watch: _Watch, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("receiver.demo.story._post", lambda *_: None)
    times = iter(range(1005, 10_000))
    clock: Clock = lambda: float(next(times))  # noqa: E731
    narrator = Narrator(io.StringIO(), {})
    story = Story(cast("Chain", _Chain()), cast("Watch", watch), narrator, clock)
    return story.tell(FAULTS["latency"])


def test_the_figures_are_differences_of_the_times_that_promheal_wrote_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = _told(_Watch(Outcome.HEALED, _Prometheus()), monkeypatch)
    assert figures.alert_to_action_seconds == 0.11
    assert figures.alert_to_clear_seconds == 6.1
    assert figures.notification_to_action_milliseconds == 12.5
    assert figures.sick_to_healed_seconds == 12.0
    assert figures.prometheus.sample_age_seconds == 0.5


def test_a_run_that_did_not_heal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DemoError, match="run 1 ended as ineffective: still returned") as caught:
        _told(_Watch(Outcome.INEFFECTIVE, _Prometheus()), monkeypatch)
    assert caught.value.program == "promheal"


@pytest.mark.parametrize(
    "prometheus",
    [_Prometheus(returned=1), _Prometheus(age=30.0), _Prometheus(age=1000.0)],
    ids=["the series is returned", "the newest sample is old", "no scrape succeeds"],
)
def test_promheals_word_alone_is_not_believed(
    prometheus: _Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DemoError, match="proof: waited in vain for Prometheus' own word"):
        _told(_Watch(Outcome.HEALED, prometheus), monkeypatch)


# --- the lines ------------------------------------------------------------------------------------


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_than_on_a_terminal_lines_are_plain() -> None:
    stream = io.StringIO()
    narrator = Narrator(stream, {"TERM": "xterm"})
    narrator.waiting("news", 1.0)
    narrator.line(3.42, "Prometheus", "HighLatency is firing", Tone.ILL)
    assert stream.getvalue() == "   3.4 s  Prometheus    HighLatency is firing\n"


def test_a_terminal_has_colours_and_a_line_that_goes_away() -> None:
    stream = _Terminal()
    narrator = Narrator(stream, {"TERM": "xterm"})
    narrator.waiting("news", 1.0)
    narrator.line(3.42, "Prometheus", "HighLatency is firing", Tone.ILL)
    waiting, told = stream.getvalue().split("\r\x1b[K")[1:]
    assert "waiting" not in told
    assert "news" in waiting
    assert "\x1b[31mHighLatency is firing\x1b[0m\n" in told


def test_no_color_is_honoured() -> None:
    stream = _Terminal()
    narrator = Narrator(stream, {"TERM": "xterm", "NO_COLOR": "1"})
    narrator.line(3.42, "Prometheus", "HighLatency is firing", Tone.ILL)
    assert stream.getvalue() == "\r\x1b[K   3.4 s  Prometheus    HighLatency is firing\n"


def test_what_came_over_the_network_cannot_steer_the_terminal() -> None:
    stream = _Terminal()
    narrator = Narrator(stream, {"TERM": "xterm", "NO_COLOR": "1"})
    narrator.line(0.0, "promheal", "\x1b[2Jgone\nforged")
    assert r"\u001b[2Jgone\u000aforged" in stream.getvalue()


# --- what the tests ask with ----------------------------------------------------------------------


def _get(url: str) -> str:
    with suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=10) as answer:
        return cast("bytes", answer.read()).decode()
    return ""


def _post(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10).close()


def _metric(url: str, name: str) -> float:
    lines = _get(url + "/metrics").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name))


def _descendants(pid: int) -> set[tuple[int, str]]:
    """All processes below *pid*, each with its start time, which tells it from a later namesake."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            found |= {(child, _start_time(child)), *_descendants(child)}
    return found


def _start_time(pid: int) -> str:
    """Field 22 of proc_pid_stat(5), in clock ticks; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if stat[0] in "ZX" else stat[19]


def _lives(process: tuple[int, str]) -> bool:
    return _start_time(process[0]) == process[1]
