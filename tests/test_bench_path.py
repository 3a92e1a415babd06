"""Does the bench still stamp what it names, and do its stages add up?"""

from __future__ import annotations

from pathlib import Path

from bench.path import stages, stamps
from bench.tracing import STATIONS, found


def test_each_station_is_a_function_of_promheal() -> None:
    for station in STATIONS:
        assert callable(found(station)[2]), station


def test_the_first_stamp_of_each_alert_counts_and_the_stages_add_up(tmp_path: Path) -> None:
    file = tmp_path / "stamps"
    passed = [f'{at}\tinstance="timed-7"\t{(at + 1) * 1_000_000}' for at in range(len(STATIONS))]
    file.write_text("\n".join([*passed, "0\ttimed-7\t99000000", "3\t\t5", "3\tother\t5"]))

    stamped = stamps(file)

    assert list(stamped) == [7]
    ended = (len(STATIONS) + 3) * 1_000_000
    assert stages(0, ended, stamped[7]) == [1.0] * len(STATIONS) + [3.0]
