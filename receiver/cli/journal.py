"""`promheal journal`: the journal as a thing, with every promheal on it ended."""

from __future__ import annotations

from contextlib import ExitStack, closing

import click

from receiver.journal import open_journal
from receiver.journal.copying import copy


@click.group("journal")
def command() -> None:
    """Move the journal, with every promheal on it ended."""


@command.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def copy_command(source: str, target: str) -> None:
    """Copy everything from one journal into another, which must be empty.

    Both are written as --storage.url is. All of it is copied or nothing; FROM stays as it is.
    """
    with ExitStack() as opened:
        first, second = (
            opened.enter_context(closing(open_journal(url))) for url in (source, target)
        )
        rows = 0

        def told(table: str, count: int) -> None:
            nonlocal rows
            rows += count
            click.echo(f"{table}: {count:,}", err=True)

        copy(first, second, told)
    click.echo(f"copied {rows:,} rows; start promheal with --storage.url={target}")
