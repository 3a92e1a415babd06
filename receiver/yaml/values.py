"""What does a node mean? The type of the field decides. Each type is compiled to a reader once.

The types are those that msgspec describes, so a struct is all that a mapping needs. A type with
`Meta(extra={"parse": f})` is read by f(text), whose ValueError is the problem. With `"spread":
True`, f returns several values, and all of them become items of the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from receiver.errors import ConfigError
from receiver.yaml.diagnostics import Report
from receiver.yaml.keys import MappingKey, read_struct
from receiver.yaml.nodes import Items, Node, Pairs, Scalar
from receiver.yaml.scalars import (
    BAD,
    Read,
    bounded,
    choice,
    core,
    expected,
    instead,
    parsed,
    read_bool,
    read_float,
    read_int,
    read_text,
)

_SHORT: Final = 60
"""Characters of a text that are repeated in a remedy."""
_BARE: Final = re.compile(r"[A-Za-z_/](?:[\w./:@=-]*[\w/])?", re.ASCII)
_WORDS: Final = re.compile(r"(?:\{\{.*?\}\}|[^\s])+")
"""The words of a command line; a template stays whole."""


class Readers:
    """The readers of types.

    *text* reads every field that is a text: some may hold templates. *own* gives the readers of
    classes whose fields do not say how they are read, such as protocols.
    """

    def __init__(
        self, text: Read | None = None, own: Mapping[type, Callable[[Readers], Read]] | None = None
    ) -> None:
        self._text = text or read_text
        self._own = {cls: reader(self) for cls, reader in (own or {}).items()}
        self.of: Callable[[Any], Read] = cache(self._of)
        self.keys: Callable[..., dict[str, MappingKey]] = cache(self._keys)

    def _of(self, type_: Any) -> Read:
        """Return the reader of a type. Raises ConfigError for one that YAML cannot give."""
        return self._compile(inspect.type_info(type_))

    def _keys(
        self, cls: type[msgspec.Struct], *, omit: tuple[str, ...] = (), **rules: Read
    ) -> dict[str, MappingKey]:
        """Return the keys of a struct, as YAML writes them, but for those that *omit* names.

        *rules* read fields for which their type does not say enough.
        """
        info = inspect.type_info(cls)
        assert isinstance(info, inspect.StructType)
        return {
            field.encode_name: MappingKey(
                read=rules.get(field.name) or self._compile(field.type),
                required=field.required,
                field=field.name,
                instead=_instead_of(field.type),
            )
            for field in info.fields
            if field.name not in omit
        }

    def _compile(self, info: inspect.Type, amend: str = "", example: Any = None) -> Read:  # noqa: C901, PLR0911, PLR0912  a case a type
        match info:
            case inspect.Metadata():
                parse = (info.extra or {}).get("parse")
                if parse is not None:
                    return bounded(parsed(parse), info.type)
                (example,) = (info.extra_json_schema or {}).get("examples", [None])[:1]
                return self._compile(info.type, (info.extra or {}).get("amend", ""), example)
            case inspect.StrType():
                return bounded(self._text, info, amend, example or "")
            case inspect.BoolType():
                return read_bool
            case inspect.IntType():
                return bounded(read_int, info)
            case inspect.FloatType():
                return bounded(read_float, info)
            case inspect.EnumType():
                return choice({str(member.value): member for member in info.cls})
            case inspect.LiteralType():
                return choice({str(value): value for value in info.values})
            case inspect.VarTupleType():
                of = _spread if _spreads(info.item_type) else tuple
                return bounded(sequence(self._compile(info.item_type), of, example), info)
            case inspect.ListType():
                return bounded(sequence(self._compile(info.item_type), list), info)
            case inspect.DictType():
                return bounded(
                    mapping(self._compile(info.key_type), self._compile(info.value_type)), info
                )
            case inspect.StructType():
                return read_struct(info.cls, self.keys(info.cls))
            case inspect.CustomType() if info.cls in self._own:
                return self._own[info.cls]
            case inspect.UnionType():
                return self._compile_union(info)
            case inspect.AnyType():
                return self._read_anything
            case _:
                pass
        raise _unreadable(info)

    def _compile_union(self, info: inspect.UnionType) -> Read:
        """Return the reader of a type or nothing, or of a mapping or a scalar."""
        rest = [option for option in info.types if not isinstance(option, inspect.NoneType)]
        structs = [self._compile(each) for each in rest if isinstance(each, inspect.StructType)]
        others = [self._compile(each) for each in rest if not isinstance(each, inspect.StructType)]
        match structs, others:
            case ([read], []) | ([], [read]):
                pass
            case [struct], [other]:
                read = _mapping_or(struct, other)
            case _:
                raise _unreadable(info)
        return optional(read) if len(rest) < len(info.types) else read

    def _read_anything(self, node: Node, report: Report) -> Any:
        """Return a value of JSON."""
        match node:
            case Items():
                return _all([self._read_anything(item, report) for item in node.items])
            case Pairs():
                return mapping(read_text, self._read_anything)(node, report)
            case Scalar() if (known := core(node)) is not None:
                return known.value
            case _:
                return self._text(node, report)


def _unreadable(info: inspect.Type) -> ConfigError:
    return ConfigError(f"a parameter of type {info} cannot be read from YAML")


def _mapping_or(struct: Read, other: Read) -> Read:
    def read(node: Node, report: Report) -> Any:
        return (struct if isinstance(node, Pairs) else other)(node, report)

    return read


def _instead_of(info: inspect.Type) -> str:
    extra = info.extra if isinstance(info, inspect.Metadata) else None
    return str((extra or {}).get("instead", ""))


def _spreads(info: inspect.Type) -> bool:
    return isinstance(info, inspect.Metadata) and bool((info.extra or {}).get("spread"))


def _spread(items: list[Any]) -> tuple[Any, ...]:
    return tuple(value for item in items for value in item)


def sequence(
    read_item: Read, of: Callable[[list[Any]], Any] = tuple, example: Sequence[Any] | None = None
) -> Read:
    """Return the reader of a list; *example* is suggested where something else stands."""

    def read(node: Node, report: Report) -> Any:
        if not isinstance(node, Items):
            return expected("a list", node, report, _listed(node, read_item, example))
        values = _all([read_item(item, report) for item in node.items])
        return BAD if values is BAD else of(values)

    return read


def mapping(read_key: Read, read_value: Read) -> Read:
    def read(node: Node, report: Report) -> Any:
        if not isinstance(node, Pairs):
            return expected("a mapping", node, report, instead(node, "{}"))
        found = [(read_key(key, report), read_value(value, report)) for key, value in node.pairs]
        return BAD if any(BAD is half for pair in found for half in pair) else dict(found)

    return read


def optional(read: Read) -> Read:
    """Return the reader that also accepts `null`, `~` and nothing, as None."""

    def read_or_none(node: Node, report: Report) -> Any:
        return None if isinstance(node, Scalar) and node.is_null else read(node, report)

    return read_or_none


def _listed(node: Node, read_item: Read, example: Sequence[Any] | None) -> str:
    """Return the remedy where a list is expected: one that can be read there."""
    other = "" if example is None else f"write for example {msgspec.json.encode(example).decode()}"
    if not isinstance(node, Scalar) or node.is_null:
        return other or instead(node, "[]")
    for items in (_WORDS.findall(node.value), [node.value]):
        scratch = Report("")
        for item in items:
            read_item(msgspec.structs.replace(node, value=item), scratch)
        if items and len(node.value) < _SHORT and not scratch.broken:
            return f"write [{', '.join(map(_in_flow, items))}]"
    return other


def _in_flow(text: str) -> str:
    """Return *text* as an item of a flow sequence, quoted where needed."""
    if _BARE.fullmatch(text):
        return text
    return f"'{text}'" if "'" not in text else msgspec.json.encode(text).decode()


def _all(values: list[Any]) -> Any:
    """Return *values*, or BAD when one of them was reported."""
    return BAD if any(value is BAD for value in values) else values
