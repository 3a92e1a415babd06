"""What does it cost to have more? `make bench ARGS=curves`: strategies, runs, and firing alerts.

Each point is a server of its own with nothing else in it. The figures are medians of requests that
are sent one after the other; the ratio is to the first point of the curve.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from bench import servers
from bench.history import accept, ask, fill
from bench.latency import of_promheal
from bench.load import post, table
from bench.servers import STRATEGIES, Server

PATHS: Final = {"scrape": "/metrics", "page": "/", "runs": "/api/runs", "status": "/api/status"}
POINTS: Final[dict[str, tuple[int, ...]]] = {
    "strategies": (1, 100, 1_000),
    "runs": (1_000, 10_000, 100_000, 1_000_000),
    "firing alerts": (1, 100, 1_000, 10_000),
}
IN_A_POST: Final = 1_000

_STRATEGY: Final = """\
  other{number}:
    match: ['alertname="Other{number}"', 'severity=~"warning|critical"']
    target: [instance]
    actions: [{{action: log, message: "{{{{ labels.instance }}}}"}}]
"""


@contextmanager
def strategies(folder: Path, number: int) -> Iterator[Server]:
    """The one that is timed stands behind the others."""
    others = "".join(_STRATEGY.format(number=each) for each in range(number - 1))
    begin, timed = STRATEGIES.split("  timed:")[0], STRATEGIES.split("  timed:")[1]
    timed = timed.split("  cheap:")[0]
    file = servers.configure(folder) / "healing_strategies.yml"
    file.write_text(f"{begin.splitlines()[0]}\n{others}  timed:{timed}")
    with servers.promheal(folder) as server:
        yield server


@contextmanager
def runs(folder: Path, number: int) -> Iterator[Server]:
    """Of one strategy, a tenth on one target, the last of them a day ago."""
    servers.configure(folder)
    fill(folder / "promheal.db", number, now=time.time())
    with servers.promheal(folder) as server:
        yield server


@contextmanager
def firing(folder: Path, number: int) -> Iterator[Server]:
    """Each matched and decided, on a target of its own."""
    with servers.promheal(servers.configure(folder)) as server:
        for first in range(0, number, IN_A_POST):
            instances = range(first, min(number, first + IN_A_POST))
            post(server, "BenchWatched", [f"watched-{each}" for each in instances])
        server.settle()
        yield server


CURVES: Final[dict[str, Callable[[Path, int], Any]]] = {
    "strategies": strategies,
    "runs": runs,
    "firing alerts": firing,
}


def cost(server: Server, rounds: int) -> dict[str, float]:
    """Return the median of each in milliseconds."""
    numbers = count(2_000_000)  # of targets without a history
    of_promheal(server, [next(numbers)], 0.0, [])
    taken = of_promheal(server, [next(numbers) for _ in range(rounds)], 0.25, [])
    each: dict[str, Callable[[int], float]] = {
        "acceptance": lambda number: accept(server, f"curve-{number}"),
        **{name: lambda _, path=path: ask(server, path) for name, path in PATHS.items()},  # type: ignore[misc]
    }
    found = {name: statistics.median(map(one, range(rounds))) for name, one in each.items()}
    return {"POST to action": statistics.median(taken.values()), **found}


def curve(name: str, points: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    first: dict[str, float] = {}
    rows = []
    for point in points:
        with (
            tempfile.TemporaryDirectory(prefix="promheal-bench-") as folder,
            CURVES[name](Path(folder) / "promheal", point) as server,
        ):
            found = cost(server, rounds)
            pss = server.memory()[1]
        first = first or found
        rows.append(
            {
                name: point,
                **{f"{what} ms": _with_ratio(ms, first[what]) for what, ms in found.items()},
                "PSS MiB": round(pss),
            }
        )
    return rows


def _with_ratio(ms: float, first: float) -> str:
    return f"{ms:.1f} ({ms / first:.1f})"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench curves", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="requests of each kind (11)")
    parser.add_argument("--most", type=int, default=100_000, help="the last point (100,000)")
    options = parser.parse_args(arguments)
    for name, points in POINTS.items():
        rows = curve(name, [point for point in points if point <= options.most], options.rounds)
        table(f"Milliseconds by the number of {name}, and the ratio to the first", rows)
