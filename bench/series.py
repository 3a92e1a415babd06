"""What do many strategies cost at a scrape? `make bench ARGS=series`: beside a few, in one run.

Two servers are scraped in turn: one with ten strategies and an empty journal, and one with hundreds
and a long history, all of it of one strategy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench import servers
from bench.history import ask, compare, fill
from bench.load import show
from bench.servers import Server

FEW: Final = 10
MANY: Final = 300
RUNS: Final = 1_000_000
_ONE: Final = """\
  {name}:
    match: ['alertname="{name}"']
    target: [instance]
    actions: [{{action: log, message: "{{{{ labels.instance }}}}"}}]
"""


def configure(folder: Path, strategies: int) -> Path:
    servers.configure(folder)
    names = ["timed", *(f"s{number}" for number in range(1, strategies))]
    text = "".join(_ONE.format(name=name) for name in names)
    (folder / "healing_strategies.yml").write_text(f"strategies:\n{text}")
    return folder


def measure(server: Server) -> dict[str, float]:
    """Return the median of nine scrapes, in milliseconds of the clock and of CPU."""
    before = server.cpu()
    took = [ask(server, "/metrics") for _ in range(9)]
    return {"scrape": statistics.median(took), "scrape, CPU": (server.cpu() - before) / 9 * 1e3}


def count(server: Server) -> int:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        return sum(not line.startswith(b"#") for line in answer)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench series", description=__doc__)
    parser.add_argument("--strategies", type=int, default=MANY, help=f"of the one ({MANY})")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"in its journal ({RUNS:,})")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (5)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        few, many = configure(folder / "few", FEW), configure(folder / "many", options.strategies)
        fill(many / "promheal.db", options.runs, now=time.time())
        running = [stack.enter_context(servers.promheal(one)) for one in (few, many)]
        for server in running:
            measure(server)
        rounds = [[measure(server) for server in running] for _ in range(options.rounds)]
        series = [count(server) for server in running]
    rows: list[dict[str, Any]] = compare([one for one, _ in rounds], [two for _, two in rounds])
    print(f"series: {series[0]:,} and {series[1]:,}")
    show(
        f"{options.strategies} strategies and {options.runs:,} runs beside {FEW} and none, "
        f"median of {options.rounds} rounds",
        rows,
    )
