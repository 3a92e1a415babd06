"""What every journal promises; SQLite's own promises are at the end."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.errors import ConfigError, JournalError
from receiver.journal import Admission, Admitted, Episode, Journal, Transaction, Want, open_journal
from receiver.journal.memory import MemoryJournal
from receiver.journal.migrate import scripts
from receiver.journal.queries import queries
from receiver.journal.sqlite_file import APPLICATION_ID
from receiver.policy import dormancy
from receiver.policy.alert import Alert, Quarantined
from receiver.policy.breaker import (
    MAIN,
    Breaker,
    BreakerEvent,
    BreakerState,
    Happening,
    Thresholds,
    after,
)
from receiver.policy.decide import Decision, decide
from receiver.policy.dormancy import AWAKE, Dormancy
from receiver.policy.guards.situation import Reason, wait
from receiver.policy.life import FOLLOWERS
from receiver.policy.run import (
    Doubt,
    Observation,
    Outcome,
    Phase,
    Run,
    State,
    Step,
    StepState,
)
from receiver.policy.signal import Signal
from receiver.policy.target import Key
from tests.factories import NOW, alert, resolved, situation
from tests.figures import scaled
from tests.world import World

SEEDS = scaled(20, 100)

KEY = Key("latency", 'service="checkout"')


@pytest.fixture(params=["sqlite", "memory", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    opened: Journal
    if request.param == "memory":
        opened = MemoryJournal()
    elif request.param == "sqlite":
        opened = open_journal(f"sqlite:///{tmp_path}/journal.db")
    else:
        opened = open_journal(request.getfixturevalue("database"))
    yield opened
    opened.close()


def admit(
    journal: Journal, *alerts: Alert, wants: tuple[Want, ...] = (), now: float = NOW
) -> Admitted:
    admission = Admission(alerts)
    return journal.atomically(lambda t: t.admit(admission, wants, sender="am", now=now))


def episodes(journal: Journal) -> list[Episode]:
    return journal.read(lambda t: t.open_episodes(limit=100))


def opened_episode(journal: Journal) -> Episode:
    one = alert()
    admit(journal, one, wants=(Want(*KEY, one.fingerprint),))
    return episodes(journal)[0]


# -- episodes


def vouched(journal: Journal, link: str, by: str = "", now: float = NOW, **labels: str) -> Episode:
    """Have *link* said by somebody, trusted as *by* if at all; always with one fingerprint."""
    one = alert(labels={"alertname": "A", **labels}, generator_url=link, fingerprint="a" * 16)
    admission = Admission([one])
    journal.atomically(lambda t: t.admit(admission, (), sender="am", now=now, vouched_by=by))
    return episodes(journal)[0]


def test_what_a_trusted_sender_says_nobody_else_overwrites(journal: Journal) -> None:
    first = vouched(journal, "http://evil/1")
    assert (first.vouched_by, first.vouched_link) == ("", "")

    ours = vouched(journal, "http://ours/1", by="ours", now=NOW + 1)
    assert (ours.vouched_by, ours.vouched_link) == ("ours", "http://ours/1")

    again = vouched(journal, "http://evil/2", now=NOW + 2)
    assert (again.vouched_by, again.vouched_link) == ("ours", "http://ours/1")
    assert again.alert.generator_url == "http://evil/2", "what was said last, for people to see"

    other = vouched(journal, "http://ours/2", by="other", now=NOW + 3)
    assert (other.vouched_by, other.vouched_link) == ("other", "http://ours/2")


def test_nobody_vouches_for_other_labels_under_the_same_fingerprint(journal: Journal) -> None:
    """A fingerprint is the sender's word too: somebody may have opened it with labels of theirs."""
    vouched(journal, "http://evil/1", service="payments")

    found = vouched(journal, "http://ours/1", by="ours", service="shop")

    assert found.alert.labels["service"] == "payments"
    assert (found.vouched_by, found.vouched_link) == ("", "")


def test_who_opens_an_episode_may_vouch_for_it(journal: Journal) -> None:
    found = vouched(journal, "http://ours/1", by="ours")
    wanted = journal.read(lambda t: t.episode(found.id))

    assert wanted == found
    assert (found.vouched_by, found.vouched_link) == ("ours", "http://ours/1")


def test_an_alert_said_again_is_one_episode(journal: Journal) -> None:
    one = alert()

    assert admit(journal, one).opened == 1
    assert admit(journal, one, now=NOW + 5).repeated == 1

    (episode,) = episodes(journal)
    assert (episode.first_seen, episode.last_seen, episode.notifications) == (NOW, NOW + 5, 2)
    assert episode.alert == one


def test_the_earliest_start_that_a_peer_says_stands(journal: Journal) -> None:
    admit(journal, alert(starts_at=NOW - 10))
    admit(journal, alert(starts_at=NOW - 11))
    admit(journal, alert(starts_at=NOW - 9))

    (episode,) = episodes(journal)
    assert episode.alert.starts_at == NOW - 11


