"""Reads a file of alerts: Alertmanager's own payload, or readings of a metric."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.errors import ConfigError, PayloadError
from receiver.policy.alert import Alert, Notification, Status
from receiver.policy.fingerprint import fingerprint
from receiver.policy.payload import parse_notification

MAX_SIZE: Final = 8 * 1024 * 1024  # bytes


class AlertFile(msgspec.Struct, frozen=True):
    notification: Notification
    said_at: float
    """When it was reported, seconds since the epoch: the reading's timestamp, or the file's mtime,
    since Alertmanager's payload does not say when it was sent."""


def read_alert_file(path: Path) -> AlertFile:
    """Read a file of alerts.

    It holds Alertmanager's webhook payload, version 4, or
    `{"timestamp", "metric", "value", "severity", …}`, or a list of such readings, in which every
    other text field becomes a label. Raises ConfigError with the place and the remedy.
    """
    try:
        body = path.read_bytes()
        said_at = path.stat().st_mtime
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(body) > MAX_SIZE:
        raise ConfigError(f"{path}: larger than {MAX_SIZE} bytes")
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: no JSON: {error}") from None
    readings = content if isinstance(content, list) else [content]
    if readings and all(isinstance(one, dict) and "metric" in one for one in readings):
        alerts = tuple(_alert(path, one) for one in readings)
        return AlertFile(Notification(alerts=alerts), min(alert.starts_at for alert in alerts))
    try:
        return AlertFile(parse_notification(body), said_at)
    except PayloadError as error:
        raise ConfigError(
            f'{path}: {error}; or {{"timestamp": "2026-01-31T12:00:00Z", "metric": "HighCPU", '
            '"value": 0.95, "severity": "critical", "service": "checkout"}'
        ) from None


def _alert(path: Path, reading: Mapping[str, Any]) -> Alert:
    if not isinstance(reading["metric"], str):
        raise ConfigError(f"{path}: metric: write a name, as HighCPU")
    labels = {
        name: text if isinstance(text, str) else str(text)
        for name, text in reading.items()
        if name not in {"timestamp", "value"} and isinstance(text, (str, int, float, bool))
    }
    labels.setdefault("alertname", labels["metric"])
    value = reading.get("value")
    return Alert(
        fingerprint=fingerprint(labels),
        status=Status.FIRING,
        labels=labels,
        annotations={} if value is None else {"value": str(value)},
        starts_at=_time(path, reading.get("timestamp")),
        ends_at=None,
    )


def _time(path: Path, text: object) -> float:
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        raise ConfigError(
            f"{path}: timestamp {text!r}: write 2026-01-31T12:00:00Z or seconds since the epoch"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
