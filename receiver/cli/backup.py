"""`promheal backup`: the journal and the configuration in one file, made while promheal runs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click

from receiver.actions import discover
from receiver.cli import options as shared
from receiver.cli.output import say, table
from receiver.clock import wall
from receiver.config.files import load
from receiver.errors import ConfigError
from receiver.journal import file_of
from receiver.journal.backup import Backup, make, verify
from receiver.reporting.healing_log_line import timestamp
from receiver.settings.environment import environment


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@shared.config_file
@shared.storage_url
@click.option("--check", is_flag=True, help="Make none: verify the one in FILE, and show it.")
def command(file: Path, config_file: Path, storage_url: str, *, check: bool) -> None:
    """Write the journal and the configuration into FILE.

    promheal may run meanwhile. FILE is read again and compared before it gets its name. It holds
    what a restore needs and no more: not the healing log, and not the files that the configuration
    names, such as those of passwords. Put it on another disk.
    """
    if check:
        _show(verify(file))
        return
    if storage_url.startswith("postgres"):
        raise ConfigError(
            "a journal in PostgreSQL is backed up by PostgreSQL's own tools: "
            "pg_dump, see docs/how-to/scale-out.md#backup-and-restore"
        )
    files: dict[str, str] = {}
    try:
        for path in load(config_file, discover(), environment()).files:
            files[path.name] = path.read_text("utf-8")
    except (ConfigError, OSError) as error:
        say(f"the configuration is not in the backup: {error}", err=True)
    _show(make(file_of(storage_url), file, now=wall(), version=version("promheal"), files=files))


def _show(backup: Backup) -> None:
    rows = backup.rows
    say(
        table(
            [
                ["backup", str(backup.path)],
                ["made", f"{timestamp(backup.made_at)} by promheal {backup.version}"],
                ["journal", f"{backup.marker.journal} at checkpoint {backup.marker.checkpoint}"],
                ["rows", f"{sum(rows.values()):,} ({rows['run']:,} runs)"],
                ["size", f"{backup.size:,} bytes"],
                ["files", ", ".join(backup.files) or "none"],
                ["verified", "yes: whole, and every table has its rows"],
            ]
        )
    )
