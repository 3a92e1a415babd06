"""Real supervisords, real daemons and their pidfiles: what a restart leaves running, and says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

import receiver.services.process
from receiver.errors import ActionError
from receiver.services import Inventory, Service, ServiceState
from receiver.services.command import CommandManager
from receiver.services.managers import MANAGERS
from receiver.services.process import Process
from receiver.services.supervisor import Supervisor
from tests.hostile import values
from tests.tools import tool

PYTHON = (sys.executable, "-I", "-S", "-c")
SLEEP = (*PYTHON, "import time; time.sleep(1000)")


def alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    return fields[0] != "Z"


def eventually(holds: Callable[[], bool], within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class TestInventory:
    def test_an_unknown_service_is_told_with_those_there_are(self) -> None:
        inventory = Inventory(
            {"a": Service(name="a", manager=CommandManager(restart_argv=("true",)))}
        )
        with pytest.raises(ActionError, match="nothing was touched; known: a"):
            inventory.get("b")

    def test_each_manager_is_read_from_its_key(self) -> None:
        written: dict[str, dict[str, object]] = {
            "supervisor": {"process": "web", "socket": "/run/supervisor.sock"},
            "process": {"pidfile": "/run/web.pid", "start": ["web"]},
            "command": {"restart": ["restart-web"], "status": ["web-status"]},
            "systemd": {"unit": "web.service"},
            "docker": {"container": "web"},
            "kubernetes": {"namespace": "shop", "deployment": "web"},
        }
        assert set(MANAGERS) == set(written)
        for key, fields in written.items():
            manager = msgspec.convert(fields, MANAGERS[key])
            assert callable(getattr(manager, "restart", None))
            with pytest.raises(msgspec.ValidationError, match="unknown field"):
                msgspec.convert({**fields, "typo": 1}, MANAGERS[key])

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({}, "either `socket` or `url`"),
            ({"socket": "/s", "url": "http://127.0.0.1:9001"}, "either `socket` or `url`"),
            ({"url": "127.0.0.1:9001"}, "no address"),
            ({"url": "http://127.0.0.1:99999"}, "no address"),
            ({"socket": "/s", "username": "a"}, "go together"),
        ],
    )
    def test_a_supervisor_must_be_reachable(self, fields: dict[str, str], problem: str) -> None:
        with pytest.raises(msgspec.ValidationError, match=problem):
            msgspec.convert({"process": "web", **fields}, Supervisor)

    def test_a_signal_must_exist(self) -> None:
        with pytest.raises(msgspec.ValidationError, match="unknown signal 'TREM'"):
            msgspec.convert({"pidfile": "/p", "start": ["a"], "stop_signal": "TREM"}, Process)


# ── supervisord ──


CONFIG = """
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
identifier=test
[unix_http_server]
file={folder}/s.sock
[inet_http_server]
port=127.0.0.1:{port}
username=heal
password=secret
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:web]
command={python} -I -S -c "import time; time.sleep(1000)"
startsecs=0
[program:slow]
command={python} -I -S -c "import time; time.sleep(1000)"
startsecs=1
[program:idle]
command={python} -I -S -c "import time; time.sleep(1000)"
autostart=false
startsecs=0
[program:dies]
command={python} -I -S -c "import sys; sys.exit('no database at 10.0.0.9')"
autostart=false
startretries=0
[program:recovers]
command={python} -I -S {folder}/recovers.py {folder}/seen
autostart=false
startretries=3
[program:missing]
command=/nonexistent/program
autostart=false
startretries=0
[program:stubborn]
command={python} -I -S -c "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)"
autostart=false
startsecs=0
stopwaitsecs=2
[program:worker]
command={python} -I -S -c "import time; time.sleep(1000)"
process_name=w%(process_num)d
numprocs=3
startsecs=0
"""
RECOVERS = """
import pathlib, sys, time
seen = pathlib.Path(sys.argv[1])
if not seen.exists():
    seen.touch()
    sys.exit("not yet")