def test_a_resolved_alert_closes_its_episode_and_a_later_start_opens_another(
    journal: Journal,
) -> None:
    admit(journal, alert(starts_at=NOW - 60))
    assert admit(journal, resolved(alert(starts_at=NOW - 60), NOW - 30)).closed == 1
    assert episodes(journal) == []

    assert admit(journal, alert(starts_at=NOW - 20)).opened == 1


def test_a_peer_that_lags_behind_opens_nothing(journal: Journal) -> None:
    admit(journal, alert(starts_at=NOW - 60))
    admit(journal, resolved(alert(starts_at=NOW - 60), NOW - 30))

    assert admit(journal, alert(starts_at=NOW - 60.1)).late == 1
    assert admit(journal, alert(starts_at=NOW - 30)).late == 1, "not later than the end"
    assert episodes(journal) == []


def test_an_end_from_before_the_start_belongs_to_an_earlier_episode(journal: Journal) -> None:
    admit(journal, alert(starts_at=NOW - 10))

    assert admit(journal, resolved(alert(starts_at=NOW - 90), NOW - 50)).not_open == 1

    assert len(episodes(journal)) == 1


def test_an_end_without_a_start_is_noted_as_such(journal: Journal) -> None:
    assert admit(journal, resolved(alert())).not_open == 1


def test_one_notification_may_say_one_fingerprint_twice(journal: Journal) -> None:
    admitted = admit(journal, alert(), alert())

    assert (admitted.opened, admitted.repeated) == (1, 1)


def test_what_an_alert_asks_for_ends_with_it(journal: Journal) -> None:
    one = alert()
    admit(journal, one, wants=(Want(*KEY, one.fingerprint),))
    assert journal.read(lambda t: t.keys()) == {KEY}
    wanted = journal.read(lambda t: t.wanted(KEY))
    assert wanted is not None
    assert wanted.alert == one

    assert admit(journal, resolved(one)).released == {KEY}

    assert journal.read(lambda t: t.keys()) == set()
    assert journal.read(lambda t: t.wanted(KEY)) is None


def test_of_those_that_ask_for_a_target_the_one_said_last_is_first(journal: Journal) -> None:
    a, b, c = (alert(labels={"alertname": "A", "instance": i}) for i in "abc")
    for number, one in enumerate((a, b, c, a)):
        admit(journal, one, wants=(Want(*KEY, one.fingerprint),), now=NOW + number)
    other = alert(labels={"alertname": "B"})
    admit(journal, other, wants=(Want("other", KEY[1], other.fingerprint),))

    def asking(limit: int) -> list[str]:
        found = journal.read(lambda t: t.asking(KEY, limit=limit))
        return [one.alert.labels["instance"] for one in found]

    assert asking(9) == ["a", "c", "b"]
    assert asking(2) == ["a", "c"]
    admit(journal, resolved(c, NOW + 9))
    assert asking(9) == ["a", "b"]


def test_a_repeated_decision_has_the_detail_of_the_last_time(journal: Journal) -> None:
    for detail in ("the first", "the last"):
        said = Decision(wait(Reason.SILENCED, NOW + 10, detail), ())
        journal.atomically(lambda t, d=said: t.record(KEY, d, run=None, now=NOW))  # type: ignore[misc]

    found = journal.read(lambda t: t.last_decision(KEY))
    assert found is not None
    assert (found.times, found.detail) == (2, "the last")


def test_a_decision_is_repeated_while_the_target_fires_without_a_break(journal: Journal) -> None:
    a, b, c = (alert(labels={"alertname": "A", "instance": one}) for one in "abc")
    held = Decision(wait(Reason.STORM), ())

    def decided() -> tuple[bool, int | None, int]:
        news = journal.atomically(lambda t: t.record(KEY, held, run=None, now=NOW))
        last = journal.read(lambda t: t.last_decision(KEY))
        assert last is not None
        return news, last.episode, last.times

    def fires(one: Alert, now: float) -> None:
        again = msgspec.structs.replace(one, starts_at=now)
        admit(journal, again, wants=(Want(*KEY, one.fingerprint),), now=now)

    assert decided() == (True, None, 1)
    assert decided() == (False, None, 2)
    fires(a, NOW)
    assert decided() == (True, 1, 1), "nothing had fired"
    fires(b, NOW + 1)
    assert decided() == (False, 2, 2)
    admit(journal, resolved(a, NOW + 2))
    assert decided() == (False, 2, 3)
    fires(c, NOW + 3)
    assert decided() == (False, 3, 4)
    admit(journal, resolved(c, NOW + 4))
    assert decided() == (False, 2, 5), "the newest that fires"
    admit(journal, resolved(b, NOW + 5))
    assert decided() == (True, None, 1)
    fires(a, NOW + 6)
    assert decided() == (True, 4, 1)
    admit(journal, resolved(a, NOW + 7))
    fires(a, NOW + 8)
    assert decided() == (True, 5, 1), "nobody has looked in between"


