"""Receivers, workers and PostgreSQL on machines of their own: all is done, and nothing twice.

Each machine is a network namespace (estate.py). Longer: `make many-alerts`, `make kill-sweep-many`.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import cycle
from typing import Any, Final, Self

import pytest

from tests.acceptance.estate import (
    Alertmanager,
    Estate,
    Postgres,
    Program,
    Prometheus,
    estate_in,
)
from tests.acceptance.fleet import TOKENS, Deeds, Fleet
from tests.acceptance.server import PATIENCE, alert, strategy
from tests.acceptance.test_rules_live import rules
from tests.chain import wait_until
from tests.figures import Record

pytestmark = pytest.mark.heavy

ALERTS: Final = int(os.environ.get("ALERTS", "150"))
KILLS: Final = int(os.environ.get("KILLS", "5"))
LONG: Final = 10 * PATIENCE
"""Seconds for what hundreds of runs take on a busy machine."""
AT_ONCE: Final = 1.5
"""Seconds within which a notification is refused when PostgreSQL has ended."""
CUT_OFF: Final = 10.0
"""Seconds within which it is refused when no packet comes to PostgreSQL or back."""
DEADLINE: Final = "15s"
"""Of the steps that another worker takes over."""
HISTORY: Final = """
    SELECT run.id, run.state, run.outcome, phase, position, step.state, step.started_at,
           step.finished_at, attempt, result, error
    FROM run JOIN step ON step.run = run.id
    WHERE run.strategy IN ('once', 'again') ORDER BY run.id, phase, position
