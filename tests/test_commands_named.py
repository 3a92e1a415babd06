"""Every command that a message names can be typed as it stands there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from receiver.cli import COMMANDS
from tests.calls import calls, dry_parse, is_name

ELSEWHERE = ("configs", "deploy", "rules", "receiver/web/templates")
"""Folders of other files that people read."""
_QUOTED = re.compile(r"`(promheal [^`\n]+)`")
_BARE = re.compile(
    rf"(?:^ {{4,}}|: |, or |\b[Rr]un )(promheal (?:{'|'.join(COMMANDS)})\b[^`;,)\n]*)", re.MULTILINE
)
"""Of a message that does without quotes: what follows a colon, or stands alone in a line."""


class Named(NamedTuple):
    place: str
    call: str
    whole: bool
    """It is to be typed as it stands, and not only the name of a command."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module with their lines, for each value in them something short."""
    tree = ast.parse(source)
    within = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node) if part is not node
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "7" for part in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in within:
                continue  # a part of the one before
            yield node.lineno, re.sub(r"\{\w+\}", "7", node.value)


def named(place: str, text: str) -> Iterator[Named]:
    for call in _QUOTED.findall(text):
        joined = " ".join(call.split())
        yield Named(place, joined, whole=not is_name(joined))
    for line in _BARE.findall(text):
        for call in calls(line):
            yield Named(place, shlex.join(["promheal", *call]), whole=True)


def everywhere() -> Iterator[Named]:
    for path in sorted(Path("receiver").rglob("*.py")):
        for line, text in texts(path.read_text()):
            yield from named(f"{path}:{line}", text)
    for folder in ELSEWHERE:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                yield from named(str(path), path.read_text(errors="replace"))


def wrong(told: Iterator[Named]) -> list[str]:
    found = []
    for each in told:
        try:
            dry_parse(shlex.split(each.call)[1:], whole=each.whole)
        except (AssertionError, click.UsageError) as error:
            found.append(f"{each.place}: {each.call}: {error}")
    return found


def test_every_command_that_is_named_can_be_typed() -> None:
    assert len(list(everywhere())) > 50
    assert wrong(everywhere()) == []


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('f"Say yes or no: promheal approve {run} --reason …, or promheal reject {run}"',
         "promheal reject 7"),
        ('"no such file; `promheal config webb` writes one"', "promheal config webb"),
        ('"Run promheal chek, mend what it names"', None),
        ('f"see `promheal run`"', None),
        ('f"`promheal run {run} --al`"', "promheal run 7 --al"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_typed_is_found(text: str, call: str | None) -> None:
    found = wrong(each for _, one in texts(text) for each in named("", one))
    assert [each.split(": ")[1] for each in found] == ([] if call is None else [call])
