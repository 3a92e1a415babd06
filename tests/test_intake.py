from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import pytest

from receiver.errors import JournalError, UpstreamError
from receiver.healing.conflicts import PEER_LAG
from receiver.healing.delivery_alerts import HEARTBEAT, ArrivedTest
from receiver.healing.intake import AHEAD, Intake
from receiver.journal import Journal
from receiver.policy.alert import Alert, Notification, Quarantined
from receiver.policy.signal import Signal
from receiver.policy.strategy import Strategies
from receiver.policy.target import Key
from tests.chain import wait_until
from tests.factories import NOW, FakeClock, alert, notification, parse_matcher, resolved, strategy

KEY = ("latency", 'service="checkout"')


class World:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.woken: list[Key] = []
        self.strategies = Strategies([strategy()])
        self.answers: list[Sequence[Alert] | UpstreamError] = []
        self.fetches = True
        self.signal = Signal.UNKNOWN
        self.clock = FakeClock()
        self.intake = Intake(
            journal=journal,
            clock=self.clock,
            strategies=lambda: self.strategies,
            wake=self.woken.append,
            fetch=lambda: self._fetch if self.fetches else None,
            ask=lambda alert: self.signal,
        )

    def _fetch(self, of: Notification) -> Sequence[Alert]:
        answer = self.answers.pop(0)
        if isinstance(answer, UpstreamError):
            raise answer
        return answer

    def total(self, metric: str, *labels: str) -> float:
        return self.journal.read(lambda t: t.stats()).totals.get((metric, labels), 0)

    def wait_for(self, metric: str, *labels: str, value: float) -> None:
        deadline = time.monotonic() + 10
        while self.total(metric, *labels) != value and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.total(metric, *labels) == value


@pytest.fixture
def world(journal: Journal) -> World:
    return World(journal)


def test_what_a_notification_says_is_counted(world: World) -> None:
    other = alert(labels={"alertname": "Other"})
    bad = Quarantined(problem="p", raw="{}")

    world.intake.admit(notification(alert(), other, quarantined=(bad,), set_aside=1))
    world.intake.admit(notification(alert(), resolved(other), resolved(other)))

    assert world.total("notifications", "202") == 2
    assert world.total("alerts_received", "firing") == 3
    assert world.total("alerts_received", "resolved") == 2
    assert world.total("alerts_deduplicated", "repeat") == 1
    assert world.total("alerts_deduplicated", "not_open") == 1
    assert world.total("alerts_quarantined") == 1


def test_who_is_concerned_is_woken_and_nobody_else(world: World) -> None:
    world.intake.admit(notification(alert(labels={"alertname": "Other", "service": "x"})))
    assert world.woken == []

    world.intake.admit(notification(alert()))
    world.intake.admit(notification(resolved(alert())))

    assert world.woken == [KEY, KEY]


def test_an_alert_without_the_targets_label_is_recorded_and_not_healed(world: World) -> None:
    world.intake.admit(notification(alert(labels={"alertname": "HighLatency"})))

    assert world.woken == []
    assert len(world.journal.read(lambda t: t.open_episodes(limit=9))) == 1


def test_what_was_not_stored_is_not_acted_on(world: World) -> None:
    world.journal.close()

    with pytest.raises(JournalError):
        world.intake.admit(notification(alert()))

    assert world.woken == []


def test_refusals_are_counted(world: World) -> None:
    for _ in range(3):
        world.intake.reject("400")

    world.wait_for("notifications", "400", value=3)


def test_refusals_are_not_forgotten_while_the_journal_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise JournalError("full")

    with monkeypatch.context() as away:
        away.setattr(world.journal, "atomically", full)
        world.intake.reject("503")
        world.intake.settle()
    world.intake.settle()

    assert world.total("notifications", "503") == 1


def test_what_max_alerts_cut_off_is_fetched(world: World) -> None:
    rest = alert(labels={"alertname": "HighLatency", "service": "cut-off"})
    world.answers = [UpstreamError("away"), [alert(), rest]]

    world.intake.admit(notification(alert(), truncated=1))
    deadline = time.monotonic() + 10
    while len(world.answers) == 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert world.woken == [KEY], "Alertmanager did not answer yet"
    world.intake.settle()

    assert ("latency", 'service="cut-off"') in world.woken
    assert world.total("notifications", "202") == 1, "a fetch is no notification"
    world.intake.settle()
    assert world.answers == [], "and fetched once"


