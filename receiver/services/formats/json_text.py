"""JSON (RFC 8259): the value's own characters are replaced, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from receiver.services.formats import Path, Value

_DECODER: Final = json.JSONDecoder()
_SPACE: Final = re.compile(r"[ \t\r\n]*")


class _Member(NamedTuple):
    """A member of an object, by its places in the text."""

    key: str
    start: int
    value_start: int
    end: int


def parse(text: str) -> dict[str, Any]:
    """Return the object. Raises ValueError for another value, and for a key that is there twice."""
    found = json.loads(text, object_pairs_hook=_object, parse_constant=_refused)
    if not isinstance(found, dict):
        raise ValueError("line 1 column 1: not an object")  # noqa: TRY004  the text is wrong
    return found


def put(text: str, path: Path, value: Value) -> str:
    start = _after_space(text, 0)
    for depth, key in enumerate(path):
        members = list(_members(text, start))
        member = next((each for each in members if each.key == key), None)
        if member is None:
            return _inserted(text, start, members, key, _nested(path[depth + 1 :], value))
        if text[member.value_start] != "{" or depth == len(path) - 1:
            shown = json.dumps(_nested(path[depth + 1 :], value))
            return text[: member.value_start] + shown + text[member.end :]
        start = member.value_start
    raise AssertionError("a path has a key")


def remove(text: str, path: Path) -> str:
    start = _after_space(text, 0)
    for key in path[:-1]:
        start = next(each.value_start for each in _members(text, start) if each.key == key)
    members = list(_members(text, start))
    at = next(index for index, each in enumerate(members) if each.key == path[-1])
    if at:  # with the comma before it
        return text[: members[at - 1].end] + text[members[at].end :]
    if len(members) > 1:  # with the comma after it
        return text[: members[0].start] + text[members[1].start :]
    close = _after_space(text, members[0].end)
    return text[: start + 1] + text[close:]


def _inserted(text: str, start: int, members: list[_Member], key: str, value: Any) -> str:
    shown = f"{json.dumps(key)}: {json.dumps(value)}"
    if not members:
        close = _after_space(text, start + 1)
        return text[: start + 1] + shown + text[close:]
    first, last = members[0], members[-1]
    # As the first one is set off from what is before it, so is the new one.
    gap = text[start + 1 : first.start] or " "
    return f"{text[: last.end]},{gap}{shown}{text[last.end :]}"


def _members(text: str, start: int) -> Iterator[_Member]:
    """Yield the members of the object whose brace is at *start*; the text is known to be JSON."""
    at = _after_space(text, start + 1)
    while text[at] != "}":
        key, end = _DECODER.raw_decode(text, at)
        value_start = _after_space(text, _after_space(text, end) + 1)
        _, value_end = _DECODER.raw_decode(text, value_start)
        yield _Member(key, at, value_start, value_end)
        at = _after_space(text, value_end)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _nested(path: Path, value: Value) -> Any:
    found: Any = value
    for key in reversed(path):
        found = {key: found}
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(each == key for each, _ in pairs) > 1)
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
