"""Real supervisords, programs and sockets are asked; what never answers is a manager of our own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX, socket

import msgspec
import pytest

from receiver.clock import steady_clock
from receiver.errors import ActionError
from receiver.services import Inventory, Manager, Service, ServiceState, ServiceStatus, sampling
from receiver.services.command import CommandManager
from receiver.services.process import Process
from receiver.services.sampling import AT_ONCE, Sampling, ServiceSample
from receiver.services.supervisor import Supervisor
from tests.chain import free_port, wait_until
from tests.factories import FakeClock
from tests.tools import tool

MEGABYTE = 1 << 20
BUSY = f"""
import time
memory = b"x" * {30 * MEGABYTE}
while time.process_time() < 1.2:
    pass
time.sleep(1000)
"""
CONFIG = """
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
[unix_http_server]
file={folder}/s.sock
[inet_http_server]
port=127.0.0.1:{port}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:busy]
command={python} -I -S {folder}/busy.py
startsecs=0
[program:idle]
command=/bin/true
autostart=false
[program:missing]
command=/nonexistent/program
startretries=0
[program:slow]
command=/bin/sleep 1000
startsecs=1000
"""


@pytest.fixture(scope="module")
def supervisord(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The socket and the URL of a supervisord."""
    folder, port = tmp_path_factory.mktemp("s"), free_port()
    (folder / "busy.py").write_text(BUSY)
    config = folder / "supervisord.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, python=sys.executable))
    with subprocess.Popen(
        [tool("supervisord"), "-c", str(config)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    ) as popen:  # fmt: skip
        yield str(folder / "s.sock"), f"http://127.0.0.1:{port}"
        popen.terminate()


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    """A manager that answers when it is let go, and minds no timeout: no real one does that."""

    gate: threading.Event = msgspec.field(default_factory=threading.Event)
    asked: list[float] = []

    def status(self, *, timeout: float) -> ServiceStatus:
        self.asked.append(timeout)
        self.gate.wait(30)
        return ServiceStatus(state=ServiceState.RUNNING, detail="at last")

    def restart(self, *, timeout: float) -> ServiceStatus:
        raise NotImplementedError


@pytest.fixture
def stuck() -> Iterator[Callable[[], Stuck]]:
    made: list[Stuck] = []

    def make() -> Stuck:
        made.append(Stuck())
        return made[-1]

    yield make
    for manager in made:
        manager.gate.set()
    wait_until(lambda: not questions())


def questions() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("sample-")]


def inventory(**managers: Manager) -> Inventory:
    return Inventory({n: Service(name=n, manager=manager) for n, manager in managers.items()})


def states(found: Sampling) -> dict[str, str]:
    return {sample.name: sample.state for sample in found.samples}


def one(manager: Manager) -> ServiceSample:
    found = Sampling(inventory=lambda: inventory(it=manager), clock=steady_clock())
    found.sample()
    (sample,) = found.samples
    return sample


UP = CommandManager(restart_argv=("true",), status_argv=("true",))
DOWN = CommandManager(restart_argv=("true",), status_argv=("false",))
UNTOLD = CommandManager(restart_argv=("true",))


def test_the_state_of_each_service_is_what_its_manager_says(
    supervisord: tuple[str, str], tmp_path: Path
) -> None:
    address, _ = supervisord
    services = inventory(
        busy=Supervisor(process="busy", socket=address),
        idle=Supervisor(process="idle", socket=address),
        missing=Supervisor(process="missing", socket=address),
        slow=Supervisor(process="slow", socket=address),
        unknown=Supervisor(process="nobody", socket=address),
        gone=Supervisor(process="web", socket=str(tmp_path / "none.sock")),
        off=Process(pidfile=str(tmp_path / "none.pid"), start=("sleep", "1000")),
        up=UP,
        down=DOWN,
        untold=UNTOLD,
    )
    clock = FakeClock()
    found = Sampling(inventory=lambda: services, clock=clock)
    assert states(found) == {}

    def settled() -> bool:
        found.sample()
        said = states(found)
        return (said["busy"], said["missing"]) == ("running", "failed")

    wait_until(settled)

    assert states(found) == {
        "busy": "running", "idle": "stopped", "missing": "failed", "slow": "starting",
        "unknown": "unknown", "gone": "unknown", "off": "stopped", "up": "running",
        "down": "stopped", "untold": "unknown",
    }  # fmt: skip
    details = {sample.name: sample.detail for sample in found.samples}
    assert "STOPPED" in details["idle"]
    assert "has no process" in details["unknown"]
    assert "No such file" in details["gone"]
    assert "no `status` command" in details["untold"]
    assert {sample.checked_at for sample in found.samples} == {clock.now}
    assert msgspec.json.decode(msgspec.json.encode(found.samples[0]))["state"] == "running"


