"""A journal that goes away while it is used, or comes back as another: said, never acted on."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from receiver.journal.marker import marker_path, read_marker
from tests.acceptance.disk import disk
from tests.acceptance.server import PATIENCE, Promheal, Spies, alert, only_in_a_file, strategy
from tests.chain import wait_until
from tests.figures import Record

DONE: Final = ("a", "b", "c")
"""Services that were healed before anything happened to the journal."""


@pytest.fixture
def spies(tmp_path: Path) -> Spies:
    only_in_a_file("a journal in PostgreSQL is no file")
    return Spies(tmp_path / "spies")


@pytest.fixture
def server(tmp_path: Path, spies: Spies) -> Iterator[Promheal]:
    """Not started; its step may not be repeated."""
    step = strategy(spies.step("spy"), match="Ill", target=["service"])
    folder = tmp_path / "promheal"
    with closing_server(
        Promheal(folder, {"ill": step}, journal=folder / "data/promheal.db")
    ) as one:
        yield one


@contextmanager
def closing_server(server: Promheal) -> Iterator[Promheal]:
    try:
        yield server
    finally:
        server.__exit__()


def heal(server: Promheal, spies: Spies, *services: str) -> None:
    """Have services healed, and wait until the marker knows of it."""
    before = checkpoint(server)
    done = len(spies.starts())
    for service in services:
        assert server.post(alert("Ill", service=service)).status == 202
    wait_until(lambda: len(spies.starts()) == done + len(services), within=PATIENCE, what="acted")
    server.until(
        "ill", lambda runs: sum(r["outcome"] is not None for r in runs) >= len(services), "ended"
    )
    wait_until(lambda: checkpoint(server) > before, within=PATIENCE, what="a checkpoint")
    time.sleep(1.5)  # so long the marker may lag behind


def checkpoint(server: Promheal) -> int:
    marker = read_marker(server.journal)
    return 0 if marker is None else marker.checkpoint


def state(server: Promheal) -> str:
    (found,) = [
        dict(labels)["state"]
        for (name, labels), value in server.metrics().items()
        if name == "promheal_journal_state" and value == 1
    ]
    return found


def beside(server: Promheal, suffix: str) -> Path:
    return server.journal.with_name(server.journal.name + suffix)


# ── it goes away ──


def remove(server: Promheal) -> None:
    server.journal.unlink()


def move(server: Promheal) -> None:
    server.journal.rename(beside(server, ".away"))


def move_the_folder(server: Promheal) -> None:
    folder = server.journal.parent
    folder.rename(folder.with_name("away"))


def replace_by_a_copy(server: Promheal) -> None:
    shutil.copy(server.journal, beside(server, ".copy"))
    beside(server, ".copy").replace(server.journal)


def remove_the_log(server: Promheal) -> None:
    beside(server, "-wal").unlink()


def remove_the_index(server: Promheal) -> None:
    beside(server, "-shm").unlink()


@pytest.mark.parametrize(
    "happen",
    [remove, move, move_the_folder, replace_by_a_copy, remove_the_log, remove_the_index],
)
def test_what_happens_to_the_file_while_it_runs_is_noticed_and_nothing_acts(
    server: Promheal, spies: Spies, happen: Callable[[Promheal], None]
) -> None:
    server.start()
    heal(server, spies, "a")

    happen(server)

    assert server.post(alert("Ill", service="b")).status == 503, "it is not stored anywhere"
    ready = server.ask("/-/ready")
    assert ready.status == 503
    assert re.search("was (removed|replaced)", ready.body), ready.body
    status = server.get("/api/status")
    assert (status["status"], status["journal"]["state"]) == ("critical", "gone")
    assert any("put it back" in one for one in status["recommendations"])
    assert (state(server), server.metric("journal_writable")) == ("gone", 0)
    assert "alerts are answered 503, and nothing acts" in server.tail()
    assert spies.starts() == ["spy"]


@pytest.mark.parametrize("back", ["b", "a"])
def test_what_is_put_back_is_used_again(server: Promheal, spies: Spies, back: str) -> None:
    server.start()
    heal(server, spies, "a")
    move(server)
    assert server.post(alert("Ill", service="b")).status == 503

    beside(server, ".away").rename(server.journal)

    assert server.post(alert("Ill", service=back)).status == 202
    server.wait_ready()
    assert state(server) == "sound"
    assert not beside(server, ".saved").exists(), "it would be an older copy soon"
    assert len(spies.starts()) == (2 if back == "b" else 1) or spies.started("spy", 2)


@pytest.mark.parametrize("happen", [remove, move, replace_by_a_copy, remove_the_log])
def test_what_was_stored_is_saved_and_the_remedy_brings_it_back(
    server: Promheal, spies: Spies, happen: Callable[[Promheal], None]
) -> None:
    server.start()
    heal(server, spies, *DONE)
    happen(server)

    def remedy() -> str:
        said = "\n".join(server.get("/api/status")["recommendations"])
        found = re.search(r"until then: (.*)", said)
        return found[1] if found else ""

    command = wait_until(remedy, within=PATIENCE, what="it is saved")
    server.stop()
    subprocess.run(["sh", "-euc", command], check=True)
    server.start()

    assert len(server.runs(state="finished")) == len(DONE)
    assert server.post(*(alert("Ill", service=service) for service in DONE)).status == 202
    time.sleep(1)
    assert len(spies.starts()) == len(DONE), "nothing is done again"


def test_a_removed_lock_file_does_not_make_two_act(
    server: Promheal, spies: Spies, tmp_path: Path
) -> None:
    server.start()
    spies.hold("spy")
    assert server.post(alert("Ill", service="a")).status == 202
    spies.started("spy")

    beside(server, ".lock").unlink()
    step = strategy(spies.step("spy"), match="Ill", target=["service"])
    other = Promheal(tmp_path / "other", {"ill": step}, journal=server.journal)
    with other.waiting():
        other.wait_ready(503)
        time.sleep(2)
        assert "another process acts on this journal" in other.ask("/-/ready").body
        spies.release()
        server.finished("ill")
        assert beside(server, ".lock").exists(), "it is put back at the next commit"
        assert spies.starts() == ["spy"]
        server.stop()
        other.wait_ready()


# ── it comes back as another one ──


def missing(server: Promheal) -> None:
    for part in ("", "-wal", "-shm"):
        beside(server, part).unlink(missing_ok=True)


def of_no_bytes(server: Promheal) -> None:
    missing(server)
    server.journal.touch()


def without_its_log(server: Promheal) -> None:
    beside(server, "-wal").unlink()


def with_a_log_of_garbage(server: Promheal) -> None:
    size = beside(server, "-wal").stat().st_size
    beside(server, "-wal").write_bytes(os.urandom(size))


def with_half_a_log(server: Promheal) -> None:
    log = beside(server, "-wal")
    os.truncate(log, log.stat().st_size // 2)


def an_older_copy(server: Promheal) -> None:
    missing(server)
    beside(server, ".backup").rename(server.journal)


def another_journal(server: Promheal) -> None:
    missing(server)
    shutil.copy(beside(server, ".another"), server.journal)


HAPPENS: Final = [
    missing, of_no_bytes, without_its_log, with_a_log_of_garbage, with_half_a_log, an_older_copy,
    another_journal,
]  # fmt: skip


def damaged(server: Promheal, spies: Spies, happen: Callable[[Promheal], None]) -> None:
    """Have three services healed, kill it, and let something happen to its journal."""
    server.start()
    backup(server, ".backup")
    another = Promheal(server.folder / "another", {}, journal=beside(server, ".another"))
    another.start()
    another.stop()
    heal(server, spies, *DONE)
    server.kill9()
    happen(server)


def backup(server: Promheal, suffix: str) -> None:
    with (
        closing(sqlite3.connect(server.journal)) as source,
        closing(sqlite3.connect(beside(server, suffix))) as target,
    ):
        source.backup(target)


@pytest.mark.parametrize("happen", HAPPENS)
def test_a_journal_that_is_not_the_one_that_was_here_is_refused_until_the_loss_is_accepted(
    server: Promheal, spies: Spies, happen: Callable[[Promheal], None]
) -> None:
    damaged(server, spies, happen)

    with server.waiting():
        server.wait_ready(503)
        time.sleep(2)
        again = [alert("Ill", service=service) for service in DONE]
        assert server.post(*again).status == 503
        assert state(server) == "refused"
        ready = server.ask("/-/ready").body
        assert re.search("missing or empty|older than the journal|is another journal", ready), ready
        assert ready.removeprefix("promheal is not ready: ").strip() in server.tail()
        assert server.ask("/api/status").status == 503
        assert len(spies.starts()) == len(DONE), "nothing is done again"

        (said,) = re.findall(r"promheal (journal accept .*) WHY", ready)
        done = promheal(*shlex.split(said), "the disk was lost")
        assert done.returncode == 0, done.stderr
        server.wait_ready()

        assert server.post(alert("Ill", service="d")).status == 202
        spies.started("spy", len(DONE) + 1)
        audit = server.get("/api/audit")["audit"][0]
        assert (audit["action"], audit["reason"]) == ("accept", "the disk was lost")
        server.stop()

    server.start()  # it is the journal that was here now


def test_what_was_lost_is_refused_once_the_loss_was_accepted(
    server: Promheal, spies: Spies
) -> None:
    def kept_aside(server: Promheal) -> None:
        shutil.copytree(server.journal.parent, server.folder / "kept")
        missing(server)

    damaged(server, spies, kept_aside)
    url = f"sqlite:///{server.journal}"
    assert promheal("journal", "accept", url, "--reason", "x").returncode == 0

    shutil.copytree(
        server.folder / "kept", server.journal.parent, dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("*.marker"),
    )  # fmt: skip

    with server.waiting():
        server.wait_ready(503)
        assert "is another journal than the one that was here" in server.ask("/-/ready").body


def test_putting_the_newest_one_back_makes_it_well_without_a_restart(
    server: Promheal, spies: Spies
) -> None:
    server.start()
    heal(server, spies, *DONE)
    server.stop()
    server.journal.rename(beside(server, ".kept"))

    with server.waiting():
        server.wait_ready(503)
        beside(server, ".kept").rename(server.journal)
        server.wait_ready()

        assert len(server.runs(state="finished")) == len(DONE)


def test_there_is_nothing_to_accept_where_nothing_is_lost_and_nobody_accepts_beside_who_acts(
    server: Promheal,
) -> None:
    server.start()
    url = f"sqlite:///{server.journal}"
    beside_it = promheal("journal", "accept", url, "--reason", "x")
    assert (beside_it.returncode, "a promheal acts on" in beside_it.stderr) == (1, True)
    server.stop()

    alone = promheal("journal", "accept", url, "--reason", "x")
    assert (alone.returncode, "nothing to accept" in alone.stdout) == (0, True)
    without = promheal("journal", "accept", "postgresql://x/y", "--reason", "x")
    assert (without.returncode, "nothing to accept" in without.stderr) == (2, True)
    server.start()


@pytest.mark.parametrize("how", ["backup", "vacuum into"])
def test_a_backup_is_taken_elsewhere_and_in_its_place_once_it_is_accepted(
    server: Promheal, spies: Spies, tmp_path: Path, how: str
) -> None:
    server.start()
    heal(server, spies, *DONE)
    if how == "backup":
        backup(server, ".backup")
    else:
        server.sql(f"vacuum into '{beside(server, '.backup')}'")
    heal(server, spies, "d")
    server.stop()

    elsewhere = Promheal(tmp_path / "elsewhere", {}, journal=tmp_path / "elsewhere/promheal.db")
    shutil.copy(beside(server, ".backup"), elsewhere.journal)
    with elsewhere:  # which has no strategies, and so cancels what was pending
        acted = [run for run in elsewhere.runs(state="finished") if run["actedAt"] is not None]
        assert len(acted) == len(DONE)

    missing(server)
    beside(server, ".backup").rename(server.journal)
    with server.waiting():
        server.wait_ready(503)
        assert "is older than the journal that was here" in server.ask("/-/ready").body
        url = f"sqlite:///{server.journal}"
        assert promheal("journal", "accept", url, "--reason", "backup").returncode == 0
        server.wait_ready()
        assert len(server.runs(state="finished")) == len(DONE)


def test_a_foreign_file_is_refused_before_anything_is_served(server: Promheal) -> None:
    server.journal.parent.mkdir(parents=True)
    with closing(sqlite3.connect(server.journal)) as foreign:
        foreign.execute("create table dashboard (id)")

    server.launch()

    assert server.ended() == 2
    assert "not a journal of promheal" in server.tail()
    assert not marker_path(server.journal).exists()


def test_a_damaged_file_is_served_and_refused(server: Promheal, spies: Spies) -> None:
    server.start()
    heal(server, spies, *DONE)
    server.stop()
    content = bytearray(server.journal.read_bytes())
    content[4096 * 3 : 4096 * 3 + 512] = os.urandom(512)
    server.journal.write_bytes(content)

    with server.waiting():
        server.wait_ready(503)
        wait_until(lambda: state(server) == "refused", within=PATIENCE, what="it is refused")
        ready = server.ask("/-/ready").body
        assert re.search("is damaged: .* end promheal, .* put a backup in its place", ready), ready
        assert server.post(alert("Ill", service="d")).status == 503
        assert len(spies.starts()) == len(DONE)
        moved, accepted = re.findall(
            r"\((for .*; done)\).*promheal (journal accept .*) WHY", ready
        )[0]
        server.stop()

    subprocess.run(["sh", "-euc", moved], check=True)
    assert promheal(*shlex.split(accepted), "it was damaged").returncode == 0
    server.start()
    assert server.runs() == []


# ── there is no room for it ──


@pytest.mark.parametrize("left", ["nothing", "a journal", "a journal of who was killed"])
@pytest.mark.parametrize(("kind", "how"), [("tmpfs", "full"), ("tmpfs", "ro"), ("ext4", "full")])
def test_a_start_without_room_serves_says_why_and_becomes_well_by_itself(
    server: Promheal, spies: Spies, left: str, kind: str, how: str, record_property: Record
) -> None:
    with disk(server.journal.parent, kind) as room:
        server.within = room.entrance
        if left != "nothing":
            server.start()
            assert server.post(alert("Ill", service="a")).status == 202
            spies.started("spy")
            server.finished("ill")
            server.kill9() if "killed" in left else server.stop()
        room.fill() if how == "full" else room.remount("ro")

        with server.waiting():
            server.wait_ready(503)
            assert server.post(alert("Ill", service="b")).status == 503
            ready = server.ask("/-/ready").body
            assert re.search("full|space|read", ready), ready
            assert server.metric("journal_writable") == 0
            assert "Traceback" not in server.tail()
            assert len(spies.starts()) == (left != "nothing")

            freed = time.monotonic()
            room.free() if how == "full" else room.remount("rw")
            server.wait_ready()
            record_property("seconds to recover", time.monotonic() - freed)

            assert server.post(alert("Ill", service="b")).status == 202
            spies.started("spy", 1 if left == "nothing" else 2)


def promheal(*arguments: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "receiver", *arguments], capture_output=True, text=True, check=False
    )
