"""What is being decided, by which configuration, and what its templates may name?"""

from __future__ import annotations

from typing import Any

import msgspec

from receiver.config.in_force import Config
from receiver.journal import Episode
from receiver.policy.alert import Alert
from receiver.policy.strategy import Strategy
from receiver.policy.target import Key
from receiver.template import Variables


class Case(msgspec.Struct, frozen=True):
    config: Config
    strategy: Strategy
    target: str

    @property
    def key(self) -> Key:
        return Key(self.strategy.name, self.target)


def variables(
    strategy: Strategy,
    target: str,
    episode: Episode,
    value: float | None,
    expression: str | None,
) -> Variables:
    """Return what templates may name: *value* is what *expression* returned for the alert."""
    return Variables(
        labels=episode.alert.labels,
        annotations=episode.alert.annotations,
        alert=about(episode.alert, expression),
        strategy=strategy.name,
        target=target,
        value=value,
    )


def about(alert: Alert, expression: str | None) -> dict[str, Any]:
    """Return what actions and templates may know of an alert, as JSON."""
    return {
        "fingerprint": alert.fingerprint,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "starts_at": alert.starts_at,
        "expression": expression,
    }


def target_labels(strategy: Strategy, labels: dict[str, str]) -> dict[str, str]:
    return {name: labels[name] for name in strategy.target} or labels
