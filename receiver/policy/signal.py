"""What do Prometheus and Alertmanager say of an alert just now?"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Silencing(msgspec.Struct, frozen=True):
    """What Alertmanager says of an alert, just now."""

    by: str = ""
    """The silences that are for it; empty for none."""
    unknown: str = ""
    """Why it could not say; empty when it could."""


class Signal(StrEnum):
    """Does the alert's own expression still return its series? Asked of Prometheus just now."""

    FIRING = "firing"
    CLEARED = "cleared"
    """It does not, and the data behind it is there."""
    UNKNOWN = "unknown"
    """Nobody can say; a SignalDoubt says why."""


class SignalDoubt(StrEnum):
    """Why is it unknown whether the alert fires?"""

    NOBODY = "nobody"
    """No Prometheus is configured, so the notification is all there is."""
    BLIND = "blind"
    """Prometheus cannot be asked: no connection, no answer in time, no permission."""
    RULE = "rule"
    """Prometheus does not have the alert's rule, and no expression is one that may be asked."""
    VOUCHED = "vouched"
    """As `RULE`, but the alert is from the operator's own file."""
    ELSEWHERE = "elsewhere"
    """It was asked, and would send this alert with other labels: it is another Prometheus'."""
    DATA = "data"
    """It was asked, and its answer does not tell: data is missing, or it cannot be evaluated."""


class ConditionState(StrEnum):
    """The answer to a strategy's `when`."""

    NONE = "none"
    """The strategy has none."""
    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"
    """Prometheus did not answer."""
