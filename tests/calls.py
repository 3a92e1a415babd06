"""Calls of promheal as people are told them, held against the command line without running any."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click

from receiver.cli import root


def calls(line: str) -> Iterator[list[str]]:
    """The calls of promheal in a command line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    call: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            if call and call[0].rpartition("/")[2] == "promheal":
                yield call[1:]
            call = []
        else:
            call.append(word)


def dry_parse(arguments: list[str], *, whole: bool) -> None:
    """Hold a call against the command line, without running it; *whole*: nothing may be missing."""
    command: click.Command = root
    context = click.Context(root, info_name="promheal")
    while True:
        if isinstance(command, click.Group) and "list" in command.commands:
            arguments = (
                arguments if arguments[:1] and arguments[0][0] != "-" else ["list", *arguments]
            )
        values, rest, _ = command.make_parser(context).parse_args(list(arguments))
        for param in command.params:
            value = values.get(param.name)
            if isinstance(param.type, click.Choice) and isinstance(value, str):
                param.type.convert(value, param, context)
            if whole and param.required:
                assert value if param.nargs == -1 else isinstance(value, str), (
                    f"{param.name} is missing"
                )
        if not isinstance(command, click.Group) or not rest:
            assert not rest, f"too much: {rest}"
            return
        below = command.get_command(context, rest[0])
        assert below is not None, f"there is no command {rest[0]!r}"
        command, context = below, click.Context(below, parent=context, info_name=rest[0])
        arguments = rest[1:]


def is_name(span: str) -> bool:
    """Whether *span* is only the name of a command, which is no call yet: `promheal approve`."""
    return not any(word.startswith("-") or word.isupper() for word in span.split())
