"""What Alertmanager sends is accepted and understood, once, however often and however much of it.

The bodies in tests/payloads/ were recorded from Alertmanager 0.25; INDEX.json says what they are.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.server import (
    Sender,
    Spies,
    Undaunted,
    alert,
    most_at_once,
    notification,
    resolved,
    strategy,
)
from tests.chain import wait_until

PAYLOADS: Final = Path(__file__).resolve().parent.parent / "payloads"
INDEX: Final[list[dict[str, Any]]] = json.loads((PAYLOADS / "INDEX.json").read_text())
STORM: Final = 2_000
AT_ONCE: Final = 8
SPY: Final = {"spy": "n[0-9]+"}
"""The default of max_concurrent_runs."""


def recorded(name: str) -> bytes:
    return (PAYLOADS / f"{name}.json").read_bytes()


def fingerprints(body: bytes, status: str) -> set[str]:
    return {a["fingerprint"] for a in json.loads(body)["alerts"] if a["status"] == status}


class Healed(Undaunted):
    """A promheal with its spies."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.spies = Spies(folder / "spies")
        super().__init__(folder, self.strategies(), **settings)

    def strategies(self) -> dict[str, Any]:
        return {
            "spike": strategy(self.spies.step("spike"), match="SpikeHigh"),
            "cpu": strategy(self.spies.step("cpu"), match="HostHighCpu", target=["instance"]),
        }

    def acted_on(self) -> Counter[str]:
        """How many actions each fingerprint got that are over."""
        return Counter(e.fingerprint for e in self.spies.events() if e.event == "end")


# ── a storm; the tests below run while it is worked off ──


class Storm(Healed):
    """2,000 different alerts, one a POST, within ten seconds where the machine can."""

    answers: Counter[int]
    seconds: float
    sent: set[str]

    def strategies(self) -> dict[str, Any]:
        # 50 ms are long enough to be seen beside each other, and 2,000 of them take 13 s.
        return {"storm": strategy(self.spies.step("storm", seconds=0.05), match="Storm")}

    def rage(self) -> None:
        alerts = [alert("Storm", number=str(number)) for number in range(STORM)]
        bodies = [json.dumps(notification(one)).encode() for one in alerts]
        self.sent = {one["fingerprint"] for one in alerts}
        start = time.monotonic()

        def send(share: int) -> list[int]:
            sender = Sender(self)
            try:
                answers = []
                for number in range(share, STORM, 10):
                    time.sleep(max(0.0, start + number * 9.5 / STORM - time.monotonic()))
                    answers.append(sender.post(bodies[number]))
                return answers
            finally:
                sender.close()

        with ThreadPoolExecutor(10) as pool:
            self.answers = Counter(code for share in pool.map(send, range(10)) for code in share)
        self.seconds = time.monotonic() - start


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    with Storm(tmp_path_factory.mktemp("storm")) as server:
        assert isinstance(server, Storm)
        server.rage()
        yield server


@pytest.mark.alone
def test_all_of_2000_alerts_in_ten_seconds_are_accepted(storm: Storm) -> None:
    assert storm.answers == {202: STORM}
    assert len(storm.sent) == STORM
    assert set(storm.alerts()) == storm.sent
    assert storm.metric("notifications_total", code="202") == STORM
    assert storm.seconds < 60, "ten seconds, on a machine that has nothing else to do"
    print(f"{STORM} accepted in {storm.seconds:.1f} s")  # noqa: T201


def test_in_a_storm_never_more_act_at_once_than_allowed(storm: Storm) -> None:
    wait_until(lambda: len(storm.acted_on()) >= 200, within=120, what="200 are acted on")
    assert 1 < most_at_once(storm.spies.events()) <= AT_ONCE
    assert storm.get("/api/status")["runs"]["acting"] <= AT_ONCE


def test_in_a_storm_who_does_not_act_yet_waits_for_a_slot(storm: Storm) -> None:
    """Nobody is lost: each alert has a run, and those that have not acted say why."""
    wait_until(
        lambda: len({run["target"] for run in storm.runs("storm")}) == STORM,
        within=120,
        what="each has a run",
    )
    runs = storm.runs("storm")
    assert {run["target"] for run in runs} == {f'fingerprint="{one}"' for one in storm.sent}
    acted = {run["target"] for run in runs if run["actedAt"] is not None}
    pending = [run for run in runs if run["state"] == "pending"]
    assert {run["reason"] for run in pending if run["target"] not in acted} <= {"concurrency"}
    assert {run["reason"] for run in pending if run["target"] in acted} <= {
        "grace_period",
        "concurrency",  # asked before the grace period while all slots are taken
    }


