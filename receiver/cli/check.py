"""`promheal check`: report every problem of the configuration."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from receiver.actions import Actions, discover
from receiver.cli import FINDINGS, FINE, WARNINGS
from receiver.cli import options as shared
from receiver.cli.output import colored, say, show
from receiver.clients.prometheus import Prometheus
from receiver.config.files import LoadedConfig, load
from receiver.doctor import fitting, provable
from receiver.doctor.memory import Memory, memories, recordings_of
from receiver.doctor.rule_files import read_rule_files
from receiver.errors import ConfigError, UpstreamError
from receiver.log import escape
from receiver.policy.decay import recordings
from receiver.settings.environment import environment
from receiver.yaml.annotation import annotation
from receiver.yaml.diagnostics import (
    Diagnostic,
    DiagnosticSeverity,
    InvalidConfig,
    Report,
    by_place,
    format_problem,
)


@click.command("check")
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False), required=False, metavar="[FILE]"
)
@shared.config_file
@click.option(
    "--rules",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PATH",
    help="A rule file of Prometheus, or a folder of them; may be given several times.",
)
@click.option(
    "--prometheus", is_flag=True, help="Ask the Prometheus of promheal.yml for its rules."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="text with the line and a caret, json, or annotations for GitHub Actions.",
)
def command(
    file: Path | None,
    config_file: Path,
    rules: tuple[Path, ...],
    prometheus: bool,  # noqa: FBT001  click calls it by name
    output: str,
) -> int:
    """Report every problem of the configuration at once, each with its place and the remedy.

    FILE is promheal.yml, or --config.file is; the strategies and services are found from it. With
    --rules or --prometheus it also says how far back the rules of each strategy look, which is how
    long a heal takes to be proven. Exit code 0 when it is sound, 1 when the configuration would be
    refused, 3 when there are only warnings.
    """
    found: list[Memory] = []
    loaded: LoadedConfig | None = None
    problems: tuple[Diagnostic, ...]
    actions = discover()
    try:
        loaded = load(file or config_file, actions, environment())
    except InvalidConfig as invalid:
        problems = invalid.problems
    else:
        problems = (
            *loaded.problems,
            *_of_files(loaded, actions, rules, found),
            *(_of_prometheus(loaded, actions, found) if prometheus else ()),
        )
    errors = sum(problem.severity is DiagnosticSeverity.ERROR for problem in problems)
    if output == "json":
        said = {"problems": problems, "rules": found}
        show(said, "json", str)
    elif output == "github":
        for problem in problems:
            place = (problem.file, problem.line, problem.column)
            say(escape(annotation(problem.severity, *place, problem.message)))
    else:
        _show(loaded, problems, found)
    if errors:
        return FINDINGS
    return WARNINGS if problems else FINE


def _show(
    loaded: LoadedConfig | None, problems: Iterable[Diagnostic], found: Iterable[Memory]
) -> None:
    color = colored()
    errors = 0
    for problem in problems:
        errors += problem.severity is DiagnosticSeverity.ERROR
        say(format_problem(problem, color=color))
    for each in found:
        if not each.warning:
            say(f"strategy {each.strategy}: {each.detail}")
    if loaded is None or errors:
        click.echo(_number(errors, "problem", "problems"), err=True)
    else:
        click.echo(
            f"SUCCESS: {_number(len(loaded.strategies), 'strategy', 'strategies')}, "
            f"{_number(len(loaded.inventory.names), 'service', 'services')} in "
            + ", ".join(os.path.relpath(path) for path in loaded.files)
        )


def _of_files(
    loaded: LoadedConfig, actions: Actions, paths: Iterable[Path], found: list[Memory]
) -> Iterator[Diagnostic]:
    """Add to *found* how far back the rules of these files look; yield what is wrong with them."""
    files = read_rule_files(paths)
    made = recordings(each.rule for each in files.rules)
    places = {id(each.rule): each.place for each in files.rules}
    rules = (written.rule for written in files.rules)
    for rule, each in memories(loaded.strategies, rules, made, actions):
        found.append(each)
        if each.warning:
            places[id(rule)].warn(f"strategy {each.strategy}: {each.detail}")
    yield from by_place(files.reports)


def _of_prometheus(
    loaded: LoadedConfig, actions: Actions, found: list[Memory]
) -> Iterator[Diagnostic]:
    settings = loaded.settings.prometheus
    if settings is None:
        raise ConfigError("--prometheus: promheal.yml names none; write `prometheus: {url: …}`")
    prometheus = Prometheus(settings)
    try:
        rules = prometheus.known_rules()
    except UpstreamError as error:
        yield Diagnostic(file=settings.url, line=0, column=0, message=f"cannot be asked: {error}")
        return
    strategies = Report(str(loaded.files[1]))
    for name, problem in (
        *provable.problems(loaded.strategies, rules, settings.trusted_senders),
        *fitting.problems(loaded.strategies, rules or (), prometheus),
    ):
        strategies.add(f"strategy {name}: {problem}", severity=DiagnosticSeverity.WARNING)
    yield from strategies.problems
    made = recordings_of(prometheus, rules or ())
    for _, each in memories(loaded.strategies, rules or (), made, actions):
        found.append(each)
        if each.warning:
            yield Diagnostic(
                file=settings.url,
                line=0,
                column=0,
                message=f"strategy {each.strategy}: {each.detail}",
                severity=DiagnosticSeverity.WARNING,
            )


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
