"""The launcher: what it and its supervisors have of promheal, and what happens when it fails."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import receiver.process
from receiver.errors import ActionError
from receiver.process import launching, run, supervision
from receiver.process.launching import Launching
from receiver.process.started import Ends, lending
from tests.chain import wait_until
from tests.figures import Record, scaled

PROCESS = Path(receiver.process.__file__).parent


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launching]:
    started = Launching()
    monkeypatch.setattr(supervision, "LAUNCHING", started)
    started.start()
    yield started
    started.stop()


def launcher(started: Launching) -> int:
    assert started.pid is not None
    return started.pid


def ahead(started: Launching) -> int:
    """The supervisor that waits for an order."""

    def find() -> int | None:
        pid = launcher(started)
        found = [int(one) for one in read(pid, f"task/{pid}/children").split()]
        return next((one for one in found if read(one, "cmdline") == read(pid, "cmdline")), None)

    return int(wait_until(find, within=10, what="a supervisor waits"))


def read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def descriptors(pid: int) -> str:
    return "".join(sorted(one.name for one in Path(f"/proc/{pid}/fd").iterdir()))


def ended(pid: int) -> bool:
    """Whether it is over, whoever should have reaped it."""
    try:
        return read(pid, "stat").rpartition(b")")[2].split()[0] in b"ZX"
    except OSError:
        return True


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)
    wait_until(lambda: number == signal.SIGSTOP or ended(pid), within=10, what="it is over")


# ── what it has of promheal ──


def memory(pid: int) -> Iterator[bytes]:
    """All that a process can read of its memory."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in read(pid, "maps").decode().splitlines():
            span, rights, *_ = line.split()
            low, high = (int(one, 16) for one in span.split("-"))
            if rights.startswith("r") and high < 2**63:
                with suppress(OSError):  # [vvar], which is the kernel's
                    file.seek(low)
                    yield file.read(high - low)


def test_neither_the_launcher_nor_who_waits_has_anything_of_promheal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = os.urandom(20).hex()
    argument = os.urandom(20).hex()
    monkeypatch.setenv("SECRET", secret)
    monkeypatch.setattr(supervision, "LAUNCHING", started := Launching())
    previous = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.umask(umask := os.umask(0o022))
    try:
        with (tmp_path / "stray").open("w") as stray:
            os.set_inheritable(stray.fileno(), True)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
            started.start()
            assert run(["printenv", "A"], timeout=10, env={"A": argument}).output == f"{argument}\n"
            both = launcher(started), ahead(started)
            wait_until(
                lambda: [descriptors(pid) for pid in both] == ["012", "0123"], what="all is closed"
            )
            for pid in both:
                assert read(pid, "environ") == b""
                assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
                assert f"\nUmask:\t{umask:04o}\n".encode() in read(pid, "status")
                assert read(pid, "stat").rpartition(b")")[2].split()[3] == str(pid).encode()
                whole = b"".join(memory(pid))
                assert b"_SOCKET" in whole, "it can be read"
                assert secret.encode() not in whole
                assert argument.encode() not in whole, "the order passed through it"
            status = run(["cat", "/proc/self/status"], timeout=10).output
            masks = [line.split()[1] for line in status.splitlines() if line[:6] == "SigBlk"]
            assert masks == ["0" * 16]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        signal.signal(signal.SIGUSR1, previous)
        started.stop()


def test_nothing_else_starts_processes() -> None:
    starts = re.compile(r"\b(subprocess|multiprocessing|os\.(fork|exec|popen|posix_spawn|system))")
    found = {
        path.name
        for path in PROCESS.parent.rglob("*.py")
        if starts.search(re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text()))
    }

    # The arbiter becomes its caretaker, a program in its own place, and no child.
    assert found == {"arbiter.py", "launcher.py", "launching.py", "started.py", "supervise.py"}