def test_without_an_alertmanager_nothing_is_owed_for_ever(world: World) -> None:
    world.fetches = False

    world.intake.admit(notification(alert(), truncated=40))
    world.intake.settle()
    world.fetches = True
    world.intake.settle()  # would fail: there is no answer


def test_new_strategies_see_what_fires_already(world: World) -> None:
    world.strategies = Strategies([])
    world.intake.admit(notification(alert()))
    named = strategy(name="new", match=(parse_matcher('service="checkout"'),))
    world.strategies = Strategies([named])

    world.intake.matching.run()

    assert world.journal.read(lambda t: t.keys()) == {("new", KEY[1])}


# -- an end that was a mistake


def ended(world: World) -> Alert:
    """An alert that was told as ended."""
    one = alert(starts_at=NOW - 60)
    world.intake.admit(notification(one))
    world.intake.admit(notification(resolved(one, NOW - 30)))
    world.woken.clear()
    world.clock.now += 1
    return one


def open_alerts(world: World) -> int:
    return len(world.journal.read(lambda t: t.open_episodes(limit=9)))


def test_what_fires_after_all_is_opened_again_with_its_old_start(world: World) -> None:
    one = ended(world)
    world.intake.admit(notification(one))
    assert open_alerts(world) == 0, "a peer that lags behind says just the same"
    world.woken.clear()
    world.signal = Signal.FIRING

    world.intake.settle()

    assert open_alerts(world) == 1
    assert world.woken == [KEY]
    assert world.journal.read(lambda t: t.keys()) == {KEY}


def test_a_peer_that_lagged_behind_is_not_believed(world: World) -> None:
    world.intake.admit(notification(ended(world)))
    world.signal = Signal.CLEARED
    world.woken.clear()

    world.intake.settle()
    world.signal = Signal.FIRING
    world.intake.settle()

    assert (open_alerts(world), world.woken) == (0, [])


@pytest.mark.parametrize(("late_by", "opened"), [(PEER_LAG - 1, 0), (PEER_LAG + 1, 1)])
def test_when_prometheus_cannot_tell_only_what_is_said_long_after_is_believed(
    world: World, late_by: float, opened: int
) -> None:
    one = ended(world)
    world.clock.now += late_by
    world.intake.admit(notification(one))

    world.intake.settle()
    assert open_alerts(world) == opened

    world.clock.now += PEER_LAG + 1
    world.intake.settle()
    world.signal = Signal.FIRING
    world.intake.settle()
    assert open_alerts(world) == opened, "it is settled"


def test_a_newer_firing_ends_the_conflict(world: World) -> None:
    world.intake.admit(notification(ended(world)))
    world.intake.admit(notification(alert(starts_at=NOW - 5)))
    world.signal = Signal.FIRING

    world.intake.settle()

    assert open_alerts(world) == 1


def test_a_heartbeat_is_noted_and_opens_no_episode(world: World) -> None:
    beat = alert(labels={"alertname": HEARTBEAT, "severity": "none"})
    assert world.intake.last_heartbeat == 0

    world.intake.admit(notification(beat))

    assert world.intake.last_heartbeat == NOW
    assert world.journal.read(lambda t: t.open_episodes(limit=9)) == []
    assert world.total("notifications", "202") == 1
    assert world.total("alerts_received", "firing") == 0

    world.clock.now += 60
    world.intake.admit(notification(beat, alert()))
    assert world.intake.last_heartbeat == NOW + 60
    (episode,) = world.journal.read(lambda t: t.open_episodes(limit=9))
    assert episode.alert == alert()

    world.clock.now += 60
    world.intake.admit(notification(alert()))
    world.intake.admit(notification(resolved(beat)))
    assert world.intake.last_heartbeat == NOW + 60
    assert world.total("alerts_received", "resolved") == 0


def test_a_heartbeat_that_was_fetched_proves_no_way_here(world: World) -> None:
    beat = alert(labels={"alertname": HEARTBEAT})
    world.answers.append([beat])

    world.intake.admit(notification(alert(), truncated=1))

    wait_until(lambda: not world.intake._owed, what="the rest is fetched and recorded")
    assert not world.answers
    assert world.intake.last_heartbeat == 0


def test_a_test_alert_is_noted_and_never_decided(world: World) -> None:
    sent = alert(labels={"alertname": "HighCPU", "promheal": "test", "test_id": "a-_1"})
    world.intake.admit(msgspec.structs.replace(notification(sent), receiver="r"))

    assert world.intake.last_test == ArrivedTest("a-_1", NOW, "r")
    assert world.journal.read(lambda t: t.open_episodes(limit=9)) == []
    assert world.total("alerts_received", "firing") == 0

    world.clock.now += 60
    world.intake.admit(notification(resolved(sent)))
    assert world.intake.last_test.at == NOW, "its end proves nothing new"


