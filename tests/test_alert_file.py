from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from receiver.cli.alert_file import read_alert_file
from receiver.errors import ConfigError
from receiver.policy.fingerprint import fingerprint


def written(folder: Path, content: Any) -> Path:
    path = folder / "alerts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_payload_of_alertmanager_is_as_old_as_its_file(tmp_path: Path) -> None:
    path = written(tmp_path, Path("tests/payloads/grouped_50_firing.json").read_text())
    os.utime(path, (1000, 1000))

    found = read_alert_file(path)

    assert (len(found.notification.alerts), found.said_at) == (50, 1000)


def test_a_reading_becomes_an_alert(tmp_path: Path) -> None:
    reading = {
        "timestamp": "2026-11-22T12:00:00Z", "metric": "HighCPU", "value": 0.95,
        "severity": "critical", "service": "checkout", "shard": 3, "nested": {"not": "a label"},
    }  # fmt: skip

    found = read_alert_file(written(tmp_path, reading))

    (alert,) = found.notification.alerts
    assert alert.labels == {
        "alertname": "HighCPU", "metric": "HighCPU", "severity": "critical",
        "service": "checkout", "shard": "3",
    }  # fmt: skip
    assert (alert.starts_at, found.said_at) == (1_795_348_800.0, 1_795_348_800.0)
    assert alert.annotations == {"value": "0.95"}
    assert alert.fingerprint == fingerprint(alert.labels)


def test_several_readings_are_as_old_as_the_oldest(tmp_path: Path) -> None:
    readings = [
        {"timestamp": 2000, "metric": "A", "alertname": "Named"},
        {"timestamp": 1000.5, "metric": "B"},
        {"timestamp": "1970-01-01T01:00:00", "metric": "C"},
    ]

    found = read_alert_file(written(tmp_path, readings))

    assert found.said_at == 1000.5
    assert [alert.name for alert in found.notification.alerts] == ["Named", "B", "C"]
    assert found.notification.alerts[2].starts_at == 3600, "a time without a zone is UTC"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no JSON"),
        ("[]", "an array"),
        ("{}", "version"),
        ({"metric": "A"}, "timestamp None: write"),
        ({"metric": "A", "timestamp": "noon"}, "timestamp 'noon': write"),
        ({"metric": "A", "timestamp": True}, "timestamp True: write"),
        ([{"metric": "A", "timestamp": 1}, 7], "an array"),
    ],
)
def test_what_is_no_file_of_alerts_is_refused(tmp_path: Path, content: Any, says: str) -> None:
    path = written(tmp_path, content)

    with pytest.raises(ConfigError) as caught:
        read_alert_file(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no: No such file"):
        read_alert_file(tmp_path / "no")
