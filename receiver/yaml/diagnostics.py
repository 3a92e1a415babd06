"""What is wrong with a file, and where exactly?

Problems are values. Those of all files are collected, sorted and shown together, each with its
line and a caret below the place, so that a file can be repaired in one pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from receiver.errors import ConfigError
from receiver.redaction import redact

LINE_BREAK: Final = re.compile(
    "\r\n|[\n\r\x85\u2028\u2029]"
)  # YAML 1.1's line breaks, libyaml's count
_SHOWN: Final = 160
"""Characters of a line that are shown; of a longer one, those around the place."""
_QUOTED: Final = 60
"""Characters of the operator's text that are repeated in a message."""

_RESET, _BOLD, _RED, _YELLOW, _GREEN = "\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[32m"


class DiagnosticSeverity(StrEnum):
    ERROR = "error"
    """The configuration is refused."""
    WARNING = "warning"
    """It works, and is probably not what was meant."""


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """One problem, at its place."""

    file: str
    line: int
    """From 1; 0 when the file as a whole is meant."""
    column: int
    """In characters, from 1; 0 when the file as a whole is meant."""
    message: str
    """What is wrong and what to write instead."""
    source: str = ""
    """The line as it stands in the file."""
    length: int = 1
    """Characters to mark."""
    severity: DiagnosticSeverity = DiagnosticSeverity.ERROR


class InvalidConfig(ConfigError):  # noqa: N818  it carries many errors
    """The configuration cannot be used. `problems` are all that were found, in all of its files."""

    def __init__(self, problems: Iterable[Diagnostic]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(format_problem(problem) for problem in self.problems))


class Report:
    """The problems of one file, collected while it is read."""

    def __init__(self, file: str, text: str = "") -> None:
        self.file = file
        self.lines = LINE_BREAK.split(text)
        self._found: dict[Diagnostic, None] = {}  # an ordered set: each is reported once

    def add(
        self,
        message: str,
        line: int = -1,
        column: int = -1,
        length: int = 1,
        severity: DiagnosticSeverity = DiagnosticSeverity.ERROR,
    ) -> None:
        """Add a problem at *line* and *column*, both from 0; by default, of the whole file."""
        source = self.lines[line] if 0 <= line < len(self.lines) else ""
        source, length = _without_secrets(source, max(0, column), max(1, length))
        problem = Diagnostic(
            file=self.file,
            line=line + 1,
            column=column + 1,
            message=redact(message),
            source=source,
            length=length,
            severity=severity,
        )
        self._found[problem] = None

    @property
    def problems(self) -> list[Diagnostic]:
        """All problems, in the order of their places."""
        return sorted(self._found, key=lambda problem: (problem.line, problem.column))

    @property
    def broken(self) -> bool:
        return any(problem.severity is DiagnosticSeverity.ERROR for problem in self._found)


def format_problem(problem: Diagnostic, *, color: bool = False) -> str:
    """Return `file:line:column: message`, the line, and a caret below the place.

    Tabs and wide characters before the place are measured, so the caret stands right below it.
    """
    place = problem.file
    if problem.line:
        place += f":{problem.line}:{problem.column}"
    warning = problem.severity is DiagnosticSeverity.WARNING
    label = "warning: " if warning else ""
    if color:
        tint = _YELLOW if warning else _RED
        head = f"{_BOLD}{place}:{_RESET} {tint}{label}{_RESET}{_BOLD}{problem.message}{_RESET}"
    else:
        head = f"{place}: {label}{problem.message}"
    if not problem.line or not problem.source.strip():
        return head
    start, line = _window(problem.source, problem.column - 1)
    before = problem.column - 1 - start
    marked = line[before : before + problem.length]
    gap = "".join(_blank(char) for char in line[:before])
    caret = "^" * max(1, sum(_width(char) for char in marked))
    if color:
        caret = f"{_GREEN}{caret}{_RESET}"
    number = str(problem.line)
    shown = "".join(_visible(char) for char in line)
    return f"{head}\n {number} | {shown}\n {' ' * len(number)} | {gap}{caret}"


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """Return the closest match of *wrong* in *known*, None if nothing is close."""
    from difflib import get_close_matches  # noqa: PLC0415  few make a mistake, and it is large

    near = get_close_matches(wrong, sorted(known), 1)
    return near[0] if near else None


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'timeout'?`, or the known names when nothing is close."""
    names = sorted(known)
    near = nearest(wrong, names)
    if near is not None:
        return f"; did you mean {near!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def quoted(text: str) -> str:
    """Return *text* as a message quotes it: redacted, on one line, cut when it is long."""
    text = redact(text)
    return repr(text if len(text) <= _QUOTED else f"{text[: _QUOTED - 1]}…")


def by_place(reports: Iterable[Report]) -> Iterator[Diagnostic]:
    """Yield the problems of all *reports*: file by file, each from top to bottom."""
    for report in reports:
        yield from report.problems


def _without_secrets(source: str, column: int, length: int) -> tuple[str, int]:
    """Return a line without its secrets, and the length of the place that stays at *column*."""
    if redact(source) == source:
        return source, length
    before, marked = source[:column], source[column : column + length]
    shown = redact(before)
    if shown != before:
        shown = shown[-column:].rjust(column)
    marked = redact(marked)
    found = shown + marked + redact(source[column + length :])
    # A secret may reach beyond the place.
    return (found, max(1, len(marked))) if redact(found) == found else ("", 1)


def _window(line: str, column: int) -> tuple[int, str]:
    """Return the part of a long line around *column*, and where it begins."""
    if len(line) <= _SHOWN:
        return 0, line
    start = max(0, min(column - _SHOWN // 2, len(line) - _SHOWN))
    return start, line[start : start + _SHOWN]


def _width(char: str) -> int:
    """How many cells of a terminal *char* takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _blank(char: str) -> str:
    return "\t" if char == "\t" else " " * _width(char)


def _visible(char: str) -> str:
    """Replace what could control the terminal that shows the file."""
    return char if char == "\t" or char.isprintable() or unicodedata.combining(char) else "�"
