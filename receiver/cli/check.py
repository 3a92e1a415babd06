"""`promheal check`: is this configuration sound?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from receiver import provable
from receiver.actions import discover
from receiver.cli import FINDINGS, FINE, WARNINGS
from receiver.cli import options as shared
from receiver.config_files import Loaded, load
from receiver.errors import UpstreamError
from receiver.problem import InvalidConfig, Problem, Report, Severity, format_problem
from receiver.settings import environment


@click.command("check")
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False), required=False, metavar="[FILE]"
)
@shared.config_file
@click.option(
    "--prometheus",
    "asks",
    is_flag=True,
    help="Also ask Prometheus for its rules, and say which alerts cannot be confirmed or proven.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="text with the line and a caret, json, or annotations for GitHub Actions.",
)
def command(file: Path | None, config_file: Path, *, asks: bool, output: str) -> int:
    """Report every problem of the configuration at once, each with its place and the remedy.

    FILE is promheal.yml, or --config.file is; the strategies and services are found from it. Exit
    code 0 when it is sound, 1 when the configuration would be refused, 3 when there are only
    warnings.
    """
    try:
        loaded = load(file or config_file, discover(), environment())
        problems = loaded.problems
        if asks:
            problems += tuple(_asked(loaded))
    except InvalidConfig as invalid:
        loaded, problems = None, invalid.problems
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode({"problems": problems})).decode())
    elif output == "github":
        for problem in problems:
            click.echo(_annotation(problem))
    else:
        color = sys.stdout.isatty() and "NO_COLOR" not in environment()
        for problem in problems:
            click.echo(format_problem(problem, color=color))
        if loaded is None:
            click.echo(_number(errors, "problem", "problems"), err=True)
        else:
            click.echo(
                f"SUCCESS: {_number(len(loaded.strategies), 'strategy', 'strategies')}, "
                f"{_number(len(loaded.inventory.names), 'service', 'services')} in "
                + ", ".join(os.path.relpath(path) for path in loaded.files)
            )
    if errors:
        return FINDINGS
    return WARNINGS if problems else FINE


def _asked(loaded: Loaded) -> Iterator[Problem]:
    """Yield what the rules of Prometheus say about the strategies."""
    from receiver.prometheus import Prometheus  # noqa: PLC0415  60 ms, only when it is asked

    main, strategies, _ = (Report(str(path)) for path in loaded.files)
    settings = loaded.settings.prometheus
    if settings is None:
        main.add("`prometheus:` is missing, so nobody can be asked for rules")
    else:
        try:
            rules = Prometheus(settings).known_rules()
        except UpstreamError as error:
            main.add(f"`prometheus:` {settings.url} cannot be asked: {error}")
        else:
            found = provable.problems(loaded.strategies, rules, settings.trusted_senders)
            for name, problem in found:
                strategies.add(f"strategy {name}: {problem}", severity=Severity.WARNING)
    yield from (*main.problems, *strategies.problems)


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _annotation(problem: Problem) -> str:
    """Return a workflow command of GitHub Actions."""
    message = problem.message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return (
        f"::{problem.severity} file={problem.file},line={problem.line},"
        f"col={problem.column}::{message}"
    )
