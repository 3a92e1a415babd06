"""An alert as Alertmanager sees it, and the notification that it came in."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from receiver.policy.link import expression_of

MAX_ALERTS: Final = 100_000
"""A notification with more alerts is refused."""
MAX_LABELS: Final = 256
"""Labels of one alert; Prometheus' own default limits are far below."""
MAX_TEXT: Final = 65_536
"""Characters of one label's or annotation's value."""

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")

T = TypeVar("T")
U = TypeVar("U")


class Status(StrEnum):
    FIRING = "firing"
    RESOLVED = "resolved"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert as Alertmanager sees it."""

    fingerprint: str
    """16 hexadecimal digits over the labels: the same for every episode and every HA peer."""
    status: Status
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: float
    """Seconds since the epoch at which this episode began to fire; peers may disagree a little."""
    ends_at: float | None
    """Seconds since the epoch; None while it fires."""
    generator_url: str = ""

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")

    @property
    def expression(self) -> str | None:
        """The rule's PromQL as the sender's link gives it; it proves nothing."""
        return expression_of(self.generator_url)


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that could not be read, kept as evidence."""

    problem: str
    """What is wrong with it, and where."""
    raw: str
    """The JSON as it came, cut to 4,096 characters."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook POST."""

    alerts: tuple[Alert, ...]
    quarantined: tuple[Quarantined, ...] = ()
    """Those that could not be read, as far as they are kept."""
    set_aside: int = 0
    """How many could not be read."""
    receiver: str = ""
    """As sent: Alertmanager escapes it as a regular expression."""
    group_key: str = ""
    external_url: str = ""
    """Which Alertmanager sent it, as it says; differs between HA peers."""
    user: str = ""
    """The authenticated sender; empty without authentication."""
    truncated: int = 0
    """Alerts that `max_alerts` cut off: they must be fetched from the sender."""