def test_it_imports_little() -> None:
    """What it imports is in each supervisor: a fifth of a mebibyte is soon there."""
    script = "import sys; import {}; print(*sys.modules)"

    def modules(name: str, cwd: Path) -> set[str]:
        argv = [sys.executable, "-S", "-c", script.format(name)]
        return {*subprocess.check_output(argv, cwd=cwd, text=True).split()}

    beyond = modules("launcher", PROCESS) - modules("sys", PROCESS)

    assert {"launcher", "supervise", "ctypes"} <= beyond
    assert not {"enum", "collections", "contextlib", "typing", "socket", "re", "signal"} & beyond


# ── when something ends ──


def test_all_end_with_promheal() -> None:
    script = """
from receiver.process.launching import LAUNCHING
from receiver.process import run
LAUNCHING.start()
run(["true"], timeout=10)
print(LAUNCHING.pid, flush=True)
run(["sh", "-c", "setsid sleep 1000 & sleep 1000"], timeout=1000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=PROCESS.parents[1], stdout=subprocess.PIPE, text=True
    ) as ours:
        assert ours.stdout is not None
        pid = int(ours.stdout.readline())

        def below() -> list[int]:
            """The launcher, who waits, the supervisor, the shell, and what that has started."""
            found = [pid]
            for one in found:
                found += map(int, read(one, f"task/{one}/children").split())
            return found

        wait_until(lambda: len(below()) == 6, within=10, what="all run")
        all_of_it = below()
        ours.kill()

    wait_until(lambda: all(map(ended, all_of_it)), within=10, what="all are over")


def test_who_is_killed_takes_nothing_along_and_another_takes_its_place(started: Launching) -> None:
    first = launcher(started)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, ["sh", "-c", "sleep 0.4; echo done"], timeout=10)
        wait_until(lambda: len(read(first, f"task/{first}/children").split()) == 2, what="it runs")
        kill(first)
        assert run(["true"], timeout=10).ok, "by the one that waited"
        assert run(["true"], timeout=10).ok
        assert launcher(started) != first
        assert running.result().output == "done\n"

    assert started.counts == (1, 0)


def test_nothing_is_asked_of_who_is_over(started: Launching) -> None:
    kill(ahead(started))
    kill(launcher(started))

    assert run(["true"], timeout=10).ok

    assert started.counts == (1, 0)


def test_twice_in_a_minute_is_too_often(
    started: Launching, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        kill(ahead(started))
        kill(launcher(started))
        assert run(["true"], timeout=10).ok
    assert run(["true"], timeout=10).ok

    assert started.counts == (2, 2)
    assert [one.levelname for one in caplog.records] == ["WARNING", "WARNING"]
    assert "has ended; another one is started" in caplog.text
    assert "programs are started without it" in caplog.text

    monkeypatch.setattr(launching, "PAUSE", 0.0)  # the minute is over
    assert run(["true"], timeout=10).ok
    assert launcher(started)
    assert started.counts == (2, 2)


@pytest.mark.parametrize("asked", ["ahead", "now"])
def test_who_is_frozen_is_not_waited_for_long(
    asked: str, started: Launching, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, waiting = launcher(started), ahead(started)
    kill(first, signal.SIGSTOP)
    if asked == "ahead":
        assert run(["true"], timeout=10).ok, "by the one that waited"
    else:
        kill(waiting)

    with monkeypatch.context() as patch:
        patch.setattr(launching, "HERE_LIMIT", 0.2)
        assert run(["true"], timeout=10).ok

    assert started.counts == (1, 1)
    assert ended(first)
    assert run(["true"], timeout=10).ok
    assert started.counts == (1, 1), "another one has taken its place"


def test_one_that_is_asked_is_not_given_up_meanwhile(
    started: Launching, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(ahead(started))
    giving_up: list[threading.Thread] = []

    @contextmanager
    def interrupted() -> Iterator[Ends]:
        if not giving_up:
            giving_up.append(threading.Thread(target=started.stop))
            giving_up[0].start()
            giving_up[0].join(0.1)
        with lending() as ends:
            yield ends

    monkeypatch.setattr(launching, "lending", interrupted)

    assert run(["true"], timeout=10).ok
    giving_up[0].join()


def test_who_thaws_starts_nothing_that_nobody_waits_for(started: Launching) -> None:
    first, waiting = launcher(started), ahead(started)
    kill(first, signal.SIGSTOP)
    asked = started._launcher
    assert asked is not None
    asked.ask().close()
    os.kill(first, signal.SIGCONT)

    assert run(["true"], timeout=10).ok, "by the one that waited"
    wait_until(lambda: ended(waiting), what="it is over")
    assert ahead(started) > 0
    wait_until(lambda: len(read(first, f"task/{first}/children").split()) == 1, what="one waits")
    assert started.counts == (0, 0)


def test_one_that_died_while_it_waited_gets_no_order(started: Launching) -> None:
    kill(ahead(started))

    assert run(["true"], timeout=10).ok

    assert started.counts == (0, 0)


def test_what_tells_the_whole_group_to_end_ends_neither(started: Launching) -> None:
    both = launcher(started), ahead(started)
    for pid in both:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)

    finished = run(["true"], timeout=10)

    assert finished.ok
    assert not finished.cancelled
    assert run(["true"], timeout=10).ok
    assert launcher(started) == both[0]
    assert started.counts == (0, 0)


# Root has no limit of processes, so a program between the launcher and the kernel says what the
# kernel would.
REFUSING = """
import os, sys
sys.path.append({process!r})
import launcher
fork = os.fork
def refused():
    if os.path.exists({file!r}):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = refused
