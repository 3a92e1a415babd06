"""`promheal log`: write what was done as lines, for other programs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Final

import click
import msgspec

from receiver.cli import FINE, WARNINGS
from receiver.cli import options as shared
from receiver.cli.output import say
from receiver.cli.values import SPAN
from receiver.clock import steady_clock
from receiver.errors import ConfigError, JournalError
from receiver.journal import Journal, open_journal
from receiver.log import escape
from receiver.reporting.healing_log_line import HealingLogLine, encode, line_in
from receiver.yaml.diagnostics import quoted, suggestion

PAGE: Final = 10_000
"""Runs that are looked up in one query: each sorts all there are."""
CHUNK: Final = 100
"""Runs that are read in one transaction."""
TELL_EVERY: Final = 0.2  # seconds

_FORMULA: Final = ("=", "+", "-", "@")


@click.group("log")
def command() -> None:
    """Write what was done as lines, for other programs."""


@command.command("export")
@shared.storage_url
@click.option("--since", type=SPAN, help="Only runs that ended in this time until now: 30d, 12h.")
@click.option("--strategy", help="Only runs of this strategy.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="One JSON object a line, or comma-separated values with a header.",
)
@click.option(
    "--out",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write into this file instead of standard output.",
)
def export(
    storage_url: str, since: float | None, strategy: str | None, output: str, file: Path | None
) -> int:
    """Print the lines of the healing log from the journal, oldest first.

    All runs that acted and have ended and that the journal still keeps. A server may go on running.
    Exit code 3 when the journal has no run of the strategy that is named.
    """
    encoded: Callable[[HealingLogLine], bytes] = _csv if output == "csv" else encode
    journal = _open(storage_url)
    try:
        with _destination(file) as destination:
            if output == "csv":
                destination.write(_row(HealingLogLine.__struct_fields__))
            for line in _counted(_lines(journal, since, strategy), destination):
                destination.write(encoded(line))
            destination.flush()
        known = journal.read(lambda t: t.strategies())
    finally:
        journal.close()
    if strategy is None or strategy in known:
        return FINE
    # The journal does not know whether the configuration has it.
    hint = suggestion(strategy, known)
    say(f"promheal: warning: no run of strategy {quoted(strategy)} is here{hint}", err=True)
    return WARNINGS


def _open(url: str) -> Journal:
    _, _, path = url.partition(":///")
    if path and not Path(path).exists():
        raise JournalError(f"{path}: there is no journal; name it with --storage.url")
    return open_journal(url)


@contextmanager
def _destination(file: Path | None) -> Iterator[BinaryIO]:
    if file is None:
        yield sys.stdout.buffer
        return
    try:
        with file.open("wb") as destination:
            yield destination
    except OSError as error:
        raise ConfigError(f"--out {file}: {error.strerror}") from None


def _lines(journal: Journal, since: float | None, strategy: str | None) -> Iterator[HealingLogLine]:
    after = (0.0, 0)
    if since is not None:
        # By the wall clock, but not behind promheal's own, which may be ahead.
        after = (steady_clock(not_before=journal.read(lambda t: t.newest()))() - since, 0)
    while page := _page(journal, after, strategy):
        for at in range(0, len(page), CHUNK):
            yield from _chunk(journal, page[at : at + CHUNK])
        after = page[-1]


def _page(
    journal: Journal, after: tuple[float, int], strategy: str | None
) -> list[tuple[float, int]]:
    return journal.read(lambda t: t.acted_runs(after=after, limit=PAGE, strategy=strategy))


def _chunk(journal: Journal, runs: list[tuple[float, int]]) -> list[HealingLogLine]:
    lines = journal.read(lambda t: [line_in(t, run) for _, run in runs])
    return [line for line in lines if line is not None]


def _counted(lines: Iterator[HealingLogLine], destination: BinaryIO) -> Iterator[HealingLogLine]:
    """Show progress on a terminal, unless the lines themselves go there."""
    if not sys.stderr.isatty() or destination.isatty():
        yield from lines
        return
    number, shown = 0, monotonic()
    for number, line in enumerate(lines, 1):
        yield line
        if monotonic() - shown >= TELL_EVERY:
            shown = monotonic()
            click.echo(f"\r{number:,} runs, until {line.timestamp}", err=True, nl=False)
    click.echo(f"\r{number:,} runs\033[K", err=True)


def _csv(line: HealingLogLine) -> bytes:
    return _row([_cell(value) for value in msgspec.structs.astuple(line)])


def _row(cells: Iterable[object]) -> bytes:
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(cells)
    return row.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return "" if value is None else value
    # Spreadsheets run some texts as formulas, and labels come from anywhere.
    return escape(f"'{value}" if value.startswith(_FORMULA) else value)
