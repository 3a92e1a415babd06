"""Is promheal's own worker class worth its lines? `make bench ARGS=workers`: beside two others.

The application, its journal and its commits are the same under each. Rounds are interleaved: each
measures every class in turn, and a ratio is of two figures of one round. It prints tables in
Markdown, with medians, and the least and the most of the rounds in brackets.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import trustme

from bench.attackers import closed_after
from bench.worker_classes import NAMES
from bench.worker_trials import INSTALLED, LOADS, Figures, Running, accept, beside, examine, running
from tests.requests_in_bytes import SMUGGLING

PACKAGES: Final = Path(__file__).with_name("worker-classes.txt")
ATTACKS: Final = {"": 0, "headers": 900, "body": 900, "tls": 900, "unread": 60}
"""Clients of each kind."""
DEADLINES: Final = {
    "headers": "gives up who stops amid the headers",
    "body": "gives up who stops amid the body",
    "tls": "gives up who stops amid the TLS handshake",
}
EXAMINED: Final = (
    f"of {len(SMUGGLING)} ambiguous requests: refused and closed",
    "closed without an answer",
    "left open",
    "handed to the application",
    "a 503 ends its connection",
    "a new certificate without a restart",
)


def install() -> None:
    """Put what only this bench needs beside the other tools."""
    seen = INSTALLED / PACKAGES.name
    if seen.exists() and seen.read_bytes() == PACKAGES.read_bytes():
        return
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps",
         "--upgrade", "--target", str(INSTALLED), "-r", str(PACKAGES)],
        check=True,
    )  # fmt: skip
    seen.write_bytes(PACKAGES.read_bytes())


def measure(
    classes: Mapping[str, Running], options: argparse.Namespace
) -> list[dict[str, Figures]]:
    """Return the figures of each round: all of a kind first, for an attack leaves memory behind."""
    rounds: list[dict[str, Figures]] = [
        {name: {} for name in classes} for _ in range(options.rounds)
    ]
    for number, found in enumerate(rounds):
        for alerts, clients in LOADS:
            for name in _turned(list(classes), number):
                figures = accept(classes[name], alerts, clients, options.seconds, number)
                found[name] |= figures
                classes[name].plain.settle()
    for kind, clients in ATTACKS.items():
        for number, found in enumerate(rounds):
            for name in _turned(list(classes), number):
                attackers = int(clients * options.share)
                found[name] |= beside(classes[name], kind, attackers, options.attack)
    return rounds


def _turned(names: list[str], number: int) -> list[str]:
    """Another one is first in each round."""
    turn = number % len(names)
    return names[turn:] + names[:turn]


def row(what: str, rounds: Sequence[Mapping[str, Figures]], names: Sequence[str]) -> list[str]:
    """Return for each class the median and the range, and the ratio to the first class."""
    cells = [what]
    for name in names:
        taken = [figures[name][what] for figures in rounds]
        cells.append(
            f"{short(statistics.median(taken))} [{short(min(taken))}, {short(max(taken))}]"
        )
        if name != names[0]:
            ratios = [figures[name][what] / figures[names[0]][what] for figures in rounds]
            cells.append(short(statistics.median(ratios)))
    return cells


def short(figure: float) -> str:
    return f"{figure:,.{0 if figure >= 100 else 1 if figure >= 10 else 2}f}"


def show(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print()
    for line in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(line)} |")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench workers", description=__doc__)
    parser.add_argument("--classes", default=",".join(NAMES), help="the others beside the first")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--seconds", type=int, default=1, help="of each load (1)")
    parser.add_argument("--attack", type=float, default=1.5, help="seconds of each attack (1.5)")
    parser.add_argument("--share", type=float, default=1, help="of the clients that attack (1)")
    parser.add_argument("--patience", type=float, default=90, help="seconds for deadlines (90)")
    options = parser.parse_args(arguments)
    names = options.classes.split(",")
    if "uvicorn" in names:
        install()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    authority = trustme.CA()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        classes = {name: stack.enter_context(running(name, folder, authority)) for name in names}
        threads = stack.enter_context(ThreadPoolExecutor(len(names) * len(DEADLINES)))
        time.sleep(3)  # until what a start brings up is done
        idle = [f"{one.plain.memory()[1]:.1f}" for one in classes.values()]
        given_up = {
            kind: [
                threads.submit(closed_after, kind, one.port(kind), options.patience)
                for one in classes.values()
            ]
            for kind in DEADLINES
        }
        rounds = measure(classes, options)
        examined = {name: examine(one, authority) for name, one in classes.items()}
        after = {kind: [one.result() for one in results] for kind, results in given_up.items()}
    beside_first = [cell for name in names[1:] for cell in (name, "ratio")]
    show(
        [f"median of {options.rounds} rounds", names[0], *beside_first],
        [row(what, rounds, names) for what in rounds[0][names[0]]],
    )
    never = f"not in {options.patience:g} s"
    show(
        ["once", *names],
        [
            ["idle, before any load: PSS MiB", *idle],
            *(
                [title, *(_after(one, never) for one in after[kind])]
                for kind, title in DEADLINES.items()
            ),
            *(
                [title, *(examined[name][0][place] for name in names)]
                for place, title in enumerate(EXAMINED)
            ),
        ],
    )
    for name, (_, kinds) in examined.items():
        for kind, requests in kinds.items():
            if requests:
                print(f"\n{name}, {kind}: {', '.join(requests)}.")


def _after(seconds: float | None, never: str) -> str:
    return never if seconds is None else f"after {seconds:.1f} s"
