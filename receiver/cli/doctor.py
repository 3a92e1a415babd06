"""`promheal doctor`: will it work, from here and now?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from receiver.cli import BROKEN, FINDINGS, FINE, WARNINGS
from receiver.cli import options as shared
from receiver.cli.output import show, table
from receiver.cli.values import DURATION


@click.command("doctor")
@shared.config_file
@shared.storage_url
@click.option(
    "--timeout",
    type=DURATION,
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="For each question.",
)
@shared.output
def command(config_file: Path, storage_url: str, timeout: float, output: str) -> int:
    """Ask everything that the configuration names whether it will work, and say what to mend.

    Each service through its manager, its health URL and its settings; Prometheus and its rules;
    Alertmanager and its webhooks; the keys of language models; what `http` may call; the folder of
    the journal. It only asks, and changes nothing. Run it as the user that promheal runs as.

    Exit code 0 when all is well, 1 when something does not work, 2 when the configuration cannot be
    read, 3 when there are only warnings.
    """
    from receiver.actions import discover  # noqa: PLC0415  100 ms, which --help does not need
    from receiver.config_files import load  # noqa: PLC0415
    from receiver.doctor import State, count, examine  # noqa: PLC0415
    from receiver.problem import InvalidConfig, format_problem  # noqa: PLC0415

    options = shared.options(config_file, storage_url)
    try:
        loaded = load(config_file, discover(), options.environ)
    except InvalidConfig as invalid:
        for problem in invalid.problems:
            click.echo(format_problem(problem), err=True)
        return BROKEN
    with click.progressbar(
        length=count(loaded, options),
        label="asking",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as bar:
        findings = examine(loaded, options, timeout=timeout, done=lambda: bar.update(1))
    show(
        {"findings": findings},
        output,
        lambda: table([(each.state.upper(), each.subject, each.detail) for each in findings]),
    )
    states = {each.state for each in findings}
    if State.FAIL in states:
        return FINDINGS
    return WARNINGS if State.WARN in states else FINE
