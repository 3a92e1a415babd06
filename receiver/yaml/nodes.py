"""A YAML file as nodes that know their place: parsed, and not interpreted.

The nodes are built from the parser's events, for two measured reasons. PyYAML's own composer
resolves aliases and forgets anchors and tags before they can be refused; and its C version recurses
and crashes the process at 100,000 open brackets.

Nothing is resolved here: `no`, `22:30` and `010` are texts until the type of a field says what
they are (values.py). Refused, each at its place: aliases, anchors, tags, merge keys, duplicate
keys, more than one document, nesting deeper than MAX_DEPTH.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from receiver.yaml.diagnostics import Report, quoted

MAX_DEPTH: Final = 32
"""Collections inside one another. libyaml's time grows with the square of it."""
MAX_BYTES: Final = 4 << 20
"""Of a file: some 7,000 strategies."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN: Final = re.compile(  # what YAML 1.1 calls not printable, and lone surrogates
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


class Node(msgspec.Struct, kw_only=True):
    """A value and where it stands. Lines and columns count from 0, columns in characters."""

    line: int
    column: int
    end_line: int
    end_column: int

    @property
    def length(self) -> int:
        """The characters to mark: of a scalar on one line all of them, else one."""
        return 1


class Scalar(Node, kw_only=True, gc=False):
    value: str
    plain: bool
    """Without quotes, so that `null` and `true` are not just texts."""

    @property
    def is_null(self) -> bool:
        return self.plain and self.value in {"", "~", "null", "Null", "NULL"}

    @property
    def length(self) -> int:
        return self.end_column - self.column if self.end_line == self.line else 1


class Items(Node, kw_only=True):
    """A list."""

    items: list[Node]


class Pairs(Node, kw_only=True):
    """A mapping, as the file has it: in order, and its keys are nodes too."""

    pairs: list[tuple[Node, Node]]

    @property
    def length(self) -> int:
        first = self.pairs[0][0] if self.pairs else None
        if first is not None and (first.line, first.column) == (self.line, self.column):
            return first.length
        return 1


class Refused(Node, kw_only=True):
    """Reported already; readers skip it without a further problem."""


def read_file(path: Path, report: Report) -> tuple[bytes, str] | None:
    """Return the bytes and the text of *path*, or report why it cannot be read and return None.

    Raises FileNotFoundError: only the caller knows the remedy.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        report.add(f"cannot be read: {reason}")
        return None
    if len(raw) > MAX_BYTES:
        report.add(f"larger than {MAX_BYTES >> 20} MiB; is this the right file?")
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        line, column = _place(before)
        report.lines = Report(report.file, raw.decode("utf-8-sig", "replace")).lines
        report.add(
            f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file in UTF-8", line, column
        )
        return None
    return raw, text


def parse(text: str, report: Report, *, behind: bool = False) -> Node | None:
    """Return the document of *text*, or None when there is none. Problems go to *report*.

    A syntax error ends parsing; any other problem is reported, and parsing goes on. *behind*: there
    may be another document before it, which is somebody else's and is not read.
    """
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        line, column = _place(text[: forbidden.start()])
        report.add(f"U+{ord(forbidden[0]):04X} may not stand in YAML; remove it", line, column)
        return None
    try:
        events = yaml.parse(text, Loader=_LOADER)
        return _build(_behind(events) if behind else events, report)
    except yaml.MarkedYAMLError as error:
        context = f"{error.context}: " if error.context else ""
        line, column = place = _begin(error, report)
        if "".join(report.lines[line : line + 1])[column : column + 1] == "\t":
            report.add("a tab cannot indent in YAML; write spaces in its place", *place)
        else:
            report.add(f"no YAML: {context}{error.problem}", *place)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The loader without libyaml does not guard every \U escape and number.
        report.add(f"no YAML: {error}")
    return None


def _begin(error: yaml.MarkedYAMLError, report: Report) -> tuple[int, int]:
    """Return the place of a syntax error: where it was noticed, or where it begins if that helps.

    An unclosed quote or bracket is noticed at the end of the file, a key without a colon one line
    below.
    """
    shown, begun = error.problem_mark, error.context_mark
    if shown is not None and begun is not None:
        line, *below = report.lines[shown.line :] or [""]
        at_end = not any(part.strip() for part in (line[shown.column :], *below))
        if at_end or error.context == "while scanning a simple key":
            shown = begun
    mark = shown or begun
    return (-1, -1) if mark is None else (mark.line, mark.column)


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("children", "event")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.children: list[Node] = []


