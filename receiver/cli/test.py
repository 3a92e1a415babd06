"""`promheal test`: does the configuration do what its tests expect?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import re2

from receiver.actions import Actions, discover
from receiver.cli import BROKEN, FINDINGS, FINE, WARNINGS
from receiver.cli import options as shared
from receiver.cli.output import colored, say, show, table
from receiver.errors import ConfigError
from receiver.log import escape
from receiver.testing.case import CaseResult, run_case
from receiver.testing.coverage import coverage_of
from receiver.testing.first import write_first
from receiver.testing.reader import Suite, read_suite
from receiver.testing.report import (
    FileCoverage,
    as_github,
    as_junit,
    as_text,
    as_value,
    coverage_rows,
    whole_coverage,
)
from receiver.yaml.diagnostics import InvalidConfig, format_problem

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False  # RE2 would write each of them to stderr
_HEADER = ("strategy", "covered", "outcomes", "guards that refused", "not seen")


@click.command("test")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, metavar="FILE...")
@click.option("--run", "wanted", metavar="REGEX", help="Only the tests whose name matches it.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "junit", "github"]),
    default="table",
    show_default=True,
    help="For people, json, JUnit's XML, or annotations for GitHub Actions.",
)
@click.option(
    "--coverage", is_flag=True, help="Show which steps, outcomes and guards the tests have seen."
)
@click.option(
    "--coverage.fail-under",
    "least",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Exit with 3 when they have seen less.",
)
@click.option("--trace", is_flag=True, help="Show what happens in each test, a line an event.")
@click.option(
    "--init",
    is_flag=True,
    help="Write a first test file for the configuration: FILE, or tests/strategies.yml.",
)
@shared.config_file
def command(
    files: tuple[Path, ...],
    wanted: str | None,
    output: str,
    coverage: bool,  # noqa: FBT001  click calls it by name
    least: float | None,
    trace: bool,  # noqa: FBT001
    init: bool,  # noqa: FBT001
    config_file: Path,
) -> int:
    """Try strategies in virtual time, by the tests of each FILE.

    A file may be a test of promtool's with ours as its second document. Nothing is asked, executed
    or written: alerts, answers and actions are those of the file; what decides and proves is what
    does so in earnest. Exit code 0 when all tests pass, 1 when one fails, 2 when a file cannot be
    used, 3 when all pass and the coverage is below --coverage.fail-under.
    """
    if init:
        if len(files) > 1:
            raise click.UsageError("--init writes one FILE")
        path = write_first(files[0] if files else Path("tests/strategies.yml"), config_file)
        say(f"{path} written: promheal test {path}")
        return FINE
    if not files:
        raise click.UsageError("name test files; `promheal test --init` writes a first one")
    actions = discover()
    suites = _suites(files, actions)
    if suites is None:
        return BROKEN
    results = _run(suites, actions, wanted, trace=trace)
    found = _coverage(suites, results) if coverage or least is not None else []
    _show(results, found, output, shown=coverage)
    if any(result.failures for result in results):
        return FINDINGS
    return WARNINGS if least is not None and whole_coverage(found) < least else FINE


def _suites(files: Sequence[Path], actions: Actions) -> list[Suite] | None:
    """Return the files; None, with the problems of all printed, when one cannot be used."""
    suites, broken = [], False
    color = colored(err=True)
    for file in files:
        try:
            suites.append(read_suite(file, actions))
        except InvalidConfig as invalid:
            broken = True
            for problem in invalid.problems:
                say(format_problem(problem, color=color), err=True)
    return None if broken else suites


def _run(
    suites: Sequence[Suite], actions: Actions, wanted: str | None, *, trace: bool
) -> list[CaseResult]:
    try:
        pattern = re2.compile(wanted or "", _OPTIONS)
    except re2.error as error:
        why = error.args[0].decode()
        raise ConfigError(f"--run {wanted!r} is no regular expression of RE2: {why}") from None
    chosen = [
        (suite, placed)
        for suite in suites
        for placed in suite.tests
        if pattern.search(placed.test.name)
    ]
    if not chosen:
        names = ", ".join(repr(one.test.name) for suite in suites for one in suite.tests[:5])
        raise ConfigError(f"--run {wanted!r} matches no test; there are {names}")
    return [run_case(suite, placed, actions, traced=trace) for suite, placed in chosen]


def _coverage(suites: Sequence[Suite], results: Sequence[CaseResult]) -> list[FileCoverage]:
    """Return what was seen of each configuration, by all of its test files together."""
    by_config: dict[tuple[str, ...], list[Suite]] = {}
    for suite in suites:
        by_config.setdefault(tuple(str(path.resolve()) for path in suite.loaded.files), []).append(
            suite
        )
    return [
        FileCoverage(
            files=tuple(suite.path for suite in group),
            strategies=tuple(
                coverage_of(
                    group[0].loaded.strategies,
                    [r.covered for r in results if r.file in {suite.path for suite in group}],
                )
            ),
        )
        for group in by_config.values()
    ]


def _show(
    results: Sequence[CaseResult], found: Sequence[FileCoverage], output: str, *, shown: bool
) -> None:
    match output:
        case "json":
            show(as_value(results, found), "json", str)
            return
        case "junit":
            say(as_junit(results))
        case "github":
            for line in as_github(results):
                say(escape(line))
        case _:
            for line in as_text(results):
                say(escape(line))
    if shown and output == "table":
        say("")
        say(table(list(coverage_rows(found)), _HEADER))
    if found:
        say(f"coverage: {whole_coverage(found):.0f}%", err=output != "table")
