"""What did Alertmanager say? Its version 4 notification as values, each alert judged alone.

The rules come from measuring Alertmanager 0.25 and reading 0.34 (docs/explanation/alertmanager.md):
the group's own `status` lies when alerts are mixed or truncated, so it is not read; unknown fields
are ignored; one bad alert is set aside and the others are served.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from receiver.errors import PayloadError
from receiver.policy.fingerprint import fingerprint
from receiver.policy.link import MAX_LINK, expression_of

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
    receiver: str = ""
    """As sent: Alertmanager escapes it as a regular expression."""
    group_key: str = ""
    external_url: str = ""
    """Which Alertmanager sent it, as it says; differs between HA peers."""
    user: str = ""
    """The authenticated sender; empty without authentication."""
    truncated: int = 0
    """Alerts that `max_alerts` cut off: they must be fetched from the sender."""


class _WireAlert(msgspec.Struct, rename="camel"):
    status: Status
    labels: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None = None
    annotations: dict[str, str] = {}
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str = ""


class _WireNotification(msgspec.Struct, rename="camel"):
    """What every Alertmanager sends. Its `version` adds nothing."""

    alerts: list[_WireAlert]
    receiver: str = ""
    group_key: str = ""
    external_url: str = msgspec.field(default="", name="externalURL")
    truncated_alerts: int = 0


_NOTHING: Final = msgspec.Raw(b"null")


class _LooseAlert(msgspec.Struct, rename="camel"):
    """The same alert; optional fields are unread, in case they have another type or are null."""

    status: Status
    labels: dict[str, str]
    starts_at: datetime
    ends_at: msgspec.Raw = _NOTHING
    annotations: msgspec.Raw = _NOTHING
    generator_url: msgspec.Raw = msgspec.field(default=_NOTHING, name="generatorURL")
    fingerprint: msgspec.Raw = _NOTHING


class _LooseNotification(msgspec.Struct, rename="camel"):
    """The same envelope; alerts and optional fields are unread."""

    alerts: list[msgspec.Raw]
    receiver: msgspec.Raw = _NOTHING
    group_key: msgspec.Raw = _NOTHING
    external_url: msgspec.Raw = msgspec.field(default=_NOTHING, name="externalURL")
    truncated_alerts: msgspec.Raw = _NOTHING


_decode_strictly: Final = msgspec.json.Decoder(_WireNotification).decode
_decode_loosely: Final = msgspec.json.Decoder(_LooseNotification).decode
_decode_alert: Final = msgspec.json.Decoder(_LooseAlert).decode

_EXPECTED: Final = (
    "expected Alertmanager's webhook body, version 4: "
    '{"version": "4", "alerts": [{"status": "firing", "labels": {…}, "startsAt": "…"}], …}'
)
_NEEDED: Final = (
    "an alert needs a status, which is firing or resolved, labels, and startsAt as "
    "2026-01-31T12:00:00Z"
)


def parse_notification(body: bytes) -> Notification:
    """Read one webhook body.

    Needed are `alerts`, and of each its `status`, `labels` and `startsAt`. All else may be missing,
    null or of another type. Raises PayloadError when there are no alerts to judge. A single bad
    alert does not: it is found in `quarantined`, and the others in `alerts`.
    """
    try:
        wire = _decode_strictly(body)
        long = len(body) > MAX_TEXT
        found = Notification(
            alerts=tuple([_judge(alert, long=long) for alert in wire.alerts]),
            receiver=wire.receiver,
            group_key=wire.group_key,
            external_url=wire.external_url,
            truncated=max(0, wire.truncated_alerts),
        )
    except (msgspec.ValidationError, ValueError):
        loose = _envelope(body)
        alerts, quarantined = _sort_out(loose.alerts)
        found = Notification(
            alerts=alerts,
            quarantined=quarantined,
            receiver=_text(loose.receiver),
            group_key=_text(loose.group_key),
            external_url=_text(loose.external_url),
            truncated=max(0, _read(loose.truncated_alerts, int, 0)),
        )
    except RecursionError:
        raise PayloadError(f"the JSON is nested too deeply; {_EXPECTED}") from None
    if len(found.alerts) + len(found.quarantined) > MAX_ALERTS:
        raise PayloadError(f"more than {MAX_ALERTS} alerts in one notification", status=413)
    return found


def _envelope(body: bytes) -> _LooseNotification:
    if not body.strip():
        raise PayloadError(f"the body is empty; {_EXPECTED}")
    if body.startswith(b"\xef\xbb\xbf"):
        raise PayloadError("the body starts with a byte order mark, which JSON does not allow")
    if body.lstrip()[:1] == b"[":
        raise PayloadError(
            f"the body is an array, as Alertmanager's event recorder or API v2 send it; {_EXPECTED}"
        )
    try:
        return _decode_loosely(body)
    except RecursionError:
        raise PayloadError(f"the JSON is nested too deeply; {_EXPECTED}") from None
    except msgspec.ValidationError as error:
        raise PayloadError(
            f"{error}; {_EXPECTED}. A custom `payload:` in Alertmanager's webhook_config replaces "
            "this body: remove it for promheal's receiver"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(f"the body is no JSON: {error}") from None


def _sort_out(raws: list[msgspec.Raw]) -> tuple[tuple[Alert, ...], tuple[Quarantined, ...]]:
    alerts: list[Alert] = []
    quarantined: list[Quarantined] = []
    for index, raw in enumerate(raws):
        try:
            alerts.append(_judge(_leniently(raw), long=True))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            remedy = f"; {_NEEDED}" if isinstance(error, msgspec.DecodeError) else ""
            quarantined.append(
                Quarantined(
                    problem=f"alerts[{index}]: {error}{remedy}",
                    raw=bytes(raw)[:4096].decode("utf-8", "replace"),
                )
            )
    return tuple(alerts), tuple(quarantined)


def _leniently(raw: msgspec.Raw) -> _WireAlert:
    """Read an alert, and of its optional fields those that can be read."""
    loose = _decode_alert(raw)
    annotations = {
        name: _text(value)
        for name, value in _read(loose.annotations, dict[str, msgspec.Raw], {}).items()
        if bytes(value) != b"null"
    }
    return _WireAlert(
        status=loose.status,
        labels=loose.labels,
        starts_at=loose.starts_at,
        ends_at=_read(loose.ends_at, datetime, None),
        annotations=annotations,
        generator_url=_text(loose.generator_url),
        fingerprint=_text(loose.fingerprint),
    )


def _read(raw: msgspec.Raw, kind: type[T], default: U) -> T | U:
    """Return an optional field, or *default* when it has another type."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return default


