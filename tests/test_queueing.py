from __future__ import annotations

import statistics

import pytest

from bench.queueing import Life, Pause, Simulation, Station, Use, Write, Writer

LIVES = 20_000


def waits(*, rate: float, seconds: float, places: int = 1, seed: int = 1) -> list[float]:
    """How long lives that come at random wait for a station."""
    simulation = Simulation(seed)
    simulation.counting = True
    station = Station(simulation, places)

    def life() -> Life:
        yield Use(station, seconds, "wait")

    def arrivals() -> Life:
        for _ in range(LIVES):
            yield Pause(simulation.random.expovariate(rate))
            simulation.live(life())

    simulation.live(arrivals())
    simulation.run(10 * LIVES / rate)
    return simulation.waits["wait"]


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_the_wait_for_one_place_is_what_theory_says(busy: float) -> None:
    found = waits(rate=busy, seconds=1.0)
    assert len(found) == LIVES
    # Pollaczek and Khinchine, for a service that always takes as long.
    assert statistics.mean(found) == pytest.approx(busy / (2 * (1 - busy)), rel=0.1)


def test_the_same_seed_gives_the_same_waits() -> None:
    assert waits(rate=0.6, seconds=1.0) == waits(rate=0.6, seconds=1.0)
    assert waits(rate=0.6, seconds=1.0) != waits(rate=0.6, seconds=1.0, seed=2)


def test_a_second_place_serves_at_the_same_time() -> None:
    assert statistics.mean(waits(rate=0.8, seconds=1.0, places=2)) < 0.3


def written(*, pieces: int, writers: int, most: int = 256) -> tuple[Simulation, list[Writer]]:
    """Pieces that come at once, in turns by the writers: 1 s for each, 10 s for a transaction."""
    simulation = Simulation(1)
    simulation.counting = True
    lock = Station(simulation, 1)
    every = [Writer(lock, 10.0, most) for _ in range(writers)]

    def life(writer: Writer) -> Life:
        yield Write(writer, 1.0, "written")

    for number in range(pieces):
        simulation.live(life(every[number % writers]))
    simulation.run(1_000.0)
    assert len(simulation.waits["written"]) == pieces
    return simulation, every


def test_what_waits_for_a_writer_shares_a_transaction() -> None:
    simulation, (writer,) = written(pieces=4, writers=1)
    assert (writer.transactions, writer.pieces) == (2, 4)
    # The first at once; the others when it is done, and their end is that of their transaction.
    assert simulation.waits["written"] == [0.0, 13.0, 13.0, 13.0]


def test_a_transaction_takes_no_more_than_it_may() -> None:
    _, (writer,) = written(pieces=5, writers=1, most=2)
    assert writer.transactions == 3


def test_two_writers_wait_for_the_one_lock() -> None:
    simulation, _ = written(pieces=2, writers=2)
    assert simulation.waits["written"] == [0.0, 11.0]
