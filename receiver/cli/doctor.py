"""`promheal doctor`: whether it will work, from here and now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiver.cli import FINDINGS, FINE, WARNINGS
from receiver.cli import options as shared
from receiver.cli.client import Server, perhaps, understood
from receiver.cli.loading import loaded
from receiver.cli.output import show, table
from receiver.cli.values import DURATION

if TYPE_CHECKING:  # 100 ms to import, which --help does not need
    from receiver.config.files import LoadedConfig
    from receiver.policy.finding import Finding


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
@click.option(
    "--send-test-alert",
    "send",
    is_flag=True,
    help="Instead, send an alert through Alertmanager, and say whether it arrives.",
)
@click.option("--strategy", metavar="NAME", show_default="the first", help="Whose alert to send.")
@click.option("--yes", is_flag=True, help="Send it without a question.")
@perhaps
@shared.output
def command(
    config_file: Path,
    storage_url: str,
    timeout: float,
    strategy: str | None,
    server: Callable[[], Server],
    output: str,
    *,
    send: bool,
    yes: bool,
) -> int:
    """Ask everything that the configuration names whether it will work, and say what to mend.

    Each service through its manager, its health URL and its settings; Prometheus and its rules;
    Alertmanager, its routes and its webhooks; the keys of language models; what `http` may call;
    the folder of the journal. It only asks, and changes nothing. Run it as the user that promheal
    runs as.

    --send-test-alert sends one alert through the real Alertmanager to the running promheal, which
    never acts on it. People whom Alertmanager tells of such alerts are told too: it says whom, and
    asks before.

    Exit code 0 when all is well, 1 when something does not work, 2 when the configuration cannot be
    read, 3 when there are only warnings.
    """
    from receiver.doctor.questions import count, examine  # noqa: PLC0415  100 ms, not for --help
    from receiver.policy.finding import Grade  # noqa: PLC0415

    if not send and (strategy or yes):
        raise click.UsageError("--strategy and --yes are for --send-test-alert")
    options = shared.options(config_file, storage_url)
    configuration = loaded(config_file)
    findings: Sequence[Finding]
    if send:
        findings = [_tested(configuration, strategy, server(), timeout, yes=yes)]
    else:
        with _bar("asking", count(configuration, options)) as bar:
            findings = examine(configuration, options, timeout=timeout, done=lambda: bar.update(1))
    show(
        {"findings": findings},
        output,
        lambda: table([(each.state.upper(), each.subject, each.detail) for each in findings]),
    )
    states = {each.state for each in findings}
    if Grade.FAIL in states:
        return FINDINGS
    return WARNINGS if Grade.WARN in states else FINE


def _bar(label: str, length: int) -> Any:
    return click.progressbar(
        length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    )


def _tested(
    configuration: LoadedConfig, strategy: str | None, server: Server, timeout: float, *, yes: bool
) -> Finding:
    """Warn people, send a test alert, and report what became of it."""
    from receiver.clock import steady_clock  # noqa: PLC0415
    from receiver.doctor.delivery import shown  # noqa: PLC0415
    from receiver.doctor.test_alert import (  # noqa: PLC0415  see above
        Arrived,
        StatusAnswer,
        alertmanager_of,
        follow,
        prepare,
    )

    def last() -> Arrived | None:
        return understood(server.get("/api/status"), StatusAnswer).last_test_alert

    test = prepare(configuration, strategy, timeout=timeout)
    last()  # before anybody is woken
    click.echo(f"Alertmanager will be sent {shown(test.labels)}, and will tell", err=True)
    for line in test.told():
        click.echo(f"  {line}", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on; --yes sends it all the same")
        click.confirm("Send it?", abort=True, err=True)
    with _bar("waiting", round(test.patience)) as bar:
        return follow(
            test, alertmanager_of(configuration, timeout), last, bar.update, steady_clock()
        )
