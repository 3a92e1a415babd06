"""`python -m bench.public_rules DIR`: a sweep over the alerting rules of a folder."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from bench.public_rules import judging, trees
from bench.public_rules.finding import Case, Tools, find
from bench.public_rules.histories import histories
from bench.public_rules.reading import Read, read_folder
from bench.public_rules.server import Filling, program, shipped, version
from bench.public_rules.tree import shape

WIDTH = 30


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench.public_rules",
        description="Make every alerting rule of a folder fire in a real Prometheus, let it heal, "
        "die, fall silent and be replaced there, and hold the verification's word against what "
        "is true.",
        epilog="Exit code 1: something was wrongly cleared, a good heal was called ineffective, "
        "or more than 1 % of what is truly well ended unknown.",
    )
    add = made.add_argument
    add("folder", type=Path, help="with YAML files at any depth: Prometheus' rule files, "
        "PrometheusRule objects, awesome-prometheus-alerts' list")  # fmt: skip
    add("--prometheus", action="append", metavar="PATH", help="a binary to ask, may be repeated "
        "(default: those of .tools/upstreams, else the one on PATH)")  # fmt: skip
    add("--promtool", default="promtool", metavar="PATH", help="fills the database")
    add("--sample", type=int, metavar="N", help="only N of the rules, by chance")
    add("--match", default="", metavar="TEXT", help="only rules with TEXT in name or expression")
    add("--trees", type=int, default=400, metavar="N", help="random expressions (default: 400)")
    add("--seed", type=int, default=1, help="of all chance (default: 1)")
    add("--findings", type=Path, metavar="DIR", help="write the history of each wrong word there, "
        "and of each unknown of what is well")  # fmt: skip
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if not given.folder.is_dir():
        sys.exit(f"{given.folder} is not a folder")
    binaries = tuple(program("prometheus", p) for p in given.prometheus or shipped())
    read = read_folder(given.folder)
    cases = _cases(read, given.match, given.sample, given.seed)
    _tell(read, cases)
    if not cases:
        sys.exit(f"{given.folder} holds no alerting rule that can be tried")
    with tempfile.TemporaryDirectory(prefix="public-rules-") as folder:
        tools = Tools(
            prometheus=binaries, promtool=program("promtool", given.promtool),
            folder=Path(folder), seed=given.seed, progress=_progress,
        )  # fmt: skip
        find(cases, tools)
        fire = [case for case in cases if case.ill is not None]
        print(
            f"made to fire: {len(fire)}, of which {sum(bool(c.wells) for c in fire)} can be well"
            f" ({sum(len(c.wells) for c in fire)} states)"
        )
        failures = _sweep(fire, tools, given.findings)
        failures += trees.sweep(given.trees, tools, given.findings)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def _cases(read: Read, match: str, sample: int | None, seed: int) -> list[Case]:
    cases = []
    for rule in read.rules:
        try:
            cases.append(Case(rule=rule, shape=shape(rule.expr)))
        except ValueError as error:
            read.refused.append((f"{rule.file}: {rule.name}", str(error)))
    cases = [c for c in cases if match in c.rule.name or match in c.rule.expr]
    if sample is not None and sample < len(cases):
        cases = Random(seed).sample(cases, sample)
    return cases


def _tell(read: Read, cases: Sequence[Case]) -> None:
    files = sum(reason.startswith("file: ") for _, reason in read.refused)
    print(
        f"rules: {len(read.rules) + len(read.refused) - files} expressions"
        f" ({read.repeated} repeated), {len(read.recording)} recording rules;"
        f" {len(cases)} are tried"
    )
    for reason, count in Counter(reason for _, reason in read.refused).most_common():
        print(f"  refused {count:4}  {reason}")


def _sweep(fire: Sequence[Case], tools: Tools, findings: Path | None) -> list[str]:
    filling = Filling(tools.folder / "histories", tools.promtool)
    slots = judging.fill(((c, h) for c in fire for h in histories(c)), filling)
    failures = []
    with filling.blocks() as blocks:
        for binary in tools.prometheus:
            begin = time.monotonic()
            verdicts = list(judging.judge(slots, blocks, binary, tools))
            sums = judging.sums(verdicts)
            took = time.monotonic() - begin
            print(f"\n{version(binary)}: {len(slots)} histories, {took:.0f} s")
            print("\n".join(sums.lines))
            failures += [f"{version(binary)}: {text}" for text in sums.failures]
            if findings is not None:
                judging.write(judging.notable(verdicts), findings)
    return failures


def _progress(what: str, done: int, of: int) -> None:
    if not sys.stderr.isatty() or (done % 50 and done != of):
        return
    bar = "█" * (WIDTH * done // of)
    print(f"\r{what:36} {bar:{WIDTH}} {done}/{of}", end="\n" if done == of else "", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
