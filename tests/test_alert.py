from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.errors import PayloadError
from receiver.policy.alert import Status
from receiver.policy.fingerprint import fingerprint
from receiver.policy.payload import parse_notification

PAYLOADS = sorted(
    path for path in Path("tests/payloads").glob("*.json") if path.name != "INDEX.json"
)
ONE: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "A"},
    "startsAt": "2026-11-22T04:31:42.358Z",
    "endsAt": "0001-01-01T00:00:00Z",
}


def body(*alerts: Any, **fields: Any) -> bytes:
    return json.dumps({"version": "4", "alerts": alerts, **fields}).encode()


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_what_alertmanager_sent_is_read_as_its_index_says(path: Path) -> None:
    index = json.loads(Path("tests/payloads/INDEX.json").read_text())
    (said,) = (entry for entry in index if entry["file"] == path.name)

    found = parse_notification(path.read_bytes())

    statuses = [alert.status for alert in found.alerts]
    assert (len(statuses), found.truncated) == (said["alerts"], said["truncated"])
    assert statuses.count(Status.FIRING) == said["firing"]
    assert statuses.count(Status.RESOLVED) == said["resolved"]
    assert found.quarantined == ()
    assert all(alert.expression for alert in found.alerts)


def test_each_alert_is_judged_alone_whatever_the_group_says() -> None:
    resolved = {**ONE, "status": "resolved", "endsAt": "2026-11-22T04:32:00Z"}

    found = parse_notification(body(ONE, resolved, status="resolved"))

    assert [(a.status, a.ends_at is None) for a in found.alerts] == [
        (Status.FIRING, True), (Status.RESOLVED, False),
    ]  # fmt: skip


def test_unknown_fields_are_no_trouble() -> None:
    found = parse_notification(
        body({**ONE, "silenced": [1]}, notification_reason="new alerts added", routeLabels={"a": 1})
    )

    assert len(found.alerts) == 1


@pytest.mark.parametrize("said", ["", "xyz", "2A2068B18AA1636B", "2a2068b18aa1636b0"])
def test_without_a_good_fingerprint_alertmanagers_own_is_computed(said: str) -> None:
    # tests/test_alertmanager.py holds `fingerprint` equal to what a real Alertmanager says.
    (alert,) = parse_notification(body({**ONE, "fingerprint": said})).alerts

    assert alert.fingerprint == fingerprint({"alertname": "A"})


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({}, "missing required field `status`"),
        ({**ONE, "status": "burning"}, "Invalid enum value 'burning'"),
        ({**ONE, "labels": {}}, "without labels"),
        ({**ONE, "labels": {"": "x"}}, "no name"),
        ({**ONE, "labels": {"a": 1}}, "Expected `str`, got `int`"),
        ({**ONE, "labels": {f"l{n}": "x" for n in range(300)}}, "at most 256"),
        ({**ONE, "labels": {"a": "x" * 70_000}}, "longer than 65536"),
        ({**ONE, "annotations": {"a": "x" * 70_000}}, "longer than 65536"),
        ({**ONE, "startsAt": "yesterday"}, "Invalid RFC3339"),
        ({**ONE, "startsAt": "2026-11-22T04:31:42"}, "no time zone"),
        ("text", "Expected `object`"),
        (None, "Expected `object`"),
    ],
)
def test_one_bad_alert_is_set_aside_and_the_others_are_served(bad: object, says: str) -> None:
    found = parse_notification(body(ONE, bad, ONE))

    assert len(found.alerts) == 2
    (aside,) = found.quarantined
    assert aside.problem.startswith("alerts[1]: ")
    assert says in aside.problem
    assert json.loads(aside.raw) == bad if len(aside.raw) < 4096 else True


@pytest.mark.parametrize(
    "field", ["endsAt", "annotations", "generatorURL", "fingerprint", "silenceURL", "values"]
)
@pytest.mark.parametrize("value", [None, 7, 1.5, True, [], {}, [None], {"a": None}, "x"])
def test_what_an_alert_does_not_need_is_no_reason_to_set_it_aside(field: str, value: Any) -> None:
    found = parse_notification(body({**ONE, field: value}, {**ONE, "status": "resolved"}))

    assert found.quarantined == ()
    assert [alert.status for alert in found.alerts] == [Status.FIRING, Status.RESOLVED]
    assert found.alerts[0].fingerprint == fingerprint({"alertname": "A"})


