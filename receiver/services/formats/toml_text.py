"""TOML 1.0, through tomlkit, which keeps comments, order and spelling."""

from __future__ import annotations

import tomllib
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from receiver.services.formats import Path, Value


def parse(text: str) -> dict[str, Any]:
    return tomllib.loads(text)  # TOMLDecodeError is a ValueError, and says where


def put(text: str, path: Path, value: Value) -> str:
    document = _document(text)
    inner: Any = document
    for key in path[:-1]:
        if key not in inner:
            inner[key] = tomlkit.table()
        inner = inner[key]
    inner[path[-1]] = value
    return tomlkit.dumps(document)


def remove(text: str, path: Path) -> str:
    document = _document(text)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return tomlkit.dumps(document)


def _document(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise ValueError(str(error)) from None
