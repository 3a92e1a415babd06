"""Would it hold? Many hosts and a stream of alerts, simulated with costs that are measured first.

What is simulated waits for three things: the one lock under which runs begin and end, the writers
of each process, and the processes that receive and decide. What costs what is measured here and
now, on this machine; what happens how often is assumed, and printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec

from bench import lives as measured
from bench import processes, sites
from bench.distance import far
from bench.lives import Lives, Piece
from bench.load import show
from bench.processes import Processes
from bench.queueing import Life, Pause, Simulation, Station, Use, Write, Writer
from bench.sites import Site
from receiver.journal.extent import Lane
from receiver.journal.group import GROUP
from receiver.settings import JournalSettings

HOUR = 3_600.0
DAY = 86_400.0
WARM = 100.0
"""Seconds before anything is counted: longer than the life of an alert."""
COUNTED = 200.0
STORM = 60.0
"""Seconds within which a storm's alerts begin."""
STEPS = 2
"""Of a run."""
STORM_ALERTS = 5_000
SHARED = 100
"""Hosts of one worker, where each host does not have its own."""
REGIONS = 10
HOLDS = 5.0
"""Seconds until all but one in a hundred alerts are decided; with more it does not hold."""
FAR = 0.005
"""Seconds that a round trip is made longer by, to count them."""
ANSWERED, DECIDED = "answered", "decided"


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What is assumed."""

    hosts: int
    """Each with a worker."""
    alerts: float
    """That begin to fire in an hour, each in a notification of its own, each to be acted on."""
    receivers: int = 3
    workers: int = 4
    """That decide."""
    round_trip: float = 0.0
    """Seconds from a process to PostgreSQL and back, beyond what they are on one machine."""
    action: float = 5.0
    """Seconds that a step takes."""
    looks: int = 2
    """At Prometheus in vain, before the one that proves it."""
    every: float = 15.0
    """Seconds between two looks."""
    resolved: float = 30.0
    """Seconds from the proof until Alertmanager says that it is resolved."""
    storm: int = 0
    """Alerts that begin within a minute besides."""

    @property
    def lasts(self) -> float:
        """Seconds from an alert's beginning to its end, but for what it waits for."""
        return STEPS * self.action + self.looks * self.every + self.resolved


@dataclass(frozen=True)
class Process:
    core: Station
    """Python computes on one core at a time."""
    writers: Mapping[Lane, Writer]


