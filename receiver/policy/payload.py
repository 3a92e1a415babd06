"""Reads a webhook body: Alertmanager's notification, version 4, each alert judged alone.

The rules come from measuring Alertmanager 0.25 and reading 0.34 (docs/explanation/alertmanager.md):
the group's own `status` lies when alerts are mixed or truncated, so it is not read; unknown fields
are ignored; one bad alert is set aside and the others are served. What a body decodes to is bounded
by its size: many tiny values take far more memory than the bytes that they are written in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from receiver.errors import PayloadError
from receiver.policy.alert import Alert, Notification, Quarantined, Status
from receiver.policy.fingerprint import fingerprint
from receiver.policy.json_values import values_in
from receiver.policy.link import MAX_LINK

MAX_ALERTS: Final = 100_000
"""More in one notification is refused: Alertmanager groups are bounded by what one can read."""
MAX_LABELS: Final = 256
"""Labels of one alert, and annotations; Prometheus' own default limits are far below."""
MAX_NAME: Final = 1_024
"""Characters of the name of a label or an annotation."""
MAX_TEXT: Final = 65_536
"""Characters of one label's or annotation's value, and of a body that is read without counting."""
MAX_ALERT: Final = 262_144
"""Characters of all names and values of one alert, so that a page of them fits into memory; as many
as Kubernetes allows the annotations of an object."""
MAX_EVIDENCE: Final = 100
"""Alerts of one notification that are kept when they are set aside; all are counted."""

_FEWEST: Final = 8
"""Bytes for each value: a label of one character with a value of one takes so many."""
_LARGE: Final = 1 << 20
"""Bytes from which on a body needs more for each value: what is decoded takes up to 140 for one."""
_FEWEST_OF_LARGE: Final = 20
_TIGHT: Final = 24
"""Bytes for each value below which alerts are decoded one by one; Alertmanager's have some 35."""

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")
T = TypeVar("T")
U = TypeVar("U")


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
    null or of another type. Raises PayloadError when there are no alerts to judge, or more than is
    read. A single bad alert is counted in `set_aside`, and the others are in `alerts`.
    """
    if _is_tight(body):
        return _one_by_one(body)
    long = len(body) > MAX_NAME
    try:
        wire = _decode_strictly(body)
        _refuse_more(len(wire.alerts))
        return Notification(
            alerts=tuple([_judge(alert, long=long) for alert in wire.alerts]),
            receiver=wire.receiver,
            group_key=wire.group_key,
            external_url=wire.external_url,
            truncated=max(0, wire.truncated_alerts),
        )
    except (msgspec.ValidationError, ValueError):
        return _one_by_one(body)
    except RecursionError:
        raise PayloadError(f"the JSON is nested too deeply; {_EXPECTED}") from None


def _one_by_one(body: bytes) -> Notification:
    """Read the alerts one after the other: what is wrong, or large, is undone before the next."""
    loose = _envelope(body)
    _refuse_more(len(loose.alerts))
    alerts: list[Alert] = []
    evidence: list[Quarantined] = []
    for index, raw in enumerate(loose.alerts):
        try:
            _refuse_many_values(raw)
            alerts.append(_judge(_leniently(raw), long=True))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            if len(evidence) < MAX_EVIDENCE:
                evidence.append(_set_aside(index, raw, error))
    return Notification(
        alerts=tuple(alerts),
        quarantined=tuple(evidence),
        set_aside=len(loose.alerts) - len(alerts),
        receiver=_text(loose.receiver),
        group_key=_text(loose.group_key),
        external_url=_text(loose.external_url),
        truncated=max(0, _read(loose.truncated_alerts, int, 0)),
    )


def _set_aside(index: int, raw: msgspec.Raw, error: Exception) -> Quarantined:
    remedy = f"; {_NEEDED}" if isinstance(error, msgspec.DecodeError) else ""
    return Quarantined(
        problem=f"alerts[{index}]: {error}{remedy}",
        raw=bytes(raw)[:4096].decode("utf-8", "replace"),
    )


def _is_tight(body: bytes) -> bool:
    """Return whether a body holds many values for its size.

    Raises PayloadError for more than any alert can be written with.
    """
    if len(body) <= MAX_TEXT or body.count(b",") * _TIGHT <= len(body):
        return False
    values = values_in(body)
    fewest = _FEWEST if len(body) <= _LARGE else _FEWEST_OF_LARGE
    if values * fewest > len(body):
        raise PayloadError(
            f"{values} values in {len(body)} bytes, which are no alerts; {_EXPECTED}", status=413
        )
    return values * _TIGHT > len(body)


def _refuse_more(alerts: int) -> None:
    if alerts > MAX_ALERTS:
        raise PayloadError(f"more than {MAX_ALERTS} alerts in one notification", status=413)


def _refuse_many_values(raw: msgspec.Raw) -> None:
    """Raise ValueError for an alert that has more values than its labels and annotations may be."""
    written = bytes(raw)
    if len(written) > MAX_TEXT and (values := values_in(written)) > 4 * MAX_LABELS:
        raise ValueError(f"it has {values} values; at most {MAX_LABELS} labels are read")


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

    *long*: one of its names or values may be longer than is allowed, since the body is.
    """
    labels = wire.labels
    if not labels:
        raise ValueError("an alert without labels cannot be told from another")
    for values, kind in ((labels, "labels"), (wire.annotations, "annotations")):
        if len(values) > MAX_LABELS:
            raise ValueError(f"{len(values)} {kind}; at most {MAX_LABELS} are read")
    if long and _length(labels) + _length(wire.annotations) > MAX_ALERT:
        raise ValueError(f"its names and values are longer than {MAX_ALERT} characters together")
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


def _length(values: Mapping[str, str]) -> int:
    """Return how many characters names and values have together, each of which may have so many."""
    for name, value in values.items():
        if len(name) > MAX_NAME:
            raise ValueError(f"the name {name[:64]!r}… is longer than {MAX_NAME} characters")
        if len(value) > MAX_TEXT:
            raise ValueError(f"the value of {name[:64]!r} is longer than {MAX_TEXT} characters")
    return sum(map(len, values)) + sum(map(len, values.values()))