def test_a_running_process_is_measured(supervisord: tuple[str, str]) -> None:
    manager = Supervisor(process="busy", socket=supervisord[0])
    wait_until(lambda: one(manager).cpu_seconds)

    sample = one(manager)

    assert sample.pid is not None
    assert Path(f"/proc/{sample.pid}/cmdline").read_bytes().endswith(b"busy.py\0")
    assert sample.cpu_seconds == 1
    assert sample.resident_bytes is not None
    assert 30 * MEGABYTE < sample.resident_bytes < 80 * MEGABYTE


def test_a_process_that_its_pidfile_names_is_measured(tmp_path: Path) -> None:
    pidfile = tmp_path / "web.pid"
    with subprocess.Popen(["sleep", "1000"]) as popen:
        pidfile.write_text(str(popen.pid))
        sample = one(Process(pidfile=str(pidfile), start=("sleep", "1000")))
        popen.kill()

    assert (sample.state, sample.pid, sample.cpu_seconds) == ("running", popen.pid, 0)
    assert sample.resident_bytes is not None
    assert sample.resident_bytes > 0


def test_a_pid_of_perhaps_another_machine_is_not_looked_up_on_this_one(
    supervisord: tuple[str, str],
) -> None:
    manager = Supervisor(process="busy", url=supervisord[1])
    wait_until(lambda: one(manager).pid)

    sample = one(manager)

    assert sample.state == "running"
    assert (sample.cpu_seconds, sample.resident_bytes) == (None, None)


def test_a_process_that_has_just_ended_is_not_measured() -> None:
    with subprocess.Popen(["true"]) as popen:
        pass
    assert sampling._figures(popen.pid) == (None, None)
    assert sampling._figures(None) == (None, None)
    assert sampling._figures(os.getpid())[1], "and one that runs is"


def test_a_manager_that_fails_otherwise_is_logged_and_its_words_are_not_shown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, *, timeout: float) -> ServiceStatus:
        raise RuntimeError("http://user:secret@host")

    monkeypatch.setattr(CommandManager, "status", fail)

    sample = one(UP)

    assert (sample.state, sample.detail) == ("unknown", "RuntimeError; the log says more")
    assert "asking the manager of service it failed" in caplog.text


def test_a_detail_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, *, timeout: float) -> ServiceStatus:
        raise ActionError("x" * 100_000)

    monkeypatch.setattr(CommandManager, "status", fail)

    assert len(one(UP).detail) == 1_000


