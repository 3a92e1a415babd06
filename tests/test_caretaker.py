"""The small process that gunicorn's master becomes: it passes on, watches, and brings it back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from receiver.web.application import close_worker
from receiver.web.server import caretaker
from receiver.web.server.caretaker import be_called
from tests.chain import wait_until
from tests.requests_in_bytes import GET
from tests.test_worker import Client, Process, running

pytestmark = pytest.mark.alone

BEFORE = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
from receiver.web.server import caretaker
signal.pthread_sigmask(signal.SIG_BLOCK, caretaker.SIGNALS)
worker = os.fork() or os._exit(3)
file = str(os.memfd_create("heartbeat", 0))
program = [sys.executable, "-I", "-S", caretaker.__file__, str(worker), file, "60", "2", file]
os.execv(program[0], [*program, sys.executable, "-c", sys.argv[1]])
"""
"""Becomes the caretaker of a worker that ends at once."""
AFTER = """
import os, signal
print(os.environ["PROMHEAL_WORKER_ENDED"], flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("it waits" if signal.SIGTERM in signal.sigpending() else "it is lost")
"""
"""What is started again, and told to end at once."""


def resting(process: Process) -> bool:
    return b"caretaker.py" in Path(f"/proc/{process.arbiter.pid}/cmdline").read_bytes()


def rests(process: Process) -> None:
    wait_until(lambda: resting(process), what="the master is the caretaker")


def fds(process: Process) -> list[Path]:
    return list(Path(f"/proc/{process.arbiter.pid}/fd").iterdir())


def seen(process: Process) -> dict[str, object]:
    with Client(process.port) as client:
        client.send(GET)
        status, body = client.answer()
        assert status == 200
        found: dict[str, object] = json.loads(body)
        return found


def kill_worker(process: Process) -> int:
    """Kill the worker, and return once none of its threads can accept any more."""
    worker = process.worker()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), what="it has ended")
    return worker


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    with running(tmp_path, graceful_timeout=2) as process:
        rests(process)
        yield process


def test_it_holds_nothing_of_the_application(server: Process) -> None:
    comm = Path(f"/proc/{server.arbiter.pid}/comm")
    wait_until(
        lambda: comm.read_text() == "promheal\n", what="it has the name that people look for"
    )
    mapped = Path(f"/proc/{server.arbiter.pid}/maps").read_text()
    assert [line for line in mapped.splitlines() if "site-packages" in line] == []
    assert [line for line in mapped.splitlines() if "lib-dynload" in line] == []
    files = [str(path.readlink()) for path in fds(server) if int(path.name) > 2]
    heartbeat, listener = sorted(files)
    assert "wgunicorn" in heartbeat
    assert listener.startswith("socket:")


def test_a_worker_that_dies_is_replaced_on_the_same_socket(server: Process) -> None:
    before = server.worker()
    for _ in range(2):
        kill_worker(server)
        assert seen(server)["pid"] not in {before, 0}  # it waited in the socket
        rests(server)
    said = server.log.read_text()
    assert f"worker {before} was ended by signal 9; perhaps out of memory?" in said
    server.arbiter.send_signal(signal.SIGHUP)
    wait_until(lambda: seen(server)["hups"] == ["reload"], what="it reloads")
    assert server.stop() == 0


def test_one_that_hangs_is_replaced(server: Process) -> None:
    before = server.worker()
    os.kill(before, signal.SIGSTOP)
    tasks = list(Path(f"/proc/{before}/task").glob("*/stat"))
    wait_until(lambda: all(") T " in task.read_text() for task in tasks), what="no thread accepts")
    (heartbeat,) = (path for path in fds(server) if "wgunicorn" in str(path.readlink()))
    os.utime(heartbeat, (0, 0))
    server.arbiter.send_signal(signal.SIGWINCH)  # it looks at once
    assert seen(server)["pid"] != before
    assert "was ended by signal 9, after 60 s without a sign of life" in server.log.read_text()


