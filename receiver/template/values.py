"""How is a value written, and what do the filters make of it?"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from receiver.errors import TemplateError

MAX_OUTPUT: Final = 65_536
"""Characters of a rendered text, and of every value on the way there."""
_NUMBER: Final = re.compile(r"\s*([+-]?\d{1,18})(\.\d{0,18})?(?:[eE][+-]?\d{1,3})?\s*", re.ASCII)


class Fields:
    """Labels and the like as a template sees them: `labels.items` is the label of that name."""

    __slots__ = ("__values", "__what")

    def __init__(self, what: str, values: Mapping[str, Any]) -> None:
        self.__what = what
        self.__values = values

    def __contains__(self, name: str) -> bool:
        return name in self.__values

    def __getitem__(self, name: str) -> object:
        from jinja2 import StrictUndefined  # noqa: PLC0415

        if name in self.__values:
            value = self.__values[name]
            if isinstance(value, Mapping):
                return Fields(f"`alert.{name}` has no", value)
            return value
        known = ", ".join(sorted(map(short, self.__values))[:20]) or "none"
        return StrictUndefined(f"{self.__what} {short(name)}; it has: {known}")


def text_of(value: object) -> str:
    """Return how a value is written. Raises for a missing value and for a name of many values."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case None:
            raise TemplateError("a value is not known now; give one with the filter `default`")
        case Fields():
            raise TemplateError("an expression names many values; name one of them")
        case _:
            return str(value)  # a StrictUndefined raises, and says what is missing


def _default(value: object, default_value: object = "", boolean: object = False) -> object:  # noqa: FBT002  as in Jinja2
    from jinja2 import Undefined  # noqa: PLC0415

    missing = value is None or isinstance(value, Undefined)
    return default_value if missing or (boolean and not value) else value


def _float(value: object, default: object = None) -> object:
    if isinstance(value, float):
        return value
    text = text_of(value)
    if _NUMBER.fullmatch(text):
        return float(text)
    if default is None:
        raise TemplateError(f"{short(text)} is no number")
    return default


def _int(value: object, default: object = None) -> object:
    number = _float(value, default)
    if not isinstance(number, float):
        return number
    if not math.isfinite(number):
        raise TemplateError(f"{number} is no whole number")
    whole = None if isinstance(value, float) else _NUMBER.fullmatch(text_of(value))
    # Through a float, a number with more than 15 digits would become another one.
    if whole is not None and whole[2] is None and whole[0].strip() == whole[1]:
        return int(whole[1])
    return int(number)


def _round(value: object, digits: int = 0) -> object:
    number = _float(value)
    assert isinstance(number, float)
    return round(number, digits)


def _replace(value: object, old: object, new: object) -> str:
    text, before, after = text_of(value), text_of(old), text_of(new)
    size = len(text) + text.count(before) * (len(after) - len(before))
    if size > MAX_OUTPUT:
        raise TemplateError(f"`replace` would make {size} characters; at most {MAX_OUTPUT}")
    return text.replace(before, after)


def short(text: object) -> str:
    shown = str(text)
    return repr(shown if len(shown) <= 80 else f"{shown[:60]}…")


FILTERS: Final[Mapping[str, Callable[..., object]]] = {
    "default": _default,
    "float": _float,
    "int": _int,
    "lower": lambda value: text_of(value).lower(),
    "replace": _replace,
    "round": _round,
    "trim": lambda value: text_of(value).strip(),
    "upper": lambda value: text_of(value).upper(),
}
"""By the names that a template calls them."""
