"""Measure this promheal beside the one of another clone: has a change made it slower or larger?"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import servers
from bench.acceptance import at_rest, throughput
from bench.load import show, spread, to_action


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench before", description=__doc__)
    parser.add_argument("clone", type=Path, help="the other clone, after its `make develop`")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in a round (2)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds at rest (60)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        before, after = (
            stack.enter_context(
                servers.promheal(servers.configure(folder / name), name=name, checkout=checkout)
            )
            for name, checkout in (("before", options.clone.absolute()), ("after", None))
        )
        rows = at_rest([before, after], options.idle)
        show(f"At rest, {options.idle:g} s, all processes of a server together", rows)
        taken: dict[str, list[list[float]]] = {"before": [], "after": []}
        for number in range(options.rounds):
            for server in (before, after):
                numbers = range(20 * number, 20 * number + 20)
                taken[server.name].append(to_action(server, numbers))
        ratios = sorted(
            statistics.median(later) / statistics.median(earlier)
            for earlier, later in zip(taken["before"], taken["after"], strict=True)
        )
        shown = []
        for name, rounds in taken.items():
            ratio = [1.0] * len(ratios) if name == "before" else ratios
            shown.append(
                {
                    "server": name,
                    **spread([one for each in rounds for one in each]),
                    "ratio": round(statistics.median(ratio), 2),
                    "ratio_range": [round(ratio[0], 2), round(ratio[-1], 2)],
                }
            )
        show("From POST to the action's process running", shown)
        rows = throughput([(before, "Bench"), (after, "Bench")], options.rounds, options.seconds)
        show("Accepted, median of the rounds; ratio to the other clone", rows)
