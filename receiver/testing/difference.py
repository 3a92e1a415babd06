"""How what is expected and what came differ."""

from __future__ import annotations

import msgspec


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    expected: tuple[str, ...]
    """A line each."""
    got: tuple[str, ...]
    why: tuple[str, ...] = ()
    """What each guard answered, and what else explains it."""