def test_a_signal_to_end_ends_both(server: Process) -> None:
    worker = server.worker()
    server.arbiter.send_signal(signal.SIGINT)  # SIGTERM is in most of the others
    assert server.arbiter.wait(10) == 0
    assert not Path(f"/proc/{worker}").exists()
    assert "Traceback" not in server.log.read_text()


def test_one_that_does_not_end_is_killed(server: Process) -> None:
    worker = server.worker()
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    server.arbiter.terminate()
    assert server.arbiter.wait(10) == 0
    assert 1.5 < time.monotonic() - began < 4
    assert not Path(f"/proc/{worker}").exists()


def test_no_signal_is_lost_on_the_way_there_and_back(tmp_path: Path) -> None:
    """A reload is asked for all the time, also while the one becomes the other."""
    with running(tmp_path) as process:
        asked = 0
        for victim in (False, True):
            if victim:
                kill_worker(process)
                wait_until(lambda: not resting(process), what="the master is back")
            while not resting(process):
                process.arbiter.send_signal(signal.SIGHUP)
                asked += 1
                time.sleep(0.01)
        wait_until(lambda: seen(process)["hups"], what="it reloads")
        assert asked > 2
        assert process.stop() == 0


def test_where_there_is_no_way_back_the_master_stays(tmp_path: Path) -> None:
    with running(tmp_path, interpreter="/nowhere") as process:
        wait_until(lambda: "cannot become small" in process.log.read_text(), what="it says so")
        before = kill_worker(process)
        wait_until(lambda: seen(process)["pid"] != before, what="there is another")
        assert process.stop() == 0


def test_one_that_was_frozen_with_its_caretaker_does_not_hang(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container was paused, or the machine had no time for either of them."""
    now = 100
    monkeypatch.setattr(caretaker, "time", SimpleNamespace(monotonic=lambda: now))
    with (tmp_path / "heartbeat").open("wb") as file, subprocess.Popen(["cat"], stdin=-1) as worker:
        os.utime(file.fileno(), (100, 100))
        keeper = caretaker.Caretaker(worker.pid, file.fileno(), 60, 2, [])
        for then in (110, 500, 510, 520, 530, 540, 550, 560):
            now = then
            assert keeper._look() > 1
        now = 561
        assert keeper._look() == 1
        assert worker.wait() == -signal.SIGABRT


def test_a_worker_that_has_not_come_up_has_nothing_to_close() -> None:
    close_worker(None, SimpleNamespace(pid=7))


def test_a_name_that_cannot_be_taken_is_done_without(tmp_path: Path) -> None:
    """Some sandboxes let nobody write there; and from there is no way back to a master."""
    (comm := tmp_path / "comm").write_text("python\n")
    be_called(b"promheal", str(comm))
    assert comm.read_bytes() == b"promheal"
    be_called(b"promheal", str(tmp_path / "nowhere" / "comm"))


def test_how_the_worker_ended_is_told_also_when_no_other_can_be_started(tmp_path: Path) -> None:
    (config := tmp_path / "promheal.yml").write_text("[")
    again = subprocess.run(
        [sys.executable, "-m", "receiver", "serve", f"--config.file={config}"],
        env={**os.environ, caretaker.ENDED: "worker 7 was ended by signal 9"},
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert again.returncode == 2
    told, *problem = again.stderr.splitlines()
    assert "worker 7 was ended by signal 9; another one is started" in told
    assert "promheal.yml:2:1: no YAML" in problem[0]


@pytest.mark.parametrize("first", [False, True], ids=["elsewhere", "as process 1"])
def test_a_signal_to_end_ends_the_next_one_too(first: bool) -> None:
    """The kernel gives process 1 none that it does not handle: there it waits for gunicorn."""
    apart = ["unshare", "--fork", "--pid", "--mount-proc"] if first else []
    if first and (
        os.geteuid()
        or subprocess.run([*apart, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("only root may have another process 1")
    argv = [*apart, sys.executable, "-c", BEFORE, AFTER]
    said = subprocess.run(argv, text=True, timeout=20, stdout=subprocess.PIPE, check=False)
    assert said.stdout.endswith("exited with code 3\n" + ("it waits\n" if first else ""))
