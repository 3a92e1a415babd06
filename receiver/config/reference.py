"""The reference of the configuration: tables of keys, written into the pages between marks.

`<!-- keys of Settings: key -->` begins the table of a struct whose first column is called `key`,
and `<!-- end -->` ends it. What stands between is made of the struct's fields.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from os.path import relpath
from pathlib import Path
from typing import Final

import msgspec
from msgspec import inspect

from receiver.actions import Actions, discover
from receiver.config.fields import (
    NONE,
    bare,
    default_of,
    default_words,
    field_docs,
    struct_fields,
    type_words,
)
from receiver.config.kinds import service_kinds
from receiver.policy.http_config import HTTPConfig
from receiver.policy.strategy import StepKeys, Strategy
from receiver.services import Service
from receiver.services.kubernetes import Kubernetes
from receiver.settings import LlmProvider, NotifyChannel, Settings

Tables = Mapping[str, type[msgspec.Struct]]
"""The structs that have tables of their own, by their names."""

_TABLE: Final = re.compile(r"(<!-- keys of (\w+): (.+?) -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
_LINK: Final = re.compile(r"\]\((?!https?:)([^)#]+)")
_NAMED: Final = {Service: {"name"}, Strategy: {"name"}}
"""Fields that are the key of the whole."""
_SHARED: Final[tuple[type[msgspec.Struct], ...]] = (Kubernetes, HTTPConfig)
"""Bases whose keys have a table of their own, to which what inherits them refers."""

_HTTP_CONFIG: Final = (
    "Who asks, TLS, headers, proxy: the keys of the [HTTP configuration](http-config.md), beside "
    "the others."
)


def tables(actions: Actions) -> Tables:
    """Return all structs whose fields are keys of the configuration, but for those within them."""
    found: list[type[msgspec.Struct]] = [Settings, LlmProvider, NotifyChannel, Service]
    for kinds in service_kinds().values():
        found += kinds.structs.values()
    found += [*_SHARED, Strategy, StepKeys, *(actions.get(name).Params for name in actions.names)]
    return {struct.__name__: struct for struct in found}


def render_page(text: str, known: Tables, page: Path) -> str:
    """Return a page with its tables written anew; *page* is its path below docs/reference.

    Raises KeyError for a table of a struct that is not known.
    """

    def render(found: re.Match[str]) -> str:
        begin, name, first, end = found.groups()
        rows = "\n".join(_rows(known[name], first, known.values()))
        return begin + _LINK.sub(lambda link: f"]({_from(page, link[1])}", rows) + end

    return _TABLE.sub(render, text)


def named_in(text: str) -> list[str]:
    """Return the structs of whose keys a page has tables."""
    return [name for _, name, _, _ in _TABLE.findall(text)]


def _rows(
    cls: type[msgspec.Struct], first: str, known: Iterable[type[msgspec.Struct]]
) -> Iterator[str]:
    yield f"| {first} | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    yield from _keys(cls, "", None, tuple(known))


def _keys(
    cls: type[msgspec.Struct],
    prefix: str,
    whole: msgspec.Struct | None,
    known: tuple[type[msgspec.Struct], ...],
) -> Iterator[str]:
    """Yield a row for each key; *whole* is what the struct is when it is left out."""
    docs = field_docs(cls)
    if issubclass(cls, HTTPConfig) and cls is not HTTPConfig and Kubernetes not in cls.__bases__:
        yield f"| `{prefix}<http_config>` | mapping | {NONE} | {_HTTP_CONFIG} |"
    for field in _own_fields(cls):
        key, kind = f"{prefix}{field.encode_name}", bare(field.type)
        if isinstance(kind, inspect.StructType) and not _apart(kind.cls, known):
            default = default_of(field)
            inner = default if isinstance(default, msgspec.Struct) else None
            yield from _keys(kind.cls, f"{key}.", inner, known)
            continue
        words = (type_words(field.type), default_words(field, whole), docs.get(field.name, ""))
        yield f"| `{key}` | " + " | ".join(each.replace("|", "\\|") for each in words) + " |"
        item = bare(kind.item_type) if isinstance(kind, inspect.VarTupleType) else None
        if isinstance(item, inspect.StructType) and not _apart(item.cls, known):
            yield from _keys(item.cls, f"{key}[].", None, known)


def _apart(cls: type[msgspec.Struct], known: tuple[type[msgspec.Struct], ...]) -> bool:
    """Whether the keys of a struct are in a table of their own, not in that of what holds it."""
    return cls in known or issubclass(cls, tuple(each for each in known if each not in _SHARED))


def _own_fields(cls: type[msgspec.Struct]) -> list[inspect.Field]:
    """Return the fields of a struct, those first that are required.

    Those of a base whose table the page refers to are left out.
    """
    left_out = {
        name for base in cls.__mro__[1:] if base in _SHARED for name in base.__struct_fields__
    } - set(cls.__annotations__)
    left_out |= _NAMED.get(cls, set())
    found = [field for field in struct_fields(cls) if field.name not in left_out]
    return sorted(found, key=lambda field: not field.required)


def _from(page: Path, target: str) -> str:
    """Return *target*, a path below docs/reference, as a link on *page* has it."""
    return "" if target == str(page) else relpath(target, page.parent)


def write_reference(folder: Path, actions: Actions) -> None:
    """Write the tables of all pages in *folder* anew."""
    known = tables(actions)
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(render_page(text, known, path.relative_to(folder)), encoding="utf-8")


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]), discover())
