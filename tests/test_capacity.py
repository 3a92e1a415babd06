"""Whether the plan on paper adds up, and rests on what the code does."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import psycopg
import pytest

from bench import lives as measured
from bench import servers
from bench.capacity import DECIDED, SETTINGS, World, most_alerts, simulate
from bench.distance import far
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
        Piece("a count", 0.0, 2),
        stored,
        questions=6.0,
    )


def test_the_lock_is_held_for_as_long_as_its_work_takes() -> None:
    load = simulate(WORLD, lives(10.0))

    assert load.lock == pytest.approx(len(PHASES) * 0.010, rel=0.2), "one alert in a second"
    assert load.holds
    median, _ = load.waits[DECIDED]
    assert median == pytest.approx(0.022, abs=0.005), "twice what is stored, and what is computed"


def test_a_distance_costs_each_round_trip() -> None:
    near = simulate(WORLD, lives(1.0))
    far = simulate(msgspec.structs.replace(WORLD, round_trip=0.001), lives(1.0))

    assert near.lock == pytest.approx(len(PHASES) * 0.001, rel=0.2)
    assert far.lock == pytest.approx(len(PHASES) * 0.005, rel=0.2), "four round trips more"


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

    with far(database, 0.0) as url:
        found = measured.measure(tmp_path, url, lives=3)

    assert tuple(phase.name for phase in found.phases) == PHASES
    pieces = [piece for phase in found.phases for piece in phase.pieces]
    named = {piece.name for piece in (*pieces, found.alone)}
    assert not [name for name in named if "<" in name], "a piece that bench/lives.py does not know"
    steps = [piece for piece in found.phases[2].pieces if piece.name == "step"]
    assert len(steps) == 4, "two steps, each at its start and its end"
    assert all(piece.seconds > 0 for piece in pieces)
    assert found.stored.rows["episode"] == 1
    assert found.questions == 5, "before a decision while it fires, and at each look"
    assert found.stored.jobs >= 7, "one for each phase but those of a notification"


def test_round_trips_show_when_each_takes_longer(database: str) -> None:
    def taken(url: str) -> float:
        with psycopg.connect(url, autocommit=True) as connection:
            began = time.perf_counter()
            for _ in range(10):
                connection.execute("select 1")
            return time.perf_counter() - began

    with far(database, 0.02) as url:
        assert taken(url) - taken(database) == pytest.approx(10 * 0.02, rel=0.3)


def test_what_a_distance_adds_is_told_in_round_trips() -> None:
    near, distant = lives(2.0), lives(17.0)

    found = measured.with_trips(near, distant, 0.005)

    (trips,) = {round(piece.trips, 3) for phase in found.phases for piece in phase.pieces}
    assert trips == 3
