"""An action begins while all cores are busy and the memory is full: bench/trouble.py, in short."""

from __future__ import annotations

import pytest

from bench.trouble import measure
from tests.figures import Record, scaled

SOON = 5_000
"""Milliseconds: what a machine that also runs other tests may take, and far from none at all."""


@pytest.mark.alone
def test_an_action_begins_on_a_machine_in_trouble(record_property: Record) -> None:
    rows = {row["trouble"]: row for row in measure(scaled(1, 5), scaled(3, 20))}
    assert {"none", "cores", "memory", "memory and cores"} <= rows.keys()
    for trouble, row in rows.items():
        record_property(f"ms to the action, trouble: {trouble}", row["p50 ms"])
        assert row["max ms"] < SOON, row