class Plant:
    """All processes, and the lock that they share."""

    def __init__(self, seed: int, world: World, lives: Lives) -> None:
        self.simulation = Simulation(seed)
        self.world = world
        self.lives = lives
        self.lock = Station(self.simulation, 1)
        self.alone = self.costs(lives.alone)
        self.ended = 0
        hosts, receivers, workers = (
            [self._process() for _ in range(number)]
            for number in (world.hosts, world.receivers, world.workers)
        )
        self.hosts, self.receivers, self.workers = cycle(hosts), cycle(receivers), cycle(workers)

    def arrivals(self, rate: float, until: float) -> Life:
        """Have alerts begin at random, *rate* of them in a second."""
        while self.simulation.now < until:
            yield Pause(self.simulation.random.expovariate(rate))
            self.simulation.live(self._alert())

    def _alert(self) -> Life:
        world, simulation = self.world, self.simulation
        began = simulation.now
        yield from self._phase("notified", next(self.receivers))
        simulation.waited(ANSWERED, simulation.now - began)
        yield from self._phase("decided", next(self.workers))
        simulation.waited(DECIDED, simulation.now - began)
        yield from self._phase("done", next(self.hosts))
        yield from self._phase("looked at", next(self.workers))
        for _ in range(world.looks - 1):
            yield Pause(world.every)
            yield from self._phase("looked at", next(self.workers))
        yield Pause(world.every)
        yield from self._phase("proven", next(self.workers))
        yield from self._phase("considered again", next(self.workers))
        yield Pause(world.resolved)
        yield from self._phase("resolved", next(self.receivers))
        yield from self._phase("let go", next(self.workers))

    def _phase(self, name: str, process: Process) -> Life:
        phase = self.lives.phase(name)
        yield Use(process.core, phase.computing, "computing")
        begun = False
        for piece in phase.pieces:
            if begun:
                yield Pause(self.world.action)
            begun = piece.name == "step" and not begun
            seconds = max(0.0, self.costs(piece) - self.alone)
            yield Write(process.writers[piece.lane], seconds, piece.name)

    def costs(self, piece: Piece) -> float:
        # To ask for the lock and to hear of the end are a trip that nobody is kept waiting by.
        return piece.seconds + max(0.0, piece.trips - 1) * self.world.round_trip

    def _process(self) -> Process:
        def writer(lane: Lane) -> Writer:
            lock = self.lock if lane is Lane.EVERYTHING else Station(self.simulation, 1)
            return Writer(lock, self.alone, GROUP)

        return Process(Station(self.simulation, 1), {lane: writer(lane) for lane in Lane})


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a world, while it was counted."""

    lock: float
    """The share of the time in which the lock was held."""
    waits: dict[str, tuple[float, float]]
    """Seconds, median and 99th percentile: until a notification was answered, until its alert was
    decided; and of each kind of work, beside the work itself."""

    @property
    def holds(self) -> bool:
        return DECIDED in self.waits and self.waits[DECIDED][1] <= HOLDS


def simulate(world: World, lives: Lives, *, seed: int = 1) -> Load:
    plant = Plant(seed, world, lives)
    simulation = plant.simulation
    simulation.live(plant.arrivals(world.alerts / HOUR, WARM + COUNTED))
    simulation.run(WARM)
    simulation.counting = True
    if world.storm:
        simulation.live(plant.arrivals(world.storm / STORM, WARM + STORM))
    simulation.run(WARM + COUNTED)
    waits = {name: _spread(found) for name, found in sorted(simulation.waits.items())}
    return Load(lock=min(1.0, plant.lock.busy / COUNTED), waits=waits)


def most_alerts(world: World, lives: Lives) -> float:
    """The most alerts in an hour for which *world* holds, to within a twentieth."""
    plant = Plant(1, world, lives)
    life = sum(
        plant.costs(piece)
        for phase in lives.phases
        for piece in phase.pieces
        if piece.lane is Lane.EVERYTHING
    )
    holds, fails = 0.0, 2 * HOUR / life  # no group saves more than half
    while fails - holds > fails / 20:
        between = (holds + fails) / 2
        if simulate(msgspec.structs.replace(world, alerts=between), lives).holds:
            holds = between
        else:
            fails = between
    return holds


def _spread(waits: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles([*waits, *waits[:1]], n=100, method="inclusive")  # it wants two
    return cuts[49], cuts[98]


# -- what is told


def costs(lives: Lives) -> list[dict[str, Any]]:
    rows = [
        {
            "phase": phase.name,
            "what is stored": ", ".join(_told(phase.pieces)),
            "round trips": round(sum(piece.trips for piece in phase.pieces)),
            "writing, ms": round(1000 * sum(piece.seconds for piece in phase.pieces), 2),
            "lock, ms": round(1000 * _locked(phase.pieces), 2),
            "computing, ms": round(1000 * phase.computing, 2),
        }
        for phase in lives.phases
    ]
    alone = {"phase": "nothing", "what is stored": lives.alone.name}
    return [
        *rows,
        {
            **alone,
            "round trips": round(lives.alone.trips),
            "writing, ms": round(1000 * lives.alone.seconds, 2),
            "lock, ms": "",
            "computing, ms": "",
        },
    ]


def kinds(lives: Lives) -> list[dict[str, Any]]:
    """The same pieces by what they are."""
    found: dict[str, list[Piece]] = {}
    for phase in lives.phases:
        for piece in phase.pieces:
            found.setdefault(piece.name, []).append(piece)
    whole = _locked([piece for pieces in found.values() for piece in pieces])
    return [
        {
            "what is stored": name,
            "times": len(pieces),
            "round trips each": round(statistics.mean(piece.trips for piece in pieces), 1),
            "writing, ms each": round(1000 * statistics.mean(piece.seconds for piece in pieces), 2),
            "lock, %": round(100 * _locked(pieces) / whole),
        }
        for name, pieces in found.items()
    ]


def _locked(pieces: Sequence[Piece]) -> float:
    """Return the seconds for which nobody else's run may begin or end."""
    return sum(piece.seconds for piece in pieces if piece.lane is Lane.EVERYTHING)


def _told(pieces: Sequence[Piece]) -> list[str]:
    """The pieces' names, each once, with how many there are."""
    counted: dict[str, int] = {}
    for piece in pieces:
        counted[piece.name] = counted.get(piece.name, 0) + 1
    return [name if number == 1 else f"{number} {name}s" for name, number in counted.items()]


def idle(found: Processes) -> list[dict[str, Any]]:
    return [
        {
            "process": name,
            "connections": round(one.connections, 1),
            "transactions/s": round(one.transactions, 2),
            "wake-ups/s": round(one.wakeups, 1),
            "CPU, %": round(100 * one.computing, 2),
            "CPU of PostgreSQL, %": round(100 * one.postgres, 3),
            "memory, MiB": round(one.mebibytes),
        }
        for name, one in (
            ("receiver", found.receiver),
            ("worker that decides", found.worker),
            ("worker of a host", found.host),
        )
    ]