os._exit(launcher.main())
"""


def test_a_fork_that_is_refused_is_told_with_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing, exhausted = tmp_path / "refusing.py", tmp_path / "exhausted"
    refusing.write_text(REFUSING.format(process=str(PROCESS), file=str(exhausted)))
    monkeypatch.setattr(launching, "_LAUNCHER", str(refusing))
    monkeypatch.setattr(supervision, "LAUNCHING", started := Launching())
    started.start()
    try:
        exhausted.touch()
        with suppress(ActionError):
            run(["true"], timeout=10)  # by the one that waited, which cannot fork either
        for _ in range(2):
            with pytest.raises(ActionError, match=r"'true': .*unavailable; raise the .*TasksMax="):
                run(["true"], timeout=10)
        exhausted.unlink()
        assert run(["true"], timeout=10).ok
        assert started.counts == (0, 0)
    finally:
        started.stop()


def test_one_that_cannot_be_started_is_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(launching._Launcher, "__init__", refused)
    monkeypatch.setattr(supervision, "LAUNCHING", started := Launching())
    started.start()

    assert run(["true"], timeout=10).ok

    assert started.counts == (2, 1)
    assert "does not start: [Errno 11] Resource" in caplog.text


def test_killed_at_random_it_neither_loses_nor_doubles_anything(
    started: Launching, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record_property: Record
) -> None:
    monkeypatch.setattr(launching, "PAUSE", 0.0)
    before = len([*Path("/proc/self/fd").iterdir()])
    kills, over = scaled(5, 100), threading.Event()
    marks: Counter[str] = Counter()

    def work(number: int) -> None:
        at = 0
        while not over.is_set():
            at += 1
            mark = f"{number}-{at}"
            marks[mark] += 1
            argv = ["sh", "-c", 'echo "$1" >> marks; sleep 0.02; echo "$1"', "sh", mark]
            finished = run(argv, timeout=30, cwd=str(tmp_path))
            assert (finished.ok, finished.output) == (True, f"{mark}\n")

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, number) for number in range(4)]
        done = 0
        while done < kills and not any(one.done() for one in working):
            time.sleep(random.uniform(0.0, 0.1))
            with suppress(AssertionError, OSError):
                os.kill(launcher(started), signal.SIGKILL)
                done += 1
        over.set()
        for one in working:
            one.result()

    record_property("kills of the launcher", done)
    assert Counter((tmp_path / "marks").read_text().split()) == marks
    assert started.counts.failures > 0
    run(["true"], timeout=10)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
