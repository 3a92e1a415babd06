"""Ten alerts a second, and restarts: do memory and open descriptors grow? By default briefly."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from statistics import linear_regression
from typing import Final

import pytest

from tests.acceptance.server import (
    Promheal,
    Sender,
    Spies,
    Undaunted,
    alert,
    notification,
    resolved,
    strategy,
)
from tests.figures import Record, scaled

pytestmark = pytest.mark.alone

SECONDS: Final = scaled(20, 7_200)
RESTARTS: Final = scaled(1, 4)
RATE: Final = 10
"""Alerts a second; each is over after a minute."""
SETTLED: Final = 0.25
"""The part of each life that is left out of the slope: caches fill, and the heap."""


def sample(server: Promheal, began: float) -> tuple[float, float, int]:
    """Seconds since *began*, RSS in MiB, open descriptors."""
    worker = Path(f"/proc/{server.worker()}")
    found = re.search(r"VmRSS:\s+(\d+) kB", (worker / "status").read_text())
    assert found is not None
    return time.monotonic() - began, int(found[1]) / 1024, len(list((worker / "fd").iterdir()))


def lived(server: Promheal, seconds: float, name: str) -> list[tuple[float, float, int]]:
    """Send so many alerts a second, and what it held meanwhile, once in five seconds."""
    began, sender, samples = time.monotonic(), Sender(server), []
    firing = []
    for number in range(int(seconds * RATE)):
        time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        firing.append(alert("Soak", number=f"{name}-{number}", service=f"s{number % 50}"))
        due = [resolved(firing.pop(0))] if len(firing) > 60 * RATE else []
        assert sender.post(json.dumps(notification(firing[-1], *due)).encode()) == 202
        if number % (5 * RATE) == 0:
            samples.append(sample(server, began))
    sender.close()
    return samples


def test_memory_and_descriptors_stay_as_they_are(tmp_path: Path, record_property: Record) -> None:
    spies = Spies(tmp_path / "spies")
    strategies = {
        "soak": strategy(spies.step("soak"), match="Soak", target=["service"], grace_period="1m")
    }
    slopes, descriptors = [], []
    with Undaunted(tmp_path, strategies) as server:
        for life in range(RESTARTS + 1):
            samples = lived(server, SECONDS / (RESTARTS + 1), str(life))
            settled = samples[int(len(samples) * SETTLED) :]
            if len(settled) > 2:
                fit = linear_regression([s[0] for s in settled], [s[1] for s in settled])
                slopes.append(fit.slope * 3_600)
            descriptors.append(max(s[2] for s in settled) - min(s[2] for s in settled))
            assert "Traceback" not in server.log.read_text()
            server.stop()
            server.start()
    record_property("hours", SECONDS / 3_600)
    record_property("restarts", RESTARTS)
    if slopes:
        record_property("MiB of RSS an hour", max(slopes))
    record_property("descriptors more", max(descriptors))
    assert len(spies.starts()) > 0
    assert max(descriptors) <= 20, "no leak of one an alert"
