"""Run rows of the table, and write docs/reliability.md: `make reliability ARGS='13 14'`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from bench.reliability.page import page
from bench.reliability.row import Result, Row
from bench.reliability.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = PAGE.with_suffix(".json")


def load(path: Path = RESULTS) -> dict[int, Result]:
    if not path.exists():
        return {}
    return {int(n): Result(**fields) for n, fields in json.loads(path.read_text()).items()}


def save(results: Mapping[int, Result]) -> None:
    lines = (f'"{n}": {json.dumps(results[n]._asdict())}' for n in sorted(results))
    RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    PAGE.write_text(page(ROWS, results))


def measure(row: Row, commit: str) -> Result:
    """Run the tests of *row* in their full size."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-o", "junit_family=xunit1"]
        subprocess.run(
            [*command, f"--junit-xml={report}", *row.tests],
            cwd=ROOT, env={**os.environ, "RELIABILITY": "full"}, check=False,
        )  # fmt: skip
        if not report.exists():
            return Result(commit, 0, len(row.tests), 0, {})
        return parse(report.read_bytes(), commit)


def parse(report: bytes, commit: str) -> Result:
    """Read what pytest wrote."""
    passed = failed = skipped = 0
    figures: dict[str, list[float]] = {}
    for case in ET.fromstring(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
        for one in case.iter("property"):
            figures.setdefault(one.attrib["name"], []).append(round(float(one.attrib["value"]), 4))
    return Result(commit, passed, failed, skipped, figures)


def _commit() -> str:
    said = subprocess.run(
        ["git", "log", "-1", "--format=%h", "--", "receiver"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return said.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make reliability", description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, help="numbers; without, what is not measured")
    parser.add_argument("--render", action="store_true", help="only write the page anew")
    options = parser.parse_args()
    results, commit = load(), _commit()
    known = {row.number: row for row in ROWS}
    if unknown := [n for n in options.rows if n not in known]:
        parser.error(f"no such row: {', '.join(map(str, unknown))}")
    old = [n for n in known if n not in results or results[n].commit != commit]
    for number in [] if options.render else options.rows or old:
        print(f"{number}: {known[number].test}", flush=True)
        result = measure(known[number], commit)
        save({**load(), number: result})  # others may be measured at the same time
    save(load())
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
