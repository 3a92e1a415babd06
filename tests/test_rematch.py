"""What fires is matched anew after a start and a reload, beside everything else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from receiver.app import Promheal
from receiver.healing import rematch
from receiver.journal import Journal
from receiver.policy.strategy import Strategies
from receiver.policy.target import Key
from receiver.settings import FlagSettings
from receiver.web.flask_app import create_app
from tests.factories import alert, notification, parse_matcher, strategy
from tests.world import KEY, World

MANY = 10_000
STRATEGIES = 60


@pytest.fixture
def world(journal: Journal) -> World:
    return World(journal)


def generic(number: int) -> str:
    """A strategy that must be asked for every alert, since no alert name selects it."""
    return (
        f"  new-{number}:\n    match: ['service=~\"s{number}|t{number}\"']\n"
        "    target: [service, instance]\n    mode: observe\n"
        "    actions: [{action: log, message: hello}]\n"
    )


def test_a_notification_is_answered_while_10000_alerts_are_matched(
    make_service: Callable[[], Promheal], config: Path
) -> None:
    before = make_service()
    for start in range(0, MANY, 1_000):
        fires = (
            {"alertname": "Fires", "service": f"s{n % STRATEGIES}", "instance": f"i{n}"}
            for n in range(start, start + 1_000)
        )
        before.intake.admit(notification(*(alert(labels=one) for one in fires)))
    before.close()
    strategies = "".join(generic(number) for number in range(STRATEGIES))
    (config / "healing_strategies.yml").write_text(f"strategies:\n{strategies}")
    service = make_service()
    client = create_app(service).test_client()
    posted = {"version": "4", "groupKey": "g", "status": "firing", "receiver": "r",
              "externalURL": "http://am", "groupLabels": {}, "commonLabels": {},
              "commonAnnotations": {}, "truncatedAlerts": 0}  # fmt: skip

    service.start()
    took: list[float] = []
    left: list[int] = []
    while service.intake.matching.due:
        number = len(took)
        labels = {"alertname": "Comes", "service": f"s{number % 9}", "instance": f"new-{number}"}
        one = {"status": "firing", "labels": labels, "annotations": {}, "generatorURL": "",
               "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
               "fingerprint": f"{number:016x}"}  # fmt: skip
        before_it = time.monotonic()
        answer = client.post("/webhook", data=json.dumps({**posted, "alerts": [one]}),
                             content_type="application/json")  # fmt: skip
        took.append(time.monotonic() - before_it)
        left.append(service.present().unmatched)
        assert answer.status_code == 202

    wanted = service.journal.read(lambda t: len({key for key, _ in t.firing()}))
    assert wanted == MANY + len(took), "all are matched in the end"
    assert len(took) > 10, "they were answered while the others were matched"
    assert max(took) < 2
    assert len({number for number in left if 0 < number < MANY}) > 1, "it is seen how far it is"
    assert service.present().unmatched == 0


def test_a_reload_meanwhile_starts_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rematch, "BATCH", 2)
    world.strategies = Strategies([])
    world.intake.admit(
        notification(*(alert(labels={"alertname": "A", "service": f"s{n}"}) for n in range(6)))
    )
    first, second = (
        Strategies([strategy(name=name, match=(parse_matcher('alertname="A"'),))])
        for name in ("first", "second")
    )
    world.strategies = first
    matching = world.intake.matching
    woken: list[str] = []

    def wake(key: Key) -> None:
        woken.append(key.strategy)
        world.strategies = second

    monkeypatch.setattr(matching, "_wake", wake)

    matching.run()

    assert not matching.due
    assert world.journal.read(lambda t: {key.strategy for key, _ in t.firing()}) == {"second"}
    assert world.journal.read(lambda t: len(t.firing())) == 6
    assert woken.count("first") == 4, "matched and released: no batch more by what is not in force"
    assert woken.count("second") == 6


def test_a_start_without_a_change_writes_and_wakes_nothing(world: World) -> None:
    world.fire()
    world.woken.clear()
    world.strategies = Strategies([strategy()])

    world.intake.matching.run()

    assert world.woken == []
    assert world.journal.read(lambda t: t.keys()) == {KEY}


def test_what_an_earlier_configuration_asked_for_is_not_acted_on(world: World) -> None:
    world.fire()
    world.strategies = Strategies([strategy(match=(parse_matcher('alertname="Another"'),))])

    world.consider()

    assert world.runs() == []


def test_nor_what_it_asked_for_on_another_target(world: World) -> None:
    world.fire()
    world.strategies = Strategies([strategy(target=("instance",))])

    world.consider()

    assert world.runs() == []


def test_nor_anything_once_detection_is_off(world: World) -> None:
    world.fire()
    world.set(flags=FlagSettings(auto_detection=False))

    world.consider()

    assert world.runs() == []


def test_nothing_is_given_up_that_a_new_strategy_may_ask_for(
    service: Promheal, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.intake.admit(notification(alert(labels={"alertname": "Old"})))
    matching = service.intake.matching
    monkeypatch.setattr(matching, "begin", lambda: None)
    monkeypatch.setattr(service.intake, "settle", lambda: None)
    service.start()
    assert service.housekeeping._leading.wait(10)
    monkeypatch.setattr(service.housekeeping, "_clock", lambda: service.clock() + 10 * 86_400)

    service.housekeeping.resync()
    kept = service.journal.read(lambda t: t.number_firing())
    matching.run()
    service.housekeeping.resync()

    assert (kept, service.journal.read(lambda t: t.number_firing())) == (1, 0)


def test_a_reload_does_not_wait_for_long(
    service: Promheal, monkeypatch: pytest.MonkeyPatch
) -> None:
    matching = service.intake.matching
    monkeypatch.setattr(rematch, "AT_ONCE", 0.01)
    assert matching._one.acquire(blocking=False), "as another thread that matches"

    assert service.reload() == ["what fires is still being matched by the new strategies: 0 left"]

    matching._one.release()
    matching.run()
    assert not matching.due


def test_an_end_meanwhile_leaves_the_rest_to_the_next_start(world: World) -> None:
    world.strategies = Strategies([])
    world.fire()
    world.strategies = Strategies([strategy()])
    matching = world.intake.matching

    matching.stop()
    matching.run()

    assert matching.due
    assert world.journal.read(lambda t: t.keys()) == set()