# ── what was recorded ──


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Healed]:
    with Healed(tmp_path) as running:
        assert isinstance(running, Healed)
        yield running


def test_recorded_notifications_open_and_close_the_right_episodes(server: Healed) -> None:
    """Each alert is judged alone: the group's own status lies in truncated_mixed."""
    first = [one["file"].removesuffix(".json") for one in INDEX]
    assert len(first) == len(list(PAYLOADS.glob("*.json"))) - 1 == 10
    again = ["firing_single", "resolved_single", "grouped_50_firing"]
    open_now: set[str] = set()
    ended: set[str] = set()
    expected = Counter[str]()
    for name in first + again:
        body = recorded(name)
        firing, over = fingerprints(body, "firing"), fingerprints(body, "resolved")
        opened = firing - open_now - ended
        closed = over & open_now
        answer = server.deliver(body)
        assert answer.status == 202, (name, answer)
        told = {
            "opened": len(opened),
            "repeated": len(firing) - len(opened) + len(over) - len(closed),
            "closed": len(closed),
        }
        assert answer.json() == told, name
        expected["opened"] += len(opened)
        expected["repeat"] += len(firing & open_now)
        expected["late"] += len(firing & ended)
        expected["not_open"] += len(over) - len(closed)
        expected["firing"] += len(firing)
        expected["resolved"] += len(over)
        open_now = (open_now | opened) - closed
        ended |= closed
        assert set(server.alerts()) == open_now, name

    metrics = server.metrics()

    def total(name: str, **labels: str) -> float:
        return metrics[f"promheal_{name}_total", frozenset(labels.items())]

    assert total("notifications", code="202") == len(first + again)
    for status in ("firing", "resolved"):
        assert total("alerts_received", status=status) == expected[status] > 0
    for reason in ("repeat", "late", "not_open"):
        assert total("alerts_deduplicated", reason=reason) == expected[reason] > 0, reason
    assert total("alerts_quarantined") == 0
    assert metrics["promheal_alerts_firing", frozenset({("strategy", "spike")})] == len(open_now)

    # Whoever fires now was acted on once, and nobody more than once.
    wait_until(lambda: open_now <= set(server.acted_on()), within=60, what="all that fire acted on")
    assert set(server.acted_on().values()) == {1}


def test_both_halves_of_an_alertmanager_pair_make_one_episode_and_one_run(server: Healed) -> None:
    one, two = recorded("ha_pair_am1"), recorded("ha_pair_am2_duplicate")
    assert json.loads(one)["externalURL"] != json.loads(two)["externalURL"]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(server.deliver, (one, two)))
    assert [answer.status for answer in answers] == [202, 202]
    assert sorted(answer.json()["opened"] for answer in answers) == [0, 1]
    (fingerprint,) = fingerprints(one, "firing")
    assert server.alerts()[fingerprint]["notifications"] == 2
    server.finished("spike")
    # What came later only waits for the grace period.
    assert [run["state"] for run in server.runs("spike")] in (["finished", "pending"], ["finished"])
    assert server.acted_on() == {fingerprint: 1}

    # One of them says that it is over, the other one lags behind: it stays over.
    over = [{**a, "status": "resolved", "endsAt": "2026-11-22T05:00:00Z"} for a in firing(one)]
    assert server.post(*over).json()["closed"] == 1
    assert server.deliver(two).json() == {"opened": 0, "repeated": 1, "closed": 0}
    assert server.alerts() == {}


def firing(body: bytes) -> list[dict[str, Any]]:
    return [a for a in json.loads(body)["alerts"] if a["status"] == "firing"]


def test_a_hundred_duplicates_are_one_action(server: Healed) -> None:
    body = recorded("firing_single")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(server.deliver, [body] * 100))
    assert [answer.status for answer in answers] == [202] * 100
    assert sum(answer.json()["opened"] for answer in answers) == 1
    assert sum(answer.json()["repeated"] for answer in answers) == 99
    (run,) = server.finished("spike")
    assert len(run["steps"]) == 1
    server.deliver(body)
    assert len(server.spies.starts()) == 1
    assert server.metric("alerts_deduplicated_total", reason="repeat") == 100
    assert server.metric("actions_total", action="command", outcome="done") == 1


def test_an_alert_that_comes_back_is_another_episode(tmp_path: Path) -> None:
    spies = Spies(tmp_path / "spies")
    budget = [{"runs": 1_000, "per": "1h"}]  # it is acted on again and again until its end
    strategies = {"x": strategy(spies.step("x"), match="X", grace_period="0", budget=budget)}
    with Undaunted(tmp_path, strategies) as server:
        first = alert("X")
        server.post(first)
        server.finished("x")
        server.post(resolved(first))
        assert server.alerts() == {}
        acted = len(spies.starts())
        later = alert("X", started=time.time())
        assert later["fingerprint"] == first["fingerprint"]
        assert server.post(later).json()["opened"] == 1
        wait_until(lambda: len(spies.starts()) > acted, what="the second episode is acted on")


