r"""Does an alert wear these labels? Alertmanager's matchers: `a="b"`, `a!="b"`, `a=~"b"`, `a!~"b"`.

Both syntaxes are read, as Alertmanager does by default since 0.27, so that a line of its
configuration means the same here:

- classic: names of ASCII letters, digits, `_` and `:`; a value runs to the next comma, bare or in
  double quotes; only `\n`, `\"` and `\\` are escapes, any other backslash is itself;
- UTF-8: any name; a name or a value with spaces or one of ``{}!=~,\"'` `` stands in double quotes,
  with the escapes of a Go string.

Where both can read a text, the classic meaning wins.
https://prometheus.io/docs/alerting/latest/configuration/#matcher
https://github.com/prometheus/alertmanager/blob/main/matcher/compat/parse.go

Regular expressions are RE2's, Go's own syntax, so they run in linear time and agree with
Alertmanager: anchored at both ends, and `.` is no line feed. Three spellings differ: `\C` is known
to RE2 only, `(?<name>…)` to Go from 1.22 on, and `\p{Letter}`, the long name of `\pL`, to Go from
1.25 on but not to RE2.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, NamedTuple, final

import msgspec
import re2

_SPACE: Final = (  # what Go's unicode.IsSpace accepts; str.isspace() accepts more
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_BARE: Final = rf"""[^{_SPACE}{{}}!=~,\\"'`]+"""
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_BARE_NAME: Final = re2.compile(_BARE)
_TOKEN: Final = re2.compile(rf"(?s)[{_SPACE}]*(?:([{{}},])|(=~|!=|!~|=)|({_STRING})|({_BARE}))")
_PIECE: Final = re2.compile(
    r'([^\\\n]+)|\\(?:([abfnrtv\\"])|x([0-9A-Fa-f]{2})|([0-3][0-7]{2})'
    r"|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))"
)
_ESCAPES: Final = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))

_CLASSIC: Final = re2.compile(r"(?s)\s*([a-zA-Z_:][\w:]*)\s*(=~|!=|!~|=)\s*(.*?)\s*")
_CLASSIC_VALUE: Final = re2.compile(rf'(?s){_STRING}|(?:[^"\\]|\\.)*\\?')
_CLASSIC_ESCAPE: Final = re2.compile(r'\\([n"\\])')

_PLAIN: Final = re2.compile(r"(?:[^\\.+*?()\[\]{}^$]|\\\.)*")
_NONE: Final = 'no matcher here; write for example severity="critical"'
_SURROGATE: Final = range(0xD800, 0xE000)
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False  # RE2 would write each of them to stderr
_OPTIONS.max_mem = 8 << 20  # bytes for program and automaton: a few thousand host names


class MatcherError(ValueError):
    """A text is no matcher. The message tells the remedy."""

    def __init__(self, message: str, *, position: int) -> None:
        super().__init__(message)
        self.position = position
        """The column, counted from 0, where it goes wrong; the text's length at its end."""