def plan(world: World, lives: Lives, found: Processes) -> dict[str, Any]:
    mean = simulate(world, lives)
    storm: float | str = "-"
    if mean.holds:
        stormy = msgspec.structs.replace(world, storm=STORM_ALERTS)
        storm = round(1000 * simulate(stormy, lives).waits[DECIDED][1])
    rate = world.alerts / HOUR
    each = (
        (found.receiver, world.receivers), (found.worker, world.workers), (found.host, world.hosts)
    )  # fmt: skip
    # Each job is announced when it is put, and each that is for later once more when it is due.
    announced = rate * (lives.stored.jobs + world.looks)
    woken = announced * (world.hosts + world.workers)
    transactions = rate * lives.stored.transactions
    return {
        "workers of hosts": world.hosts,
        "alerts an hour": round(world.alerts),
        "round trip, ms": 1000 * world.round_trip,
        "the lock is held, %": round(100 * mean.lock),
        "runs that act at once": round(rate * STEPS * world.action),
        "alerts that fire at once": round(rate * world.lasts),
        "transactions/s": round(
            transactions + sum(one.transactions * number for one, number in each)
        ),
        "jobs/s": round(rate * lives.stored.jobs),
        "questions to Prometheus/s": round(rate * lives.questions),
        "connections to PostgreSQL": round(sum(one.connections * number for one, number in each)),
        "cores of PostgreSQL for those at rest": round(
            sum(one.postgres * number for one, number in each), 1
        ),
        "wake-ups of listeners/s": round(woken),
        "cores of PostgreSQL for these": round(woken * found.listener, 1),
        "answered, p50 p99, ms": _milliseconds(mean.waits[ANSWERED]),
        "decided, p50 p99, ms": _milliseconds(mean.waits[DECIDED]),
        "decided in a storm, p99, ms": storm,
        "the lock suffices": "yes" if mean.holds else "no",
        "most alerts an hour": int(round(most_alerts(world, lives), -2)),
    }


def columns(planned: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One column for each world."""
    names = next(iter(planned.values()))
    return [
        {"": name, **{world: values[name] for world, values in planned.items()}} for name in names
    ]


def _milliseconds(spread: tuple[float, float]) -> str:
    return " ".join(str(round(1000 * seconds)) for seconds in spread)


def storage(alerts: float, lives: Lives) -> list[dict[str, Any]]:
    """What a day leaves, and what is there when retention takes away as much as comes."""
    days = JournalSettings().retention / DAY
    daily = alerts * 24
    rows = [
        {
            "table": name,
            "rows a day": round(daily * lives.stored.rows[name]),
            "GB a day": round(daily * size / 1e9, 1),
            f"GB after {days:g} days": round(days * daily * size / 1e9),
        }
        for name, size in sorted(lives.stored.bytes.items(), key=lambda item: -item[1])
        if size > 0 and lives.stored.rows[name] > 0
    ]
    log = {"table": "write-ahead log", "rows a day": "", f"GB after {days:g} days": ""}
    return [*rows, {**log, "GB a day": round(daily * lives.stored.log / 1e9, 1)}]


SETTINGS = """\
engine: {storm: {targets: 500}, max_concurrent_runs: 256}
prometheus: {url: "http://127.0.0.1:1"}
"""
"""The threshold of a storm is above what is ill on a common day, and Prometheus is played by us."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench capacity", description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000, help="each with a worker (10000)")
    parser.add_argument("--alerts", type=float, default=100_000, help="in an hour (100000)")
    parser.add_argument("--round-trip", type=float, default=0.3, metavar="MS", help="(0.3)")
    parser.add_argument("--lives", type=int, default=150, help="of alerts that are measured (150)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds at rest (20)")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="promheal-bench-") as folder,
        sites.site(Path(folder) / "site") as site,
    ):
        found = processes.measure(site, options.idle)
        lives = _lives(site, options.lives)
    show("What one alert costs, from its notification to its end, on this machine", costs(lives))
    show("The same by what is stored", kinds(lives))
    show("What a process costs that has nothing to do", idle(found))
    microseconds = 1e6 * found.listener
    print(f"\nEach that listens, whenever anybody is notified: {microseconds:.0f} us of PostgreSQL")

    world = World(hosts=options.hosts, alerts=options.alerts, round_trip=options.round_trip / 1000)
    planned = {name: plan(each, lives, found) for name, each in worlds(world)}
    show("Whether it would hold, with a worker for", columns(planned))
    show("What it leaves", storage(options.alerts, lives))
    deleting = 100 * options.alerts / HOUR * lives.stored.pruning
    print(f"\nTo delete as much, the lock is held for {deleting:.1f} % of the time")


def _lives(site: Site, lives: int) -> Lives:
    """Measure them here, and some of them as if PostgreSQL were far, for how often that is felt."""
    (site.folder / "promheal.yml").write_text(SETTINGS)
    near = measured.measure(site.folder, site.url, lives)
    new = site.anew()
    (new.folder / "promheal.yml").write_text(SETTINGS)
    with far(new.url, FAR) as url:
        distant = measured.measure(new.folder, url, max(lives // 5, 1))
    return measured.with_trips(near, distant, FAR)


def worlds(world: World) -> Iterator[tuple[str, World]]:
    """The one that is asked for, and what it could be instead, by what has a worker of its own."""

    def other(**changes: Any) -> World:
        return msgspec.structs.replace(world, **changes)

    few = max(1, world.hosts // SHARED)
    yield "a host", world
    yield "a host, near", other(round_trip=0.0)
    yield f"{SHARED} hosts", other(hosts=few)
    yield f"{SHARED} hosts, near", other(hosts=few, round_trip=0.0)
    part = other(hosts=max(1, few // REGIONS), alerts=world.alerts / REGIONS)
    yield f"{SHARED} hosts, a region", part
