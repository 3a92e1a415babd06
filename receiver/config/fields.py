"""What is said of a field of a struct? Its docstring, and the words for its type and default.

Both the schemas and the tables of the reference are made of it. A docstring's first paragraph is
what the reference says; its links are relative to docs/reference. Where the words that a type
gives are not enough, `Meta(extra={"type": "path"})` has better ones, and `"default"` those for a
default that is not a constant.
"""

from __future__ import annotations

import ast
import inspect as source
import re
import textwrap
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from receiver.policy.duration import format_duration

NONE: Final = "\N{EN DASH}"
"""Stands for the default of a key that may be left out, and then has no value."""

_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@cache
def field_docs(cls: type[msgspec.Struct]) -> dict[str, str]:
    """Return the docstrings below the fields of a struct, which Python itself forgets."""
    docs: dict[str, str] = {}
    for base in cls.__bases__:
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            docs |= field_docs(base)
    tree = ast.parse(textwrap.dedent(source.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(doc))
            ):
                docs[name] = first_paragraph(doc)
            case _:
                pass
    return docs


def first_paragraph(doc: str) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(doc.split("\n\n", maxsplit=1)[0].split())


def without_links(doc: str) -> str:
    """Return *doc* as an editor shows it, which knows no pages to link to."""
    return _LINK.sub(r"\1", doc)


def bare(info: inspect.Type) -> inspect.Type:
    """Return the type below what is said about it, and without `or nothing`."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        rest = [option for option in info.types if not isinstance(option, inspect.NoneType)]
        return bare(rest[0]) if len(rest) == 1 else info
    return info


def extra(info: inspect.Type, name: str) -> Any:
    """Return what `Meta(extra=…)` says of a type, also where it may be nothing."""
    if isinstance(info, inspect.UnionType):
        return next((found for each in info.types if (found := extra(each, name))), None)
    if isinstance(info, inspect.Metadata):
        return (info.extra or {}).get(name) or extra(info.type, name)
    return None


def type_words(info: inspect.Type) -> str:  # noqa: C901, PLR0911  a case a type
    """Return the words for a type: `duration`, `1 to 256`, `list of names`."""
    kind = bare(info)
    if isinstance(kind, inspect.UnionType):
        rest = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        return " or ".join(type_words(each) for each in rest)
    if words := extra(info, "type"):
        return str(words)
    match kind:
        case inspect.BoolType():
            return "true, false"
        case inspect.EnumType() as enum:
            return ", ".join(f"`{member.value}`" for member in enum.cls)
        case inspect.LiteralType() as literal:
            return ", ".join(f"`{value}`" for value in literal.values)
        case inspect.IntType(ge=least, le=most) if least is not None:
            return f"from {least}" if most is None else f"{least} to {most}"
        case inspect.IntType() | inspect.FloatType():
            return "number" if kind.gt is None else f"number above {kind.gt:g}"
        case inspect.StrType():
            return "text"
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return f"list of {_plural(type_words(item))}"
        case inspect.AnyType():
            return "anything"
        case inspect.DictType(value_type=value) if not isinstance(value, inspect.AnyType):
            return f"mapping of {_plural(type_words(value))}"
        case _:
            return "mapping"


def _plural(words: str) -> str:
    if words.endswith(")"):  # a link
        text, target = words.removesuffix(")").split("](", maxsplit=1)
        return f"{_plural(text)}]({target})"
    return words if words.startswith("`") else f"{words}{'es' if words.endswith('x') else 's'}"


def default_words(field: inspect.Field, whole: msgspec.Struct | None = None) -> str:
    """Return the words for a default. *whole* is what the struct is when it is left out."""
    if words := extra(field.type, "default"):
        return str(words)
    if field.required and whole is None:
        return "required"
    value = default_of(field) if whole is None else getattr(whole, field.name)
    return NONE if value is None else f"`{as_yaml(value, field.type)}`"


def default_of(field: inspect.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def as_yaml(value: Any, info: inspect.Type) -> str:
    """Return *value*, which is of type *info*, as YAML writes it."""
    if isinstance(value, float) and extra(info, "parse") is not None:
        return format_duration(value)
    if isinstance(value, msgspec.Struct):
        fields = struct_fields(type(value))
        parts = [f"{f.encode_name}: {as_yaml(getattr(value, f.name), f.type)}" for f in fields]
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, tuple | list):
        kind = bare(info)
        item = kind.item_type if isinstance(kind, inspect.VarTupleType) else inspect.AnyType()
        return "[" + ", ".join(as_yaml(one, item) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or '""'


def struct_fields(cls: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return info.fields
