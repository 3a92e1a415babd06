"""From SQLite to PostgreSQL and back: everything, or nothing."""

from __future__ import annotations

import io
import re
import sqlite3
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest

from receiver.cli import main
from receiver.journal import Admission, Anchor, ConfigLoad, Journal, Transaction, Want, open_journal
from receiver.journal.copying import BATCH, TABLES
from receiver.journal.inputs import pack
from receiver.journal.migrate import scripts
from receiver.journal.sqlite_transaction import SqliteTransaction
from receiver.policy.alert import Quarantined
from receiver.policy.breaker import BreakerEvent, Happening
from receiver.policy.decide import decide
from receiver.policy.dormancy import Dormancy
from receiver.policy.run import (
    Observation,
    Outcome,
    Phase,
    Plan,
    PlannedStep,
    State,
    Step,
    StepState,
)
from receiver.policy.target import Key
from tests.factories import NOW, alert, situation

KEY = Key("latency", 'service="checkout"')
EVERYTHING = {table: f"select * from {table} order by 1" for table in TABLES}


def fill(journal: Journal) -> None:
    """At least one row in each table, and more than a batch in one."""
    many = [alert(labels={"alertname": f"A{n}", "service": "ä\0b"}) for n in range(BATCH + 5)]
    one = alert()

    def write(t: Transaction) -> None:
        t.admit(Admission([one, *many]), [Want(*KEY, one.fingerprint)], sender="am", now=NOW)
        t.match_anew([1], [Want(*KEY, one.fingerprint)])
        episode = t.wanted(KEY)
        assert episode is not None
        plan = Plan(
            steps=(PlannedStep(action="log", params={"message": "é"}, timeout=5.0),),
            rollback=True, verify_within=5.0, verify_query=None, verify_expect="empty",
            alert={"labels": {}}, runs_on="web-1",
        )  # fmt: skip
        run = t.open_run(KEY, State.ACTING, episode=episode, now=NOW, plan=plan)
        step = Step(index=0, phase=Phase.RUN, action="log", state=StepState.DONE, started_at=NOW)
        t.put_step(run.id, step)
        t.save_step(run.id, 0, {"before": 3})
        t.put_observation(run.id, Observation(at=NOW, verdict="firing", value=None, detail=""))
        held = situation(enabled=False)
        for _ in range(2):
            t.record(
                KEY, decide(held), run=run.id, now=NOW, config_hash="ab" * 32, inputs=pack(held)
            )
        failed = Happening(event=BreakerEvent.FAILURE, at=NOW, started_at=NOW, target=KEY[1])
        t.happen("main", failed)
        t.put_dormancy(Dormancy(failures=3, failing=(KEY[1],), failed_at=NOW))
        t.put_pause("all", reason="deploy", by="anna", now=NOW, until=None)
        t.put_veto(KEY, by="anna", reason="no", now=NOW)
        t.put_audit("pause", "all", by="anna", reason="deploy", now=NOW)
        t.put_anchor(Anchor(boot="b", boottime=1.5, at=NOW))
        t.count("heals", "latency", "healed", by=7)
        t.put_message(run.id, "ended")
        load = ConfigLoad(at=NOW, how="start", hash="ab" * 32, version="1")
        t.put_load(load, b"\x00packed")
        t.quarantine([Quarantined(problem="no labels", raw="{}")], sender="am", now=NOW)
        t.finish(run, Outcome.FAILED, "it failed", now=NOW + 1)

    journal.atomically(write)


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, read past promheal."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
            found = {table: file.execute(sql).fetchall() for table, sql in EVERYTHING.items()}
            names = {
                table: [c[1] for c in file.execute(f"pragma table_info({table})")]
                for table in TABLES
            }
        file.close()
    else:
        with psycopg.connect(url, options="-c search_path=promheal") as server:
            cursors = {table: server.execute(sql.encode()) for table, sql in EVERYTHING.items()}
            found = {table: cursor.fetchall() for table, cursor in cursors.items()}
            names = {
                table: [column.name for column in cursor.description or ()]
                for table, cursor in cursors.items()
            }
    return {
        table: sorted((tuple(sorted(zip(names[table], row, strict=True))) for row in rows), key=str)
        for table, rows in found.items()
    }


@pytest.fixture
def urls(tmp_path: Path, database: str) -> tuple[str, str, str]:
    return f"sqlite:///{tmp_path}/one.db", database, f"sqlite:///{tmp_path}/two.db"


def run(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(said), pytest.raises(SystemExit) as ended:
        main(["journal", "copy", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.getvalue()


def test_everything_comes_over_and_back_again(urls: tuple[str, str, str]) -> None:
    first, server, second = urls
    journal = open_journal(first)
    fill(journal)
    journal.close()
    before = contents(first)
    assert all(before.values()), "every table has rows"

    code, said = run(first, server)
    assert code == 0, said
    assert "episode: 1,006" in said
    assert contents(server) == before

    assert run(server, second)[0] == 0
    assert contents(second) == before


@pytest.mark.parametrize("to", ["server", "file"])
def test_what_is_new_after_the_copy_gets_numbers_of_its_own(
    urls: tuple[str, str, str], to: str
) -> None:
    first, server, second = urls
    journal = open_journal(first)
    fill(journal)
    journal.close()
    last = server if to == "server" else second
    assert run(first, last)[0] == 0

    journal = open_journal(last)
    later = alert(labels={"alertname": "Later"})
    key = Key("latency", "later")

    def write(t: Transaction) -> int:
        t.admit(Admission([later]), [Want(*key, later.fingerprint)], sender="am", now=NOW)
        episode = t.wanted(key)
        assert episode is not None
        return t.open_run(key, State.PENDING, episode=episode, now=NOW, reason="storm").id

    assert journal.atomically(write) == 2
    assert len(journal.read(lambda t: t.open_episodes(limit=9_999))) == BATCH + 7
    journal.close()


def test_a_journal_that_has_anything_is_not_copied_into(urls: tuple[str, str, str]) -> None:
    first, server, _ = urls
    for url in (first, server):
        journal = open_journal(url)
        journal.atomically(lambda t: t.put_audit("a", "b", by="c", reason="", now=NOW))
        journal.close()

    code, said = run(first, server)

    assert code == 1
    assert "the second journal is not empty, its table audit has rows" in said


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_journal_that_is_in_use_is_not_copied(urls: tuple[str, str, str], which: str) -> None:
    first, server, _ = urls
    used = open_journal(first if which == "first" else server)
    assert used.acquire()

    code, said = run(first, server)

    assert code == 1
    assert f"a promheal uses the {which} journal" in said
    used.close()


def test_what_does_not_come_over_whole_does_not_come_at_all(
    urls: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, server, _ = urls
    journal = open_journal(first)
    fill(journal)
    journal.close()
    dump = SqliteTransaction.dump

    def some(self: SqliteTransaction, table: str, batch: int) -> Any:
        for rows in dump(self, table, batch):
            yield rows[:1] if table == "decision" or len(rows) > 5 else rows

    monkeypatch.setattr(SqliteTransaction, "dump", some)

    code, said = run(first, server)

    assert code == 1
    assert "not every row of episode arrived; nothing was copied" in said
    assert not any(contents(server).values())


def test_no_table_is_forgotten() -> None:
    # Which journal it is, is what a copy has of its own.
    made = {*re.findall(r"create table (\w+)", "".join(scripts("sqlite")))}
    assert made - {"generation"} == {*TABLES}
