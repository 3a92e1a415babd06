"""YAML 1.1, as PyYAML reads it: the value's own characters are replaced, and no others.

A library that writes YAML anew keeps comments, but not how lists are indented, where lines break,
or how they end; whoever keeps the file under version control would see a change in every line. Its
nodes know where they stand, so nothing else need be written.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import yaml

from receiver.services.formats import Path, Value

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_REST_OF_LINE: Final = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?=\r?\n|\Z)")


def parse(text: str) -> dict[str, Any]:
    """Return the mapping. Raises ValueError for another value, and a key that is there twice."""
    root = _compose(text)
    if root is None:
        return {}
    _refuse_twice(root)
    loader = yaml.SafeLoader("")
    try:
        found = loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ValueError(_words(error)) from None
    finally:
        loader.dispose()
    if not isinstance(found, dict):
        raise ValueError("line 1 column 1: not a mapping")  # noqa: TRY004  the text is wrong
    return found


def put(text: str, path: Path, value: Value) -> str:
    node = _compose(text)
    if node is None:
        return _appended(text, f"{_entry(path, value)}")
    for depth, key in enumerate(path):
        assert isinstance(node, yaml.MappingNode)
        found = _value_of(node, key)
        if found is None:
            return _inserted(text, node, path[depth:], value)
        if depth == len(path) - 1 or not isinstance(found, yaml.MappingNode):
            return _replaced(text, found, _shown(path[depth + 1 :], value))
        node = found
    raise AssertionError("a path has a key")


def remove(text: str, path: Path) -> str:
    node = _compose(text)
    for key in path[:-1]:
        assert isinstance(node, yaml.MappingNode)
        node = _value_of(node, key)
    assert isinstance(node, yaml.MappingNode)
    at = next(index for index, (key, _) in enumerate(node.value) if key.value == path[-1])
    key, value = node.value[at]
    start, end = key.start_mark.index, _end(value)
    if node.flow_style:
        if at:  # with the comma before it
            return text[: _end(node.value[at - 1][1])] + text[end:]
        if len(node.value) > 1:  # with the comma after it
            return text[:start] + text[node.value[1][0].start_mark.index :]
        return text[:start] + text[end:]
    line = start - key.start_mark.column
    if len(node.value) == 1 and line == 0 and not text[_line_end(text, end) :]:
        return ""
    if len(node.value) == 1:  # an empty mapping is written as one
        return text[:start] + "{}" + text[end:]
    return text[:line] + text[_line_end(text, end) :]


def _compose(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(_words(error)) from None


def _refuse_twice(node: yaml.Node) -> None:
    """Raise ValueError for a key that is there twice: which of them counts is not ours to guess."""
    todo = [node]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, yaml.SequenceNode):
            todo += each.value
        elif isinstance(each, yaml.MappingNode):
            keys = set()
            for key, value in each.value:
                if (key.tag, str(key.value)) in keys:
                    mark = key.start_mark
                    raise ValueError(
                        f"line {mark.line + 1} column {mark.column + 1}: "
                        f"the key {str(key.value)[:40]!r} is there twice"
                    )
                keys.add((key.tag, str(key.value)))
                todo.append(value)


def _value_of(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value == name:
            found: yaml.Node = value
            return found
    return None


def _replaced(text: str, node: yaml.Node, shown: str) -> str:
    start, end = node.start_mark.index, _end(node)
    before = text[:start]
    gap = " " if before.endswith(":") else ""  # nothing stood there
    tail = "\n" if text[start:end].endswith("\n") else ""
    return f"{before}{gap}{shown}{tail}{text[end:]}"


def _inserted(text: str, node: yaml.MappingNode, path: Path, value: Value) -> str:
    entry = _entry(path, value)
    if node.flow_style:
        last = _end(node.value[-1][1]) if node.value else node.start_mark.index + 1
        return f"{text[:last]}{', ' if node.value else ''}{entry}{text[last:]}"
    indent = " " * node.value[0][0].start_mark.column
    at = _line_end(text, _end(node.value[-1][1]))
    return _appended(text[:at], indent + entry) + text[at:]


def _appended(text: str, line: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text or text.endswith("\n") else newline
    return f"{text}{gap}{line}{newline}"


def _end(node: yaml.Node) -> int:
    """Return where a node's own characters end: block collections reach to what comes after."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    index: int = node.end_mark.index
    return index


def _line_end(text: str, at: int) -> int:
    """Return where the line ends that has *at* in it, with its comment and its end."""
    if at and text[at - 1] == "\n":  # a block scalar takes the end of its line
        return at
    rest = _REST_OF_LINE.match(text, at)
    if rest is None:
        raise ValueError("more than a comment stands behind the last value of its mapping")
    end = rest.end()
    return end + (2 if text.startswith("\r\n", end) else 1 if end < len(text) else 0)


def _entry(path: Path, value: Value) -> str:
    return f"{_text(path[0])}: {_shown(path[1:], value)}"


def _shown(path: Path, value: Value) -> str:
    """Return a value, below the keys that are still to be made, in one line."""
    shown = json.dumps(value) if not isinstance(value, str) else _text(value)
    for key in reversed(path):
        shown = f"{{{_text(key)}: {shown}}}"
    return shown


def _text(value: str) -> str:
    """Return a text as YAML: as it is if it can be nothing but a text, or in quotes."""
    plain = _WORD.fullmatch(value) and isinstance(yaml.safe_load(value), str)
    return value if plain else json.dumps(value)


def _words(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1} column {mark.column + 1}: " if mark is not None else ""
    return f"{place}{getattr(error, 'problem', None) or error}"
