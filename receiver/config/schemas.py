"""What may an editor complete and underline? JSON Schemas of the three configuration files.

They are made from the types that config_files.py reads, and describe YAML as it reads them: a
duration is a text there, though a number in memory, which msgspec's own schemas would say. What a
field means is told by the docstring below it.
"""

from __future__ import annotations

import ast
import inspect as source
import json
import sys
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from receiver.actions import Actions, discover
from receiver.config.strategies import NAME
from receiver.errors import ConfigError
from receiver.policy.duration import Duration, format_duration, parse_duration
from receiver.policy.matcher_syntax import MatcherText
from receiver.policy.strategy import Strategy
from receiver.policy.target import LABEL
from receiver.services import Health, HostLabel, Llm, LogPath, RunsOn
from receiver.services.caches import CACHES
from receiver.services.managers import MANAGERS
from receiver.services.queues import QUEUES
from receiver.services.settings_file import SettingsFile
from receiver.services.workers.kinds import WORKERS
from receiver.settings import Settings
from receiver.snapshots import Snapshot

Schema = dict[str, Any]

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
    return {
        "promheal": _file("promheal.yml", _struct(Settings)),
        "services": _file("services.yml", _section("services", _service(managers))),
        "healing_strategies": _file(
            "healing_strategies.yml",
            _section("strategies", _strategy(actions), propertyNames={"pattern": f"^{NAME}$"}),
        ),
        "snapshot": _file("snapshots/RUN-STEP.json.gz", _struct(Snapshot)),
    }


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


def _service(managers: Mapping[str, type[msgspec.Struct]]) -> Schema:
    manager = {
        "type": "object",
        "properties": {name: _struct(cls) for name, cls in managers.items()},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    properties = {
        "manager": manager,
        "health": _optional(_struct(Health)),
        "workers": _optional(
            {"anyOf": [_tagged("scale", name, _struct(cls)) for name, cls in WORKERS.items()]}
        ),
        "settings": _optional(_struct(SettingsFile)),
        "llm": _optional(_struct(Llm)),
        "cache": _optional({"anyOf": [_struct(cls) for cls in CACHES.values()]}),
        "queue": _optional({"anyOf": [_struct(cls) for cls in QUEUES.values()]}),
        "logs": _optional(_of(LogPath)),
        "runs_on": _optional({"anyOf": [_of(RunsOn), _struct(HostLabel)]}),
    }
    return _object(properties, ["manager"])


def _tagged(tag: str, name: str, schema: Schema) -> Schema:
    """Return the schema of a struct that is told by *tag* being *name*."""
    return _object(
        {tag: {"const": name}, **schema["properties"]}, [tag, *schema.get("required", ())]
    )


def _strategy(actions: Actions) -> Schema:
    schema = _struct(Strategy, omit=("name", "actions"))
    properties = schema["properties"]
    properties["match"]["minItems"] = 1
    properties["target"]["items"]["pattern"] = f"^{LABEL}$"
    steps = [_step(name, actions) for name in actions.names]
    properties["actions"] = {"type": "array", "minItems": 1, "items": {"anyOf": steps}}
    schema["required"] = [*schema.get("required", ()), "actions"]
    return schema


def _step(name: str, actions: Actions) -> Schema:
    action = actions.get(name)
    params = _struct(action.Params)
    own: Schema = {
        "action": {"const": name},
        "if": {
            "type": "array",
            "items": _of(MatcherText),
            "description": "The step is skipped unless the alert has these labels.",
        },
        "timeout": {**_of(Duration), "default": format_duration(action.timeout)},
    }
    step = _object(
        {"action": own.pop("action"), **params["properties"], **own},
        ["action", *params.get("required", ())],
    )
    doc = type(action).__doc__
    return {"description": _words(doc), **step} if doc else step


def _struct(cls: type[msgspec.Struct], *, omit: tuple[str, ...] = ()) -> Schema:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    docs = _field_docs(cls)
    properties: Schema = {}
    required = []
    for field in info.fields:
        if field.name in omit:
            continue
        schema = _schema(field.type)
        if field.name in docs:
            schema = {"description": docs[field.name], **schema}
        default = _default(field)
        if default is not None:
            schema["default"] = default
        properties[field.encode_name] = schema
        if field.required:
            required.append(field.encode_name)
    return _object(properties, required)


def _default(field: inspect.Field) -> Any:
    """Return a default as YAML writes it; of collections and of nothing, none."""
    value = field.default
    if not isinstance(value, str | bool | int | float):
        return None
    extra = field.type.extra if isinstance(field.type, inspect.Metadata) else None
    if extra and extra.get("parse") is parse_duration:
        return format_duration(float(value))
    return str(value) if isinstance(value, str) else value


def _of(type_: Any) -> Schema:
    return _schema(inspect.type_info(type_))


def _schema(info: inspect.Type) -> Schema:  # noqa: C901, PLR0911, PLR0912  a case a type
    match info:
        case inspect.Metadata():
            extra = info.extra_json_schema or {}
            if "parse" in (info.extra or {}):
                return {"type": "string", **extra}
            return {**_schema(info.type), **extra}
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
            return {"type": "array", "items": _schema(info.item_type), **_limits(info, "Items")}
        case inspect.DictType():
            values = _schema(info.value_type)
            return {"type": "object", "additionalProperties": values, **_limits(info, "Properties")}
        case inspect.StructType():
            return _struct(info.cls)
        case inspect.UnionType():
            rest = [option for option in info.types if not isinstance(option, inspect.NoneType)]
            if len(rest) == 1:
                return _optional(_schema(rest[0]))
        case inspect.AnyType():
            return {}
        case _:
            pass
    raise ConfigError(f"there is no schema of a parameter of type {info}")


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


@cache
def _field_docs(cls: type[msgspec.Struct]) -> dict[str, str]:
    """Return the docstrings below the fields of a struct, which Python itself forgets."""
    docs: dict[str, str] = {}
    for base in cls.__bases__:
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            docs |= _field_docs(base)
    tree = ast.parse(textwrap.dedent(source.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(doc))
            ):
                docs[name] = _words(doc)
            case _:
                pass
    return docs


def _words(doc: str) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(doc.split("\n\n", maxsplit=1)[0].split())


def write_schemas(folder: Path, actions: Actions) -> None:
    """Write `NAME.schema.json` of each file into *folder*."""
    for name, schema in schemas(actions).items():
        path = folder / f"{name}.schema.json"
        path.write_text(render_schema(schema), encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]), discover())
