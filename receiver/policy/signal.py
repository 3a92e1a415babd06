"""What do Prometheus and Alertmanager say of an alert just now?"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Silencing(msgspec.Struct, frozen=True):
    """What Alertmanager says of an alert, just now."""

    by: str = ""
    """The silences that are for it; empty for none."""
    unknown: str = ""
    """Why it could not say; empty when it could."""


class Signal(StrEnum):
    """Does the alert's own expression still return its series, by Prometheus' answer just now?"""

    FIRING = "firing"
    CLEARED = "cleared"
    """It does not, and the data behind it is there."""
    UNKNOWN = "unknown"
    """It cannot be told; a SignalDoubt says why."""


class SignalDoubt(StrEnum):
    """Why is it unknown whether the alert fires?"""

    NOBODY = "nobody"
    """No Prometheus is configured, so the notification is all there is."""
    BLIND = "blind"
    """Prometheus cannot be asked: no connection, no answer in time, no permission."""
    RULE = "rule"
    """Prometheus does not have the alert's rule, and there is no other expression to trust."""
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


class UpstreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What upstream answered about one alert."""

    signal: Signal
    doubt: SignalDoubt
    """Why, if the signal is unknown."""
    condition: ConditionState
    detail: str
    """What Prometheus answered, for the operator."""
    suspect: str
    """Why the monitoring may be broken and not the target; empty if it is not."""
    silencing: Silencing


UNASKED: Final = UpstreamState(
    signal=Signal.UNKNOWN,
    doubt=SignalDoubt.DATA,
    condition=ConditionState.NONE,
    detail="",
    suspect="",
    silencing=Silencing(),
)
OPTIMISTIC: Final = msgspec.structs.replace(
    UNASKED, signal=Signal.FIRING, condition=ConditionState.TRUE
)
"""The answer under which everything upstream allows acting."""