def test_what_fires_is_matched_anew_page_by_page(journal: Journal) -> None:
    several = [alert(labels={"alertname": "A", "service": f"s{n}"}) for n in range(3)]
    admit(journal, *several, wants=tuple(Want("old", "t", a.fingerprint) for a in several))
    first = journal.read(lambda t: t.firing_after(0, limit=2))
    assert [asked for _, asked in first] == [{("old", "t")}] * 2
    (last,) = journal.read(lambda t: t.firing_after(first[-1][0].id, limit=2))

    concerned = journal.atomically(
        lambda t: t.match_anew([last[0].id], [Want("new", "s2", last[0].alert.fingerprint)])
    )

    assert concerned == {("old", "t"), ("new", "s2")}
    asked = [asked for _, asked in journal.read(lambda t: t.firing_after(0, limit=9))]
    assert asked == [{("old", "t")}, {("old", "t")}, {("new", "s2")}]
    assert journal.read(lambda t: t.number_firing()) == 3


labels = st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=4)


@given(labels=labels, annotations=labels, url=st.text().filter(lambda url: "\0" not in url))
@settings(max_examples=50, deadline=None)
def test_hostile_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    labels: dict[str, str],
    annotations: dict[str, str],
    url: str,
) -> None:
    journal = _shared(tmp_path_factory)
    one = alert(labels=labels, annotations=annotations, generator_url=url)

    admit(journal, one)

    assert any(episode.alert == one for episode in episodes(journal))
    admit(journal, resolved(one, NOW))
    journal.atomically(lambda t: t.prune(before=NOW + 1, limit=1000))


_open: dict[str, Journal] = {}


def _shared(factory: pytest.TempPathFactory) -> Journal:
    """One journal for all of hypothesis' examples: opening one is slow."""
    if "one" not in _open:
        _open["one"] = open_journal(f"sqlite:///{factory.mktemp('shared')}/journal.db")
    return _open["one"]


# -- runs


def test_a_run_is_found_as_it_was_written(journal: Journal) -> None:
    episode = opened_episode(journal)
    step = Step(index=0, phase=Phase.RUN, action="spy", state=StepState.STARTED, started_at=NOW)

    def write(t: Transaction) -> int:
        run = t.open_run(KEY, State.ACTING, episode=episode, now=NOW, config_hash="abc")
        t.put_step(run.id, step)
        t.save_step(run.id, 0, {"before": 4})
        t.put_step(
            run.id,
            msgspec.structs.replace(
                step, state=StepState.DONE, finished_at=NOW + 1, result={"a": [1, "ü"]}
            ),
        )
        t.put_observation(run.id, Observation(at=NOW, verdict="firing", value=None, detail="x"))
        return run.id

    number = journal.atomically(write)
    run = journal.read(lambda t: t.run(number))

    assert run is not None
    assert (run.strategy, run.target, run.acted_at, run.notified_at) == (*KEY, NOW, NOW)
    (found,) = run.steps
    assert (found.state, found.result) == (StepState.DONE, {"a": [1, "ü"]})
    assert found.saved == {"before": 4}
    assert journal.read(lambda t: t.unfinished(KEY)) == run
    assert [o.verdict for o in journal.read(lambda t: t.observations(number))] == ["firing"]


def test_a_target_is_held_by_one_run_at_a_time(journal: Journal) -> None:
    episode = opened_episode(journal)
    journal.atomically(lambda t: t.open_run(KEY, State.ACTING, episode=episode, now=NOW))

    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        journal.atomically(
            lambda t: t.open_run(Key("other", KEY[1]), State.ACTING, episode=episode, now=NOW)
        )


@pytest.mark.parametrize("before", [s for s in State if s is not State.FINISHED])
def test_only_what_the_table_says_may_follow(journal: Journal, before: State) -> None:
    episode = opened_episode(journal)
    for later in State:
        run = journal.atomically(lambda t: t.open_run(KEY, before, episode=episode, now=NOW))
        allowed = later in FOLLOWERS[before]

        def change(t: Transaction) -> None:
            outcome = Outcome.FAILED if later is State.FINISHED else None
            t.change(run, later, outcome=outcome)

        if allowed:
            journal.atomically(change)
        else:
            with pytest.raises(AssertionError):
                journal.atomically(change)
        _finish_all(journal)


def _finish_all(journal: Journal) -> None:
    def work(t: Transaction) -> None:
        run = t.unfinished(KEY)
        if run is not None:
            t.finish(run, Outcome.CANCELLED, "", now=NOW)

    journal.atomically(work)


def test_a_run_that_another_has_changed_is_not_changed_again(journal: Journal) -> None:
    episode = opened_episode(journal)
    run = journal.atomically(lambda t: t.open_run(KEY, State.ACTING, episode=episode, now=NOW))
    journal.atomically(lambda t: t.finish(run, Outcome.FAILED, "", now=NOW))

    with pytest.raises(AssertionError, match="not acting any more"):
        journal.atomically(lambda t: t.finish(run, Outcome.HEALED, "", now=NOW))