def test_what_can_be_read_of_annotations_is_kept() -> None:
    said = {"summary": "it is slow", "runbook": None, "value": 3.5, "more": {"a": 1}}

    (alert,) = parse_notification(body({**ONE, "annotations": said})).alerts

    assert alert.annotations == {"summary": "it is slow", "value": "3.5", "more": ""}


@pytest.mark.parametrize(
    "field", ["version", "receiver", "groupKey", "externalURL", "truncatedAlerts", "groupLabels"]
)
@pytest.mark.parametrize("value", [None, 18130783372347340336, 10**30, -1, True, [], {"a": [1]}])
def test_what_a_notification_does_not_need_is_no_reason_to_refuse_it(
    field: str, value: Any
) -> None:
    found = parse_notification(body(ONE, **{field: value}))

    assert [alert.name for alert in found.alerts] == ["A"]
    assert found.quarantined == ()


def test_a_body_without_a_version_and_one_of_version_3_are_read() -> None:
    """F16: what Alertmanager sent when a groupKey was a number, and most public fixtures."""
    old = {
        "receiver": "r", "status": "firing", "groupKey": 18130783372347340336, "version": "3",
        "externalURL": "http://am", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "alerts": [{
            "status": "firing", "labels": {"alertname": "SlowShop", "service": "shop"},
            "annotations": {}, "startsAt": "2026-12-01T01:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
        }],
    }  # fmt: skip
    without = {key: value for key, value in old.items() if key != "version"}

    for sent in (old, without):
        found = parse_notification(json.dumps(sent).encode())
        assert [alert.labels["service"] for alert in found.alerts] == ["shop"]
        assert (found.group_key, found.external_url) == ("18130783372347340336", "http://am")


def test_what_is_wrong_comes_with_what_is_right() -> None:
    (aside,) = parse_notification(body({**ONE, "status": "fireing"})).quarantined

    assert aside.problem == (
        "alerts[0]: Invalid enum value 'fireing' - at `$.status`; an alert needs a status, which "
        "is firing or resolved, labels, and startsAt as 2026-01-31T12:00:00Z"
    )


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"[]", "an array"),
        (b"{}", "missing required field `alerts`"),
        (b'{"version": "4"}', "missing required field `alerts`"),
        (b'{"version": "4", "alerts": null}', "Expected `array`, got `null`"),
        (b'{"text": "custom"}', "custom `payload:`"),
        (b'{"version": "4", "alerts": NaN}', "no JSON"),
        (b'{"version": "4", "alerts": [], "x": "\\ud800"}', "no JSON"),
        (b'{"version": "4", "alerts": [', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"\x1f\x8b\x08\x00", "no JSON"),
        (b'"text"', "Expected `object`"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"version": "4", "alerts": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_can_never_be_read_is_said_with_what_was_expected(raw: bytes, says: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parse_notification(raw)

    assert says in str(caught.value)
    assert caught.value.status == 400


def test_an_end_is_never_before_its_start() -> None:
    early = {**ONE, "status": "resolved", "endsAt": "2020-01-01T00:00:00Z"}
    without = {key: value for key, value in early.items() if key != "endsAt"}

    for alert in parse_notification(body(early, without)).alerts:
        assert alert.ends_at == alert.starts_at


def test_a_link_that_is_longer_than_anyones_is_dropped_and_its_alert_is_kept() -> None:
    found = parse_notification(
        body({**ONE, "generatorURL": "http://p/graph?g0.expr=up" + "p" * 70_000})
    )

    (alert,) = found.alerts
    assert (alert.generator_url, alert.expression) == ("", None)


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(),
       lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
       .map(lambda value: json.dumps(value).encode()))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_whatever_comes_it_is_read_or_refused(raw: bytes) -> None:
    with suppress(PayloadError):
        parse_notification(raw)


@given(position=st.integers(0, 1037), byte=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_real_payload_with_one_byte_changed_is_read_or_refused(position: int, byte: int) -> None:
    raw = bytearray(Path("tests/payloads/firing_single.json").read_bytes())
    raw[position % len(raw)] = byte
    with suppress(PayloadError):
        parse_notification(bytes(raw))
