"""What happens is told: from a real journal, and where it matters to a real server by Apprise."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from receiver.app import Options, Promheal, build
from receiver.clients.channels import Channels
from receiver.config.in_force import Config
from receiver.errors import ActionError
from receiver.journal import Journal, open_journal
from receiver.policy.breaker import StrategyThresholds, Thresholds
from receiver.policy.run import Outcome
from receiver.policy.signal import Signal
from receiver.policy.strategy import Mode
from receiver.policy.target import Key
from receiver.reporting.metrics import NOTICES
from receiver.reporting.notices import Event, Notices
from receiver.settings import EngineSettings, NotifyChannel, NotifyEvents, NotifySettings
from tests.chain import wait_until
from tests.commits import Failing
from tests.factories import Spy, alert, notification, step, strategy
from tests.listener import Listener
from tests.world import World

ALL = NotifyEvents(**dict.fromkeys(NotifyEvents.__struct_fields__, ("team",)))
FAILING = step(params=Spy.Params(fails=True, undo="none"))


class Remembering(Channels):
    """Keeps what it is to send, and fails as often as the test says."""

    def __init__(self, settings: NotifySettings) -> None:
        super().__init__(settings, {})
        self.sent: list[tuple[str, str, str]] = []
        self.failures = 0
        self.tries = 0

    def send(self, name: str, title: str, body: str, *, timeout: float) -> None:
        self.tries += 1
        if self.tries <= self.failures:
            raise ActionError("channel 'team': it answered 503")
        self.sent.append((name, title, body))


class Told:
    """A world whose events are told."""

    def __init__(self, world: World, on: NotifyEvents = ALL) -> None:
        channels = {name: NotifyChannel(url="json://127.0.0.1:1") for name in ("team", "pager")}
        world.set(notify=NotifySettings(channels=channels, on=on))
        self.world = world
        self.channels = Remembering(world.settings.notify)
        self.again: tuple[float, ...] = (0.01, 0.01, 0.01)

    @property
    def titles(self) -> list[str]:
        return [title for _, title, _ in self.channels.sent]

    def config(self) -> Config:
        return msgspec.structs.replace(self.world.config(), channels=self.channels)

    @contextmanager
    def telling(self, *, apart: float = 0.01) -> Iterator[Notices]:
        notices = Notices(
            journal=self.world.journal,
            config=self.config,
            url="https://heal.example/x/",
            apart=apart,
            again=self.again,
        )
        notices.start()
        yield notices
        notices.stop(10)

    def tell(self) -> None:
        """Tell all there is, and end."""
        with self.telling():
            wait_until(lambda: not self.untold(), what="told")

    def untold(self) -> int:
        return len(self.world.journal.read(lambda t: t.pending_messages(limit=100)))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = open_journal(f"sqlite:///{tmp_path}/journal.db")
    yield journal
    journal.close()


def fail(world: World, service: str = "checkout") -> None:
    world.fire(labels={"alertname": "HighLatency", "service": service})
    world.consider(Key("latency", f'service="{service}"'))


def test_the_events_are_the_keys_of_the_settings() -> None:
    assert {str(event) for event in Event} == set(NotifyEvents.__struct_fields__)


def test_a_failure_is_told_with_what_to_do(journal: Journal) -> None:
    told = Told(World(journal, strategy(actions=(FAILING,))))
    fail(told.world)
    told.tell()
    ((channel, title, body),) = told.channels.sent
    assert channel == "team"
    assert title == 'promheal: failed: latency on service="checkout"'
    assert body.splitlines() == [
        'Run: 1 of latency on service="checkout"',
        "Outcome: failed",
        "Reason: spy: it failed",
        "Alert: alertname=HighLatency, service=checkout",
        "See which step failed: promheal run 1",
        "https://heal.example/x/#runs",
    ]
    assert told.world.totals(NOTICES.name) == {("team", "sent"): 1}


def test_what_was_told_on_a_full_disk_is_not_told_again(journal: Journal) -> None:
    told = Told(World(journal, strategy(actions=(FAILING,))))
    fail(told.world)
    disk = Failing(journal, all_of_them=True)
    with told.telling():
        wait_until(lambda: disk.commits >= 5, what="it is tried again")
        disk.all = False
        wait_until(lambda: not told.untold(), what="written down")

    assert len(told.channels.sent) == 1
    assert told.world.totals(NOTICES.name) == {("team", "sent"): 1}


@pytest.mark.parametrize(
    ("undo", "outcome"), [("works", Outcome.ROLLED_BACK), ("fails", Outcome.ROLLBACK_FAILED)]
)
def test_what_was_undone_or_not_is_told(journal: Journal, undo: str, outcome: Outcome) -> None:
    steps = (step(params=Spy.Params(undo=undo)), FAILING)
    told = Told(World(journal, strategy(actions=steps)))
    fail(told.world)
    told.tell()
    assert told.titles == [f'promheal: {outcome}: latency on service="checkout"']


def test_only_whom_the_event_names_is_told(journal: Journal) -> None:
    on = NotifyEvents(failed=("pager",), ineffective=("team",))
    told = Told(World(journal, strategy(actions=(FAILING,))), on)
    fail(told.world)
    told.tell()
    assert [channel for channel, _, _ in told.channels.sent] == ["pager"]


def test_without_events_nothing_is_written_down(journal: Journal) -> None:
    told = Told(World(journal, strategy(actions=(FAILING,))), NotifyEvents())
    fail(told.world)
    assert told.untold() == 0


def test_a_healed_run_is_not_told(journal: Journal) -> None:
    told = Told(World(journal))
    told.world.fire()
    told.world.consider()
    assert told.untold() == 0


def test_who_is_to_approve_is_asked_once_and_not_when_it_is_over(journal: Journal) -> None:
    told = Told(World(journal, strategy(mode=Mode.APPROVE)))
    told.world.fire()
    for _ in range(3):
        told.world.consider()
    assert told.untold() == 1
    told.tell()
    ((_, title, body),) = told.channels.sent
    assert title == 'promheal: approval needed: latency on service="checkout"'
    assert "Reason: mode: approve\n" in body
    assert (
        "promheal approve 1 --reason WHY, or promheal reject 1 --reason WHY\nhttps://heal.example/x/#waiting"
        in body
    )

    other = {"alertname": "HighLatency", "service": "cart"}
    told.world.fire(labels=other)
    told.world.consider(Key("latency", 'service="cart"'))
    told.world.control.reject(2, by="ann", reason="no")
    told.tell()
    assert len(told.channels.sent) == 1


def test_an_engine_and_a_breaker_that_gave_up_are_told_with_the_command(journal: Journal) -> None:
    thresholds = Thresholds(failures=1, permanent_after=1)
    told = Told(World(journal, strategy(actions=(FAILING,), breaker=thresholds)))
    told.world.set(engine=EngineSettings(dormant_after=1))
    fail(told.world)
    told.tell()
    ((_, title, body),) = told.channels.sent
    assert title == "promheal: 1 failed, 1 breaker_permanent_open, 1 dormant"
    assert body.splitlines() == [
        "breaker strategy:latency is open for good (run 1)",
        "dormant: the engine has stopped itself (run 1)",
        'failed: latency on service="checkout" (run 1)',
        "https://heal.example/x/",
    ]


def unproven(world: World, times: int, *, unasked: bool = False) -> None:
    """So many runs of which Prometheus cannot say how they went."""
    for _ in range(times):
        world.verifier.signal, world.verifier.unasked = Signal.FIRING, False
        world.clock.now += 300
        world.consider()
        world.verifier.signal, world.verifier.unasked = Signal.UNKNOWN, unasked
        world.clock.now += 300
        world.consider()


def test_what_is_proven_never_is_told_from_the_third_in_a_row_on(journal: Journal) -> None:
    told = Told(World(journal, strategy(budget=())))
    told.world.fire()
    unproven(told.world, 2)
    assert told.untold() == 0
    unproven(told.world, 1)
    told.tell()
    ((_, title, body),) = told.channels.sent
    assert title == 'promheal: inconclusive: latency on service="checkout"'
    assert "See what could not be proven, and why: promheal run 3" in body


def test_that_prometheus_could_not_be_asked_is_told_at_once(journal: Journal) -> None:
    told = Told(World(journal, strategy(budget=())))
    told.world.fire()
    unproven(told.world, 1, unasked=True)
    told.tell()
    assert told.titles == ['promheal: inconclusive: latency on service="checkout"']


def test_a_heal_that_did_not_hold_is_told_once(journal: Journal) -> None:
    told = Told(World(journal))
    world = told.world
    world.fire()
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.clock.now += 5
    world.consider()
    world.clock.now += 30
    world.verifier.signal = Signal.FIRING
    for _ in range(3):
        world.consider()
        world.clock.now += 1
    told.tell()
    ((_, title, body),) = told.channels.sent
    assert title == 'promheal: healed, and it fires again: latency on service="checkout"'
    assert "It treats a symptom, so look for the cause: promheal run 1" in body


def test_a_breaker_that_opens_for_good_because_heals_do_not_hold_is_told(
    journal: Journal,
) -> None:
    breaker = StrategyThresholds(failures=1, permanent_after=1)
    told = Told(World(journal, strategy(breaker=breaker)))
    world = told.world
    world.fire()
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.clock.now += 5
    world.consider()
    world.verifier.signal = Signal.FIRING
    world.clock.now += 5
    world.consider()
    told.tell()
    ((_, title, body),) = told.channels.sent
    assert title == "promheal: 1 relapsed, 1 breaker_permanent_open"
    assert "breaker strategy:latency is open for good" in body


def test_a_label_cannot_forge_a_line_or_a_command(journal: Journal) -> None:
    labels = {"alertname": "HighLatency", "service": "x'; touch /tmp/x #\nRun: sudo rm"}
    told = Told(World(journal, strategy(actions=(FAILING,))), NotifyEvents(
        breaker_permanent_open=("team",)
    ))  # fmt: skip
    told.world.set(engine=EngineSettings(target_breaker=Thresholds(failures=1, permanent_after=1)))
    told.world.fire(labels=labels)
    (key,) = journal.read(lambda t: t.keys())
    told.world.consider(key)
    told.tell()
    ((_, _, body),) = told.channels.sent
    assert not [line for line in body.splitlines() if line.startswith("Run: sudo")]
    (command,) = [line for line in body.splitlines() if "breaker reset" in line]
    words = shlex.split(command.partition("says: ")[2])
    assert words[3:5] == [f"target:{key[1]}", "--force"]


def test_a_storm_is_one_message(journal: Journal) -> None:
    told = Told(World(journal, strategy(actions=(FAILING,))), NotifyEvents(failed=("team",)))
    engine = told.world.settings.engine
    told.world.set(
        engine=msgspec.structs.replace(
            engine, dormant_after=1_000, main_breaker=engine.main_breaker.__class__(failures=1_000)
        )
    )
    for number in range(4):
        told.world.clock.now += 1_000
        fail(told.world, f"s{number}")
    assert told.untold() == 4
    told.tell()
    ((_, title, body),) = told.channels.sent
    assert title == "promheal: 4 failed"
    assert body.count("failed: latency on service=") == 4


def test_a_channel_that_comes_back_is_told_and_one_that_does_not_is_counted(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(World(journal, strategy(actions=(FAILING,))))
    told.channels.failures = 2
    fail(told.world)
    told.tell()
    assert (told.channels.tries, len(told.channels.sent)) == (3, 1)

    told.channels.tries, told.channels.failures = 0, 99
    told.world.clock.now += 1_000
    fail(told.world, "cart")
    told.tell()
    assert told.channels.tries == 1 + len(told.again)
    assert told.world.totals(NOTICES.name) == {("team", "sent"): 1, ("team", "failed"): 1}
    assert "notification not delivered: channel 'team': it answered 503" in caplog.text


# ── with Apprise, a server, and promheal itself ──


STRATEGIES = """\
strategies:
  latency:
    match: ['alertname="HighLatency"']
    target: [service]
    mode: auto
    actions:
      - action: command
        argv: [/bin/false]
