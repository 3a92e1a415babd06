"""docs/reliability.md, from the rows and their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.reliability.row import Bound, Result, Row

HEAD = """\
# Reliability

What a receiver that acts by itself must stand, and what promheal was measured to. `make
reliability` runs the rows that have no figure, or one of an older commit, and writes this page;
`make reliability ARGS='13 14'` runs these rows. All of them take some hours. The figures are of
the machine they were measured on, and of whatever else it did meanwhile.

A row is **met** when all of its tests passed, none was skipped, and each figure keeps its bound;
else it is **missed**. `make test` runs the same tests with smaller figures. The commit is the last
one that had changed `receiver/`.

"""


def page(rows: Iterable[Row], results: Mapping[int, Result]) -> str:
    rows = list(rows)
    met = [row for row in rows if row.number in results and row.met(results[row.number])]
    ran = [row for row in rows if row.number in results]
    lines = [
        (
            f"{len(met)} of {len(rows)} are met, {len(ran) - len(met)} missed, "
            f"{len(rows) - len(ran)} not run."
        ),
        "",
        "| # | test | figure wanted | figure reached | | commit |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_line(row, results.get(row.number)) for row in rows),
        "",
        "## Commands",
        "",
        "What `make reliability` runs for each row, in the environment of `make develop`:",
        "",
        *(f"{row.number}. `{row.command}`" for row in rows),
    ]
    return HEAD + "\n".join(lines) + "\n"


def _line(row: Row, result: Result | None) -> str:
    wanted = "; ".join(_wanted(bound) for bound in row.bounds)
    if result is None:
        return f"| {row.number} | {row.test} | {wanted} | | not run | |"
    reached = "; ".join(_reached(bound, result) for bound in row.bounds)
    for count, what in ((result.failed, "failed"), (result.skipped, "skipped")):
        if count:
            reached += f"; tests {what}: {count}"
    verdict = "met"
    if not row.met(result):
        verdict = f"**missed**: {row.lacking}" if row.lacking else "**missed**"
    return f"| {row.number} | {row.test} | {wanted} | {reached} | {verdict} | {result.commit} |"


def _wanted(bound: Bound) -> str:
    return f"{bound.name} {bound.sign} {number(bound.value)}"


def _reached(bound: Bound, result: Result) -> str:
    reached = bound.reached(result)
    shown = f"{bound.name}: {'not measured' if reached is None else number(reached)}"
    return shown if bound.holds(result) else f"**{shown}**"


def number(value: float) -> str:
    """Three digits that count, and whole numbers in full."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