# ── slots ──


def test_every_slot_that_becomes_free_is_taken_at_once(tmp_path: Path) -> None:
    """Also when several become free together, and nothing else happens that could wake anybody."""
    spies = Spies(tmp_path / "spies")
    names = [f"n{number}" for number in range(4 * AT_ONCE)]
    spies.hold(*names)
    strategies = {"x": strategy(spies.step("{{ labels.spy }}"), match="X", values=SPY)}
    with Undaunted(tmp_path, strategies, engine={"resync": "1h"}) as server:
        server.post(*(alert("X", spy=name) for name in names))
        wait_until(lambda: len(server.runs("x")) == len(names), within=60, what="each has a run")
        for taken in range(AT_ONCE, len(names) + 1, AT_ONCE):
            wait_until(lambda: len(spies.starts()) >= taken, within=60, what=f"{taken} started")
            assert len(spies.starts()) == taken
            spies.release(*spies.starts())
        server.finished("x", len(names))
        assert most_at_once(spies.events()) == AT_ONCE


def test_who_comes_back_from_a_timer_takes_no_more_slots_than_there_are(tmp_path: Path) -> None:
    """They hold no slot meanwhile, so more of them may come back at once than there are slots."""
    spies = Spies(tmp_path / "spies")
    names = [f"n{number}" for number in range(6)]
    spies.hold(*names)
    wait = {"action": "wait", "duration": "5s"}
    strategies = {"x": strategy(wait, spies.step("{{ labels.spy }}"), match="X", values=SPY)}
    with Undaunted(tmp_path, strategies, engine={"max_concurrent_runs": 2}) as server:
        server.post(*(alert("X", spy=name) for name in names))
        runs = server.until(
            "x",
            lambda runs: {run["state"] for run in runs} == {"waiting"} and len(runs) == len(names),
            "all wait",
        )
        wait_until(lambda: time.time() > max(run["until"] for run in runs) + 1, what="all are due")
        for count in range(2, 8, 2):
            wait_until(lambda: len(spies.starts()) >= count, within=60, what=f"{count} came")
            assert len(spies.starts()) == count
            spies.release(*spies.starts())
        server.finished("x", len(names))
        assert most_at_once(spies.events()) == 2


@pytest.mark.slow
def test_a_storm_is_worked_off_to_the_last_alert(storm: Storm) -> None:
    def done() -> int:
        return len(storm.acted_on())

    wait_until(lambda: done() == STORM, within=300, what="all are acted on")
    assert set(storm.acted_on()) == storm.sent
    assert set(storm.acted_on().values()) == {1}
    events = storm.spies.events()
    assert most_at_once(events) <= AT_ONCE
    wait_until(
        lambda: storm.metric("heals_total", strategy="storm", outcome="inconclusive") == STORM,
        within=60,
        what="all runs are finished",
    )
    spread = max(e.at for e in events) - min(e.at for e in events)
    print(f"{STORM} worked off in {spread:.1f} s")  # noqa: T201


def test_an_old_body_is_read_and_a_wrong_path_names_the_right_one(tmp_path: Path) -> None:
    """F16 and F17, as somebody tries them with curl."""
    one = {key: value for key, value in alert("SlowShop").items() if key != "fingerprint"}
    body = notification(one, version="3", groupKey=18130783372347340336)
    old = json.dumps(body).encode()
    without = json.dumps({k: v for k, v in body.items() if k != "version"}).encode()
    with Undaunted(tmp_path, {}) as server:
        assert server.deliver(old).json() == {"opened": 1, "repeated": 0, "closed": 0}
        assert server.deliver(without).json() == {"opened": 0, "repeated": 1, "closed": 0}
        wrong = notification({"labels": {"alertname": "A"}})
        aside = server.deliver(json.dumps(wrong).encode())
        assert (aside.status, aside.json()["setAside"]) == (202, 1)
        assert "alerts[0]: Object missing required field `status`" in aside.json()["problem"]
        for path, status in (("/", 405), ("/webhook/", 404), ("/alerts", 404)):
            answer = server.ask(path, b"{}")
            assert answer.status == status
            assert "POST /webhook" in answer.json()["error"]["message"]
        assert server.ask("/webhook").status == 405
        assert "a request went astray" in server.log.read_text()
