"""Real processes, no mocks: what runs, what is kept of its output, and what never survives."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import receiver.process
from receiver.errors import ActionError
from receiver.process import Finished, run, spawn_detached, supervise, supervision
from receiver.process.launching import LAUNCHING, Launching
from tests.figures import Record

ROOT = Path(receiver.process.__file__).parents[1]
MAIN = [sys.executable, "-I", "-S", "-c"]

DOUBLE_FORK = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
time.sleep(1000)
"""
TREE = """
import os, signal, time
for level in range(7):
    os.fork()
    if level % 3 == 2:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(1000)
"""
FIRST_THREAD_OVER = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
WALKERS = """
import os, time
for _ in range(10):
    if not os.fork():
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(0.001)
time.sleep(1000)
"""


def _supervises(cmdline: bytes) -> bool:
    return cmdline.endswith((b"/supervise.py\0", b"/launcher.py\0"))


class Marked:
    """Finds what a test started by a variable that only its processes have."""

    def __init__(self) -> None:
        self.value = uuid.uuid4().hex
        self.env = {"PROMHEAL_TEST_MARK": self.value}

    def survivors(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if self.value.encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def kill(self) -> None:
        for pid in self.survivors():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def supervisor(self) -> int | None:
        """The parent of the first of them; it carries no mark itself."""
        for pid in self.survivors():
            with suppress(OSError):
                parent = int(stat(pid)[1])
                if _supervises(Path(f"/proc/{parent}/cmdline").read_bytes()):
                    return parent
        return None


@pytest.fixture(scope="module", autouse=True)
def _launcher() -> Iterator[None]:
    LAUNCHING.start()
    yield
    assert LAUNCHING.counts == (0, 0)
    LAUNCHING.stop()


@pytest.fixture(params=["launched", "direct"])
def launched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the launcher starts what the test runs: without one everything holds too."""
    if request.param == "direct":
        monkeypatch.setattr(supervision, "LAUNCHING", Launching())
    return bool(request.param == "launched")


def promheal(script: str, *, launched: bool) -> list[str]:
    """Return the argv of a process of its own that runs something."""
    start = "from receiver.process.launching import LAUNCHING; LAUNCHING.start()\n"
    return [sys.executable, "-c", start * launched + script]


@pytest.fixture
def marked() -> Iterator[Marked]:
    mark = Marked()
    yield mark
    mark.kill()


def stat(pid: int) -> list[str]:
    """State, parent, group and session of *pid*, and more; see proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def lives(pid: int) -> bool:
    with suppress(OSError):
        return stat(pid)[0] != "Z"
    return False


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def shell(script: str, *, timeout: float = 10) -> Finished:
    return run(["sh", "-c", script], timeout=timeout)


def test_the_exit_code_and_both_streams_are_told() -> None:
    finished = shell("echo out; echo err >&2; exit 3")

    assert finished.argv[0] == "sh"
    assert (finished.exit_code, finished.signal, finished.ok) == (3, None, False)
    assert finished.output == "out\nerr\n"
    assert not finished.timed_out
    assert finished.killed == 0


def test_an_exit_code_of_0_is_ok() -> None:
    assert run(["true"], timeout=10).ok


def test_a_signal_is_told_as_one() -> None:
    finished = shell("kill -SEGV $$")

    assert (finished.exit_code, finished.signal, finished.ok) == (None, signal.SIGSEGV, False)


def test_a_program_gets_its_argv_untouched() -> None:
    words = ["a b", "", "*", "$HOME", "-n", "ü", "x\ny", "\udcff"]

    finished = run([*MAIN, "import sys; print(ascii(sys.argv[1:]))", *words], timeout=10)

    assert finished.output == f"{words!a}\n"


@pytest.mark.usefixtures("launched")
def test_nothing_of_our_environment_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")

    finished = run(["env"], timeout=10, env={"PROMHEAL_ALERT": "a=b", "HOME": "/root"})

    assert sorted(finished.output.splitlines()) == [
        "HOME=/root",
        "LANG=C.UTF-8",
        f"PATH={receiver.process.PATH}",
        "PROMHEAL_ALERT=a=b",
    ]


@pytest.mark.usefixtures("launched")
def test_descriptors_signals_and_session_are_clean(tmp_path: Path) -> None:
    script = """
import os
print(sorted(os.listdir("/proc/self/fd")))
print(os.getsid(0) == os.getpid() == os.getpgrp())
print(os.getcwd())
print(os.readlink("/proc/self/fd/0"))
"""
    with (tmp_path / "stray").open("w") as stray:
        os.set_inheritable(stray.fileno(), True)
        previous = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        try:
            lines = run([*MAIN, script], timeout=10, cwd=str(tmp_path)).output.splitlines()
            status = run(["cat", "/proc/self/status"], timeout=10).output
        finally:
            signal.signal(signal.SIGUSR1, previous)

    assert lines == ["['0', '1', '2', '3']", "True", str(tmp_path), "/dev/null"]
    # Signals 32 and 33 are the C library's own: no program can set them, and some shells pass on
    # that they are ignored.
    masks = [
        int(mask, 16) & ~(0b11 << 31) for mask in re.findall(r"Sig(?:Ign|Blk):\t(\w+)", status)
    ]
    assert masks == [0, 0]


def test_a_long_output_keeps_its_head_and_tail() -> None:
    finished = run(
        ["sh", "-c", "printf HEAD; head -c 10000000 /dev/zero | tr '\\0' x; printf TAIL"],
        timeout=10,
        output_limit=1000,
    )

    head, line, tail = finished.output.split("\n")
    assert head == "HEAD" + "x" * 496
    assert tail == "x" * 496 + "TAIL"
    assert line == "… 9999008 bytes left out …"


def test_an_output_that_just_fits_is_whole() -> None:
    assert run(["printf", "x" * 1000], timeout=10, output_limit=1000).output == "x" * 1000


def test_binary_output_becomes_text_that_can_be_stored() -> None:
    finished = run(["printf", r"a\000\377\303\274"], timeout=10)

    assert finished.output == "a\ufffd\ufffdü"


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_the_output_may_be_left_out_altogether(limit: int) -> None:
    finished = run(["printf", "abcdef"], timeout=10, output_limit=limit)

    assert len(re.sub("\n.*\n", "", finished.output)) <= limit
    assert "bytes left out" in finished.output


def test_a_gibibyte_of_output_costs_little_memory(
    record_property: Record, *, launched: bool
) -> None:
    script = """
import resource
from receiver.process import run
whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN  # promheal, and the supervisor
peak = lambda: sum(resource.getrusage(one).ru_maxrss for one in whose)
run(["true"], timeout=60)
before = peak()
finished = run(["head", "-c", "1G", "/dev/zero"], timeout=60)
print(finished.ok, peak() - before, finished.output.split("\\n")[1])
"""
    done = subprocess.run(
        promheal(script, launched=launched), cwd=ROOT, capture_output=True, text=True, check=True
    )

    ok, kibibytes, line = done.stdout.strip().split(" ", 2)
    record_property("MiB for 1 GiB of output", int(kibibytes) / 1024)
    assert ok == "True"
    assert int(kibibytes) <= 20 * 1024
    assert line == f"… {2**30 - 65536} bytes left out …"


LATE: dict[str, tuple[list[str], int]] = {  # argv, and how many processes it has at least
    "hung": (["sleep", "1000"], 1),
    "ignores SIGTERM": (["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], 2),
    "setsid and double fork": ([*MAIN, DOUBLE_FORK], 2),
    "tree of seven levels": ([*MAIN, TREE], 128),
    "fork, exit and a new session each millisecond": ([*MAIN, WALKERS], 11),
    "zombie with a living thread": ([*MAIN, FIRST_THREAD_OVER], 0),
    "stopped": (["sh", "-c", "kill -STOP $$"], 1),
    "stops again": (["sh", "-c", "trap '' TERM; while :; do kill -STOP $$; done"], 1),
    "closed its output": (["sh", "-c", "exec >&- 2>&-; exec sleep 1000"], 1),
    "prints all the time": (["yes"], 1),
}


@pytest.fixture(scope="module")
def ended() -> dict[str, tuple[Finished, list[int]]]:
    """How each of LATE ended, and who was alive then. All at once, for it is mostly waiting."""

    def one(argv: list[str]) -> tuple[Finished, list[int]]:
        mark = Marked()
        finished = run(argv, timeout=1.5, env=mark.env)
        survivors = mark.survivors()
        mark.kill()
        return finished, survivors

    with ThreadPoolExecutor(len(LATE)) as pool:
        return dict(zip(LATE, pool.map(one, (argv for argv, _ in LATE.values())), strict=True))


@pytest.mark.parametrize("name", LATE)
def test_nothing_survives_the_deadline_by_2_seconds(
    name: str, ended: dict[str, tuple[Finished, list[int]]], record_property: Record
) -> None:
    finished, survivors = ended[name]

    record_property("survivors", len(survivors))
    record_property("seconds after the deadline", finished.seconds - 1.5)
    assert survivors == []
    assert finished.timed_out
    assert not finished.ok
    assert finished.exit_code is None
    assert finished.signal in {signal.SIGTERM, signal.SIGKILL}
    assert 1.5 <= finished.seconds < 3.5
    assert finished.killed >= LATE[name][1]


def test_a_program_that_ends_well_when_told_to_was_late_all_the_same() -> None:
    finished = shell("trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done", timeout=0.3)

    assert finished.timed_out
    assert finished.exit_code == 0
    assert not finished.ok
    assert finished.output.endswith("bye\n")


def test_a_stopped_program_is_woken_to_hear_that_it_shall_end() -> None:
    finished = shell("trap 'echo bye; exit 0' TERM; kill -STOP $$", timeout=0.3)

    assert finished.timed_out
    assert finished.output == "bye\n"


@pytest.mark.usefixtures("launched")
def test_what_is_left_over_is_killed(marked: Marked) -> None:
    script = "(trap '' TERM; setsid sleep 1000) & sleep 1000 & exit 4"

    finished = run(["sh", "-c", script], timeout=10, env=marked.env)

    assert marked.survivors() == []
    assert finished.exit_code == 4
    assert not finished.timed_out
    assert finished.killed >= 2
    assert finished.seconds < 2.5


@pytest.mark.usefixtures("launched")
def test_a_daemon_may_be_left_and_may_go_on_printing(marked: Marked) -> None:
    script = "(while :; do echo alive; sleep 0.02; done) & echo started"

    finished = run(["sh", "-c", script], timeout=10, env=marked.env, leftovers="leave")

    assert finished.ok
    assert finished.seconds < 2
    assert finished.killed == 0
    assert "started\n" in finished.output
    time.sleep(0.5)
    daemon = next(
        pid for pid in marked.survivors() if Path(f"/proc/{pid}/comm").read_text() == "sh\n"
    )
    assert int(stat(daemon)[1]) != os.getpid()
    pipe = Path(f"/proc/{daemon}/fd/1").readlink()
    marked.kill()
    assert wait_until(lambda: not holders(pipe), 2), "who reads its output ends with it"


def holders(pipe: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if entry.readlink() == pipe:
                found.append(str(entry))
        except OSError:
            continue
    return found


def test_what_may_be_left_does_not_survive_the_deadline(marked: Marked) -> None:
    finished = run(
        ["sh", "-c", "setsid sleep 1000 & sleep 1000"],
        timeout=0.3,
        env=marked.env,
        leftovers="leave",
    )

    assert finished.timed_out
    assert marked.survivors() == []


@pytest.mark.parametrize("leftovers", ["kill", "leave"])
def test_our_own_death_kills_the_whole_tree(
    leftovers: str, marked: Marked, *, launched: bool
) -> None:
    script = (
        "from receiver.process import run; "
        f"run({[*MAIN, DOUBLE_FORK]}, timeout=1000, env={marked.env}, leftovers={leftovers!r})"
    )
    with subprocess.Popen(promheal(script, launched=launched), cwd=ROOT) as ours:
        assert wait_until(lambda: len(marked.survivors()) >= 2, 5)
        supervisor = marked.supervisor()
        ours.kill()

    assert wait_until(lambda: not marked.survivors(), 2)
    assert supervisor is not None
    assert wait_until(lambda: not lives(supervisor), 2)


def test_the_deadline_holds_while_we_are_frozen(marked: Marked, *, launched: bool) -> None:
    script = (
        "from receiver.process import run; "
        f"run(['sh', '-c', 'setsid sleep 1000 & sleep 1000'], timeout=1, env={marked.env})"
    )
    with subprocess.Popen(promheal(script, launched=launched), cwd=ROOT) as ours:
        assert wait_until(lambda: len(marked.survivors()) >= 2, 5)
        os.kill(ours.pid, signal.SIGSTOP)
        try:
            assert wait_until(lambda: not marked.survivors(), 3)
        finally:
            ours.kill()


def test_the_main_process_dies_with_its_supervisor_even_while_we_are_frozen(
    marked: Marked, *, launched: bool
) -> None:
    script = (
        f"from receiver.process import run; run(['sleep', '1000'], timeout=1000, env={marked.env})"
    )
    with subprocess.Popen(promheal(script, launched=launched), cwd=ROOT) as ours:
        assert wait_until(marked.supervisor, 5)
        supervisor = marked.supervisor()
        assert supervisor is not None
        os.kill(ours.pid, signal.SIGSTOP)
        try:
            os.kill(supervisor, signal.SIGKILL)
            assert wait_until(lambda: not marked.survivors(), 1)
        finally:
            ours.kill()


def test_children_are_found_with_and_without_the_help_of_the_kernel() -> None:
    with subprocess.Popen(["sleep", "1000"]) as one, subprocess.Popen(["sleep", "1000"]) as two:
        try:
            for children in supervise._read_children, supervise._scan_children():
                assert {one.pid, two.pid} <= set(children(os.getpid()))
                assert children(two.pid) == []
        finally:
            one.kill()
            two.kill()


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_loss_of_the_supervisor_is_an_error_and_leaves_no_group(
    number: signal.Signals, marked: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "END_LIMIT", 0.5)
    with ThreadPoolExecutor() as pool:
        future = pool.submit(
            run, ["sh", "-c", "echo so far; sleep 1000 & sleep 1000"], timeout=1, env=marked.env
        )
        assert wait_until(lambda: len(marked.survivors()) >= 3, 5)
        supervisor = marked.supervisor()
        assert supervisor is not None
        os.kill(supervisor, number)

        with pytest.raises(ActionError, match="the supervisor of 'sh'") as caught:
            future.result(timeout=5)

    assert caught.value.output == "so far\n"
    assert wait_until(lambda: not marked.survivors(), 1)


@pytest.mark.usefixtures("launched")
def test_a_supervisor_that_is_told_to_end_takes_all_with_it(marked: Marked) -> None:
    with ThreadPoolExecutor() as pool:
        future = pool.submit(run, ["sleep", "1000"], timeout=1000, env=marked.env)
        assert wait_until(marked.supervisor, 5)
        supervisor = marked.supervisor()
        assert supervisor is not None
        os.kill(supervisor, signal.SIGTERM)
        finished = future.result(timeout=5)

    assert finished.cancelled
    assert not finished.ok
    assert marked.survivors() == []


def test_a_cancellation_ends_everything(marked: Marked) -> None:
    finished = run(
        [*MAIN, DOUBLE_FORK],
        timeout=1000,
        env=marked.env,
        cancelled=lambda: len(marked.survivors()) >= 2,
    )

    assert marked.survivors() == []
    assert finished.cancelled
    assert not finished.timed_out
    assert not finished.ok
    assert finished.signal == signal.SIGKILL


def test_no_cancellation_changes_nothing() -> None:
    finished = run(["sh", "-c", "sleep 0.4; echo done"], timeout=10, cancelled=lambda: False)

    assert finished.ok
    assert finished.output == "done\n"


def test_an_error_while_we_wait_ends_everything_too(marked: Marked) -> None:
    def broken() -> bool:
        if marked.survivors():
            raise LookupError
        return False

    with pytest.raises(LookupError):
        run(["sleep", "1000"], timeout=1000, env=marked.env, cancelled=broken)

    assert marked.survivors() == []


def detached(argv: list[str]) -> None:
    with spawn_detached(argv):
        pass


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["no-such-program"], r"'no-such-program': No such file.*; install it in one of /usr/loc"),
        (["/no/such/program"], r"'/no/such/program': No such file.*; correct its path"),
        (["/etc/passwd"], r"'/etc/passwd': Permission denied; make it executable"),
        (["/etc/passwd/x"], r"'/etc/passwd/x': No such file.*; correct its path"),
        (["true", "x" * 3_000_000], r"'true': Argument list too long; pass less"),
        ([], r"the command is empty"),
        ([""], r"the command is empty"),
        (["true", "a\0b"], r"'true': no process can be given 'a\\x00b', for its NUL"),
        (["true", "\ud800"], r"'true': no process can be given '\\ud800', for its NUL or lone"),
    ],
)
@pytest.mark.parametrize("start", [lambda argv: run(argv, timeout=10), detached])
def test_what_cannot_be_started_is_named_with_the_remedy(
    start: Callable[[list[str]], object], argv: list[str], said: str
) -> None:
    with pytest.raises(ActionError, match=said):
        start(argv)


def test_a_script_without_a_first_line_is_not_given_to_a_shell(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)

    with pytest.raises(ActionError, match=r"Exec format error; a script needs a first line"):
        run([str(script)], timeout=10)


def test_a_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(ActionError, match=r"'true' in the directory '/no/such': No such file"):
        run(["true"], timeout=10, cwd="/no/such")


@pytest.mark.parametrize("env", [{"A": "x\0y"}, {"A\0": "x"}, {"": "x"}, {"A=B": "x"}])
def test_a_variable_that_no_process_can_have_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(ActionError, match="cannot start 'true': "):
        run(["true"], timeout=10, env=env)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_every_run_has_a_deadline(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be a positive number"):
        run(["true"], timeout=timeout)


def test_a_program_is_looked_for_in_the_path_of_its_own_environment(tmp_path: Path) -> None:
    for place, mode in ("first", 0o644), ("second", 0o755):
        (tmp_path / place).mkdir()
        program = tmp_path / place / "hello"
        program.write_text("#!/bin/sh\necho hello\n")
        program.chmod(mode)

    path = f"/nowhere::{tmp_path}/first:{tmp_path}/second"

    assert run(["hello"], timeout=10, env={"PATH": path}).output == "hello\n"


@pytest.mark.usefixtures("launched")
def test_many_threads_at_once_do_not_mix() -> None:
    open_before = open_descriptors()
    barrier = threading.Barrier(16)

    def one(number: int) -> Finished:
        barrier.wait()
        return shell(f"echo {number}; sleep 0.2; ls /proc/self/fd | wc -l; exit {number}")

    with ThreadPoolExecutor(16) as pool:
        for number, finished in enumerate(pool.map(one, range(16))):
            assert finished.exit_code == number
            assert finished.output == f"{number}\n4\n"
            assert finished.seconds < 5
    assert open_descriptors() == open_before


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.alone
def test_the_start_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    ours, bare = [], []
    for _ in range(15):
        ours.append(run(["true"], timeout=10).seconds)
        began = time.monotonic()
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
        bare.append(time.monotonic() - began)

    with capsys.disabled():
        sys.stdout.write(f" run(['true']): {statistics.median(ours) * 1000:.1f} ms ")
    # On a machine that is busy with other things, beside what a bare interpreter takes there.
    assert statistics.median(ours) < max(0.06, 6 * statistics.median(bare))


def readers(pid: int) -> set[int]:
    """The processes, but itself, that hold the pipe which is a process's standard output."""
    pipe = Path(f"/proc/{pid}/fd/1").readlink()
    found = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if descriptor.readlink() == pipe:
                found.add(int(descriptor.parts[2]))
    return found - {pid}


@pytest.mark.usefixtures("launched")
def test_a_detached_daemon_is_nobodys_child_and_what_it_prints_is_read(
    marked: Marked, tmp_path: Path
) -> None:
    with spawn_detached(["sleep", "1000"], env=marked.env, cwd=str(tmp_path)) as daemon:
        pid = daemon.pid

    assert marked.survivors() == [pid]
    _, parent, group, session, *_ = stat(pid)
    assert group == session == str(pid)
    assert int(parent) != os.getpid()
    streams = [str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)]
    assert streams[0] == "/dev/null"
    assert streams[1] == streams[2]
    assert streams[1].startswith("pipe:")
    assert not (readers(pid) & {os.getpid()}), "it is not ours any more"
    (reader,) = readers(pid)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(reader, number)  # what ends both must not take its last words
    time.sleep(0.2)
    assert readers(pid) == {reader}
    assert Path(f"/proc/{pid}/cwd").readlink() == tmp_path
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not marked.survivors(), 1)
    assert wait_until(lambda: not Path(f"/proc/{reader}").exists(), 5), "it ends with its daemon"


