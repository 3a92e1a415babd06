"""How is a target named? `service="checkout"`: the labels that make it up, with their values.

Values are quoted as in JSON, so that matchers read the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import msgspec

FINGERPRINT: Final = "fingerprint"
"""Names the target of a strategy without `target`: each alert is its own."""
LABEL: Final = r"""[^\s{}!=~,\\"'`]+"""
"""The label names that matchers read without quotes, so that a target reads as a matcher."""
_NAME: Final = re.compile(LABEL)
_PART: Final = re.compile(rf'({LABEL})=("(?:[^"\\]|\\.)*")(?:,|\Z)')


def _label(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no label's name; write for example service")
    return text


LabelName = Annotated[
    str,
    msgspec.Meta(
        extra={"type": "label name", "parse": _label}, extra_json_schema={"pattern": f"^{LABEL}$"}
    ),
]


class Key(NamedTuple):
    """What is decided on: a strategy on a target."""

    strategy: str
    target: str


def name_of(labels: Mapping[str, str]) -> str:
    """Return the name of the target that *labels* make up, in their order."""
    return ",".join(
        f"{label}={msgspec.json.encode(value).decode()}" for label, value in labels.items()
    )


def labels_of(name: str) -> dict[str, str] | None:
    """Return the labels that make up a target; None for a text that is no target's name."""
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
