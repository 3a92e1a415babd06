"""`promheal restore`: the journal of a backup in the place of the one that is there."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from receiver.cli import options as shared
from receiver.cli import values
from receiver.cli.output import say
from receiver.clock import wall
from receiver.errors import ConfigError, PromhealError, RefusedError
from receiver.healing.restoring import restore
from receiver.journal import file_of
from receiver.journal.backup import configuration


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@shared.storage_url
@values.reason
@click.option("--force", is_flag=True, help="Replace a journal that is newer, or another one.")
@click.option(
    "--config.to",
    "config_to",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the configuration of the backup there, too; no file is overwritten.",
)
def command(
    file: Path, storage_url: str, reason: str, *, force: bool, config_to: Path | None
) -> None:
    """Put the journal of a backup in the place of --storage.url.

    Every promheal on it must have ended. What is there is moved aside and not deleted; one that is
    newer than the backup, or another journal, is refused without --force. What is restored starts
    paused: runs that were in hand are `unknown`, and nothing acts before `promheal resume`.
    """
    if storage_url.startswith("postgres"):
        raise ConfigError(
            "a journal in PostgreSQL is restored by PostgreSQL's own tools: "
            "pg_restore, see docs/how-to/scale-out.md#backup-and-restore"
        )
    stamp = f"{datetime.fromtimestamp(wall(), UTC):%Y%m%dT%H%M%SZ}"
    written = [] if config_to is None else _write(configuration(file), config_to)
    try:
        restored = restore(file, file_of(storage_url), reason=reason, force=force, stamp=stamp)
    except PromhealError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    for path in restored.aside:
        say(f"moved aside: {path}")
    for path in written:
        say(f"written: {path}")
    say(f"restored {sum(restored.backup.rows.values()):,} rows to {file_of(storage_url)}")
    if restored.unknown:
        say(f"runs that were in hand are unknown: {restored.unknown}; look at their targets")
    say("everything is paused; start promheal, look at it, then: promheal resume --reason WHY")


def _write(texts: dict[str, str], folder: Path) -> list[Path]:
    """Write the files, only for their owner to read; all of them or none.

    Raises RefusedError when one is there already, ConfigError when one cannot be written.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            path = folder / Path(name).name
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            written.append(path)
            with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError) and folder.is_dir():
            raise RefusedError(
                f"{error.filename} exists; nothing was restored", status=409
            ) from None
        raise ConfigError(f"--config.to {folder}: {error}; nothing was restored") from None
    return written