@pytest.mark.parametrize("identity", ["", "x" * 65, "a b", "<b>", "ä"])
def test_a_test_alert_of_somebody_else_leaves_nothing_of_it(world: World, identity: str) -> None:
    sent = alert(labels={"alertname": "A", "promheal": "test", "test_id": identity})
    world.intake.admit(msgspec.structs.replace(notification(sent), receiver="r" * 10_000))
    assert world.intake.last_test == ArrivedTest("", NOW, "r" * 200)


def test_only_the_label_makes_a_test(world: World) -> None:
    for one in (
        alert(annotations={"promheal": "test", "test_id": "a"}),
        alert(labels={"alertname": "B", "promheal": "tested"}),
        alert(labels={"alertname": "C", "test_id": "a"}),
        alert(labels={"alertname": "test", "Promheal": "test"}),
    ):
        world.intake.admit(notification(one))
    assert open_alerts(world) == 4
    assert world.intake.last_test is None


def test_only_whom_the_operator_trusts_vouches(world: World) -> None:
    said = {"ours": "http://ours/", "theirs": "http://theirs/", "": "http://nobody/"}
    world.intake.trusts = {"ours"}.__contains__

    for user, link in said.items():
        one = alert(labels={"alertname": user or "nobody"}, generator_url=link)
        world.intake.admit(msgspec.structs.replace(notification(one), user=user))

    found = world.journal.read(lambda t: t.open_episodes(limit=10))
    assert {one.alert.name: (one.vouched_by, one.vouched_link) for one in found} == {
        "ours": ("ours", "http://ours/"),
        "theirs": ("", ""),
        "nobody": ("", ""),
    }


YEARS = 10 * 365 * 86_400.0


def test_an_end_in_the_future_keeps_no_later_alert_away(world: World) -> None:
    one = alert(starts_at=NOW - 60)
    world.intake.admit(notification(one))
    world.intake.admit(notification(resolved(one, NOW + YEARS)))
    world.clock.now += 300

    admitted = world.intake.admit(notification(alert(starts_at=NOW + 290)))

    assert (admitted.opened, admitted.late) == (1, 0)


def test_a_start_in_the_future_keeps_no_end_away(world: World) -> None:
    world.intake.admit(notification(alert(starts_at=NOW + YEARS)))
    world.clock.now += 300

    ended = resolved(alert(starts_at=NOW - 60), NOW + 200)
    assert world.intake.admit(notification(ended)).closed == 1
    assert world.intake.admit(notification(alert(starts_at=NOW + 290))).opened == 1


@pytest.mark.parametrize("ahead", [60.0, AHEAD - 1, AHEAD + 1, 1e9])
def test_no_end_to_come_hides_the_next_firing(world: World, ahead: float) -> None:
    one = alert(starts_at=NOW - 60)
    world.intake.admit(notification(one))
    end = resolved(one, NOW + ahead)
    world.intake.admit(notification(end))
    world.clock.now += 5

    again = alert(starts_at=world.clock.now - 1)
    assert world.intake.admit(notification(again)).opened == 1
    world.clock.now += 5

    told_again = world.intake.admit(notification(end))
    assert (told_again.closed, told_again.not_open) == (0, 1), "a retry ends no later firing"
    assert world.intake.admit(notification(one)).late == 0, "it is open, whatever its start"
    last = world.intake.admit(notification(resolved(again, world.clock.now)))
    assert last.closed == 1


def test_no_start_to_come_hides_the_next_firing(world: World) -> None:
    """One sender's clock is ahead, another's is right."""
    ahead = alert(starts_at=NOW + AHEAD - 30)
    world.intake.admit(notification(ahead))
    world.intake.admit(notification(resolved(ahead, NOW + AHEAD - 10)))
    world.clock.now += 60

    right = alert(starts_at=world.clock.now - 5)
    assert world.intake.admit(notification(right)).opened == 1


def test_a_sender_whose_clock_is_ahead_is_believed(world: World) -> None:
    """A peer that lags behind says the old start once more, and opens nothing."""
    one = alert(starts_at=NOW + AHEAD - 30)
    world.intake.admit(notification(one))
    world.intake.admit(notification(resolved(one, NOW + AHEAD - 10)))
    world.clock.now += 5

    assert world.intake.admit(notification(one)).late == 1
