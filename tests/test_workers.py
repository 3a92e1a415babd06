"""Workers of a real gunicorn and a real supervisord, counted, scaled, and scaled back."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.actions.scale_workers import ScaleParams, ScaleWorkers
from receiver.errors import ActionError
from receiver.services import Inventory, Service, Workers
from receiver.services.command import CommandManager
from receiver.services.workers import Counted, Inferred, Scaled
from receiver.services.workers.command import WorkerCommands
from receiver.services.workers.gunicorn import Gunicorn
from receiver.services.workers.supervisor import SupervisorGroup
from tests import factories
from tests.tools import tool

APP = """\
def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


def eventually(holds: Callable[[], object], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def shop(workers: Workers) -> Service:
    return Service(name="shop", manager=CommandManager(restart_argv=("true",)), workers=workers)


class Step:
    """A step of a run, with what it has saved."""

    def __init__(self, workers: Workers, **more: Any) -> None:
        self.saved: dict[str, Any] = {}
        self.more = {"timeout": 60.0, **more}
        self.inventory = Inventory({"shop": shop(workers)})

    @property
    def context(self) -> Any:
        def save(saved: Any) -> None:
            self.saved = json.loads(msgspec.json.encode(saved))

        return factories.context(inventory=self.inventory, save=save, saved=self.saved, **self.more)

    def run(self, **params: Any) -> Any:
        return ScaleWorkers().run(ScaleParams(service="shop", **params), self.context)

    def undo(self) -> Any:
        params = ScaleParams(service="shop", by=1)
        return ScaleWorkers().rollback(params, self.context, None)


# -- gunicorn


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Gunicorn]:
    (tmp_path / "shop.py").write_text(APP)
    pidfile = tmp_path / "gunicorn.pid"
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(
        [
            *(tool("gunicorn"), "shop:app", "--workers", "2", "--pid", str(pidfile)),
            *("--bind", f"unix:{tmp_path}/http.sock", "--chdir", str(tmp_path)),
            *("--graceful-timeout", "2", "--no-control-socket"),
        ],
        stderr=log,
        start_new_session=True,
    ) as process:  # fmt: skip
        workers = Gunicorn(pidfile=str(pidfile), min=1, max=5)
        try:
            eventually(lambda: pidfile.exists() and workers.look(timeout=1).wanted == 2)
            yield workers
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_gunicorn_gets_more_workers_and_gives_them_back(gunicorn: Gunicorn) -> None:
    step = Step(gunicorn)
    assert step.run(by=2) == {"service": "shop", "before": 2, "workers": 4}
    assert gunicorn.look(timeout=1).wanted == 4
    assert step.undo() == {"restored": True, "workers": 2}
    assert gunicorn.look(timeout=1).wanted == 2


def test_its_bounds_hold(gunicorn: Gunicorn) -> None:
    assert Step(gunicorn).run(by=50)["workers"] == 5
    assert Step(gunicorn).run(by=1) == {"skipped": "'shop' has 5 workers; bounds 1 to 5"}
    assert Step(gunicorn).run(to=0)["workers"] == 1


