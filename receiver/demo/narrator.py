"""How is it told? Lines for people: with colours and a spinner on a terminal, plain elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from enum import StrEnum
from itertools import cycle
from typing import Final, TextIO

import click

from receiver.log import escape

_SPINNER: Final = "|/-\\"
_CLEAR: Final = "\r\x1b[K"
"""Back to the first column, and erase the line: ECMA-48, CR and EL."""


class Tone(StrEnum):
    """What a line means to people; the value is its colour, if it has one."""

    PLAIN = ""
    WARNING = "yellow"
    ILL = "red"
    ACTING = "cyan"
    WELL = "green"


class Narrator:
    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self._stream = stream
        self._terminal = stream.isatty() and environ.get("TERM", "dumb") != "dumb"
        self._color = self._terminal and not environ.get("NO_COLOR")  # https://no-color.org
        self._turns = cycle(_SPINNER)

    def title(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        """Print what stands above or below the story."""
        self._print(click.style(escape(text), fg=tone.value or None, bold=True))

    def note(self, text: str) -> None:
        """Print lines as they are; control characters in them are shown, not obeyed."""
        for line in text.splitlines():
            self._print(escape(line))

    def line(self, seconds: float, who: str, what: str, tone: Tone = Tone.PLAIN) -> None:
        """Print what *who* did, *seconds* after the beginning."""
        told = click.style(escape(what), fg=tone.value or None)
        self._print(f"{click.style(_moment(seconds), dim=True)}  {who:<12}  {told}")

    def waiting(self, what: str, seconds: float | None = None) -> None:
        """Show on a terminal what is waited for, until the next line."""
        if not self._terminal:
            return
        moment = " " * len(_moment(0)) if seconds is None else _moment(seconds)
        text = f"{moment}  {next(self._turns)} {escape(what)}"
        columns = shutil.get_terminal_size().columns - 1
        self._echo(_CLEAR + click.style(text[:columns], dim=True))

    def clear(self) -> None:
        """Take away what `waiting` showed."""
        if self._terminal:
            self._echo(_CLEAR)

    def _print(self, text: str) -> None:
        self.clear()
        self._echo(text + "\n")

    def _echo(self, text: str) -> None:
        # Without colours, only the sequences of click.style must go, not our own.
        shown = text if self._color else _CLEAR.join(map(click.unstyle, text.split(_CLEAR)))
        click.echo(shown, file=self._stream, nl=False, color=self._terminal)


def _moment(seconds: float) -> str:
    return f"{seconds:6.1f} s"
