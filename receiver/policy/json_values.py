"""How many values are in a JSON text? Counted without decoding it, and without taking memory."""

from __future__ import annotations

import re
from typing import Final

_WINDOW: Final = 65_536
"""Bytes that are looked at together, so that counting takes no memory."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A JSON string, or what has begun as one and has no end: so it takes linear time."""
_TOKENS: Final = re.compile(rb'(?:[^"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)


def values_in(written: bytes) -> int:
    """Return how many values a JSON text has, but for its containers: commas outside of strings."""
    count = start = 0
    while start < len(written):
        tokens = _TOKENS.match(written, start, start + _WINDOW)
        assert tokens is not None  # it may be empty
        end = tokens.end()
        if end == start:  # a string that is longer than the window
            string = _STRING.match(written, start)
            assert string is not None
            end = string.end()
        count += _STRING.sub(b"", written[start:end]).count(b",")
        start = end
    return count
