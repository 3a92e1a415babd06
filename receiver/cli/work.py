"""`promheal work`: carry the work of many machines, until SIGTERM."""

from __future__ import annotations

import re
from pathlib import Path

import click
from msgspec.structs import replace

from receiver.cli import options as shared
from receiver.errors import ConfigError
from receiver.policy.role import EVERYWHERE, LABEL, NAME, ProcessRole
from receiver.web.application import run


@click.command("work")
@shared.config_file
@click.option(
    "--host",
    metavar="NAME",
    help="Execute the steps of runs that are bound to this host by `runs_on` in services.yml, and "
    "nothing else. Without it and --labels: everything that is bound to no host.",
)
@click.option(
    "--labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="Execute the steps of runs that are bound to this label. Can be given several times.",
)
@click.option(
    "--engine.concurrency",
    "threads",
    type=click.IntRange(1, 1_000),
    metavar="N",
    help="Runs at once here; of all machines together engine.max_concurrent_runs says it. "
    "[default: as many]",
)
@click.option(
    "--web.listen-address",
    "listen",
    default="127.0.0.1:3002",
    show_default=True,
    metavar="HOST:PORT",
    help="Where /metrics, /-/healthy and /-/ready are, and nothing else.",
)
@shared.web_config
@shared.storage_url
@shared.storage_path
@shared.logging_options
def command(
    config_file: Path,
    host: str | None,
    labels: tuple[str, ...],
    threads: int | None,
    listen: str,
    web_config: Path | None,
    storage_url: str,
    storage_path: Path | None,
) -> None:
    """Carry what receivers on the same PostgreSQL have accepted.

    It needs no way but that to the database, and to what it heals. Send SIGHUP to read the
    configuration again; SIGTERM to end: what is in hand goes on for up to 25 seconds.
    """
    run(
        replace(
            shared.options(config_file, storage_url),
            data=storage_path,
            role=_role(host, labels),
            threads=threads,
            receives=False,
        ),
        listen,
        web_config,
    )


def _role(host: str | None, labels: tuple[str, ...]) -> ProcessRole:
    if host is not None and not re.fullmatch(NAME, host):
        raise ConfigError(f"--host {host!r}: write a name, as web-1 or web-1.example.org")
    for label in labels:
        if not re.fullmatch(LABEL, label):
            raise ConfigError(f"--labels {label!r}: write NAME=VALUE, as zone=a")
    names = {*labels} if host is None else {host, *labels}
    return ProcessRole(frozenset(names), decides=False) if names else EVERYWHERE