def _build(events: Iterator[Any], report: Report) -> Node | None:
    root = _Open(None)
    stack = [root]
    documents = 0
    for event in events:
        match event:
            case yaml.ScalarEvent():
                _refuse_properties(event, report)
                stack[-1].children.append(_scalar(event))
            case yaml.AliasEvent():
                stack[-1].children.append(_refused(event, report))
            case yaml.CollectionStartEvent():
                _refuse_properties(event, report)
                if len(stack) > MAX_DEPTH:
                    _add(event, report, f"nested more than {MAX_DEPTH} deep")
                    return None
                stack.append(_Open(event))
            case yaml.CollectionEndEvent():
                opened = stack.pop()
                stack[-1].children.append(_close(opened, event, report))
            case yaml.DocumentStartEvent():
                documents += 1
                if documents > 1:
                    _add(event, report, "a second document; remove it", 3)
                    return None
            case _:
                pass
    return root.children[0] if root.children else None


def _behind(events: Iterator[Any]) -> Iterator[Any]:
    """Yield the events from the second document on; of one document alone, all."""
    first: list[Any] = []
    documents = 0
    for event in events:
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents < 2:
            first.append(event)
        else:
            yield event
    if documents < 2:
        yield from first


def _scalar(event: Any) -> Scalar:
    start, end = event.start_mark, event.end_mark
    return Scalar(
        line=start.line,
        column=start.column,
        end_line=end.line,
        end_column=end.column,
        value=event.value,
        plain=not event.style,
    )


def _refused(event: Any, report: Report) -> Refused:
    start, end = event.start_mark, event.end_mark
    message = f"alias *{event.anchor}: YAML aliases are not read; write the value out"
    _add(event, report, message, end.column - start.column)
    return Refused(line=start.line, column=start.column, end_line=end.line, end_column=end.column)


def _close(opened: _Open, event: Any, report: Report) -> Node:
    start, end = opened.event.start_mark, event.end_mark
    children = opened.children
    if type(event) is yaml.SequenceEndEvent:
        return Items(
            line=start.line,
            column=start.column,
            end_line=end.line,
            end_column=end.column,
            items=children,
        )
    return Pairs(
        line=start.line,
        column=start.column,
        end_line=end.line,
        end_column=end.column,
        pairs=list(_distinct(children, report)),
    )


def _distinct(children: list[Node], report: Report) -> Iterator[tuple[Node, Node]]:
    """Yield the pairs of a mapping without those that are merged in or come a second time."""
    seen: dict[str, int] = {}
    for key, value in zip(children[::2], children[1::2], strict=True):
        if isinstance(key, Scalar):
            if key.plain and key.value == "<<":
                report.add(
                    "`<<`: YAML merge keys are not read; write the keys out",
                    key.line,
                    key.column,
                    key.length,
                )
                continue
            if key.value in seen:
                report.add(
                    f"duplicate key {quoted(key.value)}; it is in line {seen[key.value]} already",
                    key.line,
                    key.column,
                    key.length,
                )
                continue
            seen[key.value] = key.line + 1
        yield key, value


def _refuse_properties(event: Any, report: Report) -> None:
    if event.anchor is not None:
        message = f"anchor &{event.anchor}: YAML anchors are not read; remove it"
        _add(event, report, message, len(event.anchor) + 1)
    if event.tag is not None:
        tag = quoted(event.tag.replace("tag:yaml.org,2002:", "!!"))
        _add(event, report, f"tag {tag}: YAML tags are not read; remove it")


def _add(event: Any, report: Report, message: str, length: int = 1) -> None:
    report.add(message, event.start_mark.line, event.start_mark.column, length)


def _place(before: str) -> tuple[int, int]:
    """Return line and column, from 0, of what follows *before*."""
    lines = Report("", before).lines
    return len(lines) - 1, len(lines[-1])
