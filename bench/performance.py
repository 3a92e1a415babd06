"""Print every table of docs/explanation/performance.md but the curves, which take an hour."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench import acceptance, latency, path
from bench.load import table


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (5)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds at rest (60)")
    options = parser.parse_args(arguments)
    for title, rows in latency.measure(options.rounds, 20):
        table(title, rows)
    table(path.TITLE, path.measure(options.rounds, 20))
    for title, rows in acceptance.measure(options.rounds, 2.0, options.idle, 8).items():
        table(title, rows)
