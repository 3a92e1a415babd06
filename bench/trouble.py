"""How long does an action take to begin on a machine in trouble? All cores busy, the memory full.

Debian's `webhook` is measured beside it, in turns. Where control groups can be made, as by root,
either is also measured in one of its own, as a unit of systemd has it, and the memory is that of a
small machine, of which a program takes what is left and reads a file that is larger. Elsewhere a
program takes some of the machine's own memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from bench import peers
from bench.latency import busy, of_promheal, of_webhook
from bench.load import table
from bench.servers import Server, configure, promheal

GAP = 0.25
"""Seconds between two alerts."""
MACHINE = 256 << 20
"""Bytes that a small machine has, for promheal and the program that fills it."""
LEFT = 24 << 20
"""Bytes that the program leaves, or the kernel would kill it."""
_ROOT = Path("/sys/fs/cgroup")
_NUMBERS = count()
_FILL = """
import os, sys, time
parent = os.getppid()
size, file = int(sys.argv[1]), sys.argv[2]
held = bytearray(size)
for at in range(0, size, 4096):
    held[at] = 1
print("full", flush=True)
while os.getppid() == parent:
    with open(file, "rb", buffering=0) as read:
        while read.read(1 << 20):
            pass
    time.sleep(0.01)
"""


class Cgroup:
    """A control group, of version 2 or of a controller of version 1."""

    def __init__(self, controller: str) -> None:
        root = _ROOT if (_ROOT / "cgroup.controllers").exists() else _ROOT / controller
        self.path = root / f"promheal-bench-{controller}-{os.getpid()}-{next(_NUMBERS)}"
        self.path.mkdir()
        self._second = root == _ROOT
        if self._second:
            (root / "cgroup.subtree_control").write_text(f"+{controller}")

    def limit(self, size: int) -> None:
        name = "memory.max" if self._second else "memory.limit_in_bytes"
        (self.path / name).write_text(str(size))

    def used(self) -> int:
        name = "memory.current" if self._second else "memory.usage_in_bytes"
        return int((self.path / name).read_text())

    def take(self, pids: Sequence[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Give back what is still in it, and remove it."""
        for pid in (self.path / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (self.path.parent / "cgroup.procs").write_text(pid)
        self.path.rmdir()


@contextmanager
def cgroup(controller: str) -> Iterator[Cgroup | None]:
    """Yield a new one; None where none can be made."""
    try:
        made = Cgroup(controller)
    except OSError:
        yield None
        return
    try:
        yield made
    finally:
        made.remove()


@contextmanager
def apart(server: Server) -> Iterator[bool]:
    """Give a server a share of its own; yield whether that can be."""
    with cgroup("cpu") as own:
        if own is not None:
            own.take(server.pids())
        yield own is not None


@contextmanager
def full(servers: Sequence[Server], folder: Path) -> Iterator[None]:
    """Fill the memory that they have, and their page cache."""
    file = folder / "larger"
    if not file.exists():
        file.write_bytes(os.urandom(1 << 20) * (MACHINE * 5 // 4 >> 20))
    with cgroup("memory") as machine:
        size = MACHINE
        if machine is not None:
            machine.limit(MACHINE)
            # What they hold already stays charged to where it was.
            machine.take([pid for server in servers for pid in server.pids()])
            size = MACHINE - LEFT - machine.used()
        argv = [sys.executable, "-c", _FILL, str(size), str(file)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as filling:
            if machine is not None:
                machine.take([filling.pid])
            try:
                assert filling.stdout is not None
                assert filling.stdout.readline() == b"full\n"
                yield
            finally:
                filling.kill()


def measure(rounds: int, alerts: int) -> list[dict[str, Any]]:
    """Return a row for each trouble: milliseconds from POST to the action's process."""
    found: dict[str, list[tuple[list[float], list[float]]]] = {}
    numbers = count()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        go = stack.enter_context(peers.webhook(folder))
        ours = stack.enter_context(promheal(configure(folder / "promheal")))
        of_promheal(ours, [next(numbers)], 0.0, [])  # the first finds nothing ready
        time.sleep(3)  # its master becomes small

        def measured(trouble: str) -> None:
            those = [next(numbers) for _ in range(alerts)]
            taken = of_promheal(ours, those, GAP, []), of_webhook(go, those, GAP)
            mine, theirs = ([*each.values()] for each in taken)
            found.setdefault(trouble, []).append((mine, theirs))

        for _ in range(rounds):
            measured("none")
            with busy():
                measured("cores")
                with apart(ours) as possible, apart(go):
                    if possible:
                        measured("cores, in a group of its own")
            with full([ours, go], folder):
                measured("memory")
                with busy():
                    measured("memory and cores")
    return [{"trouble": trouble, **_row(each)} for trouble, each in found.items()]


def _row(rounds: Sequence[tuple[list[float], list[float]]]) -> dict[str, Any]:
    mine, theirs = ([one for found in side for one in found] for side in zip(*rounds, strict=True))
    ratios = sorted(statistics.median(ours) / statistics.median(go) for ours, go in rounds)
    return {
        "p50 ms": round(statistics.median(mine), 1),
        "max ms": round(max(mine), 1),
        "webhook's p50 ms": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(ratios), 1),
        "range": f"{ratios[0]:.1f} to {ratios[-1]:.1f}",
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench trouble", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each trouble (5)")
    parser.add_argument("--alerts", type=int, default=20, help="in a round (20)")
    options = parser.parse_args(arguments)
    table("From POST to the action's process", measure(options.rounds, options.alerts))
