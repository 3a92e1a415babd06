"""Whether the plan on paper adds up, and rests on what the code does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench import lives as measured
from bench import servers
from bench.capacity import DECIDED, SETTINGS, World, most_alerts, simulate
from bench.lives import Lives, Phase, Piece, Stored

PHASES = (
    "notified", "decided", "done", "looked at", "looked at", "proven", "considered again",
    "resolved", "let go",
)  # fmt: skip
WORLD = World(hosts=10, alerts=3_600)


def lives(milliseconds: float) -> Lives:
    """Lives of which each phase stores one thing, all of them equally long."""
    piece = Piece("decision", milliseconds / 1000, 5)
    stored = Stored(rows={}, bytes={}, log=0.0, transactions=9.0, jobs=7.0, pruning=0.0)
    return Lives(
        [Phase(name, [piece], 0.001, 0.0) for name in PHASES],
        Piece("a count", 0.0, 3),
        stored,
        questions=6.0,
    )


def test_the_lock_is_held_for_as_long_as_its_work_takes() -> None:
    load = simulate(WORLD, lives(10.0))

    assert load.lock == pytest.approx(len(PHASES) * 0.010, rel=0.2), "one alert in a second"
    assert load.holds
    median, _ = load.waits[DECIDED]
    assert median == pytest.approx(0.022, abs=0.005), "twice what is stored, and what is computed"


def test_a_distance_costs_each_message() -> None:
    near = simulate(WORLD, lives(1.0))
    far = simulate(msgspec.structs.replace(WORLD, round_trip=0.001), lives(1.0))

    assert near.lock == pytest.approx(len(PHASES) * 0.001, rel=0.2)
    assert far.lock == pytest.approx(len(PHASES) * 0.006, rel=0.2), "five messages more"


def test_more_than_the_lock_can_take_does_not_hold() -> None:
    slow = lives(40.0)
    most = most_alerts(WORLD, slow)

    assert most == pytest.approx(3_600 / (len(PHASES) * 0.040), rel=0.2)
    assert not simulate(msgspec.structs.replace(WORLD, alerts=1.5 * most), slow).holds


def test_a_storm_is_waited_for_and_is_over() -> None:
    calm = simulate(WORLD, lives(5.0)).waits[DECIDED][1]
    storm = simulate(msgspec.structs.replace(WORLD, storm=5_000), lives(5.0)).waits[DECIDED][1]

    assert calm < 0.1
    assert 1 < storm < 200


def test_what_an_alert_costs_is_measured_by_the_names_of_what_is_stored(
    database: str, tmp_path: Path
) -> None:
    servers.configure(tmp_path)
    (tmp_path / "promheal.yml").write_text(SETTINGS)

    found = measured.measure(tmp_path, database, lives=3)

    assert tuple(phase.name for phase in found.phases) == PHASES
    pieces = [piece for phase in found.phases for piece in phase.pieces]
    named = {piece.name for piece in (*pieces, found.alone)}
    assert not [name for name in named if "<" in name], "a piece that bench/lives.py does not know"
    steps = [piece for piece in found.phases[2].pieces if piece.name == "step"]
    assert len(steps) == 4, "two steps, each at its start and its end"
    assert all(piece.seconds > 0 and piece.messages >= 3 for piece in pieces)
    assert found.stored.rows["episode"] == 1
    assert found.questions == 5, "before a decision while it fires, and at each look"
    assert found.stored.jobs >= 7, "one for each phase but those of a notification"
