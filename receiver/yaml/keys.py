"""Mappings with known keys: each has its own reader, and unknown ones are reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from receiver.errors import ConfigError
from receiver.yaml.diagnostics import Report, nearest, quoted, suggestion
from receiver.yaml.nodes import Items, Node, Pairs, Scalar
from receiver.yaml.scalars import BAD, Read, caution, expected, instead, key_text, mark


class MappingKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that a mapping may have."""

    read: Read
    required: bool = False
    field: str
    """Its name in the struct."""
    instead: str = ""
    """What to write now; the key is deprecated."""


def read_keys(node: Node, report: Report, keys: Mapping[str, MappingKey]) -> dict[str, Any] | None:
    """Return the values of a mapping by field; one that is wrong or missing is BAD.

    None when the node is no mapping.
    """
    if not isinstance(node, Pairs):
        expected("a mapping", node, report, instead(node, "{}"))
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
            if key.instead:
                caution(key_node, report, f"{quoted(name)} is deprecated; write {key.instead}")
    for name, key in keys.items():
        if key.required and key.field not in values:
            values[key.field] = BAD
            if name not in meant:  # a misspelt key is one problem, not two
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
    """Return *cls* of *values*, or BAD. An error of its __post_init__ is reported at *node*."""
    if any(value is BAD for value in values.values()):
        return BAD
    try:
        return cls(**values)
    except (ValueError, TypeError, ConfigError) as error:
        return mark(node, report, str(error))


def entries(tree: Node | None, section: str, report: Report) -> Iterator[tuple[str, Node, Node]]:
    """Yield name, key and value of each entry under *section*, the only key of a file."""
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
    """Return the value of the key *name* of a mapping, None if it has none."""
    assert isinstance(node, Pairs)
    for key, value in node.pairs:
        if isinstance(key, Scalar) and key.value == name:
            return value
    return None