"""


class Site:
    """A database, three receivers, two workers, and two Alertmanagers that know of no other."""

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.deeds = Deeds(estate.folder / "deeds")
        self.postgres = Postgres(estate, estate.host("db"))
        self.fleet = Fleet(
            estate,
            self.postgres,
            self._strategies(),
            self._services(),
            engine={"max_concurrent_runs": 32},
        )
        self.receivers = [self.fleet.receiver(f"receiver-{number}") for number in (1, 2, 3)]
        self.workers = [self.fleet.worker(f"worker-{number}") for number in (1, 2)]
        self.web = self.fleet.worker("web-1", "--host", "web-1", "--labels", "zone=a")
        """Not started at first."""
        first, second, third = (receiver.webhook for receiver in self.receivers)
        self.alertmanagers = [
            Alertmanager(
                estate,
                estate.host(f"alertmanager-{number}"),
                webhooks,
                token=TOKENS["webhook"],
                group_by=["batch"],
            )
            for number, webhooks in enumerate(([first, second], [third]), 1)
        ]
        for one in self.programs[1:]:
            one.launch()
        for one in self.programs[1:]:
            one.wait_ready()

    def _strategies(self) -> dict[str, Any]:
        deed, step = "{{ labels.n }}", self.deeds.step
        restart = {"action": "restart_service", "service": "{{ labels.service }}"}
        twofold = [step(f"{deed}-{each}", 0.3, timeout=DEADLINE) for each in "ab"]
        actions = {
            "Quick": [step(deed)],
            "Twofold": twofold,
            "Patient": [step(deed)],
            "Once": [
                step(deed, timeout=DEADLINE, undo=self.deeds.argv(f"{deed}-undo")),
                step(f"{deed}-after"),
            ],
            "Again": [step(deed, timeout=DEADLINE, idempotent=True)],
            "Down": [restart],
            "Bound": [restart, *twofold],
        }
        values = {"n": "[a-z0-9][a-z0-9-]*"}
        return {
            name.lower(): strategy(*steps, match=name, target=["n"], values=values)
            for name, steps in actions.items()
        }

    def _services(self) -> dict[str, Any]:
        where = {"shop": "web-1", "cart": "zone=a", "geo": {"label": "instance"}}
        return {
            name: {"manager": {"command": {"restart": self.deeds.argv(name)}}, "runs_on": runs_on}
            for name, runs_on in where.items()
        }

    @property
    def programs(self) -> Sequence[Program]:
        return (self.postgres, *self.receivers, *self.workers, *self.alertmanagers)

    def tell(self, name: str, /, **labels: Any) -> None:
        """Give one alert to a receiver."""
        answer = self.receivers[0].post(alert(name, **labels))
        assert answer.status == 202, answer

    def finished(self, *names: str) -> dict[str, dict[str, Any]]:
        """Wait until a run has ended for each of these, and return it in full.

        While the alert fires on, one that waits for the end of the grace period stands behind it.
        """
        wanted = [f'n="{name}"' for name in names]

        def ended() -> dict[str, int] | None:
            rows = self.postgres.sql("SELECT target, id FROM run WHERE state = 'finished'")
            found = dict(rows)
            return found if found.keys() >= set(wanted) else None

        numbers: dict[str, int] = wait_until(ended, within=LONG, what="all runs end")
        return {
            name: self.receivers[0].run(numbers[target])
            for name, target in zip(names, wanted, strict=True)
        }

    def acted(self) -> Counter[str]:
        """How many runs of each target have acted."""
        return Counter(run["target"] for run in self.receivers[0].runs() if run["actedAt"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with estate_in(tmp_path_factory.mktemp("estate")) as estate:
        yield Site(estate)


class Load:
    """One new alert after the other: to a receiver, and by both Alertmanagers to all of them."""

    def __init__(
        self, site: Site, prefix: str, *, pause: float, kinds: Sequence[str] = ("Twofold",)
    ) -> None:
        self.site = site
        self.prefix = prefix
        self.pause = pause
        self.kinds = kinds
        self.said: list[str] = []
        """The names of all of them."""
        self.accepted: list[str] = []
        """Those that a receiver answered 202."""
        self.answers: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def _go_on(self) -> None:
        turns, kinds = cycle(self.site.receivers), cycle(self.kinds)
        while not self._over.wait(self.pause):
            name = f"{self.prefix}{len(self.said)}"
            self.said.append(name)
            one = alert(next(kinds), n=name, service="shop")
            try:
                answer = str(next(turns).post(one).status)
            except OSError as error:
                answer = type(error).__name__
            self.answers[answer] += 1
            if answer == "202":
                self.accepted.append(name)
            for alertmanager in self.site.alertmanagers:
                with suppress(OSError):
                    alertmanager.fire([one])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> Counter[str]:
        """See that all that was accepted came to its end, and nothing was done twice."""
        assert len(self.accepted) > 5, self.answers
        outcomes: Counter[str] = Counter()
        for name, run in self.site.finished(*self.accepted).items():
            outcomes[run["outcome"]] += 1
            steps = [step for step in run["steps"] if step["phase"] == "run"]
            states = {step["index"]: step["state"] for step in steps if step["action"] == "command"}
            bound = run["strategy"] == "bound"
            for index, deed in enumerate(("a", "b"), start=int(bound)):
                lines = self.site.deeds.of(f"{name}-{deed}")
                whats = [line.what for line in lines]
                about = (name, lines, run)
                assert {line.run for line in lines} <= {run["id"]}, about
                if states.get(index) == "done":
                    assert whats == ["begin", "end"], about
                else:  # it was killed on the way, and the journal knows no more than that
                    assert states.get(index) in {"unknown", None}, about
                    assert whats in ([], ["begin"], ["begin", "end"]), about
                if index not in states:
                    assert lines == [], about
                if bound:
                    assert {line.namespace for line in lines} <= {self.site.web.host.namespace}
            whole = [step["state"] for step in steps] == ["done"] * (2 + bound)
            assert run["outcome"] == ("inconclusive" if whole else "unknown"), run
        for name in self.said:
            for deed in ("a", "b"):
                begun = [
                    line for line in self.site.deeds.of(f"{name}-{deed}") if line.what == "begin"
                ]
                assert len(begun) <= 1, (name, begun)
        acted = self.site.acted()
        assert max(acted.values()) == 1, acted.most_common(3)
        return outcomes


def test_each_alert_is_acted_on_once(site: Site, record_property: Record) -> None:
    names = [f"each{number}" for number in range(ALERTS)]
    alerts = [alert("Quick", n=name, batch=str(n % 7)) for n, name in enumerate(names)]
    dice = random.Random(7)
    for _ in range(2):
        dice.shuffle(alerts)
        for first in range(0, ALERTS, 100):
            for alertmanager in site.alertmanagers:
                alertmanager.fire(alerts[first : first + 100])
    runs = site.finished(*names)
    for name in names:
        assert [line.what for line in site.deeds.of(name)] == ["begin", "end"], name
    acted = site.acted()
    assert {acted[f'n="{name}"'] for name in names} == {1}
    assert {run["outcome"] for run in runs.values()} == {"inconclusive"}  # nobody can prove it
    places = {site.deeds.of(name)[0].namespace for name in names}
    assert places == {worker.host.namespace for worker in site.workers}
    told = [one["notifications"] for one in site.receivers[0].alerts().values()]
    assert min(told) >= 3, "three receivers were told of each"
    record_property("episodes", len(names))
    record_property("actions of one episode", max(acted[f'n="{name}"'] for name in names))


def test_without_postgres_it_refuses_at_once_and_loses_nothing(site: Site) -> None:
    site.deeds.hold("away")
    site.tell("Patient", n="away")
    site.deeds.begun("away")
    assert site.postgres.stop() == 0
    for number, receiver in enumerate(site.receivers):
        for _ in range(2):
            began = time.monotonic()
            assert receiver.post(alert("Quick", n=f"refused{number}")).status == 503
            assert time.monotonic() - began < AT_ONCE
    site.deeds.release("away")
    wait_until(lambda: len(site.deeds.of("away")) == 2, within=PATIENCE, what="it ends")
    time.sleep(2)
    site.postgres.start()

    def taken() -> bool:
        told = [
            receiver.post(alert("Quick", n=f"back{number}"))
            for number, receiver in enumerate(site.receivers)
        ]
        return {answer.status for answer in told} == {202}

    wait_until(taken, within=PATIENCE, what="all receivers take alerts again")
    runs = site.finished("away", *(f"back{number}" for number in range(3)))
    assert [step["state"] for step in runs["away"]["steps"]] == ["done"]
    assert [line.what for line in site.deeds.of("away")] == ["begin", "end"]


def test_who_is_cut_off_or_frozen_does_nothing_more(site: Site) -> None:
    """One worker is not heard any more, and one stands still, as a machine that is being moved."""
    cut_off, frozen = site.workers
    receiver, db = site.receivers[1], site.postgres.host
    third = site.fleet.worker("worker-3")
    assert frozen.stop() == 0
    for name in ("patient", "once", "again"):
        site.deeds.hold(name)
        site.tell(name.capitalize(), n=name)
        assert site.deeds.begun(name).namespace == cut_off.host.namespace
    with (
        site.estate.cut(cut_off.host, db),
        site.estate.cut(receiver.host, db),
        ExitStack() as thaw,
    ):
        frozen.start()
        site.deeds.hold("stiff")
        site.tell("Once", n="stiff")
        assert site.deeds.begun("stiff").namespace == frozen.host.namespace
        frozen.freeze()
        thaw.callback(frozen.thaw)
        third.start()
        began = time.monotonic()
        assert receiver.post(alert("Quick", n="unheard")).status == 503
        assert time.monotonic() - began < CUT_OFF
        site.tell("Quick", n="heard")
        site.finished("heard")
        # What may be repeated is repeated when its deadline is over, and by then it has ended.
        assert site.deeds.begun("again", 2).namespace == third.host.namespace
        assert not cut_off.host.alive(site.deeds.begun("again").pid)
        site.deeds.release("again")
        # What may not is taken back.
        for name, worker in (("once", cut_off), ("stiff", frozen)):
            assert site.deeds.begun(f"{name}-undo").namespace == third.host.namespace
            assert not worker.host.alive(site.deeds.begun(name).pid)
        runs = site.finished("once", "stiff", "again")
        assert {runs[name]["outcome"] for name in ("once", "stiff")} == {"unknown"}
        assert [(step["state"], step["attempt"]) for step in runs["again"]["steps"]] == [
            ("done", 2)
        ]
        # What may take longer is nobody else's.
        assert [line.what for line in site.deeds.of("patient")] == ["begin"]
        site.deeds.release("patient")
        wait_until(lambda: len(site.deeds.of("patient")) == 2, within=PATIENCE, what="it ends")
        history = site.postgres.sql(HISTORY)
    patient = site.finished("patient")["patient"]
    assert [step["state"] for step in patient["steps"]] == ["done"]
    # Back again they work on, each alone, and have nothing more to say about what was taken over.
    third.stop()
    for worker, other in ((cut_off, frozen), (frozen, cut_off)):
        assert other.stop() == 0
        wait_until(lambda: worker.ask("/-/ready").status == 200, within=PATIENCE, what="ready")
        site.tell("Quick", n=f"after-{worker.host.name}")
        site.finished(f"after-{worker.host.name}")
        other.start()
    assert receiver.post(alert("Quick", n="heard-again")).status == 202
    site.finished("heard-again")
    assert site.postgres.sql(HISTORY) == history
    for name in ("once", "stiff"):
        assert [line.what for line in site.deeds.of(name)] == ["begin"]
        assert site.deeds.of(f"{name}-after") == []


@pytest.fixture
def prometheus(site: Site) -> Prometheus:
    members = [*site.receivers, *site.workers]
    return Prometheus(
        site.estate,
        site.estate.host("prometheus"),
        {"promheal": [member.address for member in members]},
        rules=rules(),
        token=TOKENS["viewer"],
    ).start()


def test_steps_that_run_on_a_host_wait_for_its_worker(site: Site, prometheus: Prometheus) -> None:
    receiver = site.receivers[0]

    def waits() -> bool:
        runs = receiver.runs("down")
        return {run["reason"] for run in runs} == {"no_worker"} and len(runs) == 3

    def fires() -> bool:
        return "PromhealNoWorker" in prometheus.firing()

    assert not fires()
    site.tell("Down", n="shop", service="shop")
    site.tell("Down", n="cart", service="cart")
    site.tell("Down", n="geo", service="geo", instance="web-1:9100")
    wait_until(waits, within=PATIENCE, what="they wait for a worker")
    assert receiver.metric("runs_without_worker") == 3
    # The command line sends no token over plain http to another machine: it asks on its own.
    site.fleet.receiver("desk", loopback=True).start()
    runs_of = [sys.executable, "-m", "receiver", "runs"]
    said = site.estate.desk.run(runs_of, env={"PROMHEAL_TOKEN": TOKENS["viewer"]})
    assert said.stdout.count("no_worker") == 3, said
    wait_until(fires, within=PATIENCE, what="PromhealNoWorker fires")
    # A worker of another host is none for them.
    site.fleet.worker("web-2", "--host", "web-2", "--labels", "zone=b").start()
    site.tell("Quick", n="meanwhile")
    site.finished("meanwhile")
    time.sleep(1)
    assert waits()
    site.web.start()
    runs = site.finished("shop", "cart", "geo")
    for name, run in runs.items():
        assert [step["state"] for step in run["steps"]] == ["done"]
        assert {line.namespace for line in site.deeds.of(name)} == {site.web.host.namespace}
        assert [line.what for line in site.deeds.of(name)] == ["begin", "end"]
    wait_until(lambda: not fires(), within=PATIENCE, what="PromhealNoWorker is over")


def test_a_rolling_restart_is_not_noticed(site: Site) -> None:
    with Load(site, "roll", pause=0.2) as load:
        for receiver in site.receivers:
            assert receiver.stop() == 0
            receiver.start()
        site.deeds.hold("in-hand")
        site.tell("Patient", n="in-hand")
        place = site.deeds.begun("in-hand").namespace
        for worker in sorted(site.workers, key=lambda each: each.host.namespace != place):
            worker.terminate()
            if worker.host.namespace == place:
                time.sleep(1)
                site.deeds.release("in-hand")
            assert worker.ended() == 0
            worker.start()
    assert load.answers.keys() <= {"202", "ConnectionRefusedError", "ConnectionResetError"}
    assert load.look().keys() == {"inconclusive"}
    assert [line.what for line in site.deeds.of("in-hand")] == ["begin", "end"]
    assert [step["state"] for step in site.finished("in-hand")["in-hand"]["steps"]] == ["done"]
    # Those that no receiver took when it was told of them, were told again by the Alertmanagers.
    assert len(site.finished(*load.said)) == len(load.said)


def test_killed_at_random_nothing_is_lost_or_done_twice(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(KILLS)
    site.web.kill9()
    mortals = [*site.programs, site.web.start()]
    victims: list[Program] = []
    kinds = ("Twofold", "Twofold", "Bound")
    with Load(site, "kill", pause=0.15, kinds=kinds) as load:
        for number in range(KILLS):
            if not victims:
                victims = dice.sample(mortals, len(mortals))
            dead = [victims.pop() for _ in range(dice.choice((1, 1, 2))) if victims]
            time.sleep(dice.uniform(0.2, 1.0))
            for victim in dead:
                victim.kill9()
            time.sleep(dice.uniform(0.0, 0.5))
            for victim in sorted(dead, key=lambda each: each is not site.postgres):
                victim.start()
            if KILLS > 10:
                with capsys.disabled():
                    names = " and ".join(victim.host.name for victim in dead)
                    print(f"kill {number + 1} of {KILLS}: {names}")  # noqa: T201
    assert load.answers["202"] > load.answers.total() / 3, load.answers
    outcomes = load.look()
    with capsys.disabled():
        if KILLS > 10:
            print(f"answers {dict(load.answers)}, outcomes {dict(outcomes)}")  # noqa: T201
