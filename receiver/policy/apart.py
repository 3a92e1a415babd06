"""How do the alerts of one target differ? By the labels that they do not share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from receiver.policy.matcher import Matcher, MatchOp

_LENGTH: Final = 160
"""Characters of one name."""


def apart(alerts: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a name for each of the label sets: `instance="b"`, the same labels for all.

    One alone has its alertname.
    """
    if len(alerts) == 1:
        return [alerts[0].get("alertname", "")]
    every = {name for labels in alerts for name in labels}
    differing = sorted(name for name in every if len({one.get(name) for one in alerts}) > 1)
    return [
        _shortened(
            ", ".join(str(Matcher(n, MatchOp.EQUAL, one[n])) for n in differing if n in one)
            or "the one without these labels"
        )
        for one in alerts
    ]


def _shortened(name: str) -> str:
    return name if len(name) <= _LENGTH else f"{name[: _LENGTH - 1]}…"
