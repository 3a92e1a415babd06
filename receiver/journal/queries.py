"""The named queries of `queries.sql`: Python holds no SQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def queries() -> Mapping[str, str]:
    """Return the text of each query by its name."""
    text = files("receiver.journal").joinpath("queries.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    found = dict(zip(parts[::2], (body.strip() for body in parts[1::2]), strict=True))
    assert len(found) == len(parts) // 2, "two queries share a name"
    return found
