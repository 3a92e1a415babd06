"""What does a node mean? The type of the field decides; a type becomes a reader once.

The types are those that msgspec describes, so a struct is all that a mapping needs. A type with
`Meta(extra={"parse": f})` is read by f(text), whose ValueError is the problem; with `"spread":
True` an item of a list gives f's values, one or more, to the list. Scalars are read in
yaml_scalars.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from receiver.errors import ConfigError
from receiver.yaml.diagnostics import Report, nearest, quoted, suggestion
from receiver.yaml.nodes import Items, Node, Pairs, Scalar
from receiver.yaml.scalars import (
    BAD,
    Read,
    bounded,
    choice,
    core,
    expected,
    key_text,
    mark,
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
"""Of a command line; a template is never torn apart."""


class MappingKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that a mapping may have."""

    read: Read
    required: bool = False
    field: str
    """What the struct calls it."""


def read_keys(node: Node, report: Report, keys: Mapping[str, MappingKey]) -> dict[str, Any] | None:
    """Return the values of a mapping by field; one that is wrong or missing is BAD.

    None when the node is no mapping.
    """
    if not isinstance(node, Pairs):
        expected("a mapping", node, report, _instead(node, "{}"))
        return None
    values: dict[str, Any] = {}
    meant = set()
    for key_node, value_node in node.pairs:
        name = key_text(key_node, report)
        if name is None:
            continue
        key = keys.get(name)
        if key is None:
            mark(key_node, report, f"unknown key {quoted(name)}{suggestion(name, keys)}")
            meant.add(nearest(name, keys))
        else:
            values[key.field] = key.read(value_node, report)
    for name, key in keys.items():
        if key.required and key.field not in values:
            values[key.field] = BAD
            if name not in meant:  # a slip of the pen is one problem, not two
                mark(node, report, f"missing key {name!r}")
    return values


def read_struct(cls: type[msgspec.Struct], keys: Mapping[str, MappingKey]) -> Read:
    """Return the reader of a struct that has *keys*."""

    def read(node: Node, report: Report) -> Any:
        values = read_keys(node, report, keys)
        return BAD if values is None else construct(cls, values, node, report)

    return read


def construct(
    cls: type[msgspec.Struct], values: Mapping[str, Any], node: Node, report: Report
) -> Any:
    """Return *cls* of *values*, or BAD; what its __post_init__ refuses is reported at *node*."""
    if any(value is BAD for value in values.values()):
        return BAD
    try:
        return cls(**values)
    except (ValueError, TypeError, ConfigError) as error:
        return mark(node, report, str(error))


def entries(tree: Node | None, section: str, report: Report) -> Iterator[tuple[str, Node, Node]]:
    """Yield name, key and value of what stands under *section*, the only key of a file."""
    if tree is None:
        return
    only = {section: MappingKey(read=lambda node, _: node, required=True, field=section)}
    node = (read_keys(tree, report, only) or {section: BAD})[section]
    if node is BAD:
        return
    if not isinstance(node, Pairs):
        named = isinstance(node, Items) and node.items
        remedy = "write NAME: before each, without the dash" if named else "write {} for none"
        expected("a mapping", node, report, remedy)
        return
    for key, value in node.pairs:
        name = key_text(key, report)
        if name is not None:
            yield name, key, value


def value_of(node: Node, name: str) -> Node | None:
    """Return what a mapping has under *name*."""
    assert isinstance(node, Pairs)
    for key, value in node.pairs:
        if isinstance(key, Scalar) and key.value == name:
            return value
    return None


class Readers:
    """The readers of types. *text* reads every field that is a text: some may hold templates."""

    def __init__(self, text: Read | None = None) -> None:
        self._text = text or read_text
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
            case inspect.UnionType():
                rest = [option for option in info.types if not isinstance(option, inspect.NoneType)]
                if len(rest) == 1:
                    return optional(self._compile(rest[0]))
            case inspect.AnyType():
                return self._read_anything
            case _:
                pass
        raise ConfigError(f"a parameter of type {info} cannot be read from YAML")

    def _read_anything(self, node: Node, report: Report) -> Any:
        """Return what JSON can say too."""
        match node:
            case Items():
                return _all([self._read_anything(item, report) for item in node.items])
            case Pairs():
                return mapping(read_text, self._read_anything)(node, report)
            case Scalar() if (known := core(node)) is not None:
                return known.value
            case _:
                return self._text(node, report)


