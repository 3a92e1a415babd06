"""Workflow commands of GitHub Actions, which shows each beside its line."""

from __future__ import annotations


def annotation(severity: str, file: str, line: int, column: int, message: str) -> str:
    """*severity*: `error`, `warning` or `notice`."""
    return (
        f"::{severity} file={_encoded(file, '%:,')},line={line},col={column}"
        f"::{_encoded(message, '%')}"
    )


def _encoded(text: str, chars: str) -> str:
    return "".join(f"%{ord(char):02X}" if char in f"\r\n{chars}" else char for char in text)
