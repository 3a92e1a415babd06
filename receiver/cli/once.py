"""`promheal once`: alerts from a file, through the whole way, once."""

from __future__ import annotations

import time
from pathlib import Path

import click

from receiver.cli import FINDINGS, FINE, passes
from receiver.cli.alert_file import read_alert_file
from receiver.cli.output import show
from receiver.errors import ConfigError
from receiver.policy.duration import format_duration


@click.command("once")
@passes.options(too_old="Refuse", must_exist=True)
def command(
    file: Path, max_age: float, config_file: Path, storage_url: str, *, dry_run: bool, output: str
) -> int:
    """Take the alerts of a file through the whole way, once: decide, act, verify, record.

    The file holds a payload of Alertmanager, or {"timestamp", "metric", "value", "severity", …}.
    Exit code 0 when every strategy that applies healed its target (or, with --dry-run, would act),
    1 when one did not or was not allowed to.
    """
    alerts = read_alert_file(file)
    age = time.time() - alerts.said_at  # noqa: TID251  a file's time is the wall clock's
    if age > max_age:
        raise ConfigError(
            f"{file}: {format_duration(round(age))} old; alerts older than "
            f"{format_duration(max_age)} are refused, since they may be over (--max-age)"
        )
    with passes.acting_service(config_file, storage_url, dry_run=dry_run) as service:
        results = passes.take(service, alerts.notification, dry_run=dry_run)
    show({"results": results}, output, lambda: passes.text(results))
    return FINE if all(result["result"] in passes.GOOD for result in results) else FINDINGS