def test_the_history_is_that_of_other_runs(journal: Journal) -> None:
    episode = opened_episode(journal)

    def heal(outcome: Outcome, at: float) -> None:
        def work(t: Transaction) -> None:
            run = t.open_run(KEY, State.ACTING, episode=episode, now=at)
            t.finish(run, outcome, "", now=at + 1)

        journal.atomically(work)

    heal(Outcome.HEALED, NOW)
    heal(Outcome.FAILED, NOW + 10)
    mine = journal.atomically(
        lambda t: t.open_run(KEY, State.ACTING, episode=episode, now=NOW + 20)
    )

    history = journal.read(
        lambda t: t.history(KEY, now=NOW, but=mine.id, since=NOW, most=9, lately=0.0)
    )
    assert (history.holder, history.acting) == (None, 0), "the asking run does not count"
    assert (history.last_end, history.last_healed) == (NOW + 11, NOW + 1)
    assert history.starts == (NOW + 10, NOW + 20)
    other = journal.read(
        lambda t: t.history(Key("other", KEY[1]), now=NOW, but=0, since=0.0, most=9, lately=0.0)
    )
    assert (other.holder, other.acting, other.starts) == (mine.id, 1, ())


def test_what_could_not_be_proven_is_counted_in_a_row(journal: Journal) -> None:
    episode = opened_episode(journal)
    ended: list[tuple[Outcome, Doubt | None, int]] = [
        (Outcome.INCONCLUSIVE, Doubt.UNKNOWN, 1),
        (Outcome.INCONCLUSIVE, Doubt.UNASKED, 1),
        (Outcome.INCONCLUSIVE, Doubt.NO_HEAL, 1),
        (Outcome.INCONCLUSIVE, None, 1),  # of a promheal that did not ask why
        (Outcome.FAILED, None, 1),
        (Outcome.INCONCLUSIVE, Doubt.OLD_DATA, 2),
        (Outcome.INEFFECTIVE, None, 0),
        (Outcome.INCONCLUSIVE, Doubt.UNKNOWN, 1),
        (Outcome.HEALED, None, 0),
    ]
    for number, (outcome, doubt, in_a_row) in enumerate(ended):

        def work(t: Transaction, at: float = NOW + number, about: Any = (outcome, doubt)) -> None:
            run = t.open_run(KEY, State.ACTING, episode=episode, now=at)
            t.finish(run, about[0], "", now=at, doubt=about[1])

        journal.atomically(work)
        assert journal.read(lambda t: t.doubtful(KEY)) == in_a_row
    assert journal.read(lambda t: t.doubtful(Key("other", KEY[1]))) == 0
    doubts = [run.doubt for run in journal.read(lambda t: t.runs(limit=100))]
    assert doubts[::-1] == [doubt for _, doubt, _ in ended]


def test_a_heal_that_did_not_hold_is_noted_once(journal: Journal) -> None:
    episode = opened_episode(journal)

    def heal(t: Transaction) -> int:
        run = t.open_run(KEY, State.ACTING, episode=episode, now=NOW)
        return t.finish(run, Outcome.HEALED, "", now=NOW + 5, forgets_at=NOW + 60).id

    first = journal.atomically(heal)
    second = journal.atomically(heal)
    last = journal.read(lambda t: t.last_heal(KEY))
    assert last is not None
    assert (last.id, last.relapsed_at, last.forgets_at) == (second, None, NOW + 60)

    journal.atomically(lambda t: t.put_relapse(second, NOW + 9))
    journal.atomically(lambda t: t.put_relapse(second, NOW + 99))

    assert journal.read(lambda t: t.last_heal(KEY)) is None, "not the one before it"
    run = journal.read(lambda t: t.run(second))
    assert run is not None
    assert run.relapsed_at == NOW + 9
    assert journal.read(lambda t: t.relapses(since=NOW)) == {KEY: 1}
    assert journal.read(lambda t: t.relapses(since=NOW + 9)) == {}
    assert first != second


