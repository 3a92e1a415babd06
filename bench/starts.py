"""What does it cost to start a program? Beside fork, exec and wait alone, in interleaved rounds."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from bench import servers
from bench.load import PATIENCE, get, show, spread, to_action
from bench.servers import Server
from receiver.process import run, supervision
from receiver.process.launching import Launching

PROGRAM: Final = ["/bin/date", "+%s%N"]
"""As in the strategy `timed` of bench/servers.py."""
_ALONE: Final = """\
import os, sys, time
for line in sys.stdin:
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(sys.argv[1], sys.argv[1:])
    os.waitpid(pid, 0)
    print(time.monotonic() - began, flush=True)
"""
"""In an interpreter that has imported nothing: a larger one takes longer to fork."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench starts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (5)")
    parser.add_argument("--starts", type=int, default=20, help="in a round (20)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        server = stack.enter_context(servers.promheal(servers.configure(folder / "promheal")))
        launched = Launching()
        launched.start()
        stack.callback(launched.stop)
        alone = stack.enter_context(_Alone())
        ways: dict[str, Callable[[], float]] = {
            "fork, exec and wait alone": alone.once,
            "by the launcher": lambda: _once(launched),
            "by an interpreter of its own": lambda: _once(Launching()),
        }
        taken: dict[str, list[list[float]]] = {name: [] for name in (*ways, *_OF_A_STEP)}
        for number in range(options.rounds):
            for name, once in ways.items():
                taken[name].append([_apart(once) for _ in range(options.starts)])
            numbers = range(options.starts * number, options.starts * (number + 1))
            taken["POST to the action's process"].append(to_action(server, numbers))
            taken["a step `command`"].append(_steps(server, numbers))
        show("A program that does next to nothing, started and waited for", _rows(taken))
        show("The launcher's memory, MiB", _memory(launched))


_OF_A_STEP: Final = ("a step `command`", "POST to the action's process")


class _Alone:
    """Forks where nothing else is."""

    def __enter__(self) -> Self:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ALONE, *PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.communicate()

    def once(self) -> float:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()
        return 1000 * float(self._popen.stdout.readline())


def _once(launching: Launching) -> float:
    """Milliseconds of a program under a supervisor."""
    supervision.LAUNCHING = launching  # type: ignore[attr-defined]
    return 1000 * run(PROGRAM, timeout=PATIENCE).seconds


def _apart(once: Callable[[], float]) -> float:
    time.sleep(0.05)  # one at a time: this is a latency and not a throughput
    return once()


def _steps(server: Server, numbers: Sequence[int]) -> list[float]:
    """Milliseconds from the commit of a step to its end, of the runs that were timed."""
    targets = {f'instance="timed-{number}"' for number in numbers}
    return [
        1000 * (step["finishedAt"] - step["startedAt"])
        for run in get(server, "/api/runs?limit=500&strategy=timed")["runs"]
        if run["target"] in targets
        for step in get(server, f"/api/runs/{run['id']}")["steps"]
        if step["finishedAt"]
    ]


def _rows(taken: Mapping[str, list[list[float]]]) -> list[dict[str, Any]]:
    first, *_ = taken.values()
    rows = []
    for name, rounds in taken.items():
        ratios = [
            statistics.median(one) / statistics.median(alone)
            for one, alone in zip(rounds, first, strict=True)
        ]
        rows.append(
            {
                "what": name,
                **spread([one for each in rounds for one in each]),
                "ratio": round(statistics.median(ratios), 2),
                "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
            }
        )
    return rows


def _memory(launched: Launching) -> list[dict[str, Any]]:
    """PSS, with a supervisor that waits and without."""
    assert launched.pid is not None
    launcher = Server("launcher", "", launched.pid)
    found = {"it, and one supervisor that waits": launcher.memory()[1]}
    _, waiting = launcher.pids()
    os.kill(waiting, signal.SIGKILL)
    while len(launcher.pids()) > 1:
        time.sleep(0.01)
    found["it alone"] = launcher.memory()[1]
    return [{"processes": name, "pss": round(pss, 1)} for name, pss in found.items()]
