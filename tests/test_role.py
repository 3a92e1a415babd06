"""Whose worker executes a run's steps: what says it, and how a run goes from hand to hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.actions import discover
from receiver.config.files import load
from receiver.errors import ActionError, ConfigError
from receiver.healing.asked import Asked
from receiver.healing.plan import plan_for
from receiver.journal import Worker, open_journal
from receiver.journal.postgres import PostgresJournal
from receiver.policy.role import ProcessRole, host_of
from receiver.policy.run import Outcome, Plan, Run, State
from receiver.policy.signal import Signal
from receiver.policy.strategy import StepSpec
from receiver.services import HostLabel, Inventory, Service
from receiver.services.command import CommandManager
from tests.factories import Spy, alert, notification, step, strategy
from tests.world import KEY, World

MANAGER = CommandManager(restart_argv=("/bin/true",))
HOST = ProcessRole(frozenset({"web-1"}), decides=False)


def service(name: str, runs_on: str | HostLabel | None = None) -> Service:
    return Service(name=name, manager=MANAGER, runs_on=runs_on)


def on(*names: str, later: float = 0.0) -> tuple[StepSpec, ...]:
    return tuple(step(params=Spy.Params(name=name, service=name, later=later)) for name in names)


INVENTORY = Inventory(
    {
        one.name: one
        for one in (
            service("bound", "web-1"),
            service("labelled", "zone=a"),
            service("derived", HostLabel(label="instance")),
            service("free"),
        )
    }
)


# -- what says it


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("web-1", "web-1"),
        ("web-1:9100", "web-1"),
        ("web-1.example.org:9100", "web-1.example.org"),
        ("10.0.0.7:9100", "10.0.0.7"),
        ("", ""),
        (":9100", ""),
        ("[::1]:9100", ""),
        ("web 1", ""),
        ("web-1:port", ""),
        ("-x", ""),
        ("../../etc", ""),
        ("w" * 101, ""),
        ("web-1\n", ""),
    ],
)
def test_the_host_of_a_label_is_a_name_or_nothing(value: str, host: str) -> None:
    assert host_of(value) == host


@pytest.mark.parametrize(
    ("services", "labels", "place"),
    [
        (("free",), {}, ""),
        (("bound",), {}, "web-1"),
        (("bound", "free"), {}, "web-1"),
        (("labelled",), {}, "zone=a"),
        (("derived",), {"instance": "web-7:9100"}, "web-7"),
        (("derived", "bound"), {"instance": "web-1:9100"}, "web-1"),
        (("unknown",), {}, ""),
    ],
)
def test_a_run_is_bound_to_where_its_services_are(
    services: tuple[str, ...], labels: dict[str, str], place: str, world: World
) -> None:
    assert planned(world, services, labels).runs_on == place


@pytest.mark.parametrize(
    ("services", "labels", "problem"),
    [
        (("bound", "labelled"), {}, r"several places \(bound on web-1, labelled on zone=a\)"),
        (("derived",), {}, "derived runs on the host that the alert's label 'instance' names"),
        (("derived",), {"instance": "$(reboot)"}, "and it names none"),
    ],
)
def test_a_run_that_has_no_one_place_fails_before_it_begins(
    services: tuple[str, ...], labels: dict[str, str], problem: str, world: World
) -> None:
    with pytest.raises(ActionError, match=problem):
        planned(world, services, labels)


@pytest.fixture
def database_journal(database: str) -> Iterator[PostgresJournal]:
    journal = PostgresJournal(database)
    yield journal
    journal.close()


@pytest.fixture
def world(database_journal: PostgresJournal) -> World:
    return made(database_journal)


def planned(world: World, services: tuple[str, ...], labels: dict[str, str]) -> Plan:
    one = alert(labels={"alertname": "HighLatency", "service": "checkout", **labels})
    world.intake.admit(notification(one))
    episode = world.journal.read(lambda t: t.wanted(KEY))
    assert episode is not None
    what = strategy(actions=on(*services))
    return plan_for(what, KEY[1], Asked(episode=episode), inventory=INVENTORY)


CONFIG = {
    "promheal.yml": "{}\n",
    "healing_strategies.yml": "strategies: {}\n",
}


@pytest.mark.parametrize("written", ["web-1", "zone=a", "{label: instance}", "web-1.example.org"])
def test_it_is_written_in_the_inventory(tmp_path: Path, written: str) -> None:
    assert _loaded(tmp_path, written).get("nginx").runs_on is not None


@pytest.mark.parametrize(
    "written",
    ["{lable: instance}", "[web-1]", "'web 1'", "$(reboot)", "zone=", "{label: in-stance}"],
)
def test_what_is_no_place_is_told_with_its_line(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigError, match=r"services\.yml:4:\d+: "):
        _loaded(tmp_path, written)


def _loaded(folder: Path, written: str) -> Inventory:
    for name, text in CONFIG.items():
        (folder / name).write_text(text)
    (folder / "services.yml").write_text(
        "services:\n  nginx:\n    manager: {command: {restart: [/bin/true]}}\n"
        f"    runs_on: {written}\n"
    )
    return load(folder / "promheal.yml", discover(), {}).inventory


# -- from hand to hand


def made(journal: PostgresJournal, role: ProcessRole | None = None, **steps: float) -> World:
    what = strategy(actions=on("bound", **steps))
    world = World(journal, what) if role is None else World(journal, what, role=role)
    world.inventory = INVENTORY
    return world


def lives(journal: PostgresJournal, name: str) -> None:
    worker = Worker(id=name, host=name, names=(name,), version="1", seen=0.0)
    journal.atomically(lambda t: t.beat(worker, "3", 1, []))


def at_host(central: World, journal: PostgresJournal, **steps: float) -> World:
    """The worker of web-1."""
    host = made(journal, HOST, **steps)
    host.clock.now = central.clock.now
    return host


def pass_until(time: float, *worlds: World) -> None:
    for world in worlds:
        world.clock.now = time


def last(world: World) -> Run:
    return world.runs()[-1]


def test_without_its_worker_a_run_waits_and_is_executed_nowhere_else(
    database_journal: PostgresJournal,
) -> None:
    central = made(database_journal)
    central.fire()

    again = central.consider()

    assert central.verdict() == ("wait", "no_worker")
    assert again == central.clock.now + 10
    assert (last(central).state, last(central).reason) == (State.PENDING, "no_worker")
    assert central.spy.calls == []
    assert central.journal.read(lambda t: t.stats().without_worker) == 1

    lives(database_journal, "web-1")
    central.consider()

    assert (last(central).state, last(central).runs_on) == (State.ACTING, "web-1")
    assert central.spy.calls == [], "who decides does not execute it"
    assert central.journal.read(lambda t: t.stats().without_worker) == 0


def test_deciding_executing_and_verifying_are_each_done_where_they_can_be(
    database_journal: PostgresJournal,
) -> None:
    central = made(database_journal)
    host = at_host(central, database_journal)
    lives(database_journal, "web-1")
    central.fire()

    assert host.consider() == host.clock.now, "it does not decide"
    assert host.runs() == []
    assert central.consider() == central.clock.now
    assert central.consider() == central.clock.now, "it does not execute"
    assert host.consider() == host.clock.now, "it does not verify"

    assert host.spy.calls == ["run bound"]
    assert central.spy.calls == []
    assert last(central).state is State.VERIFYING
    central.verifier.signal = Signal.CLEARED
    central.consider()
    assert last(central).outcome is Outcome.HEALED


def test_what_did_not_heal_is_undone_by_who_did_it(database_journal: PostgresJournal) -> None:
    central = made(database_journal)
    host = at_host(central, database_journal)
    lives(database_journal, "web-1")
    central.fire()
    central.consider()
    host.consider()
    pass_until(central.clock.now + 100_000, central, host)

    assert central.consider() == central.clock.now
    assert last(central).state is State.ROLLING_BACK
    assert central.spy.calls == []
    host.consider()

    assert host.spy.calls == ["run bound", "undo bound"]
    assert last(host).outcome is Outcome.INEFFECTIVE


def test_a_step_that_takes_its_time_is_taken_up_by_its_host(
    database_journal: PostgresJournal,
) -> None:
    central = made(database_journal, later=50.0)
    host = at_host(central, database_journal, later=50.0)
    lives(database_journal, "web-1")
    central.fire()
    central.consider()
    until = host.consider()
    assert last(host).state is State.WAITING
    assert until is not None
    assert central.consider() == until
    pass_until(until, central, host)

    assert central.consider() == central.clock.now
    assert central.spy.calls == []
    host.consider()

    assert host.spy.calls == ["run bound"]


def test_a_run_whose_worker_dies_in_the_middle_waits_for_it_and_is_told_of(
    database_journal: PostgresJournal,
) -> None:
    central = made(database_journal)
    lives(database_journal, "web-1")
    central.fire()
    central.consider()
    database_journal.atomically(lambda t: t.leave("web-1"))

    assert central.consider() == central.clock.now
    assert central.spy.calls == []
    assert central.journal.read(lambda t: t.stats().without_worker) == 1


def test_where_one_process_does_it_all_there_are_no_workers(tmp_path: Path) -> None:
    journal = open_journal(f"sqlite:///{tmp_path}/journal.db")
    world = World(journal, strategy(actions=on("bound")))
    world.inventory = INVENTORY
    world.fire()

    world.consider()

    assert world.verdict() == ("wait", "no_worker")
    assert journal.read(lambda t: t.stats().without_worker) == 1
    journal.close()
