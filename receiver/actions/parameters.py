"""Which texts in an action's parameters are templates, and which values may be rendered there?

The type of a parameter says what reads it; without a word it is an argument of a program. Only that
program knows what a value can do in an argument, so each must match a pattern that the strategy
declares for it (policy/value_pattern.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from receiver.errors import TemplateError
from receiver.policy.value_pattern import ValuePattern
from receiver.template import (
    Variables,
    is_template,
    names_in,
    render,
    render_argument,
    render_promql,
    render_url,
    value_of,
)
from receiver.yaml.diagnostics import quoted

Path = tuple[str | int, ...]
"""Keys and positions that lead to a text."""
Values = Mapping[str, ValuePattern]
"""The patterns that a strategy declares, by the names that `template.names_in` has for values."""

_NOTHING: Final[Values] = MappingProxyType({})
_Parameters = TypeVar("_Parameters", bound=msgspec.Struct)


def arguments(params: msgspec.Struct) -> Iterator[tuple[Path, str]]:
    """Yield the templates in arguments, each with its path."""
    found: list[tuple[Path, str]] = []

    def look(text: str, kind: str, path: Path) -> str:
        if kind == "argument" and is_template(text):
            found.append((path, text))
        return text

    _walk(params, None, (), look)
    yield from found


def names_used(params: msgspec.Struct) -> frozenset[str]:
    """Return the names of `template.names_in` in all texts of *params*."""
    found: set[str] = set()

    def look(text: str, _kind: str, _path: Path) -> str:
        found.update(names_in(text))
        return text

    _walk(params, None, (), look)
    return frozenset(found)


def render_params(
    params: _Parameters,
    variables: Variables,
    values: Values = _NOTHING,
    *,
    undeclared: bool = False,
) -> _Parameters:
    """Return *params* with every template in it rendered, in nested values too.

    Keys of mappings are not rendered. A declared value must match its pattern wherever it is used;
    in an argument every value must be declared, unless *undeclared* is set. An argument may not
    start with `-` unless its template does, and NUL is refused everywhere. Raises TemplateError.
    """

    def rendered(text: str, kind: str, _path: Path) -> str:
        if not is_template(text):
            return text
        names = names_in(text)
        for name in names:
            if name in values:
                _refuse_unless_matched(name, values[name], variables)
        if kind == "url":
            return render_url(text, variables)
        if kind == "promql":
            return render_promql(text, variables)
        if kind == "argument":
            missing = [name for name in names if name not in values]
            result = _argument(text, variables, missing, undeclared=undeclared)
        else:
            result = render(text, variables)
        if "\0" in result:
            raise TemplateError(f"{quoted(text)}: a value holds a NUL")
        return result

    result = _walk(params, None, (), rendered)
    assert isinstance(result, type(params))
    return result


def _argument(text: str, variables: Variables, missing: Sequence[str], *, undeclared: bool) -> str:
    if missing and not undeclared:
        raise TemplateError(f"{quoted(text)}: `values` does not say what {missing[0]} may be")
    result = render(text, variables) if missing else render_argument(text, variables)
    if result.startswith("-") and not text.startswith("-"):
        raise TemplateError(
            f"{quoted(text)} became {quoted(result)}: a value may not start with '-', "
            "it would be read as an option"
        )
    return result


def _refuse_unless_matched(name: str, pattern: ValuePattern, variables: Variables) -> None:
    value = value_of(name, variables)
    if value is not None and not pattern.matches(value):
        raise TemplateError(f"{name} is {quoted(value)}; `values` lets it be only {pattern}")


_Visit = Callable[[str, str, Path], str]


@lru_cache(maxsize=256)
def _fields(struct: type[msgspec.Struct]) -> Mapping[Any, msgspec.inspect.Type | None]:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.name: field.type for field in info.fields}


def _walk(value: Any, info: msgspec.inspect.Type | None, path: Path, visit: _Visit) -> Any:
    """Return *value* with each text in it replaced by visit(text, kind, path).

    *info* is its declared type, if any. An unchanged value is returned itself, not a copy.
    """
    types: Mapping[Any, msgspec.inspect.Type | None]
    before: dict[Any, Any]
    match value:
        case str() if not isinstance(value, Enum):
            return visit(value, _kind(info), path)
        case msgspec.Struct():
            types = _fields(type(value))
            before = {name: getattr(value, name) for name in types}
        case Mapping():
            before = dict(value)
            types = {key: _item_type(info, key) for key in before}
        case tuple() | list():
            before = dict(enumerate(value))
            types = {index: _item_type(info, index) for index in before}
        case _:
            return value
    after = {key: _walk(part, types[key], (*path, key), visit) for key, part in before.items()}
    if all(after[key] is before[key] for key in before):
        return value
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **after)
    return after if isinstance(value, Mapping) else type(value)(after.values())


def _item_type(info: msgspec.inspect.Type | None, key: Any) -> msgspec.inspect.Type | None:
    """Return the declared type of the item *key* of a container, None if there is none."""
    inspect = msgspec.inspect
    containers = (inspect.DictType, inspect.VarTupleType, inspect.ListType, inspect.TupleType)
    found = _declared(info, (*containers, inspect.AnyType))
    if isinstance(found, inspect.DictType):
        return found.value_type
    if isinstance(found, inspect.VarTupleType | inspect.ListType):
        return found.item_type
    return found.item_types[key] if isinstance(found, inspect.TupleType) else found


def _declared(info: msgspec.inspect.Type | None, wanted: Any) -> msgspec.inspect.Type | None:
    """Return the part of a type, below annotations and unions, that is a *wanted*."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _declared(info.type, wanted)
    if isinstance(info, msgspec.inspect.UnionType):
        return next((found for part in info.types if (found := _declared(part, wanted))), None)
    return info if isinstance(info, wanted) else None


def _kind(info: msgspec.inspect.Type | None) -> str:
    """Return the kind that a type declares, `argument` by default. Any is JSON, so prose."""
    if isinstance(info, msgspec.inspect.UnionType):
        text = (msgspec.inspect.StrType, msgspec.inspect.AnyType)
        info = next((part for part in info.types if _declared(part, text)), None)
    if isinstance(info, msgspec.inspect.Metadata):
        return (info.extra or {}).get("template") or _kind(info.type)
    return "prose" if isinstance(info, msgspec.inspect.AnyType) else "argument"
