"""Where in a PromQL query may a value stand?

Inside quotes, escaped; after `=~` and `!~` as a regular expression that only matches itself;
outside quotes only as a number.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from receiver.errors import TemplateError
from receiver.template.compiled import Variables, compiled, is_template
from receiver.template.language import path_of
from receiver.template.values import short, text_of

if TYPE_CHECKING:
    from jinja2 import nodes


_RE2_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
_PROMQL_SPECIAL: Final = re.compile(r"[\x00-\x1f\x7f\\\"'`]")


class Quoting(Enum):
    """Where in a PromQL query a value stands."""

    CODE = "code"
    STRING = "string"
    REGEX = "regex"


def problems_in_promql(text: str) -> str | None:
    """Return what is wrong with a template of a PromQL query, or None. The query is not parsed."""
    try:
        if is_template(text):
            _quotings(text)
    except TemplateError as error:
        return str(error)
    return None


def render_promql(text: str, variables: Variables) -> str:
    """Return a query in which no value can end the string that it stands in. Raises TemplateError.

    What follows `=~` and `!~` is matched literally; outside quotes only a number may stand.
    """
    if not is_template(text):
        return text
    template = compiled(text)
    rendered = []
    for value, place in zip(template.values(variables), _quotings(text), strict=True):
        shown = text_of(value)
        if place is Quoting.CODE:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TemplateError(
                    f"{short(text)}: {short(shown)} stands outside quotes in PromQL, where only "
                    "numbers may; put it in double quotes or through the filter `float`"
                )
            rendered.append(shown)
        else:
            if place is Quoting.REGEX:
                shown = _RE2_SPECIAL.sub(r"\\\g<0>", shown)
            rendered.append(_promql_escape(shown))
    return template.join(rendered)


@lru_cache(maxsize=256)
def _quotings(text: str) -> tuple[Quoting, ...]:
    """Return where the values of a query stand. Raises TemplateError."""
    places = []
    here = _Position()
    for piece in compiled(text).pieces:
        if isinstance(piece, str):
            for character in piece:
                here.advance(character)
        elif here.forbidden:
            raise TemplateError(
                f"{short(text)}: a value may not stand {here.forbidden} in PromQL; put it in "
                "double quotes"
            )
        elif here.quote:
            places.append(Quoting.REGEX if here.regex else Quoting.STRING)
        elif _is_number(piece):
            places.append(Quoting.CODE)
        else:
            raise TemplateError(
                f"{short(text)}: a value stands outside quotes in PromQL, where only numbers may; "
                "put it in double quotes or through the filter `float` or `int`"
            )
    return tuple(places)


class _Position:
    """Where in a query a reader of it stands, as far as quotes and comments go."""

    def __init__(self) -> None:
        self.quote = ""
        self.regex = False
        """Whether the quoted text is a regular expression: it follows `=~` or `!~`."""
        self._comment = False
        self._escaped = False
        self._code = ""
        """The last two characters outside quotes."""

    @property
    def forbidden(self) -> str:
        """Where it stands, if no value can be made safe there."""
        if self._comment:
            return "in a comment"
        if self._escaped:
            return "after a backslash"
        return "in ` `, which has no escapes," if self.quote == "`" else ""

    def advance(self, character: str) -> None:
        if self._comment:
            self._comment = character != "\n"
        elif self._escaped:
            self._escaped = False
        elif self.quote:
            self._escaped = character == "\\" and self.quote != "`"
            if character == self.quote:
                self.quote = ""
        elif character in "\"'`":
            self.quote, self.regex, self._code = character, self._code in {"=~", "!~"}, ""
        elif character == "#":
            self._comment = True
        elif not character.isspace():
            self._code = (self._code + character)[-2:]


def _is_number(node: nodes.Node) -> bool:
    """Whether an expression's value can only be a number, or be missing."""
    from jinja2 import nodes  # noqa: PLC0415

    parts: list[nodes.Node] = []
    match node:
        case nodes.Const(value=value):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case nodes.Filter(name="round"):
            return True
        case nodes.Filter(name="float" | "int"):  # their argument is for what is no number
            parts = [*node.args, *(pair.value for pair in node.kwargs)]
        case nodes.Filter(name="default", node=nodes.Expr() as inner):
            parts = [inner, *node.args[:1]]
        case nodes.CondExpr(expr1=first, expr2=nodes.Expr() as second):
            parts = [first, second]
        case _:
            return path_of(node) in {("value",), ("alert", "starts_at")}
    return all(map(_is_number, parts))


def _promql_escape(value: str) -> str:
    """Return *value* as it is written between quotes: Go's escapes, the same in ' and in "."""
    return _PROMQL_SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
