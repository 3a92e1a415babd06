r"""How is a matcher written? `a="b"`, `a!="b"`, `a=~"b"`, `a!~"b"`.

Both syntaxes are read, as Alertmanager does by default since 0.27, so that a line of its
configuration means the same here:

- classic: names of ASCII letters, digits, `_` and `:`; a value runs to the next comma, bare or in
  double quotes; only `\n`, `\"` and `\\` are escapes, any other backslash is itself;
- UTF-8: any name; a name or a value with spaces or one of ``{}!=~,\"'` `` stands in double quotes,
  with the escapes of a Go string.

Where both can read a text, the classic meaning wins.
https://prometheus.io/docs/alerting/latest/configuration/#matcher
https://github.com/prometheus/alertmanager/blob/main/matcher/compat/parse.go
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, NamedTuple

import msgspec
import re2

from receiver.policy.matcher import BARE, SPACE, Matcher, MatcherError, MatchOp

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_TOKEN: Final = re2.compile(rf"(?s)[{SPACE}]*(?:([{{}},])|(=~|!=|!~|=)|({_STRING})|({BARE}))")
_PIECE: Final = re2.compile(
    r'([^\\\n]+)|\\(?:([abfnrtv\\"])|x([0-9A-Fa-f]{2})|([0-3][0-7]{2})'
    r"|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))"
)
_ESCAPES: Final = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))
_CLASSIC: Final = re2.compile(r"(?s)\s*([a-zA-Z_:][\w:]*)\s*(=~|!=|!~|=)\s*(.*?)\s*")
_CLASSIC_VALUE: Final = re2.compile(rf'(?s){_STRING}|(?:[^"\\]|\\.)*\\?')
_CLASSIC_ESCAPE: Final = re2.compile(r'\\([n"\\])')
_NONE: Final = 'no matcher here; write for example severity="critical"'
_SURROGATE: Final = range(0xD800, 0xE000)


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of `{a="b",c=~"d"}`, in order; braces and a last comma are optional.

    `{}` and the empty text have none. Raises MatcherError.
    """
    for position, char in enumerate(text):
        if ord(char) in _SURROGATE:
            raise MatcherError(
                f"U+{ord(char):04X} is no character; write the text in UTF-8", position=position
            )
    classic = _read_classic(text)
    if classic is None:
        return _build(_read_utf8(text))
    try:
        return _build(classic)
    except MatcherError as error:
        try:
            return _build(_read_utf8(text))
        except MatcherError:
            raise error from None


class _Reading(NamedTuple):
    """A matcher by its syntax alone."""

    name: str
    op: str
    value: str
    value_at: int
    """The column of its value."""


class _Kind(enum.IntEnum):
    """The groups of _TOKEN, and the end of the text."""

    END = 0
    MARK = 1
    OPERATOR = 2
    STRING = 3
    BARE = 4


class _Token(NamedTuple):
    kind: _Kind
    text: str
    position: int


def _build(readings: Iterable[_Reading]) -> tuple[Matcher, ...]:
    found = []
    for reading in readings:
        try:
            matcher = Matcher(reading.name, MatchOp(reading.op), reading.value)
        except MatcherError as error:
            raise MatcherError(str(error), position=reading.value_at) from None
        found.append(matcher)
    return tuple(found)


def _read_utf8(text: str) -> list[_Reading]:
    tokens = _tokens(text)
    token = next(tokens)
    braced = token.text == "{"
    if braced:
        token = next(tokens)
    found = []
    while token.kind in {_Kind.STRING, _Kind.BARE}:
        name, op = token, next(tokens)
        if op.kind is not _Kind.OPERATOR:
            raise MatcherError(
                f"no operator after {name.text}; write =, !=, =~ or !~", position=op.position
            )
        value = next(tokens)
        if value.kind not in {_Kind.STRING, _Kind.BARE}:
            raise MatcherError(
                f"no value after {op.text}; write it in double quotes", position=value.position
            )
        found.append(_Reading(_unquote(name), op.text, _unquote(value), value.position))
        token = next(tokens)
        if token.text == ",":
            token = next(tokens)
        elif token.kind is not _Kind.END and token.text != "}":
            raise MatcherError(
                f"{token.text} after a matcher; put a comma between two of them, and a value of"
                " several words in double quotes",
                position=token.position,
            )
    if braced and token.text == "}":
        token, braced = next(tokens), False
    if braced and token.kind is _Kind.END:
        raise MatcherError("the brace is never closed; end with }", position=token.position)
    if token.kind is not _Kind.END:
        raise MatcherError(
            f"{token.text} where a label name or the end belongs; remove it, or write it in double"
            " quotes",
            position=token.position,
        )
    return found


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    for found in _TOKEN.finditer(text):
        if found.start() != at:
            break
        kind = _Kind(found.lastindex)
        yield _Token(kind, found[kind], found.start(kind))
        at = found.end()
    at = len(text) - len(text[at:].lstrip(SPACE))
    if at == len(text):
        yield _Token(_Kind.END, "", at)
    elif text[at] == '"':
        raise MatcherError("the double quote is never closed; close it", position=at)
    elif text[at] == "!":
        raise MatcherError("! alone is no operator; write != or !~", position=at)
    else:
        raise MatcherError(f"{text[at]} is reserved; write it in double quotes", position=at)


