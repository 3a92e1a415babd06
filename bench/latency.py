"""From a POST to the action's process: promheal beside `webhook` and the floor of Python, in turns.

Each starts the same program, which prints the time at which it runs, for notifications that come on
one connection that is kept open, as Alertmanager's do. Quiet: one each 250 ms. Back to back: 10 ms
after the last answer. Loaded: quiet, with two busy loops for each core.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import peers, servers
from bench.load import PATIENCE, body, get, table
from bench.servers import Server

GAPS = {"quiet": 0.25, "back to back": 0.01, "loaded": 0.25}
LOOPS = 2
"""Busy loops for each core."""
_BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""

Taken = dict[int, float]
"""Milliseconds by number of the alert."""


class Client:
    """A connection that is kept; the time is taken where the first byte is given to the kernel."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        assert address.hostname is not None
        assert address.port is not None
        self._socket = socket.create_connection((address.hostname, address.port), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, text: bytes) -> tuple[int, bytes]:
        """Send a notification; return when, in nanoseconds, and the body of the answer."""
        head = (
            "POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"User-Agent: Alertmanager/0.25.0\r\nContent-Length: {len(text)}\r\n\r\n"
        )
        whole = head.encode() + text
        before = time.time_ns()
        self._socket.sendall(whole)
        with self._socket.makefile("rb") as stream:
            status, length = stream.readline().split()[1], 0
            for line in iter(stream.readline, b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            answer = stream.read(length)
        if not status.startswith(b"2"):
            sys.exit(f"refused: {status!r} {answer!r}")
        return before, answer

    def close(self) -> None:
        self._socket.close()


def send(client: Client, numbers: Sequence[int], gap: float) -> dict[int, tuple[int, bytes]]:
    sent = {}
    for number in numbers:
        time.sleep(gap)
        sent[number] = client.post(body("BenchTimed", [f"timed-{number}"]))
    return sent


def of_promheal(server: Server, numbers: Sequence[int], gap: float, steps: list[float]) -> Taken:
    """*steps* is given the milliseconds that each step took, until its result was there."""
    client = Client(server)
    sent = send(client, numbers, gap)
    client.close()
    taken: Taken = {}
    for number, output, spent in promheal_actions(server, sent):
        taken[number] = (int(output) - sent[number][0]) / 1e6
        steps.append(spent)
    return taken


def promheal_actions(server: Server, numbers: Collection[int]) -> Iterator[tuple[int, str, float]]:
    """Yield each number, what its action printed, and the milliseconds of its step."""
    found: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while len(found) < len(numbers):
        if time.monotonic() > deadline:
            sys.exit(f"{server.name}: {len(found)} of {len(numbers)} actions were started")
        time.sleep(0.5)
        for run in get(server, "/api/runs?limit=500&strategy=timed")["runs"]:
            number = int(run["target"].split("timed-")[1].split('"')[0])
            if number not in numbers or number in found:
                continue
            for step in get(server, f"/api/runs/{run['id']}")["steps"]:
                if step["finishedAt"]:
                    found.add(number)
                    spent = 1e3 * (step["finishedAt"] - step["startedAt"])
                    yield number, step["result"]["output"], spent


def of_webhook(server: Server, numbers: Sequence[int], gap: float) -> Taken:
    client = Client(server)
    sent = send(client, numbers, gap)
    client.close()
    return {number: (int(answer) - before) / 1e6 for number, (before, answer) in sent.items()}


def of_floor(server: Server, told: Path, numbers: Sequence[int], gap: float) -> Taken:
    told.unlink(missing_ok=True)
    client = Client(server)
    sent = send(client, numbers, gap)
    client.close()
    deadline = time.monotonic() + PATIENCE
    while len(lines := told.read_text().splitlines()) < len(sent):
        if time.monotonic() > deadline:
            sys.exit(f"{server.name}: {len(lines)} of {len(sent)} actions were started")
        time.sleep(0.05)
    return {
        number: (int(line) - before) / 1e6
        for (number, (before, _)), line in zip(sent.items(), lines, strict=True)
    }


def alone(number: int, gap: float) -> list[float]:
    """Milliseconds that fork, exec and wait take by themselves."""
    taken = []
    for _ in range(number):
        time.sleep(gap)
        before = time.perf_counter()
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        taken.append(1e3 * (time.perf_counter() - before))
    return taken


@contextmanager
def busy() -> Iterator[None]:
    """Keep all cores busy."""
    number = LOOPS * len(os.sched_getaffinity(0))
    loops = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(number)]
    time.sleep(0.5)
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(rounds: int, number: int) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return a title and its rows for each condition, and what a step costs."""
    numbers = count()
    taken: dict[str, dict[str, list[list[float]]]] = {condition: {} for condition in GAPS}
    steps: dict[str, list[list[float]]] = {condition: [] for condition in GAPS}
    forks: dict[str, list[list[float]]] = {condition: [] for condition in GAPS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        go = stack.enter_context(peers.webhook(folder))
        least, told = stack.enter_context(peers.floor(folder))
        ours = stack.enter_context(servers.promheal(servers.configure(folder / "promheal")))
        of_promheal(ours, [next(numbers)], 0.0, [])  # the first finds nothing ready
        for _ in range(rounds):
            for condition, gap in GAPS.items():
                mine: list[float] = []
                sides: dict[str, Callable[[Sequence[int]], Taken]] = {
                    "webhook": lambda those, gap=gap: of_webhook(go, those, gap),  # type: ignore[misc]
                    "Python's floor": lambda those, gap=gap: of_floor(least, told, those, gap),  # type: ignore[misc]
                    "promheal": lambda those, gap=gap, mine=mine: of_promheal(  # type: ignore[misc]
                        ours, those, gap, mine
                    ),
                }
                with busy() if condition == "loaded" else nullcontext():
                    for name, side in sides.items():
                        found = side([next(numbers) for _ in range(number)])
                        taken[condition].setdefault(name, []).append(list(found.values()))
                    forks[condition].append(alone(number, min(gap, 0.05)))
                steps[condition].append(mine)
    tables = [
        (f"From POST to the action's process, {condition}", _rows(sides, "webhook"))
        for condition, sides in taken.items()
    ]
    for condition in GAPS:
        costs = {"fork, exec and wait": forks[condition], "a step": steps[condition]}
        title = f"A step that does next to nothing, {condition}"
        tables.append((title, _rows(costs, "fork, exec and wait")))
    return tables


def _rows(sides: dict[str, list[list[float]]], first: str) -> list[dict[str, Any]]:
    """Return a row for each side, with the ratios of the rounds' medians to those of *first*."""
    firsts = [statistics.median(one) for one in sides[first]]
    p99 = _p99(sides[first])
    rows = []
    for name, rounds in sides.items():
        medians = [statistics.median(one) for one in rounds]
        ratios = sorted(ours / theirs for ours, theirs in zip(medians, firsts, strict=True))
        every = [one for each in rounds for one in each]
        rows.append(
            {
                "": name,
                "p50 ms": round(statistics.median(every), 1),
                "rounds": f"{min(medians):.1f} to {max(medians):.1f}",
                "p99 ms": round(_p99(rounds), 1),
                "ratio of p50": round(statistics.median(ratios), 2),
                "range": f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
                "ratio of p99": round(_p99(rounds) / p99, 2),
            }
        )
    return rows


def _p99(rounds: Sequence[Sequence[float]]) -> float:
    every = [one for each in rounds for one in each]
    return statistics.quantiles(every, n=100, method="inclusive")[98]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each condition (5)")
    parser.add_argument("--alerts", type=int, default=20, help="of each server in a round (20)")
    options = parser.parse_args(arguments)
    for title, rows in measure(options.rounds, options.alerts):
        table(title, rows)
