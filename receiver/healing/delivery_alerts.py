"""Alerts that test the way here: the heartbeat, and that of `doctor --send-test-alert`."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from receiver.policy.alert import Alert

_SHOWN: Final = 200
"""Characters of a receiver's name that are kept."""

HEARTBEAT: Final = "PromhealWatchdog"
"""The alert of rules/promheal.yml that always fires: news of the way here, and of no fault."""

TEST: Final = ("promheal", "test")
"""The label of an alert that tests the way here, as `promheal doctor --send-test-alert` sends it.

Whoever can give an alert a label could as well not send it, so nothing is hidden by it that was not
theirs to hide. An annotation makes no test: templates put into these what a target says."""
TEST_ID: Final = "test_id"
"""The label that tells one test from another."""
_ID: Final = re.compile(r"[\w-]{1,64}", re.ASCII)


class ArrivedTest(msgspec.Struct, frozen=True):
    """The last alert that tested the way here."""

    id: str
    """Of its label; empty when that is none of ours."""
    at: float
    """When it arrived, seconds since the epoch."""
    receiver: str
    """Through which receiver of Alertmanager, as that says it."""


def arrived_test(test_id: str, now: float, receiver: str) -> ArrivedTest:
    """Return what is kept of a test that has arrived through *receiver*."""
    return ArrivedTest(test_id if _ID.fullmatch(test_id) else "", now, receiver[:_SHOWN])


def is_test(alert: Alert) -> bool:
    name, value = TEST
    return alert.labels.get(name) == value


def tells_the_way(alert: Alert) -> bool:
    """Whether it is news of the way here, and of no fault."""
    return alert.name == HEARTBEAT or is_test(alert)
