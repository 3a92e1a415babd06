"""JSON Schemas of the configuration files, for editors to complete and check.

They are made from the structs that files.py reads, and describe YAML as it reads them: a
duration is a text there, though a number in memory, which msgspec's own schemas would say. The
docstring of a field is its description.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from receiver.actions import Action, Actions, discover
from receiver.config.fields import as_yaml, field_docs, first_paragraph, without_links
from receiver.config.kinds import Schema, service_kinds
from receiver.config.strategies import NAME
from receiver.errors import ConfigError
from receiver.policy.duration import format_duration
from receiver.policy.strategy import StepKeys, StepSpec, Strategy
from receiver.services import Service
from receiver.services.managers import MANAGERS
from receiver.settings import Settings
from receiver.snapshots import Snapshot

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"  # what editors of YAML know best
_LIMITS: Final = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "pattern": "pattern",
}


def schemas(
    actions: Actions, managers: Mapping[str, type[msgspec.Struct]] = MANAGERS
) -> dict[str, Schema]:
    """Return the schema of each file by the file's name without its ending."""
    own: dict[type, Callable[[_Schemas], Schema]] = {StepSpec: _steps(actions)}
    for part, kinds in service_kinds(managers).items():
        own[part] = lambda of, kinds=kinds: kinds.schema(of.struct)  # type: ignore[misc]
    of = _Schemas(own)
    service, strategy = (of.struct(cls, omit=("name",)) for cls in (Service, Strategy))
    return {
        "promheal": _file("promheal.yml", of.struct(Settings)),
        "services": _file("services.yml", _section("services", service)),
        "healing_strategies": _file(
            "healing_strategies.yml",
            _section("strategies", strategy, propertyNames={"pattern": f"^{NAME}$"}),
        ),
        "snapshot": _file("snapshots/RUN-STEP.json.gz", of.struct(Snapshot)),
    }


def file_schema(
    title: str, cls: type[msgspec.Struct], own: Mapping[type, Schema] | None = None
) -> Schema:
    """Return the schema of a file that *cls* describes; *own* are those of types it cannot say."""
    given: dict[type, Callable[[_Schemas], Schema]] = {}
    for part, schema in (own or {}).items():
        given[part] = lambda _, schema=schema: schema  # type: ignore[misc]
    return _file(title, _Schemas(given).struct(cls))


def render_schema(schema: Schema) -> str:
    """Return the text of a schema's file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _file(title: str, schema: Schema) -> Schema:
    return {"$schema": _DIALECT, "title": title, **schema}


def _section(name: str, entry: Schema, **more: Any) -> Schema:
    return _object({name: {"type": "object", **more, "additionalProperties": entry}}, [name])


def _object(properties: Schema, required: list[str]) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False
    return schema


class _Schemas:
    """The schemas of types. *own* gives those of classes whose fields do not say it."""

    def __init__(self, own: Mapping[type, Callable[[_Schemas], Schema]]) -> None:
        self._own = own

    def of(self, type_: Any) -> Schema:
        return self._of(inspect.type_info(type_))

    def struct(self, cls: type[msgspec.Struct], *, omit: tuple[str, ...] = ()) -> Schema:
        info = inspect.type_info(cls)
        assert isinstance(info, inspect.StructType)
        docs = field_docs(cls)
        properties: Schema = {}
        required = []
        for field in info.fields:
            if field.name in omit:
                continue
            schema = self._of(field.type)
            if field.name in docs:
                schema = {"description": without_links(docs[field.name]), **schema}
            default = _default(field)
            if default is not None:
                schema["default"] = default
            properties[field.encode_name] = schema
            if field.required:
                required.append(field.encode_name)
        return _object(properties, required)

    def _of(self, info: inspect.Type) -> Schema:  # noqa: C901, PLR0911, PLR0912  a case a type
        match info:
            case inspect.Metadata():
                extra = info.extra_json_schema or {}
                if "parse" in (info.extra or {}):
                    return {"type": "string", **extra}
                return {**self._of(info.type), **extra}
            case inspect.StrType():
                return {"type": "string", **_limits(info, "Length")}
            case inspect.BoolType():
                return {"type": "boolean"}
            case inspect.IntType():
                return {"type": "integer", **_limits(info)}
            case inspect.FloatType():
                return {"type": "number", **_limits(info)}
            case inspect.EnumType():
                return {"enum": [member.value for member in info.cls]}
            case inspect.LiteralType():
                return {"enum": list(info.values)}
            case inspect.VarTupleType() | inspect.ListType():
                items = self._of(info.item_type)
                return {"type": "array", "items": items, **_limits(info, "Items")}
            case inspect.DictType():
                return {
                    "type": "object",
                    "additionalProperties": self._of(info.value_type),
                    **_limits(info, "Properties"),
                }
            case inspect.StructType() | inspect.CustomType() if info.cls in self._own:
                return self._own[info.cls](self)
            case inspect.StructType():
                return self.struct(info.cls)
            case inspect.UnionType():
                rest = [each for each in info.types if not isinstance(each, inspect.NoneType)]
                found = [self._of(each) for each in rest]
                schema = found[0] if len(found) == 1 else {"anyOf": found}
                return _optional(schema) if len(rest) < len(info.types) else schema
            case inspect.AnyType():
                return {}
            case _:
                pass
        raise ConfigError(f"there is no schema of a parameter of type {info}")


def _steps(actions: Actions) -> Callable[[_Schemas], Schema]:
    """Return what gives the schema of a step: the keys of every one, and its action's own."""

    def steps(schemas: _Schemas) -> Schema:
        return {"anyOf": [_step(actions.get(name), schemas) for name in actions.names]}

    return steps


def _step(action: Action, schemas: _Schemas) -> Schema:
    keys, params = schemas.struct(StepKeys), schemas.struct(action.Params)
    own = {**keys["properties"], "action": {"const": action.name}}
    own["timeout"] = {**own["timeout"], "default": format_duration(action.timeout)}
    step = _object(
        {"action": own["action"], **params["properties"], **own},
        [*keys["required"], *params.get("required", ())],
    )
    doc = type(action).__doc__
    return {"description": without_links(first_paragraph(doc)), **step} if doc else step


def _default(field: inspect.Field) -> Any:
    """Return a default as YAML writes it; of collections and of nothing, none."""
    value = field.default
    if not isinstance(value, str | bool | int | float):
        return None
    if isinstance(value, str):
        return str(value)
    return as_yaml(value, field.type) if isinstance(value, float) else value


def _optional(schema: Schema) -> Schema:
    kind = schema.get("type")
    if isinstance(kind, str):
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _limits(info: inspect.Type, counted: str = "") -> Schema:
    names = {**_LIMITS, "min_length": f"min{counted}", "max_length": f"max{counted}"}
    return {
        keyword: limit
        for name, keyword in names.items()
        if (limit := getattr(info, name, None)) is not None
    }


def write_schemas(folder: Path, actions: Actions) -> None:
    """Write `NAME.schema.json` of each file into *folder*."""
    for name, schema in schemas(actions).items():
        path = folder / f"{name}.schema.json"
        path.write_text(render_schema(schema), encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]), discover())
