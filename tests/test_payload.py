"""What a body decodes to is bounded by its size, whatever is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import PayloadError
from receiver.policy import json_values
from receiver.policy.payload import MAX_EVIDENCE, MAX_LABELS, MAX_TEXT, parse_notification

SIZE = 8 * 1024 * 1024
ONE = {"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-01-01T00:00:00Z"}


def body(*alerts: object) -> bytes:
    return json.dumps({"alerts": alerts}, separators=(",", ":")).encode()


def filled(element: str) -> bytes:
    return f'{{"alerts":[{",".join([element] * (SIZE // (len(element) + 1)))}]}}'.encode()


def labelled(width: int) -> bytes:
    """Alerts with as many labels as can be, each name another one."""
    alerts: list[dict[str, Any]] = []
    size = 0
    while size < SIZE - 10_000:
        start = len(alerts) * MAX_LABELS
        labels = {f"{start + n:x}": f"{n:0{width}x}" for n in range(MAX_LABELS)}
        alerts.append({**ONE, "labels": labels})
        size += len(json.dumps(alerts[-1], separators=(",", ":"))) + 1
    return body(*alerts)


def ordinary() -> bytes:
    alerts = [
        {**ONE, "labels": {"alertname": "HighLatency", "instance": f"web-{n}:9090", "job": "web"}}
        for n in range(SIZE // 150)
    ]
    return body(*alerts)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "numbers": lambda: filled("0"),
    "objects": lambda: filled("{}"),
    "texts": lambda: filled('"abcdefghijklmnopqrst"'),
    "few labels": lambda: labelled(1),
    "as many labels as are read": lambda: labelled(10),
    "one alert": lambda: body({**ONE, "labels": {f"l{n}": "x" * 20 for n in range(250_000)}}),
    "annotations": lambda: body({**ONE, "annotations": [0] * 4_000_000}),
    "ordinary ones": ordinary,
}

MEASURE = """
import sys
from receiver.errors import PayloadError
from receiver.policy.payload import parse_notification

def peak(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) * 1024

body = sys.stdin.buffer.read()
before = peak("VmRSS")
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")
try:
    parse_notification(body)
except PayloadError:
    pass
print((peak("VmHWM") - before) / len(body))
"""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_body_takes_no_more_than_eight_times_its_bytes(kind: str) -> None:
    sent = HOSTILE[kind]()
    assert len(sent) > SIZE / 2

    done = subprocess.run(
        [sys.executable, "-c", MEASURE], input=sent, capture_output=True, check=True
    )

    assert float(done.stdout) <= 8, done.stderr


@pytest.mark.parametrize("element", ["0", "{}", '""', "null", "[]"])
def test_what_can_be_no_alerts_is_refused_before_it_is_decoded(element: str) -> None:
    with pytest.raises(PayloadError, match=r"values in \d+ bytes, which are no alerts") as refused:
        parse_notification(filled(element))

    assert refused.value.status == 413


def test_all_that_is_set_aside_is_counted_and_only_some_of_it_kept() -> None:
    found = parse_notification(body(ONE, *["text of some length"] * 5_000))

    assert len(found.alerts) == 1
    assert found.set_aside == 5_000
    assert len(found.quarantined) == MAX_EVIDENCE


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({**ONE, "labels": {"a" * 2_000: "x"}}, "is longer than 1024"),
        ({**ONE, "annotations": {"a" * 2_000: "x"}}, "is longer than 1024"),
        ({**ONE, "annotations": {f"a{n}": "" for n in range(300)}}, "300 annotations; at most 256"),
        (
            {**ONE, "labels": {f"l{n}": "x" * 40 for n in range(2_000)}},
            "it has 2001 values; at most 256",
        ),
        (
            {**ONE, "annotations": {f"a{n}": "x" * 60_000 for n in range(5)}},
            "longer than 262144 characters together",
        ),
    ],
)
def test_what_is_too_much_of_one_alert_sets_it_aside(bad: object, says: str) -> None:
    found = parse_notification(body(ONE, bad, *[{**ONE, "labels": {"a": "b" * 60_000}}]))

    assert len(found.alerts) == 2
    assert says in found.quarantined[0].problem


def test_a_large_body_of_ordinary_alerts_is_read() -> None:
    found = parse_notification(ordinary())

    assert (len(found.alerts), found.set_aside) == (SIZE // 150, 0)


def scanned(text: bytes) -> int:
    """Commas outside of strings, one byte after the other."""
    count, inside, skip = 0, False, False
    for byte in text:
        if skip:
            skip = False
        elif inside:
            skip, inside = byte == ord("\\"), byte != ord('"')
        else:
            inside = byte == ord('"')
            count += byte == ord(",")
    return count


@given(st.text(alphabet='"\\,a{', max_size=80).map(str.encode), st.integers(1, 12))
def test_values_are_counted_as_a_scanner_would(text: bytes, window: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_values, "_WINDOW", window)
        assert json_values.values_in(text) == scanned(text)


@pytest.mark.parametrize("text", [b'"', b'\\"', b'"a",', b"\\", b'"\\'])
def test_counting_takes_linear_time(text: bytes) -> None:
    """It would take hours otherwise."""
    json_values.values_in(text * (4 * MAX_TEXT))