def test_a_relapse_that_is_not_stored_has_not_been_counted(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill in the middle leaves: all of it, or nothing."""
    world = World(journal)
    world.fire()
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.clock.now += 5
    world.consider()
    world.verifier.signal = Signal.FIRING
    world.clock.now += 5

    def dies(*_: object) -> bool:
        raise RuntimeError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr("receiver.healing.settling._record", dies)
        with pytest.raises(RuntimeError):
            world.consider()
    assert world.totals("relapses") == {}
    assert journal.read(lambda t: t.relapses(since=0.0)) == {}
    assert {one.failures for one in journal.read(lambda t: t.breakers()).values()} <= {0}

    for _ in range(3):
        world.consider()
    assert world.totals("relapses") == {("latency",): 1}
    failures = {name: one.failures for name, one in journal.read(lambda t: t.breakers()).items()}
    assert failures == {"strategy:latency": 1, f"target:{KEY[1]}": 1}


def test_what_a_breaker_forgot_at_a_heal_outlives_a_restart(journal: Journal) -> None:
    thresholds = Thresholds(failures=3)

    def tell(event: BreakerEvent, run: int) -> None:
        happening = Happening(event=event, at=NOW, run=run, started_at=NOW, thresholds=thresholds)
        journal.atomically(lambda t: t.happen("target:x", happening))

    for run in (1, 2):
        tell(BreakerEvent.FAILURE, run)
    tell(BreakerEvent.SUCCESS, 3)
    remembered = journal.read(lambda t: t.breaker("target:x"))
    assert remembered == Breaker(healed=3, forgot_failures=2)
    tell(BreakerEvent.FAILURE, 3)
    assert journal.read(lambda t: t.breaker("target:x")).state(NOW) is BreakerState.OPEN


def tell_of_failures(journal: Journal, *targets: str | None) -> None:
    def write(t: Transaction) -> None:
        for run, target in enumerate(targets):
            t.happen(
                MAIN,
                Happening(
                    event=BreakerEvent.FAILURE, at=NOW, run=run, started_at=NOW, target=target
                ),
            )
            became = dormancy.failed(t.dormancy(), target or "none", NOW, dormant_after=100)
            t.put_dormancy(became)

    journal.atomically(write)


def test_which_targets_were_counted_is_kept(journal: Journal) -> None:
    targets = ('service="a"', 'service="ä\n\\"', "")
    tell_of_failures(journal, *targets[:2], targets[0])
    tell_of_failures(journal, targets[2])

    kept = journal.read(lambda t: t.breaker(MAIN))
    assert (kept.failures, kept.failing) == (3, targets)
    assert journal.read(lambda t: t.breakers())[MAIN] == kept
    happened = [one.happening for one in journal.read(lambda t: t.transitions(breaker=MAIN))]
    assert [one.target for one in happened] == [*targets]
    assert reduce(after, happened, Breaker()) == kept
    assert journal.read(lambda t: t.dormancy()).failures == 3


def test_targets_of_a_row_that_an_older_version_has_ended_are_none(journal: Journal) -> None:
    """In a rolling upgrade: it knows of no targets, and leaves them where they stand."""
    tell_of_failures(journal, "a", "b")

    def end_it(t: Transaction) -> None:
        for table in ("dormancy", "breaker"):
            t._ask(f"update {table} set failures = 0")

    journal.atomically(end_it)

    assert journal.read(lambda t: t.breaker(MAIN)) == Breaker()
    assert journal.read(lambda t: t.dormancy()) == Dormancy(failed_at=NOW)


def test_what_was_counted_without_targets_stays_counted(journal: Journal) -> None:
    tell_of_failures(journal, None, None, None, None)
    assert journal.read(lambda t: t.breaker(MAIN)) == Breaker(failures=4)

    tell_of_failures(journal, "a")

    assert journal.read(lambda t: t.breaker(MAIN)).state(NOW) is BreakerState.OPEN


def test_what_never_acted_is_no_history(journal: Journal) -> None:
    episode = opened_episode(journal)

    def drop(t: Transaction) -> None:
        run = t.open_run(KEY, State.PENDING, episode=episode, now=NOW, reason="grace_period")
        t.finish(run, Outcome.CANCELLED, "resolved", now=NOW)

    journal.atomically(drop)

    history = journal.read(lambda t: t.history(KEY, now=NOW, but=0, since=0.0, most=9, lately=0.0))
    assert (history.last_end, history.starts) == (None, ())


def test_who_waits_is_found_oldest_first(journal: Journal) -> None:
    episode = opened_episode(journal)
    for name in ("b", "a"):
        journal.atomically(
            lambda t: t.open_run(
                Key("s", name),
                State.PENDING,
                episode=episode,
                now=NOW,
                reason="concurrency",
            )
        )

    assert journal.read(lambda t: t.next_pending("concurrency")) == ("s", "b")
    assert journal.read(lambda t: t.pending_on("a")) == [("s", "a")]


def test_a_decision_is_written_once_and_counted_while_it_repeats(journal: Journal) -> None:
    episode = opened_episode(journal)
    run = journal.atomically(lambda t: t.open_run(KEY, State.PENDING, episode=episode, now=NOW))
    grace, busy = decide(situation(last_end=NOW)), decide(situation(holder=3))

    def record(which: object) -> bool:
        return journal.atomically(
            lambda t: t.record(KEY, which, run=run.id, now=NOW)  # type: ignore[arg-type]
        )

    assert [record(each) for each in (grace, grace, busy, grace)] == [True, False, True, True]

    recorded = journal.read(lambda t: t.decisions(run.id))
    assert [(r.reason, r.times) for r in recorded] == [
        ("grace_period", 2), ("busy", 1), ("grace_period", 1),
    ]  # fmt: skip
    (grace_said,) = (each for each in recorded[0].answers if each["guard"] == "grace")
    assert grace_said["until"] == NOW + 300


def test_pages_of_runs_are_newest_first(journal: Journal) -> None:
    episode = opened_episode(journal)
    for number in range(5):
        key = Key("s", f"t{number}")
        journal.atomically(lambda t: t.open_run(key, State.PENDING, episode=episode, now=NOW))

    first = journal.read(lambda t: t.runs(limit=3))
    rest = journal.read(lambda t: t.runs(limit=3, before=first[-1].id))

    assert [run.target for run in first + rest] == ["t4", "t3", "t2", "t1", "t0"]
    assert journal.read(lambda t: t.runs(limit=9, state="finished")) == []


def test_runs_are_found_by_their_outcome(journal: Journal) -> None:
    episode = opened_episode(journal)
    for number, outcome in enumerate((Outcome.FAILED, Outcome.HEALED, None)):
        key = Key("s", f"t{number}")
        run = journal.atomically(lambda t: t.open_run(key, State.PENDING, episode=episode, now=NOW))
        if outcome is not None:
            journal.atomically(lambda t: t.change(run, State.FINISHED, outcome=outcome))

    found = journal.read(lambda t: t.runs(limit=9, outcome="failed"))

    assert [run.target for run in found] == ["t0"]
    assert journal.read(lambda t: t.runs(limit=9, outcome="failed", strategy="other")) == []
    assert journal.read(lambda t: t.strategies()) == ["s"]


# -- together or not at all


def test_a_piece_that_fails_takes_nothing_with_it(journal: Journal) -> None:
    gate = threading.Event()
    results: list[str] = []

    def attempt(name: str, work: Callable[[Transaction], object]) -> threading.Thread:
        def call() -> None:
            try:
                journal.atomically(work)
                results.append(f"{name} stored")
            except ZeroDivisionError:
                results.append(f"{name} failed")

        thread = threading.Thread(target=call)
        thread.start()
        return thread

    def bad(t: Transaction) -> None:
        t.count("heals", "s", "healed")
        t.admit(Admission([alert(labels={"a": "bad"})]), (), sender="", now=NOW)
        raise ZeroDivisionError

    def good(t: Transaction) -> None:
        t.count("heals", "s", "healed", by=2)
        t.admit(Admission([alert(labels={"a": "good"})]), (), sender="", now=NOW)

    holding = attempt("gate", lambda t: gate.wait(10))
    threads = [attempt("good", good), attempt("bad", bad), attempt("good", good)]
    gate.set()  # the three wait together, and share a transaction
    for thread in [holding, *threads]:
        thread.join()

    assert sorted(results) == ["bad failed", "gate stored", "good stored", "good stored"]
    assert [e.alert.labels for e in episodes(journal)] == [{"a": "good"}]
    totals = journal.read(lambda t: t.stats()).totals
    assert totals["heals", ("s", "healed")] == 4


@pytest.mark.parametrize("journal", ["sqlite", "postgres"], indirect=True)
def test_reading_sees_one_moment(journal: Journal) -> None:
    def look(t: Transaction) -> tuple[int, int]:
        before = len(t.open_episodes(limit=9))
        admit(journal, alert())
        return before, len(t.open_episodes(limit=9))

    assert journal.read(look) == (0, 0)
    assert len(episodes(journal)) == 1


def test_retention_deletes_what_is_old_and_over(journal: Journal) -> None:
    episode = opened_episode(journal)

    def work(t: Transaction) -> None:
        old = t.open_run(KEY, State.ACTING, episode=episode, now=NOW - 100)
        t.record(KEY, decide(situation()), run=old.id, now=NOW - 100)
        t.finish(old, Outcome.HEALED, "", now=NOW - 99)
        t.open_run(KEY, State.PENDING, episode=episode, now=NOW - 100)
        t.quarantine([Quarantined(problem="p", raw="r")], sender="", now=NOW - 100)

    journal.atomically(work)
    closed = alert(labels={"alertname": "Old"}, starts_at=NOW - 100)
    admit(journal, closed, now=NOW - 100)
    admit(journal, resolved(closed, NOW - 90), now=NOW - 90)

    assert journal.atomically(lambda t: t.prune(before=NOW - 50, limit=100)) == 4
    assert journal.atomically(lambda t: t.prune(before=NOW - 50, limit=100)) == 0

    assert [run.state for run in journal.read(lambda t: t.runs(limit=9))] == [State.PENDING]
    assert len(episodes(journal)) == 1


def test_totals_and_times_survive(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    first = open_journal(url)
    first.atomically(lambda t: t.count("heals", "s", "healed", by=3))
    admit(first, alert())
    first.close()

    second = open_journal(url)

    assert second.read(lambda t: t.stats()).totals == {("heals", ("s", "healed")): 3}
    assert second.read(lambda t: t.newest()) == NOW
    second.close()


# -- in memory


def test_work_within_work_is_refused_and_not_waited_for() -> None:
    journal = MemoryJournal()

    with pytest.raises(AssertionError, match="nothing but its transaction"):
        journal.read(lambda _: journal.atomically(lambda t: t.count("heals", "s", "healed")))

    journal.atomically(lambda t: t.count("heals", "s", "healed", by=2))
    assert journal.read(lambda t: t.stats()).totals == {("heals", ("s", "healed")): 2}
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.read(lambda t: t.stats())
    assert not journal.alive


# -- SQLite


def test_it_is_durable_by_its_own_settings(tmp_path: Path) -> None:
    journal = open_journal(f"sqlite:///{tmp_path}/journal.db")

    def ask(t: Transaction) -> tuple[object, ...]:
        connection = t.connection  # type: ignore[attr-defined]
        return tuple(
            connection.execute(f"pragma {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        )

    assert journal.atomically(ask) == ("wal", 2, 1)
    journal.close()


def test_one_process_at_a_time_acts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    journal, other = open_journal(url), open_journal(url)
    assert journal.acquire()
    assert not other.acquire()
    code = f"from receiver.journal import open_journal; print(open_journal({url!r}).acquire())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "False"

    journal.close()

    assert other.acquire(), "the kernel frees it"
    other.close()


def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "grafana.db"
    with sqlite3.connect(path) as foreign:
        foreign.execute("create table dashboard (id)")
    foreign.close()
    before = path.read_bytes()

    with pytest.raises(JournalError, match=r"not a journal of promheal.*choose another"):
        open_journal(f"sqlite:///{path}")

    assert path.read_bytes() == before


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_damaged_file_is_found_at_the_start(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "journal.db"
    journal = open_journal(f"sqlite:///{path}")
    admit(journal, *(alert(labels={"alertname": f"A{n}"}) for n in range(500)))
    journal.close()
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    page = 1 + seed * (pages - 1) // SEEDS
    content[page * 4096 : page * 4096 + 64] = bytes(range(128, 192))
    path.write_bytes(content)

    with pytest.raises(JournalError, match="damaged"):
        open_journal(f"sqlite:///{path}")

    assert path.read_bytes() == content, "it is kept as evidence"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_text("hello " * 1000)

    with pytest.raises(JournalError, match="damaged") as kept:
        open_journal(f"sqlite:///{path}")

    open_files = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    assert str(path) not in open_files, f"still open, for somebody keeps the error {kept.value}"


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    open_journal(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as newer:
        newer.execute("pragma user_version = 99")
    newer.close()

    with pytest.raises(JournalError, match="newer version"):
        open_journal(f"sqlite:///{path}")


@pytest.mark.parametrize("known", range(1, len(scripts("sqlite"))))
def test_a_journal_of_each_earlier_version_is_brought_up_to_date_with_what_it_holds(
    tmp_path: Path, known: int
) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as old:
        for script in scripts("sqlite")[:known]:
            old.executescript(script)
        old.execute(f"pragma application_id = {APPLICATION_ID}")
        old.execute(f"pragma user_version = {known}")
        old.execute(
            "insert into run (strategy, target, state, episode, created_at, notified_at, acted_at)"
            " values ('latency', 'x', 'acting', 1, 5, 5, 6)"
        )
        old.execute(
            "insert into step (run, phase, position, action, state, started_at)"
            " values (1, 'run', 0, 'log', 'started', 6)"
        )
    old.close()

    journal = open_journal(f"sqlite:///{path}")

    run = journal.read(lambda t: t.run(1))
    assert run is not None
    assert (run.state, run.acted_at, run.asked_at, run.cancel) == (State.ACTING, 6.0, None, "")
    assert run.runs_on == ""
    assert [(step.state, step.saved) for step in run.steps] == [(StepState.STARTED, {})]
    assert journal.read(lambda t: (t.breakers(), t.dormancy(), t.anchor())) == ({}, AWAKE, None)
    assert journal.read(lambda t: t.pending_messages(limit=9)) == []
    assert journal.read(lambda t: t.newest()) == 6.0
    journal.close()


def test_what_steers_is_forgotten_after_the_retention_but_not_what_is_in_force(
    journal: Journal,
) -> None:
    failure = Happening(event=BreakerEvent.FAILURE, at=NOW, started_at=NOW)

    def write(t: Transaction) -> None:
        t.happen("strategy:old", failure)
        for _ in range(5):
            t.happen("strategy:open", failure)
        t.put_pause("all", reason="over", by="anna", now=NOW, until=NOW + 1)
        t.put_pause("all", reason="stands", by="anna", now=NOW, until=None)
        t.put_veto(KEY, by="anna", reason="no", now=NOW)
        t.put_audit("pause", "all", by="anna", reason="over", now=NOW)

    journal.atomically(write)
    while journal.atomically(lambda t: t.prune(before=NOW + 10, limit=1)):
        pass

    assert set(journal.read(lambda t: t.breakers())) == {"strategy:open"}
    assert [one.breaker for one in journal.read(lambda t: t.transitions())] == ["strategy:open"] * 5
    assert [one.reason for one in journal.read(lambda t: t.pauses(now=NOW))] == ["stands"]
    assert journal.read(lambda t: t.audits(limit=9)) == []


def test_what_fires_what_is_in_hand_and_what_was_is_known(journal: Journal) -> None:
    hostile = Key("latency", 'service="\\",\\u0000é\u202e"')
    episode = opened_episode(journal)
    other = alert(labels={"alertname": "HighLatency", "service": "other"})
    admit(journal, other, wants=(Want(*hostile, other.fingerprint), Want(*KEY, other.fingerprint)))
    journal.atomically(lambda t: t.open_run(KEY, State.PENDING, episode=episode, now=NOW))
    journal.atomically(lambda t: t.open_run(hostile, State.ACTING, episode=episode, now=NOW))
    ended = Key("latency", 'service="ended"')
    run = journal.atomically(lambda t: t.open_run(ended, State.ACTING, episode=episode, now=NOW))
    journal.atomically(lambda t: t.finish(run, Outcome.CANCELLED, "over", now=NOW))
    denied = Key("gone", 'service="denied"')
    journal.atomically(
        lambda t: t.record(denied, decide(situation(enabled=False)), run=None, now=NOW)
    )

    firing = journal.read(lambda t: t.firing())
    assert set(firing) == {(KEY, 1), (KEY, 2), (hostile, 2)}
    assert journal.read(lambda t: t.unfinished_runs()) == [
        (KEY, 1, State.PENDING),
        (hostile, 2, State.ACTING),
    ]
    known = journal.read(lambda t: t.known_targets())
    assert sorted(known) == sorted({key[1] for key in (KEY, hostile, ended, denied)})


def test_lists_are_narrowed_newest_first_a_page_at_a_time(journal: Journal) -> None:
    episode = opened_episode(journal)
    made: list[Run] = []

    def fill(t: Transaction) -> None:
        for number in range(24):
            strategy, outcome = (
                ("a", "b")[number % 2],
                (Outcome.HEALED, Outcome.FAILED)[number % 3 % 2],
            )
            run = t.open_run(Key(strategy, f"{number}"), State.ACTING, episode=episode, now=NOW)
            t.record(Key(strategy, f"{number}"), decide(situation()), run=run.id, now=NOW)
            made.append(run if number % 4 == 0 else t.finish(run, outcome, "over", now=NOW))

    journal.atomically(fill)
    everything = sorted(made, key=lambda run: -run.id)
    for strategy, state, outcome, before in product(
        ("a", "b", "gone", None), (*State, None), (*Outcome, None), (everything[5].id, None)
    ):
        found = journal.read(
            lambda t, f=(strategy, state, outcome, before): t.runs(  # type: ignore[misc]
                limit=3, strategy=f[0], state=f[1], outcome=f[2], before=f[3]
            )
        )
        assert [run.id for run in found] == [
            run.id
            for run in everything
            if strategy in {None, run.strategy}
            and state in {None, run.state}
            and outcome in {None, run.outcome}
            and (before is None or run.id < before)
        ][:3], (strategy, state, outcome, before)

    decisions = journal.read(lambda t: t.latest_decisions(limit=3, strategy="b"))
    assert [one.run for one in decisions] == [run.id for run in everything if run.strategy == "b"][
        :3
    ]
    assert journal.read(lambda t: t.latest_decisions(limit=3, strategy="gone")) == []
    assert journal.read(lambda t: t.strategies()) == ["a", "b"]


def test_a_full_disk_is_said_and_recovered_from(tmp_path: Path) -> None:
    journal = open_journal(f"sqlite:///{tmp_path}/journal.db")

    def limit(t: Transaction, pages: int) -> None:
        connection = t.connection  # type: ignore[attr-defined]
        (now,) = connection.execute("pragma page_count").fetchone()
        connection.execute(f"pragma max_page_count = {now + pages}")

    journal.atomically(lambda t: limit(t, 0))
    many = [alert(labels={"alertname": f"A{n}"}) for n in range(1000)]
    with pytest.raises(JournalError, match=r"cannot store.*full"):
        admit(journal, *many)
    could_write = [journal.writable]
    assert episodes(journal) == [], "nothing of it was stored"

    journal.atomically(lambda t: limit(t, 10_000))
    assert admit(journal, *many).opened == 1000
    could_write.append(journal.writable)
    assert could_write == [False, True]
    journal.close()


def test_other_urls_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="write sqlite:///PATH"):
        open_journal("mysql://localhost/x")


def test_the_file_stays_where_it_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(JournalError, match=r"choose another --storage\.url"):
        open_journal(f"sqlite:///{tmp_path}/file/journal.db")


def test_every_named_query_is_used() -> None:
    source = "".join(path.read_text() for path in Path("receiver/journal").glob("*.py"))
    known = {*queries("sqlite"), *queries("postgres")}
    unused = [name for name in known if f'"{name}"' not in source]

    assert [name for name in unused if not name.startswith("prune_")] == []


def test_a_start_from_after_the_last_notification_is_a_new_firing(journal: Journal) -> None:
    admit(journal, alert(starts_at=NOW - 60), now=NOW)

    admit(journal, alert(starts_at=NOW + 500), now=NOW + 510)

    (episode,) = episodes(journal)
    assert (episode.alert.starts_at, episode.first_seen) == (NOW + 500, NOW + 510)


def test_what_was_not_said_for_long_is_given_up(journal: Journal) -> None:
    wanted, other = alert(), alert(labels={"alertname": "Other"})
    admit(journal, wanted, other, wants=(Want(*KEY, wanted.fingerprint),))

    assert journal.atomically(lambda t: t.give_up(before=NOW)) == 0
    assert journal.atomically(lambda t: t.give_up(before=NOW + 1)) == 1
    (left,) = episodes(journal)
    assert left.alert == wanted, "Prometheus is asked first about what a strategy wants"

    assert journal.atomically(lambda t: t.give_up(before=NOW, episode=left.id)) == 0
    assert journal.atomically(lambda t: t.give_up(before=NOW + 1, episode=left.id)) == 1
    assert journal.read(lambda t: t.keys()) == set()