def test_one_that_has_just_died_is_counted(gunicorn: Gunicorn) -> None:
    """Its master starts it again: one more of two is three, whatever a single look sees."""
    pid = int(Path(gunicorn.pidfile).read_text())
    children = Path(f"/proc/{pid}/task/{pid}/children")
    killer_over = threading.Event()

    def kill() -> None:
        while not killer_over.wait(0.2):
            for child in children.read_text().split()[:1]:
                os.kill(int(child), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    timer = threading.Timer(3.0, killer_over.set)
    timer.start()
    try:
        assert Step(gunicorn).run(by=1) == {"service": "shop", "before": 2, "workers": 3}
    finally:
        killer_over.set()
        killer.join()


BUSY = """\
import time

def app(environ, start_response):
    time.sleep(8)
    start_response("200 OK", [])
    return [b""]
"""


def test_old_ones_that_a_reload_has_told_to_end_are_not_wanted(tmp_path: Path) -> None:
    """Two that answer a last request beside two new ones: one more is three, and was five."""
    (tmp_path / "shop.py").write_text(BUSY)
    pidfile, control = tmp_path / "pid", tmp_path / "ctl"
    with subprocess.Popen(
        [
            *(tool("gunicorn"), "shop:app", "--workers", "2", "--pid", str(pidfile)),
            *("--bind", f"unix:{tmp_path}/s", "--chdir", str(tmp_path)),
            *("--control-socket", str(control)),
        ],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        workers = Gunicorn(pidfile=str(pidfile), control_socket=str(control), min=1, max=9)
        clients: list[socket.socket] = []
        try:
            eventually(lambda: control.exists() and workers.look(timeout=1).ready == 2)
            assert workers.probe(timeout=1) == []
            clients = [_asking(tmp_path / "s") for _ in range(2)]
            time.sleep(0.5)
            os.kill(process.pid, signal.SIGHUP)
            eventually(lambda: workers.look(timeout=1).leaving == 2)
            began = time.monotonic()
            step = Step(workers)
            assert step.run(by=1) == {"service": "shop", "before": 2, "workers": 3}
            assert time.monotonic() - began > 2, "those that still work are waited for"
            assert step.undo() == {"restored": True, "workers": 2}
        finally:
            for client in clients:
                client.close()
            os.killpg(process.pid, signal.SIGKILL)


def _asking(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    return client


def test_a_control_socket_that_is_not_there_says_what_to_mend(
    gunicorn: Gunicorn, tmp_path: Path
) -> None:
    wrong = msgspec.structs.replace(gunicorn, control_socket=str(tmp_path / "none"))
    with pytest.raises(ActionError, match=r"none cannot be asked: No such file.*; correct `contr"):
        wrong.count(timeout=1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "mute"))
    listener.listen()
    mute = msgspec.structs.replace(gunicorn, control_socket=str(tmp_path / "mute"))
    with pytest.raises(ActionError, match=r"no answer in time|is no gunicorn|timed out"):
        mute.count(timeout=0.5)
    listener.close()


def test_a_helper_of_it_is_no_worker(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "conf.py").write_text(
        "import subprocess\n"
        "def when_ready(server): server.helper = subprocess.Popen(['sleep', '60'])\n"
    )
    pidfile = tmp_path / "pid"
    with subprocess.Popen(
        [
            *(tool("gunicorn"), "shop:app", "--workers", "1", "--pid", str(pidfile)),
            *("--bind", f"unix:{tmp_path}/s", "--chdir", str(tmp_path)),
            *("-c", str(tmp_path / "conf.py")),
            "--no-control-socket",
        ],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            workers = Gunicorn(pidfile=str(pidfile), min=1, max=5)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            eventually(lambda: pidfile.exists() and len(children.read_text().split()) == 2)
            assert workers.look(timeout=1).wanted == 1
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_without_a_gunicorn_nothing_is_signalled(tmp_path: Path) -> None:
    gone = Gunicorn(pidfile=str(tmp_path / "none"), min=1, max=5)
    with pytest.raises(ActionError, match=r"no gunicorn runs as .*none says"):
        Step(gone).run(by=1)
    assert "start it with --pid" in gone.probe(timeout=1)[0]


@pytest.mark.slow
def test_killed_at_any_moment_the_repetition_reaches_the_same_number(
    gunicorn: Gunicorn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never two more, and then two more again."""
    monkeypatch.setattr("receiver.services.workers._SETTLE", 0.1)
    monkeypatch.setattr("receiver.services.workers.STEADY", 0.2)
    dice = random.Random(7)
    code = (
        "import json, sys\n"
        "from tests.test_workers import Step\n"
        "from receiver.services.workers.gunicorn import Gunicorn\n"
        "step = Step(Gunicorn(pidfile=sys.argv[1], min=1, max=5))\n"
        "keep = step.__class__.context.fget\n"
        "import receiver.actions.scale_workers as s\n"
        "import receiver.services.workers as w\n"
        "w.STEADY = 0.2\n"
        "real = s._Scaling\n"
        "class Told(real):\n"
        "    def __post_init__(self): print(json.dumps([self.before, self.wanted]), flush=True)\n"
        "s._Scaling = Told\n"
        "step.run(by=int(sys.argv[2]))\n"
    )
    for by in (2, -2, 1, -1) * 5:
        before = gunicorn.look(timeout=1).wanted
        with subprocess.Popen(
            [sys.executable, "-c", code, gunicorn.pidfile, str(by)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        ) as process:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            time.sleep(dice.uniform(0, 0.3))
            process.kill()
        assert said == [before, before + by]
        step = Step(gunicorn)
        step.saved = {"before": said[0], "wanted": said[1]}
        assert step.run(by=by)["workers"] == before + by
    assert gunicorn.look(timeout=1).wanted == 2


# -- supervisord


@contextmanager
def supervised(folder: Path, program: str, *, most: int) -> Iterator[SupervisorGroup]:
    """A real supervisord with the group mail, of *most* programs as *program* sets them up."""
    socket = folder / "s.sock"
    (folder / "supervisord.conf").write_text(
        f"[unix_http_server]\nfile={socket}\n"
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/log\npidfile={folder}/pid\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[program:mail]\nnumprocs={most}\nprocess_name=%(process_num)d\nautostart=false\n"
        f"{program}\n"
    )
    with subprocess.Popen(
        [tool("supervisord"), "-c", str(folder / "supervisord.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            eventually(socket.exists)
            yield SupervisorGroup(group="mail", socket=str(socket), min=1, max=most)
        finally:
            process.terminate()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[SupervisorGroup]:
    with supervised(tmp_path, "command=sleep 600\nstartsecs=0", most=4) as found:
        yield found


def test_programs_of_a_group_are_started_and_stopped(group: SupervisorGroup) -> None:
    eventually(lambda: group.count(timeout=5).wanted == 0)
    assert Step(group).run(to=3)["workers"] == 3
    step = Step(group)
    assert step.run(by=-2)["workers"] == 1
    assert step.undo()["workers"] == 3
    assert list(group.probe(timeout=5)) == []
    more = msgspec.structs.replace(group, max=9)
    assert list(more.probe(timeout=5)) == [
        "the group has only 4 programs, and max is 9: raise numprocs"
    ]
    with pytest.raises(ActionError, match="has no process 'nobody:"):
        msgspec.structs.replace(group, group="nobody").count(timeout=5)


@pytest.fixture
def ill(tmp_path: Path) -> Iterator[SupervisorGroup]:
    """Its programs take two seconds to be RUNNING, and the first one never is."""
    script = 'test "$0" != 0 || exit 3; exec sleep 600'
    program = f"command=sh -c '{script}' %(process_num)d\nstartsecs=2\nstartretries=50"
    with supervised(tmp_path, program, most=5) as found:
        yield found


def states(group: SupervisorGroup) -> list[str]:
    with group._supervisor.connected(time.monotonic() + 5) as client:
        return [info.statename for info in client.infos("mail:*")]


def test_programs_that_start_or_are_tried_again_are_counted(ill: SupervisorGroup) -> None:
    """Two of three do not run yet: one more is a fourth, and was the second."""
    with ill._supervisor.connected(time.monotonic() + 5) as client:
        for number in range(3):
            client.start(f"mail:{number}")
    eventually(lambda: "BACKOFF" in states(ill) and "STARTING" in states(ill))
    step = Step(ill)
    result = step.run(by=1)
    assert (result["before"], result["workers"]) == (3, 4)
    assert states(ill).count("RUNNING") >= 3
    # Fewer: the one that does not work goes first.
    assert Step(ill).run(by=-1) == {"service": "shop", "before": 4, "workers": 3}
    assert states(ill)[0] in {"STOPPED", "EXITED", "FATAL"}
    assert states(ill).count("RUNNING") == 3


# -- commands


@pytest.fixture
def commands(tmp_path: Path) -> WorkerCommands:
    (tmp_path / "n").write_text("2")
    ask = ("cat", str(tmp_path / "n"))
    to = ("sh", "-c", 'printf %s "$1" > "$0"', str(tmp_path / "n"), "{count}")
    return WorkerCommands(ask=ask, to=to, min=0, max=9)


def test_commands_count_and_scale(commands: WorkerCommands) -> None:
    step = Step(commands)
    assert step.run(to=7)["workers"] == 7
    assert step.undo()["workers"] == 2


def test_what_was_saved_decides_and_not_what_is_there_now(commands: WorkerCommands) -> None:
    step = Step(commands)
    step.saved = {"before": 2, "wanted": 4}
    assert step.run(by=2) == {"service": "shop", "before": 2, "workers": 4}
    assert step.run(by=2)["workers"] == 4, "and not 6"


def test_what_somebody_else_has_scaled_is_left(commands: WorkerCommands) -> None:
    step = Step(commands)
    step.run(to=4)
    Step(commands).run(to=8)
    with pytest.raises(ActionError, match="it had 2 workers, promheal wanted 4, now there are 8"):
        step.undo()
    assert commands.count(timeout=5).wanted == 8


def test_one_that_was_never_begun_needs_no_undoing(commands: WorkerCommands) -> None:
    assert Step(commands).undo()["restored"] is False


def test_what_is_not_reached_in_time_is_told(tmp_path: Path) -> None:
    stuck = WorkerCommands(ask=("echo", "3"), to=("true", "{count}"), min=0, max=9)
    with pytest.raises(ActionError, match=r"5 workers were asked for, .* 3 are wanted"):
        Step(stuck, timeout=1.0).run(to=5)
    liar = WorkerCommands(ask=("echo", "many"), to=("true", "{count}"), min=0, max=9)
    with pytest.raises(ActionError, match="'echo' printed no number"):
        Step(liar).run(to=5)
    failing = WorkerCommands(ask=("echo", "3"), to=("false", "{count}"), min=0, max=9)
    with pytest.raises(ActionError, match="'false' ended with 1"):
        Step(failing).run(to=5)


def test_a_number_that_does_not_hold_is_not_reached(tmp_path: Path) -> None:
    """A worker that dies at its start is there for a moment."""

    class Flapping(Scaled, frozen=True, kw_only=True):
        seen: list[int]

        def look(self, *, timeout: float) -> Counted:
            now = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
            return Counted(wanted=now, ready=now)

        def step(self, wanted: int, *, timeout: float) -> None:
            pass

        __hash__ = object.__hash__

    with pytest.raises(ActionError, match=r"2 workers were asked for, .* 1 are wanted"):
        Flapping(min=0, max=5, seen=[1, 1, 2, 2, 1]).scale(2, timeout=2)


class Seen(Inferred, frozen=True, kw_only=True):
    """Workers of which nobody tells how many are wanted; each look sees the next number."""

    numbers: list[int]

    def look(self, *, timeout: float) -> Counted:
        now = self.numbers.pop(0) if len(self.numbers) > 1 else self.numbers[0]
        return Counted(wanted=now, ready=now)

    __hash__ = object.__hash__


def test_a_number_that_is_only_seen_must_stay_to_be_believed() -> None:
    assert Seen(min=0, max=9, numbers=[1, 1, 2]).count(timeout=20).wanted == 2, "one had just died"
    assert Seen(min=0, max=9, numbers=[4, 4, 3, 2]).count(timeout=20).wanted == 2, "two were ending"
    with pytest.raises(ActionError, match=r"their number changes .*; nothing was touched"):
        Seen(min=0, max=9, numbers=[1, 2] * 99).count(timeout=3)


def test_two_runs_on_the_same_workers_take_turns(tmp_path: Path) -> None:
    """The script leaves a trace when two are in it at once."""
    (tmp_path / "n").write_text("0")
    script = (
        'mkdir "$0/lock" || touch "$0/clash"; sleep 0.2; printf %s "$1" > "$0/n"; rmdir "$0/lock"'
    )
    workers = WorkerCommands(
        ask=("cat", f"{tmp_path}/n"),
        to=("sh", "-c", script, str(tmp_path), "{count}"),
        min=0,
        max=9,
    )
    threads = [
        threading.Thread(target=workers.scale, args=(n,), kwargs={"timeout": 30}) for n in (3, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not (tmp_path / "clash").exists()
    assert workers.count(timeout=5).wanted in {3, 5}


# -- what is written


def test_one_of_by_and_to_is_asked_for() -> None:
    for wrong in ({}, {"by": 1, "to": 2}, {"by": 0}):
        with pytest.raises(ValueError, match="write either `by`, as 2 or -1, or `to`"):
            ScaleParams(service="shop", **wrong)


def test_bounds_and_places_are_checked_at_load() -> None:
    with pytest.raises(ValueError, match="min is 5, and max only 2"):
        Gunicorn(pidfile="/run/x", min=5, max=2)
    with pytest.raises(ValueError, match="as one of its arguments"):
        WorkerCommands(ask=("a",), to=("b", "c"), min=0, max=1)
    with pytest.raises(ValueError, match="either `socket` or `url`"):
        SupervisorGroup(group="a", min=0, max=1)


def test_a_service_without_workers_fails_clearly_and_at_load() -> None:
    bare = Service(name="shop", manager=CommandManager(restart_argv=("true",)))
    params = ScaleParams(service="shop", by=1)
    context = factories.context(inventory=Inventory({"shop": bare}))
    with pytest.raises(ActionError, match="'shop' has no `workers:`"):
        ScaleWorkers().run(params, context)
    assert list(ScaleWorkers().problems(params, context.inventory)) == [
        "service: 'shop' has no `workers:` in services.yml"
    ]
