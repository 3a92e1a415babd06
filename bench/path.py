"""Where do the milliseconds go between a POST and the action's process?

A promheal stamps the time at each station (`bench.tracing`); the medians of the stages are shown
for each condition of `bench.latency`. The stamps cost some microseconds each.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from bench import servers
from bench.latency import GAPS, Client, busy, promheal_actions, send
from bench.load import table
from bench.tracing import FILE, STATIONS

HERE = Path(__file__).parent
TITLE = "Between a POST and the action's process"
LAST = "supervisor, fork, exec: the action runs"
_NUMBER = re.compile(r"timed-(\d+)")

Stamps = dict[int, dict[int, int]]
"""Nanoseconds by number of the alert and position of the station."""


def stamps(file: Path) -> Stamps:
    """Return what was stamped; of a station that was passed twice the first."""
    found: Stamps = {}
    for line in file.read_text().splitlines():
        position, target, time = line.split("\t")
        number = _NUMBER.search(target)
        if number is not None:
            found.setdefault(int(number[1]), {}).setdefault(int(position), int(time))
    return found


def stages(begun: int, ended: int, stamped: Mapping[int, int]) -> list[float]:
    """Return the milliseconds of each stage, the last one too."""
    times = [begun, *(stamped[position] for position in range(len(STATIONS))), ended]
    return [(after - before) / 1e6 for before, after in pairwise(times)]


def measure(rounds: int, number: int) -> list[dict[str, Any]]:
    numbers = count()
    taken: dict[str, list[list[float]]] = {condition: [] for condition in GAPS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        file = folder / "stamps"
        environ = {"PYTHONPATH": f"{HERE / 'tracing'}:{HERE.parent}", FILE: str(file)}
        configured = servers.configure(folder / "promheal")
        server = stack.enter_context(servers.promheal(configured, environ=environ))
        for turn in range(rounds + 1):
            for condition, gap in GAPS.items():
                client = Client(server)
                with busy() if condition == "loaded" else nullcontext():
                    sent = send(client, [next(numbers) for _ in range(number)], gap)
                    started = {each: int(out) for each, out, _ in promheal_actions(server, sent)}
                client.close()
                if turn == 0:
                    continue  # the first find nothing ready
                seen = stamps(file)
                taken[condition] += [
                    stages(begun, started[each], seen[each]) for each, (begun, _) in sent.items()
                ]
    return _rows(taken)


def _rows(taken: Mapping[str, Sequence[Sequence[float]]]) -> list[dict[str, Any]]:
    names = [*(station.stage for station in STATIONS), LAST]
    rows: list[dict[str, Any]] = [
        {"ms": name, **{c: _median([one[at] for one in each]) for c, each in taken.items()}}
        for at, name in enumerate(names)
    ]
    to_process = {c: _median([sum(one[:-1]) for one in each]) for c, each in taken.items()}
    whole = {c: _median([sum(one) for one in each]) for c, each in taken.items()}
    return [*rows[:-1], {"ms": "so far", **to_process}, rows[-1], {"ms": "whole", **whole}]


def _median(times: Sequence[float]) -> float:
    return round(statistics.median(times), 2)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each condition (3)")
    parser.add_argument("--alerts", type=int, default=20, help="in a round (20)")
    options = parser.parse_args(arguments)
    table(TITLE, measure(options.rounds, options.alerts))
