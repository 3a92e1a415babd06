"""A service as it is built, reloaded and built again."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Queue

import pytest

from receiver import clock
from receiver.app import Promheal, build
from receiver.bootstrap import Options
from receiver.errors import ConfigError, JournalError, UnsoundError
from receiver.journal import Anchor, JournalState
from receiver.policy.role import ProcessRole
from receiver.policy.target import Key
from receiver.reporting.needs import needs
from tests.chain import wait_until
from tests.factories import alert, notification


@pytest.mark.parametrize("step", [3600.0, -3600.0, 86_400.0, -86_400.0])
def test_a_step_of_the_wall_clock_while_it_is_down_moves_nothing(
    make_service: Callable[..., Promheal], monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    first = make_service()
    before = first.clock()
    first.close()
    real = time.time
    monkeypatch.setattr(clock, "wall", lambda: real() + step)

    again = make_service()

    assert 0 <= again.clock() - before < 5
    assert again.clock_lead() == pytest.approx(step, abs=1)


def test_after_a_start_of_the_machine_it_goes_by_the_wall_clock_but_never_back(
    make_service: Callable[..., Promheal],
) -> None:
    first = make_service()
    ahead = time.time() + 1000

    def pretend(transaction: object) -> None:
        put = transaction.put_anchor  # type: ignore[attr-defined]
        put(Anchor(boot="another", boottime=1.0, at=5.0))
        transaction.put_audit(  # type: ignore[attr-defined]
            "pause", "all", by="anna", reason="x", now=ahead
        )

    first.journal.atomically(pretend)
    first.close()

    again = make_service()

    assert again.clock() == pytest.approx(ahead, abs=1)
    kept = again.journal.read(lambda t: t.anchor())
    assert kept is not None
    assert kept.boot == clock.boot()


def test_without_auto_detection_alerts_are_recorded_and_no_strategy_is_asked(
    make_service: Callable[..., Promheal], config: Path
) -> None:
    (config / ".env.local").write_text("FEATURE_AUTO_DETECTION_MONITORING=false\n")
    service = make_service()
    service.intake.admit(notification(alert()))
    assert service.journal.read(lambda t: t.keys()) == set()
    assert len(service.journal.read(lambda t: t.open_episodes(limit=9))) == 1

    (config / ".env.local").write_text("FEATURE_AUTO_DETECTION_MONITORING=true\n")
    service.reload()

    assert service.journal.read(lambda t: t.keys()) == {("latency", 'service="checkout"')}


def test_the_tasks_follow_the_configuration_without_a_restart(
    make_service: Callable[..., Promheal], config: Path
) -> None:
    service = make_service()
    service.start()
    wait_until(service.acting.is_set, what="it acts")
    assert [task.id for task in service.background.tasks] == [
        "resync", "retention", "process_monitor",
    ]  # fmt: skip

    (config / "promheal.yml").write_text(
        "flags: {process_monitoring: false}\n"
        "engine: {resync: 30s}\n"
        "llm: {providers: {mine: {base_url: 'http://127.0.0.1:1', keys: [MY_KEY]}}}\n"
    )
    service.reload()

    assert {task.id: task.interval for task in service.background.tasks} == {
        "resync": 30.0, "retention": 3600.0, "key_probe:mine": 300.0,
    }  # fmt: skip
    wait_until(lambda: service.current.keys.summary().failed == 1, what="the key is tried at once")

    (config / "promheal.yml").write_text("{}\n")
    service.reload()
    assert [task.id for task in service.background.tasks] == [
        "resync", "retention", "process_monitor",
    ]  # fmt: skip


def test_a_reload_that_fails_keeps_what_there_was_and_is_told(
    make_service: Callable[..., Promheal], config: Path
) -> None:
    service = make_service()
    before = service.config
    (config / "promheal.yml").write_text("flags: {auto_healing: perhaps}\n")

    with pytest.raises(ConfigError, match="auto_healing"):
        service.reload()

    assert service.config is before
    assert not service.present().reload_successful


def test_a_run_that_has_ended_stands_in_the_healing_log(
    make_service: Callable[..., Promheal], config: Path
) -> None:
    service = make_service()
    service.start()
    service.intake.admit(notification(alert(starts_at=service.clock() - 5)))
    log = config / "healing_log.jsonl"
    wait_until(log.exists, what="the line is written")

    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["strategy"], line["actions_executed"], line["success"]) == ("latency", 1, False)


def test_a_dry_run_stands_there_too_once(
    make_service: Callable[..., Promheal], config: Path
) -> None:
    service = make_service(dry_run=True)
    service.intake.admit(notification(alert()))
    for _ in range(3):
        service.reconciler.consider(Key("latency", 'service="checkout"'))

    (line,) = map(json.loads, (config / "healing_log.jsonl").read_text().splitlines())
    assert (line["dry_run"], line["actions_executed"], line["actions_total"]) == (True, 0, 1)


def test_who_only_executes_steps_neither_asks_nor_looks_for_what_needs_a_person(
    make_service: Callable[..., Promheal],
) -> None:
    """There may be one on each host."""
    service = make_service(role=ProcessRole(frozenset({"web-1"}), decides=False))
    service.start()
    wait_until(service.acting.is_set, what="it acts")

    assert "lookout" not in {thread.name for thread in threading.enumerate()}


def test_it_is_ready_while_its_journal_is_checked_and_acts_only_once_that_has_passed(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict: Queue[str] = Queue()

    def slow(connection: sqlite3.Connection, path: Path) -> None:
        if found := verdict.get(timeout=30):
            raise UnsoundError(f"{path} is damaged: {found}")

    options = Options(
        config_file=config / "promheal.yml", storage_url=f"sqlite:///{config}/journal.db"
    )
    build(options).close()
    monkeypatch.setattr("receiver.journal.sqlite.check", slow)
    for damaged in (False, True):
        one, other = build(options, patient=True), build(options, patient=True)
        try:
            one.start()
            wait_until(lambda: not one.ready(), what="alerts are accepted")
            other.start()
            wait_until(lambda: "another process acts" in other.ready(), what="one acts")
            one.intake.admit(notification(alert()))
            present = one.present()
            assert not one.ready()
            assert (one.acting.is_set(), present.condition.state) == (False, JournalState.CHECKING)
            assert "being checked" in next(need.title for need in needs(present, None))

            verdict.put("a page" if damaged else "")
            verdict.put("a page" if damaged else "")

            if damaged:
                wait_until(lambda: "is damaged: a page" in one.ready(), what="refused")
                with pytest.raises(JournalError, match="is damaged: a page"):
                    one.intake.admit(notification(alert()))
            else:
                assert one.acting.wait(10)
                assert not one.ready()
            assert not other.acting.is_set()
            assert one.acting.is_set() is not damaged
        finally:
            other.close(timeout=0)
            one.close(timeout=5)
