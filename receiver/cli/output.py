"""Prints answers: as a table for people, as JSON or YAML for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from receiver.log import escape
from receiver.redaction import redact, redact_all, redact_json


def show(value: Any, form: str, text: Callable[[], str]) -> None:
    """Print *value* as json or yaml, or what *text* makes of it."""
    if form == "json":
        text_of_json = msgspec.json.format(redact_json(msgspec.json.encode(value).decode()))
        # With escapes that JSON has too: text from the network must not control the terminal.
        click.echo("\n".join(escape(line) for line in text_of_json.split("\n")))
    elif form == "yaml":
        click.echo(msgspec.yaml.encode(redact_all(msgspec.to_builtins(value))).decode().rstrip())
    else:
        say(text())


def say(text: str, *, err: bool = False) -> None:
    """Print *text* without secrets."""
    click.echo(redact(text), err=err)


def colored(*, err: bool = False) -> bool:
    """Whether what is printed may have colors: on a terminal, unless NO_COLOR is set and not empty.

    See https://no-color.org.
    """
    from receiver.settings.environment import environment  # noqa: PLC0415  only some commands ask

    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and not environment().get("NO_COLOR")


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Return aligned columns. Text from the network is escaped."""
    cells = [[escape(str(cell)) for cell in row] for row in [*([header] if header else []), *rows]]
    if not cells:
        return ""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def moment(at: float | None) -> str:
    """Return a time for people, in UTC; `-` for none."""
    return "-" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"