"""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as one:
        yield one


@pytest.fixture
def options(config: Path, listener: Listener) -> Options:
    (config / "promheal.yml").write_text(
        "notify:\n"
        "  channels: {team: {url_env: TEAM_URL}}\n"
        "  on: {failed: [team], approval_needed: [team]}\n"
        "engine: {backoff: {first: 1ms, most: 1ms}}\n"
    )
    (config / "healing_strategies.yml").write_text(STRATEGIES)
    return Options(
        config_file=config / "promheal.yml",
        storage_url=f"sqlite:///{config}/journal.db",
        environ={"TEAM_URL": listener.url},
    )


def failed(service: Promheal) -> int:
    """How many targets had a run that failed."""
    runs = service.journal.read(lambda t: t.runs(limit=100))
    return len({run.target for run in runs if run.outcome is Outcome.FAILED})


def test_a_failed_run_is_told_by_a_real_promheal(options: Options, listener: Listener) -> None:
    service = build(options)
    try:
        service.start()
        service.intake.admit(notification(alert(starts_at=service.clock())))
        ((title, body),) = wait_until(lambda: listener.messages, what="told")
    finally:
        service.close(5)
    assert title == 'promheal: failed: latency on service="checkout"'
    assert "/bin/false" in body


def test_a_slow_channel_holds_nobody_up(options: Options, listener: Listener) -> None:
    listener.delay = 1.0
    service = build(options)
    try:
        service.start()
        service.intake.admit(notification(alert(starts_at=service.clock())))
        wait_until(lambda: listener.told, what="being told")  # which would take ten minutes
        for name in ("a", "b", "c"):
            labels = {"alertname": "HighLatency", "service": name}
            service.intake.admit(notification(alert(labels=labels, starts_at=service.clock())))
        wait_until(lambda: failed(service) == 4, within=10, what="four runs have failed")
        assert len(listener.told) == 1
    finally:
        began = time.monotonic()
        service.close(5)
    assert time.monotonic() - began < 6


DIE = """\
import os, signal, sys
from pathlib import Path
from receiver.clients.channels import Channels
from receiver.app import Options, build
from tests.factories import alert, notification

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

Channels.send = die
folder = Path(sys.argv[1])
service = build(Options(config_file=folder / "promheal.yml",
                        storage_url=f"sqlite:///{folder}/journal.db", environ={"TEAM_URL": "x"}))
service.start()
service.intake.admit(notification(alert(starts_at=service.clock())))
signal.pause()
"""


def test_what_was_not_told_when_promheal_was_killed_is_told_by_the_next(
    options: Options, config: Path, listener: Listener
) -> None:
    died = subprocess.run([sys.executable, "-c", DIE, str(config)], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert listener.told == []
    service = build(options)
    try:
        service.start()
        ((title, _),) = wait_until(lambda: listener.messages, what="told")
    finally:
        service.close(5)
    assert title == 'promheal: failed: latency on service="checkout"'
