"""Leaves the secrets out of a configuration's texts, and puts the present ones back in.

A value is a secret by its key, such as `password` or the name of a header, by its place, such as a
channel's `url` or behind the option `--password`, or because it holds what `receiver.redaction`
knows. What is put back comes from
the same place of the file that is there now, and only if it goes to the same address: a secret is
never moved to another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from receiver.redaction import SHOWN, is_secret_name, learn, redact
from receiver.yaml.diagnostics import LINE_BREAK, Report
from receiver.yaml.nodes import Items, Node, Pairs, Scalar, parse
from receiver.yaml.scalars import key_text

_HEADERS: Final = frozenset({"headers", "http_headers", "proxy_connect_header"})
_HARMLESS: Final = frozenset({"accept", "content-type", "files", "user-agent", "x-scope-orgid"})
"""Names below `headers` whose values are no secrets."""
_CHANNEL: Final = re.compile(r"notify\.channels\.[^.]+\.url")
_OPTION: Final = re.compile(r"--?(\w[\w.-]*)")
_ADDRESSES: Final = frozenset(
    {"action", "argv", "base_url", "host", "proxy_url", "socket", "token_url", "unix", "url"}
)
"""Keys that say where a secret goes."""

Path = tuple[str | int, ...]


class Missing(msgspec.Struct, frozen=True):
    """A secret that was left out and cannot be put back."""

    place: str
    """Its keys: `prometheus.basic_auth.password`."""
    line: int
    """Of the stored text, from 1."""
    why: str


class Filled(msgspec.Struct, frozen=True):
    """A stored text with the secrets of the file that is there now."""

    text: str
    kept: tuple[str, ...]
    """The places whose secrets are the present ones."""
    missing: tuple[Missing, ...]
    """Those that are still `REDACTED`."""


class _Value(msgspec.Struct, frozen=True):
    node: Scalar
    start: int
    end: int


def leave_out(text: str) -> str:
    """Return *text*, a configuration file, with `REDACTED` for every secret in it."""
    learn(text)
    values = _values(text)
    for path, value in reversed(values.items()):
        raw = text[value.start : value.end]
        shown = raw
        secret = _is_secret(path) or _is_of_secret_option(path, values)
        if secret and value.node.value and "{{" not in value.node.value:
            shown = SHOWN + ("\n" if raw.endswith("\n") else "")
        elif redact(value.node.value) != value.node.value:
            shown = redact(raw)
            shown = SHOWN if shown == raw else shown
        text = text[: value.start] + shown + text[value.end :]
    return redact(text)  # comments, too


def fill_in(stored: str, present: str) -> Filled:
    """Put the secrets of *present*, the file that is there now, into what `leave_out` left."""
    lacking, there = _values(stored), _values(present)
    shown = _values(leave_out(present))
    text, kept, missing = stored, [], []
    for path, value in reversed(lacking.items()):
        if SHOWN not in value.node.value:
            continue
        place = _named(path)
        why = _why_not(path, lacking, shown)
        if why:
            missing.append(Missing(place, value.node.line + 1, why))
            continue
        own = there[path]
        raw = present[own.start : own.end]
        if own.node.line != own.node.end_line:
            raw = json.dumps(own.node.value, ensure_ascii=False)
        text = text[: value.start] + raw + text[value.end :]
        kept.append(place)
    return Filled(text, tuple(reversed(kept)), tuple(reversed(missing)))


def _why_not(path: Path, stored: Mapping[Path, _Value], present: Mapping[Path, _Value]) -> str:
    """Return why the secret at *path* of the present file is not the one that was left out."""
    then, now = stored[path].node.value, present.get(path)
    if now is None:
        return "the present file has no such key"
    if SHOWN not in now.node.value:
        return "the present file has no secret there"
    if then not in {SHOWN, now.node.value}:
        return f"it was {then}, and is {now.node.value}"
    was, goes = _addresses(path, stored), _addresses(path, present)
    if was != goes:
        changed = next(iter(was.items() ^ goes.items()))[0]
        return f"it would go elsewhere: {_named(changed)} is another one now"
    return ""


def _addresses(path: Path, values: Mapping[Path, _Value]) -> dict[Path, str]:
    """Return all that says where a secret goes, of the entry or the step that it belongs to."""
    owner = _owner(path)
    return {
        place: value.node.value
        for place, value in values.items()
        if place[: len(owner)] == owner
        and (_ADDRESSES.intersection(place[len(owner) :]) or "://" in value.node.value)
    }


def _owner(path: Path) -> Path:
    """Return the smallest of these that holds *path*: a step, a named entry, a section."""
    for end in range(len(path) - 2, 0, -1):
        if isinstance(path[end], int) and path[end - 1] == "actions":
            return path[: end + 1]
    return path[: {"notify": 3, "llm": 3, "services": 2, "strategies": 2}.get(str(path[0]), 1)]


def _is_secret(path: Path) -> bool:
    names = [part for part in path if isinstance(part, str)]
    last = names[-1].lower() if names else ""
    if path[0] == "strategies" and path[2:3] == ("values",):  # patterns, by the names of labels
        return False
    if _HEADERS.intersection(names[:-1]):
        return last not in _HARMLESS and not _HARMLESS.intersection(n.lower() for n in names)
    return (
        is_secret_name(last)
        or (last == "key" and "tls_config" in names)
        or _CHANNEL.fullmatch(".".join(names)) is not None
    )


def _is_of_secret_option(path: Path, values: Mapping[Path, _Value]) -> bool:
    """Whether the item before it in a list is `--password` or another such name."""
    if not isinstance(path[-1], int):
        return False
    before = values.get((*path[:-1], path[-1] - 1))
    option = None if before is None else _OPTION.fullmatch(before.node.value)
    return option is not None and is_secret_name(option[1])


def _values(text: str) -> dict[Path, _Value]:
    """Return the values of a YAML text by their places; none of one that cannot be read."""
    report = Report("")
    tree = parse(text, report)
    lines = [0, *(found.end() for found in LINE_BREAK.finditer(text))]
    if tree is None:
        return {}
    return {
        path: _Value(node, lines[node.line] + node.column, lines[node.end_line] + node.end_column)
        for path, node in _scalars(tree)
        if not node.is_null
    }


def _scalars(node: Node, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    match node:
        case Scalar():
            yield path, node
        case Pairs():
            for key, value in node.pairs:
                name = key_text(key, Report(""))
                if name is not None:
                    yield from _scalars(value, (*path, name))
        case Items():
            for number, item in enumerate(node.items):
                yield from _scalars(item, (*path, number))
        case _:
            return


def _named(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