def test_a_manager_that_says_nothing_is_given_up_by_itself_before_we_do(tmp_path: Path) -> None:
    path = tmp_path / "mute.sock"
    with socket(AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        began = time.monotonic()
        found = Sampling(
            inventory=lambda: inventory(mute=Supervisor(process="web", socket=str(path)), up=UP),
            clock=steady_clock(),
        )

        found.sample()

        assert time.monotonic() - began < sampling.PATIENCE
        assert states(found) == {"mute": "unknown", "up": "running"}
        assert "did not answer in time" in found.samples[0].detail


def test_services_that_hang_hold_up_no_other_and_are_not_asked_again(
    stuck: Callable[[], Stuck], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "PATIENCE", 0.3)
    hanging = {f"hang{n}": stuck() for n in range(AT_ONCE + 2)}
    found = Sampling(inventory=lambda: inventory(**hanging, up=UP, down=DOWN), clock=steady_clock())
    began = time.monotonic()

    found.sample()

    assert 0.6 <= time.monotonic() - began < 5.0
    assert states(found) == {
        **dict.fromkeys(hanging, "unknown"),
        "up": "running",
        "down": "stopped",
    }
    assert "did not answer in time" in found.samples[0].detail
    assert len(questions()) == AT_ONCE + 2

    began = time.monotonic()
    found.sample()
    found.sample()

    assert time.monotonic() - began < 5.0
    assert [len(manager.asked) for manager in hanging.values()] == [1] * (AT_ONCE + 2)
    assert len(questions()) == AT_ONCE + 2

    for manager in hanging.values():
        manager.gate.set()
    wait_until(lambda: not questions())
    assert states(found)["hang0"] == "unknown", "what it said was of a time long past"

    found.sample()

    assert set(states(found).values()) == {"running", "stopped"}
    assert found.samples[0].detail == "at last"


def test_a_pass_ends_and_the_next_begins_with_those_that_were_not_asked(
    stuck: Callable[[], Stuck], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "PASS", 0.3)
    hanging = {f"hang{n}": stuck() for n in range(AT_ONCE)}
    services = inventory(**hanging, up=UP)
    found = Sampling(inventory=lambda: services, clock=steady_clock())
    began = time.monotonic()

    found.sample()

    assert 0.3 <= time.monotonic() - began < 3.0
    assert states(found) == dict.fromkeys(hanging, "unknown")

    for manager in hanging.values():
        manager.gate.set()
    wait_until(lambda: not questions())
    for manager in hanging.values():
        manager.gate.clear()
    found.sample()

    assert states(found) == {**dict.fromkeys(hanging, "unknown"), "up": "running"}


def test_no_more_than_a_few_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def status(self: object, *, timeout: float) -> ServiceStatus:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return ServiceStatus(state=ServiceState.RUNNING)

    monkeypatch.setattr(CommandManager, "status", status)
    services = inventory(**{f"s{n}": UP for n in range(3 * AT_ONCE)})
    found = Sampling(inventory=lambda: services, clock=steady_clock())

    found.sample()

    assert set(states(found).values()) == {"running"}
    assert len(states(found)) == 3 * AT_ONCE
    assert most == AT_ONCE


def test_after_a_reload_only_services_of_the_inventory_are_told_in_its_order() -> None:
    services = inventory(a=UP, b=UP, c=UP)
    found = Sampling(inventory=lambda: services, clock=steady_clock())
    found.sample()
    assert list(states(found)) == ["a", "b", "c"]

    services = inventory(d=UP, c=UP, a=UP)
    assert list(states(found)) == ["c", "a"]
    found.sample()
    assert list(states(found)) == ["d", "c", "a"]

    services = inventory(b=UP)
    assert states(found) == {}, "its old sample is forgotten"


def test_a_service_with_a_new_manager_is_asked_though_its_old_one_hangs(
    stuck: Callable[[], Stuck], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "PATIENCE", 0.2)
    old = stuck()
    services = inventory(a=old)
    found = Sampling(inventory=lambda: services, clock=steady_clock())
    found.sample()

    monkeypatch.setattr(sampling, "PATIENCE", 5.0)
    services = inventory(a=DOWN)
    found.sample()
    assert states(found) == {"a": "stopped"}

    monkeypatch.setattr(sampling, "PATIENCE", 0.2)
    new = stuck()
    services = inventory(a=new)
    found.sample()
    assert len(questions()) == 2

    old.gate.set()
    wait_until(lambda: len(questions()) == 1)
    found.sample()
    assert (states(found), len(new.asked)) == ({"a": "unknown"}, 1)


def test_nothing_is_asked_of_no_services() -> None:
    found = Sampling(inventory=inventory, clock=steady_clock())
    found.sample()
    assert found.samples == ()


def test_a_manager_has_less_time_than_an_answer_and_an_answer_less_than_a_pass() -> None:
    assert sampling._MANAGERS_PATIENCE < sampling.PATIENCE == 5.0 < sampling.PASS == 30.0