time.sleep(1000)
"""


class Daemon:
    """A supervisord of our own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder = folder
        self.socket = str(folder / "s.sock")
        self.url = f"http://127.0.0.1:{port}"
        (folder / "recovers.py").write_text(RECOVERS)
        config = folder / "supervisord.conf"
        config.write_text(CONFIG.format(folder=folder, port=port, python=sys.executable))
        self.popen = subprocess.Popen(
            [tool("supervisord"), "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        manager = self.manager("web")
        if not eventually(lambda: Path(self.socket).exists() and _runs(manager), 20.0):
            pytest.fail((folder / "supervisord.log").read_text())

    def manager(self, process: str) -> Supervisor:
        return Supervisor(process=process, socket=self.socket)

    def stop(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(15.0)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def _runs(manager: Supervisor) -> bool:
    try:
        return manager.status(timeout=1.0).state is ServiceState.RUNNING
    except ActionError:
        return False


@pytest.fixture(scope="module")
def supervisord(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("s"))
    yield daemon
    daemon.stop()


XML = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n<methodResponse>"


class TestSupervisor:
    def test_status(self, supervisord: Daemon) -> None:
        running = supervisord.manager("web").status(timeout=2.0)
        assert running.state is ServiceState.RUNNING
        assert running.pid is not None
        assert alive(running.pid)
        idle = supervisord.manager("idle").status(timeout=2.0)
        assert (idle.state, idle.pid) == (ServiceState.STOPPED, None)
        assert "STOPPED" in idle.detail

    def test_a_hostile_name_is_none_that_it_has(self, supervisord: Daemon, tmp_path: Path) -> None:
        before = supervisord.manager("web").status(timeout=2.0).pid
        for value in values(str(tmp_path / "canary"))[::4]:
            with pytest.raises(ActionError):
                supervisord.manager(value).restart(timeout=5.0)
        assert supervisord.manager("web").status(timeout=2.0).pid == before
        assert supervisord.manager("idle").status(timeout=2.0).state is ServiceState.STOPPED
        assert not (tmp_path / "canary").exists()

    def test_a_restart_replaces_the_process(self, supervisord: Daemon) -> None:
        manager = supervisord.manager("web")
        before = manager.status(timeout=2.0).pid
        after = manager.restart(timeout=10.0)
        assert after.state is ServiceState.RUNNING
        assert after.pid not in {None, before}
        assert before is not None
        assert not alive(before)

    def test_it_waits_until_supervisord_says_running(self, supervisord: Daemon) -> None:
        began = time.monotonic()
        status = supervisord.manager("slow").restart(timeout=10.0)
        assert status.state is ServiceState.RUNNING
        assert time.monotonic() - began >= 0.9

    def test_what_was_stopped_is_started(self, supervisord: Daemon) -> None:
        assert supervisord.manager("idle").restart(timeout=10.0).state is ServiceState.RUNNING

    def test_group_and_name(self, supervisord: Daemon) -> None:
        status = supervisord.manager("worker:w1").restart(timeout=10.0)
        assert status.state is ServiceState.RUNNING
        assert "worker:w1" in status.detail

    def test_a_whole_group(self, supervisord: Daemon) -> None:
        manager = supervisord.manager("worker:*")
        before = [supervisord.manager(f"worker:w{n}").status(timeout=2.0).pid for n in range(3)]
        status = manager.restart(timeout=10.0)
        after = [supervisord.manager(f"worker:w{n}").status(timeout=2.0).pid for n in range(3)]
        assert (status.state, status.pid) == (ServiceState.RUNNING, None)
        assert status.detail.count("RUNNING") == 3
        assert not set(before) & set(after)

    def test_a_program_that_exits_at_once_is_named_with_its_stderr(
        self, supervisord: Daemon
    ) -> None:
        manager = supervisord.manager("dies")
        with pytest.raises(
            ActionError, match=r"dies:dies was started, but does not stay up: .*FAT"
        ) as e:
            manager.restart(timeout=10.0)
        assert "no database at 10.0.0.9" in e.value.output
        assert manager.status(timeout=2.0).state is ServiceState.FAILED

    def test_supervisords_own_retries_may_succeed(self, supervisord: Daemon) -> None:
        status = supervisord.manager("recovers").restart(timeout=15.0)
        assert status.state is ServiceState.RUNNING

    def test_a_program_that_does_not_exist(self, supervisord: Daemon) -> None:
        with pytest.raises(ActionError, match="/nonexistent/program"):
            supervisord.manager("missing").restart(timeout=10.0)

    def test_one_that_does_not_stop_in_time_is_told(self, supervisord: Daemon) -> None:
        manager = supervisord.manager("stubborn")
        manager.restart(timeout=10.0)
        time.sleep(0.5)  # until it ignores the signal
        began = time.monotonic()
        with pytest.raises(ActionError, match="did not stop 'stubborn' in time"):
            manager.restart(timeout=0.5)
        assert time.monotonic() - began < 2.0
        # supervisord kills it after its stopwaitsecs: with the time for that, all is well.
        assert manager.restart(timeout=10.0).state is ServiceState.RUNNING

    @pytest.mark.parametrize("name", ["nobody", "web:nobody", "nobody:*", "a b", ""])
    def test_a_process_that_it_does_not_know(self, supervisord: Daemon, name: str) -> None:
        for ask in (supervisord.manager(name).status, supervisord.manager(name).restart):
            with pytest.raises(ActionError, match="has no process"):
                ask(timeout=2.0)

    def test_by_http_with_a_password(self, supervisord: Daemon, tmp_path: Path) -> None:
        password = tmp_path / "password"
        password.write_text("secret\n")
        manager = Supervisor(
            process="web", url=supervisord.url, username="heal", password_file=str(password)
        )
        assert manager.restart(timeout=10.0).state is ServiceState.RUNNING
        password.write_text("wrong\n")
        with pytest.raises(ActionError, match=r"answered 401 .*check `username`") as error:
            manager.status(timeout=2.0)
        assert "wrong" not in str(error.value)
        password.unlink()
        with pytest.raises(ActionError, match="password_file"):
            manager.status(timeout=2.0)
        with pytest.raises(ActionError, match="401"):
            Supervisor(process="web", url=supervisord.url).status(timeout=2.0)

    def test_it_is_gone(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        manager = daemon.manager("web")
        daemon.stop()
        for ask in (manager.status, manager.restart):
            with pytest.raises(ActionError, match="cannot be reached: No such file"):
                ask(timeout=2.0)
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(daemon.socket)
        with pytest.raises(ActionError, match="cannot be reached: Connection refused"):
            manager.status(timeout=2.0)

    def test_it_does_not_answer(self, tmp_path: Path) -> None:
        path = tmp_path / "mute.sock"
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(str(path))
            mute.listen()
            began = time.monotonic()
            with pytest.raises(ActionError, match="did not answer in time"):
                Supervisor(process="web", socket=str(path)).status(timeout=0.2)
            assert time.monotonic() - began < 3.0

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<html",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnoXM",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<?xml",
            XML + b"<params><param><value><int>3</int></value></param></params></methodResponse>",
            XML + b" " * 2_000_000,
            b"HTTP/1.1 200 OK\r\n\r\nno XML" + b" " * 2_000_000,
            b"HTTP/1.1 500 Internal Server Error\r\n\r\n" + b" " * 2_000_000,
            b"",
        ],
    )
    def test_something_else_answers(self, tmp_path: Path, answer: bytes) -> None:
        """What does not end its answer is let go at once, though the error is kept."""
        path = tmp_path / "other.sock"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()

            def serve() -> None:
                with suppress(OSError):
                    while True:
                        connection, _ = other.accept()
                        with connection, suppress(OSError):
                            connection.recv(65536)
                            connection.sendall(answer)
                        served.set()

            served = threading.Event()
            threading.Thread(target=serve, daemon=True).start()
            try:
                with pytest.raises(ActionError, match=str(path)) as kept:
                    Supervisor(process="web", socket=str(path)).status(timeout=2.0)
                assert served.wait(5), f"the connection is still open: {kept.value}"
            finally:
                other.shutdown(socket.SHUT_RDWR)


# ── pidfiles ──


FOREGROUND = SLEEP
WRITES = (
    *PYTHON,
    "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(1000)",
)
FORKS = (
    *PYTHON,
    """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
time.sleep(0.5)
open(sys.argv[1], 'w').write(str(os.getpid()))
time.sleep(1000)
""",
)
IGNORES_TERM = (
    *PYTHON,
    """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    open(sys.argv[1], 'w').write(f'{os.getpid()}\\n{child}')
time.sleep(1000)
""",
)


ON_QUIT = (
    *PYTHON,
    """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(sys.argv[1]).touch()
    sys.exit()
signal.signal(signal.SIGQUIT, end)
time.sleep(1000)
""",
)


@pytest.fixture(autouse=True)
def settled_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver.services.process, "_SETTLE", 0.5)


@pytest.fixture
def pidfile(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "web.pid"
    yield path
    with suppress(FileNotFoundError, ValueError):
        for pid in pids_in(path):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process that nothing may happen to."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as popen:
        yield popen.pid
        assert popen.poll() is None, "it was killed"
        popen.kill()


def pids_in(pidfile: Path) -> list[int]:
    return [int(word) for word in pidfile.read_text().split()] if pidfile.exists() else []


def named(pidfile: Path) -> int:
    return int(pidfile.read_text().split()[0])


class TestProcess:
    def test_without_a_pidfile_it_is_stopped(self, pidfile: Path) -> None:
        status = Process(pidfile=str(pidfile), start=SLEEP).status(timeout=1.0)
        assert status.state is ServiceState.STOPPED
        assert str(pidfile) in status.detail

    @pytest.mark.parametrize("program", [FOREGROUND, WRITES, FORKS], ids=["front", "own", "forks"])
    def test_it_is_started_and_restarted(self, pidfile: Path, program: tuple[str, ...]) -> None:
        manager = Process(pidfile=str(pidfile), start=(*program, str(pidfile)))
        first = manager.restart(timeout=10.0)
        assert first.state is ServiceState.RUNNING
        assert first.pid == named(pidfile)
        assert manager.status(timeout=1.0).pid == first.pid
        second = manager.restart(timeout=10.0)
        assert second.pid == named(pidfile) != first.pid
        assert first.pid is not None
        assert not alive(first.pid)

    def test_what_ignores_the_signal_is_killed_with_its_group(self, pidfile: Path) -> None:
        manager = Process(
            pidfile=str(pidfile), start=(*IGNORES_TERM, str(pidfile)), stop_timeout=0.3
        )
        manager.restart(timeout=10.0)
        assert eventually(lambda: len(pids_in(pidfile)) == 2)
        pids = pids_in(pidfile)
        began = time.monotonic()
        manager.restart(timeout=10.0)
        assert 0.3 < time.monotonic() - began < 5.0
        assert eventually(lambda: not any(map(alive, pids)))

    def test_the_signal_is_the_one_that_was_asked_for(self, pidfile: Path, tmp_path: Path) -> None:
        told = tmp_path / "told"
        program = (*ON_QUIT, str(told))
        manager = Process(pidfile=str(pidfile), start=program, stop_signal="SIGQUIT")
        manager.restart(timeout=10.0)
        manager.restart(timeout=10.0)
        assert told.exists()

    def test_it_is_started_again_even_when_stopping_took_all_the_time(self, pidfile: Path) -> None:
        manager = Process(pidfile=str(pidfile), start=(*IGNORES_TERM, str(pidfile)))
        manager.restart(timeout=10.0)
        assert eventually(lambda: len(pids_in(pidfile)) == 2)
        before = named(pidfile)
        with pytest.raises(ActionError, match="time is up"):
            manager.restart(timeout=0.5)
        assert not alive(before)
        assert eventually(lambda: any(map(alive, pids_in(pidfile))))

    def test_one_that_ends_at_once_is_told(self, pidfile: Path) -> None:
        manager = Process(pidfile=str(pidfile), start=(*PYTHON, "raise SystemExit(3)"))
        with pytest.raises(ActionError, match="ended at once, and printed nothing"):
            manager.restart(timeout=10.0)
        assert not pidfile.exists()

    def test_what_one_printed_that_ended_at_once_is_kept(self, pidfile: Path) -> None:
        """More than a pipe holds, of which the operator sees both ends."""
        program = (
            "import sys\n"
            "print('reading shop.conf', flush=True)\n"
            "print('x' * 200_000, flush=True)\n"
            "sys.exit('shop.conf:7: no such option')"
        )
        manager = Process(pidfile=str(pidfile), start=(*PYTHON, program))
        with pytest.raises(ActionError, match=r"ended at once$") as raised:
            manager.restart(timeout=10.0)
        assert raised.value.output.startswith("reading shop.conf\n")
        assert raised.value.output.endswith("shop.conf:7: no such option\n")
        assert len(raised.value.output) < 10_000

    def test_what_one_printed_that_did_not_get_ready_is_kept(self, pidfile: Path) -> None:
        program = "import time; print('waiting for the database', flush=True); time.sleep(5)"
        manager = Process(pidfile=str(pidfile), start=(*PYTHON, program))
        with pytest.raises(ActionError, match="time is up") as raised:
            manager.restart(timeout=0.4)
        assert raised.value.output == "waiting for the database\n"

    def test_one_that_goes_on_printing_goes_on(self, pidfile: Path, tmp_path: Path) -> None:
        """Nobody reads it any more but who was left to: it neither waits nor dies of SIGPIPE."""
        program = (
            "import pathlib, time\n"
            "for line in range(1_000_000):\n"
            "    print('x' * 9000, flush=True)\n"
            f"    pathlib.Path({str(tmp_path / 'lines')!r}).write_text(str(line))\n"
            "    time.sleep(0.01)\n"
        )
        manager = Process(pidfile=str(pidfile), start=(*PYTHON, program))
        status = manager.restart(timeout=10.0)
        assert status.pid is not None
        before = int((tmp_path / "lines").read_text() or 0)
        assert eventually(lambda: int((tmp_path / "lines").read_text() or 0) > before + 50)
        os.kill(status.pid, signal.SIGKILL)

    def test_one_that_does_not_exist_is_told(self, pidfile: Path) -> None:
        with pytest.raises(ActionError, match="/nonexistent"):
            Process(pidfile=str(pidfile), start=("/nonexistent",)).restart(timeout=2.0)

    def test_a_pid_that_passed_to_another_process_is_not_touched(
        self, pidfile: Path, bystander: int
    ) -> None:
        pidfile.write_text(str(bystander))
        os.utime(pidfile, (time.time() - 3600, time.time() - 3600))
        manager = Process(pidfile=str(pidfile), start=SLEEP)
        assert manager.status(timeout=1.0).state is ServiceState.STOPPED
        assert manager.restart(timeout=10.0).pid == named(pidfile) != bystander

    def test_when_it_cannot_be_told_nothing_is_touched(self, pidfile: Path, bystander: int) -> None:
        pidfile.write_text(str(bystander))
        os.utime(pidfile, (time.time() - 3600, time.time() - 3600))
        manager = Process(pidfile=str(pidfile), start=("sleep", "1000"))
        for ask in (manager.status, manager.restart):
            with pytest.raises(ActionError, match="nothing was touched"):
                ask(timeout=2.0)
        pidfile.unlink()

    @pytest.mark.parametrize(
        "pid", [0, 1, os.getpid(), os.getppid()], ids=["none", "init", "us", "our parent"]
    )
    def test_init_and_the_receiver_are_never_touched(self, pidfile: Path, pid: int) -> None:
        pidfile.write_text(f"{pid}\n")
        with pytest.raises(ActionError, match="init or the receiver itself"):
            Process(pidfile=str(pidfile), start=SLEEP).restart(timeout=2.0)
        pidfile.unlink()

    @pytest.mark.parametrize("text", ["abc", "-5", "12x", "9" * 30, "\0\0\0"])
    def test_what_is_no_pid_is_told(self, pidfile: Path, text: str) -> None:
        pidfile.write_text(text)
        with pytest.raises(ActionError, match="holds no pid"):
            Process(pidfile=str(pidfile), start=SLEEP).restart(timeout=2.0)
        pidfile.unlink()

    def test_a_pipe_does_not_hold_it_up(self, pidfile: Path) -> None:
        os.mkfifo(pidfile)
        with pytest.raises(ActionError, match="no pidfile"):
            Process(pidfile=str(pidfile), start=SLEEP).status(timeout=1.0)
        pidfile.unlink()

    def test_a_pidfile_that_everybody_may_write_is_not_believed(
        self, pidfile: Path, bystander: int
    ) -> None:
        pidfile.write_text(str(bystander))
        pidfile.chmod(0o666)
        with pytest.raises(ActionError, match="everybody"):
            Process(pidfile=str(pidfile), start=SLEEP).restart(timeout=2.0)
        pidfile.unlink()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may signal what is not its own")
    def test_a_user_may_not_name_processes_of_another(self, pidfile: Path, bystander: int) -> None:
        pidfile.write_text(str(bystander))
        os.chown(pidfile, 65534, 65534)
        with pytest.raises(ActionError, match="not touched"):
            Process(pidfile=str(pidfile), start=SLEEP).restart(timeout=2.0)
        pidfile.unlink()

    def test_somebody_elses_link_is_not_written_through(
        self, pidfile: Path, tmp_path: Path
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_text("kept")
        (tmp_path / ".web.pid.4242").symlink_to(victim)
        with pytest.raises(ActionError, match="its pidfile cannot be written"):
            Process(pidfile=str(pidfile), start=SLEEP)._write(4242)
        assert victim.read_text() == "kept"
        assert not pidfile.exists()


# ── commands ──


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


class TestCommand:
    def test_the_exit_code_of_status_is_the_state(self, tmp_path: Path) -> None:
        flag = tmp_path / "up"
        status = script(tmp_path / "status", f"echo told; test -e {flag}")
        manager = CommandManager(restart_argv=("true",), status_argv=(status,))
        assert manager.status(timeout=5.0).state is ServiceState.STOPPED
        flag.touch()
        assert manager.status(timeout=5.0).state is ServiceState.RUNNING
        assert manager.status(timeout=5.0).detail == "told"

    def test_a_restart_leaves_its_daemon_and_waits_for_status(self, tmp_path: Path) -> None:
        pid = tmp_path / "pid"
        restart = script(
            tmp_path / "restart",
            f"(sleep 0.3; echo $$ >/dev/null; exec sleep 1000) & echo $! >{pid}",
        )
        status = script(tmp_path / "status", f"grep -q 1000 /proc/$(cat {pid})/cmdline")
        manager = CommandManager(restart_argv=(restart,), status_argv=(status,))
        try:
            assert manager.restart(timeout=10.0).state is ServiceState.RUNNING
            assert alive(named(pid))
        finally:
            os.kill(named(pid), signal.SIGKILL)

    def test_without_status_the_exit_code_is_believed(self) -> None:
        manager = CommandManager(restart_argv=("true",))
        assert manager.restart(timeout=5.0).state is ServiceState.RUNNING
        with pytest.raises(ActionError, match="no `status` command"):
            manager.status(timeout=5.0)

    def test_a_failure_is_told_with_its_output(self, tmp_path: Path) -> None:
        restart = script(tmp_path / "restart", "echo port in use >&2; exit 4")
        with pytest.raises(ActionError, match="exit code 4") as error:
            CommandManager(restart_argv=(restart,)).restart(timeout=5.0)
        assert "port in use" in error.value.output

    def test_deadlines_hold(self, tmp_path: Path) -> None:
        began = time.monotonic()
        with pytest.raises(ActionError, match="did not end within"):
            CommandManager(restart_argv=("sleep", "1000")).restart(timeout=0.5)
        with pytest.raises(ActionError, match="did not end within"):
            CommandManager(restart_argv=("true",), status_argv=("sleep", "1000")).status(
                timeout=0.5
            )
        with pytest.raises(ActionError, match="does not say that it runs: ended with exit code 1"):
            CommandManager(restart_argv=("true",), status_argv=("false",)).restart(timeout=1.0)
        assert time.monotonic() - began < 10.0

    def test_one_that_does_not_exist(self) -> None:
        with pytest.raises(ActionError, match="/nonexistent"):
            CommandManager(restart_argv=("/nonexistent",)).restart(timeout=5.0)