def _unquote(token: _Token) -> str:
    """Return what a token of the UTF-8 syntax means: strconv.Unquote of a Go string."""
    if token.kind is _Kind.BARE:
        return token.text
    body = token.text[1:-1]
    meant = bytearray()
    at = 0
    for found in _PIECE.finditer(body):
        if found.start() != at:
            break
        plain, escape, byte, octal, *code = found.groups()
        if plain:
            meant += plain.encode()
        elif escape:
            meant += _ESCAPES[escape].encode()
        elif byte or octal:
            meant.append(int(byte, 16) if byte else int(octal, 8))
        else:
            point = int(code[0] or code[1], 16)
            if point in _SURROGATE or point > sys.maxunicode:
                break
            meant += chr(point).encode()
        at = found.end()
    if at != len(body):
        raise MatcherError(
            "a line feed in double quotes; write \\n"
            if body[at] == "\n"
            else f"{body[at : at + 2]} is no escape; write \\\\ for a backslash",
            position=token.position + 1 + at,
        )
    try:
        return meant.decode()
    except UnicodeDecodeError:
        raise MatcherError(
            f"the escapes in {token.text} are no UTF-8; write the characters themselves",
            position=token.position,
        ) from None


def _read_classic(text: str) -> list[_Reading] | None:
    """Return what the classic syntax reads; None when it cannot: the UTF-8 one tells why better."""
    start = int(text.startswith("{"))
    readings = []
    for part, at in _split(text[start:].removesuffix("}")):
        found = _CLASSIC.fullmatch(part)
        if found is None:
            return None
        name, op, value = found.groups()
        if _CLASSIC_VALUE.fullmatch(value) is None:
            return None
        readings.append(
            _Reading(
                name,
                op,
                _CLASSIC_ESCAPE.sub(
                    lambda escape: _ESCAPES[escape[1]],
                    value[1:-1] if value.startswith('"') else value,
                ),
                start + at + found.start(3),
            )
        )
    return readings


def _split(text: str) -> Iterator[tuple[str, int]]:
    """Yield what stands between the commas outside of double quotes, and where.

    A backslash escapes a double quote, inside and outside, even over a comma: Alertmanager's
    ParseMatchers does it so.
    """
    start, quoted, escaped = 0, False, False
    for at, char in enumerate(text):
        if char == ",":
            if not quoted:
                yield text[start:at], start
                start = at + 1
        elif char == "\\":
            escaped = not escaped
        else:
            quoted ^= char == '"' and not escaped
            escaped = False
    last = text[start:].lstrip(SPACE)
    if last:
        yield last.rstrip(SPACE), len(text) - len(last)


def parse_item(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of an item of a list in a file: one, or several that all must hold.

    Raises MatcherError when there is none: it would match everything.
    """
    found = parse_matchers(text)
    if not found:
        raise MatcherError(_NONE, position=0)
    return found


MatcherText = Annotated[
    Matcher,
    msgspec.Meta(
        extra={"type": "[matcher](matchers.md)", "parse": parse_item, "spread": True},
        extra_json_schema={
            "type": "string",
            "minLength": 1,
            "examples": [
                'severity="critical"',
                'instance=~"web-[0-9]+"',
                'team!=""',
                '{team="shop",severity!="info"}',
            ],
        },
    ),
]
"""A condition in memory; in YAML an item of a list, which may hold several."""
