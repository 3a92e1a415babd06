"""NAME=VALUE lines, as systemd's EnvironmentFile= and docker's --env-file read them.

The path has one key. Comments, order and the spelling of other lines stay. Values are written so
that shells, systemd and docker agree on them: without quotes, from a small set of characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from receiver.services.formats import Path, Value

_LINE: Final = re.compile(
    r"(?P<head>[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=)(?P<value>[^\r\n]*)"
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@%+,-]*")


def parse(text: str) -> dict[str, Any]:
    """Return the variables, all as texts but for numbers and true and false."""
    found: dict[str, Any] = {}
    for number, line in _lines(text):
        match = _LINE.fullmatch(line.rstrip("\r\n"))
        if match is None:
            raise ValueError(f"line {number}: neither a comment nor NAME=VALUE")
        if match["name"] in found:
            raise ValueError(f"line {number}: {match['name']} is set twice")
        found[match["name"]] = _read(match["value"].strip())
    return found


def put(text: str, path: Path, value: Value) -> str:
    name, shown = _name(path), _shown(value)
    lines = text.splitlines(keepends=True)
    for number, line in _lines(text):
        match = _LINE.match(line)
        if match is not None and match["name"] == name:
            lines[number - 1] = match["head"] + shown + line[match.end() :]
            return "".join(lines)
    newline = "\r\n" if "\r\n" in text else "\n"
    end = "" if not text or text.endswith("\n") else newline
    return f"{text}{end}{name}={shown}{newline}"


def remove(text: str, path: Path) -> str:
    name = _name(path)
    gone = {
        number
        for number, line in _lines(text)
        if (match := _LINE.match(line)) is not None and match["name"] == name
    }
    lines = text.splitlines(keepends=True)
    return "".join(line for number, line in enumerate(lines, 1) if number not in gone)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield what is no comment and not empty, with its number from 1."""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if line.strip() and not line.lstrip().startswith(("#", ";")):
            yield number, line


def _name(path: Path) -> str:
    if len(path) != 1:
        raise ValueError(f"a file of variables has no {'.'.join(path)}; name one, as in RATE_LIMIT")
    return path[0]


def _shown(value: Value) -> str:
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    if not _PLAIN.fullmatch(shown):
        raise ValueError(f"{shown[:40]!r} cannot be written so that all who read it agree")
    return shown


def _read(text: str) -> Value:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text in {"true", "false"}:
        return text == "true"
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if str(value) == text:
            return value
    return text