def _text(raw: msgspec.Raw) -> str:
    """Return a text, or a number as one: the groupKey of version 3 was one."""
    said = bytes(raw)
    return _read(raw, str, said.decode() if said[:1].isdigit() else "")


def _judge(wire: _WireAlert, *, long: bool) -> Alert:
    """Return the alert, or raise ValueError saying what is wrong with it.

    *long*: one of its values may be longer than is allowed, since the body is.
    """
    labels = wire.labels
    if not labels:
        raise ValueError("an alert without labels cannot be told from another")
    if len(labels) > MAX_LABELS:
        raise ValueError(f"{len(labels)} labels; at most {MAX_LABELS} are read")
    if long:
        _refuse_long_values(labels)
        _refuse_long_values(wire.annotations)
    if "" in labels:
        raise ValueError("a label has no name")
    if wire.starts_at.tzinfo is None:
        raise ValueError("startsAt has no time zone")
    resolved = wire.status is Status.RESOLVED
    starts_at = wire.starts_at.timestamp()
    ends_at = None
    if resolved:
        # A sender that leaves endsAt out still says that it ended; it cannot end before it began.
        ends_at = starts_at
        if wire.ends_at is not None and wire.ends_at.tzinfo is not None:
            ends_at = max(starts_at, wire.ends_at.timestamp())
    known = _FINGERPRINT.fullmatch(wire.fingerprint)
    return Alert(
        fingerprint=wire.fingerprint if known else fingerprint(labels),
        status=wire.status,
        labels=labels,
        annotations=wire.annotations,
        starts_at=starts_at,
        ends_at=ends_at,
        generator_url=_link(wire.generator_url),
    )


def _link(url: str) -> str:
    """Return a link that can be stored: SQL text ends at a NUL, and longer ones are never read."""
    return "" if len(url) > MAX_LINK else url.replace("\0", "")


def _refuse_long_values(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if len(value) > MAX_TEXT:
            raise ValueError(f"the value of {name[:64]!r} is longer than {MAX_TEXT} characters")
