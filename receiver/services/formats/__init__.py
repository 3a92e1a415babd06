"""How is one value of a settings file changed, and all the rest left as it is? One file a format.

A path is the keys from the outermost to the one that is meant. Every function takes the whole text
and returns the whole text; where the text is not understood, it raises ValueError with the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final, Protocol, cast

Path = Sequence[str]
Value = bool | int | float | str

ABSENT: Final = object()
"""What a path leads to that is not there."""


class Format(Protocol):
    def parse(self, text: str) -> dict[str, Any]:
        """Return what the text says."""

    def put(self, text: str, path: Path, value: Value) -> str:
        """Return the text with *value* at *path*; what leads there is made where it is missing."""

    def remove(self, text: str, path: Path) -> str:
        """Return the text without the key at *path*, which is there."""


def look_up(document: Mapping[str, Any], path: Path) -> Any:
    """Return what is at *path*, or ABSENT. Raises ValueError where plain values are in the way."""
    found: Any = document
    for depth, key in enumerate(path):
        if found is None:
            return ABSENT
        if not isinstance(found, Mapping):
            where = ".".join(path[:depth])
            raise ValueError(  # noqa: TRY004  the text is wrong, and not an argument
                f"{where} is no mapping but {str(found)[:40]!r}"
            )
        if key not in found:
            return ABSENT
        found = found[key]
    return found


def changed(document: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """Return a copy of *document* with *value* at *path*; or without the key, for ABSENT."""
    key, *rest = path
    copy = dict(document)
    if rest:
        copy[key] = changed(copy.get(key) or {}, rest, value)
    elif value is ABSENT:
        copy.pop(key, None)
    else:
        copy[key] = value
    return copy


def edit(form: Format, text: str, path: Path, value: Any) -> str:
    """Return *text* with *value* at *path*, or without it for ABSENT, and nothing else changed.

    That is not believed but seen: the result is read again. Raises ValueError when it is not so.
    """
    before = form.parse(text)
    wanted = changed(before, path, value)
    after = form.remove(text, path) if value is ABSENT else form.put(text, path, value)
    if form.parse(after) != wanted:
        raise ValueError(f"{'.'.join(path)} cannot be changed without changing more; do it by hand")
    return after


def format_named(name: str) -> Format:
    """Return yaml, json, toml or env; each is imported when it is needed."""
    from importlib import import_module  # noqa: PLC0415

    module: ModuleType = import_module(f"receiver.services.formats.{name}_text")
    return cast("Format", module)