class MatchOp(enum.StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    MATCH = "=~"
    NOT_MATCH = "!~"


_REGEX_OPS: Final = {MatchOp.MATCH, MatchOp.NOT_MATCH}


@final
class Matcher:
    """One condition on one label.

    Frozen, and neither a dataclass nor a msgspec.Struct, whose JSON schemas would be objects: in a
    configuration file it is a string.

    Raises MatcherError, at position 0, when *value* is no regular expression but has to be one.
    """

    __slots__ = ("_literals", "_regex", "_wanted", "name", "op", "value")

    name: Final[str]
    op: Final[MatchOp]
    value: Final[str]

    def __init__(self, name: str, op: MatchOp, value: str) -> None:
        self.name = name
        self.op = op
        self.value = value
        self._wanted: Final = op in {MatchOp.EQUAL, MatchOp.MATCH}
        self._literals: Final = _alternatives(value) if op in _REGEX_OPS else frozenset({value})
        self._regex: Any = _compile(value) if self._literals is None else None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether *labels* meet the condition; a label that is not there has the value ""."""
        value = labels.get(self.name, "")
        if self._literals is not None:
            return (value in self._literals) is self._wanted
        # Bytes: for str, the binding counts the characters of the match, three times the price.
        return (self._regex.search(value.encode()) is not None) is self._wanted

    @property
    def literals(self) -> frozenset[str] | None:
        """All values that its value stands for; None for a regular expression that is not plain."""
        return self._literals

    def __str__(self) -> str:
        """Return the text that both syntaxes read alike, or the UTF-8 one if the name needs it."""
        name = self.name if _BARE_NAME.fullmatch(self.name) else _quote(self.name)
        return f"{name}{self.op}{_quote(self.value)}"

    def __repr__(self) -> str:
        return f"<Matcher {self}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Matcher):
            return NotImplemented
        return (self.name, self.op, self.value) == (other.name, other.op, other.value)

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.value))

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(f"a matcher is frozen; {name} cannot change")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a matcher is frozen; {name} cannot go")


def parse_matcher(text: str) -> Matcher:
    """Return the only matcher of *text*, which may stand in braces.

    `a=b,c=d` is two matchers, as in a configuration file, and refused. (Alertmanager reads it on
    its command line and in its API as one, of the value `b,c=d`.)

    Raises MatcherError when there is none, more than one, or something else.
    """
    found = _parse(text)
    if not found:
        raise MatcherError(_NONE, position=0)
    if len(found) > 1:
        raise MatcherError(
            f"{len(found)} matchers where one belongs; give each its own item in the list",
            position=found[1][0],
        )
    return found[0][1]


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of `{a="b",c=~"d"}`, in order; braces and a last comma are optional.

    `{}` and the empty text have none. Raises MatcherError.
    """
    return tuple(matcher for _, matcher in _parse(text))


class _Reading(NamedTuple):
    """A matcher by its syntax alone. The columns are those of the name and of the value."""

    name: str
    op: str
    value: str
    name_at: int
    value_at: int


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


def _parse(text: str) -> list[tuple[int, Matcher]]:
    """Return the matchers of *text*, each with the column where it begins."""
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


def _build(readings: Iterable[_Reading]) -> list[tuple[int, Matcher]]:
    found = []
    for reading in readings:
        try:
            matcher = Matcher(reading.name, MatchOp(reading.op), reading.value)
        except MatcherError as error:
            raise MatcherError(str(error), position=reading.value_at) from None
        found.append((reading.name_at, matcher))
    return found


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
        found.append(
            _Reading(_unquote(name), op.text, _unquote(value), name.position, value.position)
        )
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
    at = len(text) - len(text[at:].lstrip(_SPACE))
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
                start + at + found.start(1),
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
    last = text[start:].lstrip(_SPACE)
    if last:
        yield last.rstrip(_SPACE), len(text) - len(last)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'


def _alternatives(pattern: str) -> frozenset[str] | None:
    r"""Return all that *pattern* matches when it is plain, like `a|b\.c`; None for any other."""
    if _PLAIN.fullmatch(pattern) is None:
        return None
    return frozenset(pattern.replace("\\.", ".").split("|"))


def _compile(pattern: str) -> Any:
    try:
        # Not fullmatch(): Alertmanager takes `a)|(?:b`, and it finds any end in b.
        return re2.compile(f"^(?:{pattern})$", _OPTIONS)
    except re2.error as error:
        refused = error
    try:
        re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        refused = error  # the same reason, without the anchors that the operator did not write
    (reason,) = refused.args
    raise MatcherError(
        f"{pattern!r} is no regular expression: {reason.decode()}; the syntax is RE2's,"
        " https://github.com/google/re2/wiki/Syntax",
        position=0,
    )


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
        extra={"parse": parse_item, "spread": True},
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
