"""`promheal journal`: accept or copy a journal, while no promheal runs on it."""

from __future__ import annotations

from contextlib import ExitStack, closing

import click

from receiver.cli import values
from receiver.cli.output import say
from receiver.errors import ConfigError
from receiver.journal import file_of, open_journal
from receiver.journal.accepting import accept
from receiver.journal.copying import copy


@click.group("journal")
def command() -> None:
    """Move the journal, or accept that it is not the one that was here."""


@command.command("accept")
@click.argument("url", metavar="URL")
@values.reason
def accept_command(url: str, reason: str) -> None:
    """Go on with the journal that is there now, though it is not the one that was there.

    promheal refuses a journal that is missing, empty, older than the one before, or another one:
    what it does not know it could do again. This accepts the loss, for good: the journal gets a new
    name, and what was lost is refused from then on. Where there is none, an empty one is made.

    URL is written as --storage.url is, sqlite:///PATH. A promheal that waits goes on by itself; one
    that acts on the journal must end first. A damaged one is not accepted. To begin with caution,
    write the pause file before.
    """
    if url.startswith("postgres"):
        raise ConfigError("a journal in PostgreSQL has no marker, so there is nothing to accept")
    say(accept(file_of(url), reason=reason))


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

        def report(table: str, count: int) -> None:
            nonlocal rows
            rows += count
            click.echo(f"{table}: {count:,}", err=True)

        copy(first, second, report)
    say(f"copied {rows:,} rows; start promheal with --storage.url={target}")
