"""A disk that is full, or has gone read-only, under a real promheal: what is answered 202 is there.

`make full-disk` does it many times. Each round fills the disk to some random bytes, sends
notifications of random sizes at once, makes room, fills it again, and may end with kill -9. Then
every alert that was answered 202 fires in the journal, and so do the others when they are sent
again, as Alertmanager does. On PostgreSQL the connection is cut at the commit instead.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.acceptance.disk import Disk, disk
from tests.acceptance.server import Promheal, Spies, Undaunted, alert, only_in_a_file, strategy
from tests.chain import wait_until
from tests.figures import Record

ROUNDS: Final = int(os.environ.get("FILLINGS", "1"))
"""Of random fillings, for each file system."""
SENDERS: Final = 4
SETTINGS: Final[dict[str, Any]] = {"engine": {"resync": "1s"}}

CUT: Final = """\
create table public.cutting (id integer);
create function public.cut() returns trigger language plpgsql as $$
begin
  if exists (select 1 from public.cutting) then
    perform pg_terminate_backend(pg_backend_pid());
  end if;
  return null;
end $$;
create constraint trigger cut after insert or update on promheal.episode
  deferrable initially deferred for each row execute function public.cut()
"""
"""While there is a row in `cutting`, whoever stores an alert loses the connection at the commit."""


class Sent:
    """What was sent to a promheal, and what it answered."""

    def __init__(self, server: Promheal) -> None:
        self.server = server
        self.taken: set[str] = set()
        """Fingerprints of what was answered 202."""
        self.refused: dict[str, dict[str, Any]] = {}
        self.answers = 0
        self._number = 0
        self._lock = threading.Lock()

    def post(self, alerts: list[dict[str, Any]]) -> int:
        answer = self.server.post(*alerts)
        assert answer.status in {202, 503}, answer
        with self._lock:
            self.answers += 1
            for one in alerts:
                if answer.status == 202:
                    self.taken.add(one["fingerprint"])
                    self.refused.pop(one["fingerprint"], None)
                else:
                    self.refused[one["fingerprint"]] = one
        return answer.status

    def new(self, size: int = 0, number: int = 1) -> int:
        """Send a notification of new alerts, with annotations of *size* characters."""
        alerts = []
        for _ in range(number):
            with self._lock:
                self._number += 1
                one = alert("Filling", number=str(self._number))
            alerts.append({**one, "annotations": {"summary": "x" * size}})
        return self.post(alerts)

    def until_refused(self, size: int = 4_000) -> None:
        """Send until there is no room: what SQLite has reserved before can still be used."""
        wait_until(lambda: self.new(size) == 503, within=60, what="a 503")

    def again(self) -> None:
        """Send again what was refused, as Alertmanager does."""
        for one in list(self.refused.values()):
            assert self.post([one]) == 202

    def lost(self) -> set[str]:
        """Alerts that were answered 202, and that promheal does not know."""
        # After a cut connection nothing can be read for a moment.
        wait_until(lambda: self.server.ask("/api/alerts").status == 200, within=20)
        return self.taken - self.server.alerts().keys()


@contextmanager
def served(
    tmp_path: Path, kind: str, **strategies: Mapping[str, Any]
) -> Iterator[tuple[Promheal, Disk]]:
    only_in_a_file("it is the disk of a file that is full")
    with disk(tmp_path / "disk", kind) as where:
        server = Undaunted(
            tmp_path / "promheal", strategies, journal=where.folder / "journal.db", **SETTINGS
        )
        server.within = where.entrance
        with server:
            yield server, where
        assert "Traceback" not in server.log.read_text(), "a full disk is no fault of promheal"


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_is_503_and_loses_nothing_that_was_202(
    tmp_path: Path, kind: str, record_property: Record
) -> None:
    with served(tmp_path, kind) as (server, where):
        sent = Sent(server)
        assert sent.new(number=20) == 202
        where.fill()
        sent.until_refused()
        worker = server.worker()
        for _ in range(5):
            sent.new(4_000)

        status = server.get("/api/status")
        assert status["status"] == "critical"
        assert "CRITICAL: the journal cannot store; alerts are answered 503" in status["issues"]
        assert "disk is full" in " ".join(status["recommendations"])
        # Through two resyncs, whose own transactions may have nothing to write.
        wait_until(lambda: full_for_long(server, where), within=60, what="it stays unwritable")
        counted = {code: server.metric("notifications_total", code=code) for code in ("202", "503")}
        assert sum(counted.values()) == sent.answers
        assert counted["503"] >= 6
        assert sent.lost() == set()

        where.free()

        freed = time.monotonic()
        wait_until(lambda: server.metric("journal_writable") == 1, within=10, what="it recovers")
        record_property("seconds to recover", time.monotonic() - freed)
        assert "CRITICAL" not in str(server.get("/api/status")["issues"])
        sent.again()
        assert server.worker() == worker, "without a restart"
        assert sent.lost() == set()
        server.kill9()
        server.start()
        assert sent.lost() == set()
        assert server.metric("notifications_total", code="503") == counted["503"]


def full_for_long(server: Promheal, where: Disk) -> bool:
    """Whether nothing can be stored for 2.5 s; what SQLite has still reserved is small."""
    where.fill()
    for _ in range(6):
        if server.metric("journal_writable"):
            return False
        time.sleep(0.5)
    return True


def test_a_file_system_gone_read_only_is_503_and_loses_nothing_that_was_202(tmp_path: Path) -> None:
    with served(tmp_path, "ext4") as (server, where):
        sent = Sent(server)
        assert sent.new(number=20) == 202
        where.break_()
        for _ in range(5):
            assert sent.new() == 503
        status = server.get("/api/status")
        assert "CRITICAL: the journal cannot store; alerts are answered 503" in status["issues"]
        assert sent.lost() == set()

        server.kill9()
        wait_until(where.unmount, within=20, what="its last process has let go of it")
        where.repair()
        where.mount()
        server.start()

        assert sent.lost() == set()
        sent.again()
        assert sent.lost() == set()


def test_nothing_begins_on_a_full_disk_and_it_does_when_there_is_room(tmp_path: Path) -> None:
    spies = Spies(tmp_path / "spies")
    act = strategy(spies.step("act"), match="Act", target=["service"])
    with served(tmp_path, "tmpfs", act=act) as (server, where):
        where.fill()
        sent = Sent(server)
        sent.until_refused()
        acted = [alert("Act", service=f"s{n}") for n in range(20)]
        for one in acted:
            sent.post([one])
        refused = sum(one["fingerprint"] in sent.refused for one in acted)
        assert refused
        time.sleep(2)
        assert len(spies.starts()) <= len(acted) - refused

        where.free()
        sent.again()

        server.finished("act", len(acted))
        assert len(spies.starts()) == len(acted), "each once"


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_random_fillings_lose_nothing_that_was_202(
    tmp_path: Path, kind: str, pytestconfig: pytest.Config
) -> None:
    seed = int(os.environ.get("SEED", "0")) or random.randrange(2**32)
    chance = random.Random(seed)
    answers = taken = 0
    for number in range(ROUNDS):
        with served(tmp_path / str(number), kind) as (server, where):
            sent = Sent(server)
            assert sent.new() == 202
            fill_at_random(chance, sent, where)
            assert not sent.lost(), f"SEED={seed}"
            sent.again()
            assert not sent.lost(), f"SEED={seed}"
        answers += sent.answers
        taken += len(sent.taken)
    pytestconfig.get_terminal_writer().line(
        f"{kind}: {ROUNDS} rounds, {answers} answers, {taken} alerts answered 202, 0 lost"
    )


def fill_at_random(chance: random.Random, sent: Sent, where: Disk) -> None:
    with ThreadPoolExecutor(SENDERS) as senders:
        for _ in range(chance.randint(2, 4)):
            where.fill(but=chance.choice((0, chance.randrange(4_096), chance.randrange(300_000))))
            sizes = [(chance.randrange(20_000), chance.randint(1, 4)) for _ in range(40)]
            list(senders.map(lambda each: sent.new(*each), sizes))
            if chance.random() < 0.7:
                where.free()
                list(senders.map(lambda each: sent.new(*each), sizes[:5]))
    assert sent.refused, "the disk was full"
    where.free()
    if chance.random() < 0.5:
        sent.server.kill9()
        sent.server.start()


def test_a_connection_cut_at_the_commit_is_503_and_loses_nothing_that_was_202(
    tmp_path: Path, database: str
) -> None:
    server = Promheal(tmp_path / "promheal", {}, **SETTINGS)
    server.storage_url, server.shared = database, True
    with server, psycopg.connect(database, autocommit=True) as postgres:
        postgres.execute(CUT.encode())
        sent = Sent(server)
        assert sent.new(number=20) == 202
        postgres.execute("insert into cutting values (1)")
        for _ in range(5):
            assert sent.new() == 503
        assert sent.lost() == set()

        postgres.execute("delete from cutting")

        wait_until(lambda: sent.new() == 202, within=20, what="it is back")
        sent.again()
        assert sent.lost() == set()
        assert len(sent.taken) == len(server.alerts())