def tagged(tag: str, kinds: Mapping[str, type[msgspec.Struct]], readers: Readers) -> Read:
    """Return the reader of a mapping whose key *tag* says which of *kinds* its other keys make."""

    def read(node: Node, report: Report) -> Any:
        if not isinstance(node, Pairs):
            return expected(
                "a mapping", node, report, f"write {tag}: and one of {', '.join(kinds)}"
            )
        named = value_of(node, tag)
        if named is None:
            return mark(node, report, f"missing key {tag!r}; known: {', '.join(kinds)}")
        kind = choice(kinds)(named, report)
        if kind is BAD:
            return BAD
        own = {tag: MappingKey(read=lambda *_: None, required=True, field=tag)}
        values = read_keys(node, report, own | readers.keys(kind))
        if values is None:
            return BAD
        del values[tag]
        return construct(kind, values, node, report)

    return read


def told_by_key(kinds: Mapping[str, type[msgspec.Struct]], readers: Readers) -> Read:
    """Return the reader of a mapping that is of the kind whose name is one of its keys."""

    def read(node: Node, report: Report) -> Any:
        known = ", ".join(kinds)
        if not isinstance(node, Pairs):
            return expected("a mapping", node, report, f"with one of the keys {known}")
        found = [name for name in kinds if value_of(node, name) is not None]
        if not found:
            return mark(node, report, f"it must have one of the keys {known}")
        if len(found) > 1:
            return mark(node, report, f"{' and '.join(found)} are two kinds; write one")
        return readers.of(kinds[found[0]])(node, report)

    return read


def _spreads(info: inspect.Type) -> bool:
    return isinstance(info, inspect.Metadata) and bool((info.extra or {}).get("spread"))


def _spread(items: list[Any]) -> tuple[Any, ...]:
    return tuple(value for item in items for value in item)


def sequence(
    read_item: Read, of: Callable[[list[Any]], Any] = tuple, example: Sequence[Any] | None = None
) -> Read:
    """Return the reader of a list; *example* is one, for who writes something else."""

    def read(node: Node, report: Report) -> Any:
        if not isinstance(node, Items):
            return expected("a list", node, report, _listed(node, read_item, example))
        values = _all([read_item(item, report) for item in node.items])
        return BAD if values is BAD else of(values)

    return read


def mapping(read_key: Read, read_value: Read) -> Read:
    def read(node: Node, report: Report) -> Any:
        if not isinstance(node, Pairs):
            return expected("a mapping", node, report, _instead(node, "{}"))
        found = [(read_key(key, report), read_value(value, report)) for key, value in node.pairs]
        return BAD if any(BAD is half for pair in found for half in pair) else dict(found)

    return read


def optional(read: Read) -> Read:
    """Return the reader that also takes nothing, `null` or `~`."""

    def read_or_none(node: Node, report: Report) -> Any:
        return None if isinstance(node, Scalar) and node.is_null else read(node, report)

    return read_or_none


def _instead(node: Node, empty: str) -> str:
    """Return what to write where a collection belongs."""
    if not isinstance(node, Scalar):
        return ""
    if node.is_null:
        return f"remove the key, or write {empty}"
    return ""


def _listed(node: Node, read_item: Read, example: Sequence[Any] | None) -> str:
    """Return what to write where a list belongs, and that can be read there."""
    other = "" if example is None else f"write for example {msgspec.json.encode(example).decode()}"
    if not isinstance(node, Scalar) or node.is_null:
        return other or _instead(node, "[]")
    for items in (_WORDS.findall(node.value), [node.value]):
        scratch = Report("")
        for item in items:
            read_item(msgspec.structs.replace(node, value=item), scratch)
        if items and len(node.value) < _SHORT and not scratch.broken:
            return f"write [{', '.join(map(_in_flow, items))}]"
    return other


def _in_flow(text: str) -> str:
    """Return *text* as it stands in a list in brackets, in quotes where it needs them."""
    if _BARE.fullmatch(text):
        return text
    return f"'{text}'" if "'" not in text else msgspec.json.encode(text).decode()


def _all(values: list[Any]) -> Any:
    return BAD if any(value is BAD for value in values) else values
