"""What is healed, by its name? `service="checkout"`: the labels that make it up, with their values.

A name is what matchers read alike, whose values are written as JSON has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

FINGERPRINT: Final = "fingerprint"
"""What names a target where each alert is its own."""
LABEL: Final = r"""[^\s{}!=~,\\"'`]+"""
"""What may name a label: what a matcher reads without quotes, so that a target reads as one."""
_PART: Final = re.compile(rf'({LABEL})=("(?:[^"\\]|\\.)*")(?:,|\Z)')


class Key(NamedTuple):
    """What is considered: a strategy on a target."""

    strategy: str
    target: str


def name_of(labels: Mapping[str, str]) -> str:
    """Return the name of the target that *labels* make up, in their order."""
    return ",".join(
        f"{label}={msgspec.json.encode(value).decode()}" for label, value in labels.items()
    )


def labels_of(name: str) -> dict[str, str] | None:
    """Return the labels that make up a target; None for a text that names none."""
    labels: dict[str, str] = {}
    at = 0
    while part := _PART.match(name, at):
        try:
            value = msgspec.json.decode(part[2], type=str)
        except msgspec.DecodeError:
            return None
        if part[1] in labels:
            return None
        labels[part[1]] = value
        at = part.end()
    return labels if labels and at == len(name) and not name.endswith(",") else None
