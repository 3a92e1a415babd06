"""The named queries of `queries*.sql`: Python holds no SQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT: Final = re.compile(r"^ *--.*\n|  +--.*$", re.MULTILINE)
_PARAMETER: Final = re.compile(r"(?<!:):(\w+)")


@cache
def queries(dialect: str) -> Mapping[str, str]:
    """Return the text of each query by its name: `sqlite` with `:name`, `postgres` with `%(name)s`.

    What is said in its own way has precedence over what both understand.
    """
    found = {**_read("queries.sql"), **_read(f"queries_{dialect}.sql")}
    if dialect == "postgres":
        return {
            name: _PARAMETER.sub(r"%(\1)s", _COMMENT.sub("", text)) for name, text in found.items()
        }
    return found


def _read(file: str) -> dict[str, str]:
    text = files("receiver.journal").joinpath(file).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    found = dict(zip(parts[::2], (body.strip() for body in parts[1::2]), strict=True))
    assert len(found) == len(parts) // 2, f"two queries of {file} share a name"
    return found