def test_a_detached_daemon_outlives_us(marked: Marked, *, launched: bool) -> None:
    script = (
        "import os; from receiver.process import spawn_detached; "
        f"daemon = spawn_detached(['sleep', '1000'], env={marked.env}); daemon.__enter__(); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run(promheal(script, launched=launched), cwd=ROOT, check=False)

    time.sleep(0.3)
    assert len(marked.survivors()) == 1


# -- whom the kernel kills when memory is short


@pytest.mark.parametrize(
    ("before", "after"), [("-500", "0"), ("-1000", "0"), ("0", "0"), ("300", "300")]
)
def test_an_action_is_spared_no_more_than_others(tmp_path: Path, before: str, after: str) -> None:
    score = tmp_path / "oom_score_adj_in_a_file"  # to lower the real one takes a capability
    score.write_text(before)
    supervise.be_ordinary(str(score))
    assert score.read_text().startswith(after)  # the kernel's file ends there


def test_what_is_started_has_the_score_of_others(tmp_path: Path) -> None:
    ours = Path("/proc/self/oom_score_adj")
    before = ours.read_text()
    try:
        ours.write_text("-10")
    except OSError:
        pytest.skip("this process may not lower its oom_score_adj")
    try:
        finished = run(["cat", str(ours)], timeout=10)
    finally:
        ours.write_text(before)
    assert finished.output.strip() == "0"
