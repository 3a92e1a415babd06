"""How an episode ended, when that was proven, and what it had asked for."""

from __future__ import annotations

from receiver.journal import Episode, Journal, Want
from receiver.policy.signal import Signal
from receiver.policy.strategy import Verify
from receiver.policy.target import Key
from tests.factories import NOW, alert, notification, resolved, strategy
from tests.test_journal import admit
from tests.test_journal import journal as journal  # noqa: PLC0414  the fixture, of both databases
from tests.world import KEY, World

ONE = alert()
WANTS = (Want(*KEY, ONE.fingerprint),)


def first(journal: Journal) -> Episode:
    found = journal.read(lambda t: t.episode(1))
    assert found is not None
    return found


def give_up(journal: Journal, at: float) -> None:
    journal.atomically(lambda t: t.give_up(before=at, episode=1))


def test_who_ended_it_is_kept(journal: Journal) -> None:
    admit(journal, ONE, wants=WANTS)
    assert (first(journal).ended_by, first(journal).cleared_at) == ("", None)
    admit(journal, resolved(ONE))
    ended = first(journal)
    assert ended.ended_by == "told"

    journal.atomically(lambda t: t.settle_conflict(ended, [], now=NOW))
    assert first(journal).ended_by == "", "it fires after all"
    give_up(journal, NOW + 1)
    assert first(journal).ended_by == "given_up", "which is no time at which it had cleared"


def test_an_end_that_the_expression_proved_is_proven(journal: Journal) -> None:
    admit(journal, ONE, wants=WANTS)
    for at in (NOW + 5, NOW + 9):
        journal.atomically(lambda t, at=at: t.clear(1, now=at))  # type: ignore[misc]
    assert first(journal).cleared_at == NOW + 5, "the first proof"
    give_up(journal, NOW + 10)
    assert first(journal).ended_by == "proven"


def test_what_is_said_after_a_proof_needs_another_one(journal: Journal) -> None:
    admit(journal, ONE, wants=WANTS)
    journal.atomically(lambda t: t.clear(1, now=NOW + 5))
    admit(journal, ONE, wants=WANTS, now=NOW + 7)
    journal.atomically(lambda t: t.clear_firing(ONE.fingerprint, now=NOW + 9))
    assert first(journal).cleared_at == NOW + 9
    later = alert(starts_at=NOW + 20)
    admit(journal, later, wants=WANTS, now=NOW + 21)
    assert first(journal).cleared_at is None, "it is a new firing"


def test_what_an_episode_asked_for_outlives_it_and_a_reload(journal: Journal) -> None:
    admit(journal, ONE, wants=WANTS)
    assert journal.read(lambda t: t.selected(1)) == [KEY]
    journal.atomically(lambda t: t.match_anew([1], [Want("new", "x", ONE.fingerprint)]))
    assert journal.read(lambda t: t.selected(1)) == [KEY, Key("new", "x")]
    admit(journal, resolved(ONE))
    assert journal.read(lambda t: t.keys()) == set()
    assert journal.read(lambda t: t.selected(1)) == [KEY, Key("new", "x")]
    journal.atomically(lambda t: t.prune(before=NOW + 10_000, limit=100))
    assert journal.read(lambda t: t.selected(1)) == []


def test_a_proof_of_a_heal_and_one_before_a_decision_are_kept(journal: Journal) -> None:
    world = World(journal)
    world.fire()
    world.consider()
    world.clock.now += 15
    world.verifier.signal = Signal.CLEARED
    world.consider()
    assert first(journal).cleared_at == NOW + 15

    other = alert(labels={"alertname": "HighLatency", "service": "cart"})
    world.intake.admit(notification(other))
    world.consider(Key("latency", 'service="cart"'))
    ended = journal.read(lambda t: t.episode(2))
    assert ended is not None
    assert ended.cleared_at == NOW + 15


def test_the_strategys_own_query_proves_no_end_of_the_alert(journal: Journal) -> None:
    world = World(journal, strategy(verify=Verify(query="errors > 1")))
    world.fire()
    world.consider()
    world.clock.now += 15
    world.verifier.own = Signal.CLEARED
    world.consider()
    assert world.runs()[0].outcome == "healed"
    assert first(journal).cleared_at is None
