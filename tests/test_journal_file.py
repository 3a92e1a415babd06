"""The file of a journal: which one it is, whether it is whole, and whether it is still there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bench.damage import KINDS, journal, sweep
from receiver.app import Promheal
from receiver.errors import JournalError, RefusedError, UnsoundError
from receiver.journal import (
    Admission,
    Journal,
    JournalState,
    Transaction,
    open_journal,
    prepare_journal,
)
from receiver.journal.accepting import accept
from receiver.journal.marker import Marker, judge, marker_path, read_marker, write_marker
from receiver.journal.migrate import scripts
from receiver.journal.sqlite_file import APPLICATION_ID, SqliteFile, check
from tests.chain import wait_until
from tests.factories import NOW, alert

JOURNAL = Path("data/promheal.db")
KNOWN = Marker(journal="one", checkpoint=7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def patient(path: Path) -> Iterator[Callable[[], Journal]]:
    """Open the journal as a server does."""
    opened: list[Journal] = []

    def open_() -> Journal:
        opened.append(open_journal(f"sqlite:///{path}", patient=True))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def made(path: Path, alerts: int = 1) -> None:
    with closing(open_journal(f"sqlite:///{path}")) as journal:
        admit(journal, *(f"A{number}" for number in range(alerts)))


def admit(journal: Journal, *names: str) -> int:
    admission = Admission([alert(labels={"alertname": name}) for name in names])
    return journal.atomically(lambda t: t.admit(admission, [], sender="am", now=NOW)).opened


# -- which one is it?


@pytest.mark.parametrize(
    ("marker", "found", "empty"),
    [
        (None, None, True),
        (None, KNOWN, False),
        (None, None, False),
        (KNOWN, KNOWN, False),
        (KNOWN, Marker(journal="one", checkpoint=8), False),
    ],
    ids=["a new one", "without a marker", "older version", "as it was", "further than it"],
)
def test_what_is_taken(marker: Marker | None, found: Marker | None, empty: bool) -> None:
    judge(JOURNAL, marker, found, empty=empty)


@pytest.mark.parametrize(
    ("found", "empty", "problem"),
    [
        (None, True, "is missing or empty, and was at checkpoint 7"),
        (Marker(journal="one", checkpoint=6), False, "it is at checkpoint 6, and was at 7"),
        (Marker(journal="two", checkpoint=9), False, "is another journal"),
        (None, False, "it is at checkpoint 0, and was at 7"),
    ],
)
def test_what_is_refused_has_a_remedy(found: Marker | None, empty: bool, problem: str) -> None:
    with pytest.raises(UnsoundError) as refused:
        judge(JOURNAL, KNOWN, found, empty=empty)

    assert problem in refused.value.problem
    assert "promheal journal accept sqlite:///data/promheal.db --reason WHY" in refused.value.remedy


def test_a_marker_that_cannot_be_read_is_refused_and_can_be_accepted(path: Path) -> None:
    made(path)
    marker_path(path).write_text("{")

    with pytest.raises(UnsoundError, match=r"marker is damaged.*journal accept"):
        open_journal(f"sqlite:///{path}")

    assert "accepted" in accept(path, reason="x")
    open_journal(f"sqlite:///{path}").close()


def test_the_marker_is_never_ahead_of_the_database_and_follows_it(
    path: Path, patient: Callable[[], Journal]
) -> None:
    journal = patient()
    before = read_marker(path)
    assert before is not None
    admit(journal, "A")

    def followed() -> bool:
        now = read_marker(path)
        return now is not None and now.checkpoint == before.checkpoint + 1

    wait_until(followed, what="a checkpoint")
    names = path.parent.iterdir()
    assert not [one for one in names if str(os.getpid()) in one.name], "nothing is left over"


def test_a_journal_in_which_nothing_is_stored_has_no_checkpoints(path: Path) -> None:
    made(path)
    before = marker_path(path).stat()

    with closing(open_journal(f"sqlite:///{path}")) as journal:
        journal.atomically(lambda t: t.give_up(before=0.0))

    assert marker_path(path).stat().st_mtime_ns == before.st_mtime_ns


def test_a_marker_that_cannot_be_written_is_no_reason_to_be_without_a_journal(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marker_path(path).with_name(f"{marker_path(path).name}.{os.getpid()}").mkdir()

    with closing(open_journal(f"sqlite:///{path}")) as journal:
        assert admit(journal, "A") == 1

    assert "the marker of" in caplog.text


def test_two_that_make_a_journal_at_once_agree_which_one_it_is(path: Path) -> None:
    def make() -> None:
        # Another one may be bringing the schema up to date; a server tries again.
        with suppress(JournalError):
            open_journal(f"sqlite:///{path}").close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    open_journal(f"sqlite:///{path}").close()


def test_nobody_accepts_beside_who_acts(path: Path) -> None:
    with closing(open_journal(f"sqlite:///{path}")) as journal:
        assert journal.acquire()
        with pytest.raises(RefusedError, match="a promheal acts on"):
            accept(path, reason="x")


def test_what_is_accepted_is_not_marked_before_it_is(path: Path) -> None:
    made(path)
    write_marker(path, Marker(journal="another", checkpoint=3))
    with closing(SqliteFile(path, whole=True, accepting=True)) as file:
        assert file.objection is not None

    assert read_marker(path) == Marker(journal="another", checkpoint=3)


# -- is it whole?


def test_alerts_are_accepted_while_it_is_checked_and_nothing_acts(
    path: Path, patient: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(path)
    go_on = threading.Event()

    def slow(connection: sqlite3.Connection, path: Path) -> None:
        assert go_on.wait(30)
        check(connection, path)

    monkeypatch.setattr("receiver.journal.sqlite.check", slow)
    journal = patient()

    assert journal.condition.state is JournalState.CHECKING
    assert admit(journal, "B") == 1
    assert not journal.acquire()

    go_on.set()
    wait_until(journal.acquire, what="it has passed")
    assert journal.condition.sound


def test_a_server_refuses_what_the_check_finds(path: Path, patient: Callable[[], Journal]) -> None:
    made(path, 500)
    content = bytearray(path.read_bytes())
    page = len(content) // 4096 - 1
    content[page * 4096 : page * 4096 + 64] = bytes(range(128, 192))
    path.write_bytes(content)

    journal = patient()

    wait_until(lambda: journal.condition.state is JournalState.REFUSED, what="it is refused")
    assert "is damaged" in journal.condition.problem
    assert "put a backup in its place" in journal.condition.remedy
    assert not journal.acquire()
    with pytest.raises(JournalError, match="is damaged"):
        admit(journal, "B")


def test_a_schema_that_must_be_brought_up_to_date_is_read_through_before(
    path: Path, patient: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    from receiver.journal import sqlite_file  # noqa: PLC0415

    known = scripts("sqlite")
    monkeypatch.setattr(
        sqlite_file, "scripts", lambda _: known[:5]
    )  # the next one names the journal
    with pytest.raises(JournalError):  # has made it, and does not know which one it is
        open_journal(f"sqlite:///{path}")
    monkeypatch.undo()
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 2 + 64] = bytes(range(128, 192))
    path.write_bytes(content)

    assert patient().condition.state is JournalState.REFUSED
    assert path.read_bytes() == content, "it is kept as evidence"


def test_a_schema_is_brought_up_to_date_before_a_process_forks(path: Path) -> None:
    """Building the indexes of a large file takes longer than gunicorn waits for a worker."""
    known = scripts("sqlite")
    with closing(sqlite3.connect(path)) as old:
        for script in known[:-1]:
            old.executescript(script)
        old.execute(f"pragma application_id = {APPLICATION_ID}")
        old.execute(f"pragma user_version = {len(known) - 1}")

    assert not prepare_journal(f"sqlite:///{path}")

    with closing(sqlite3.connect(path)) as prepared:
        assert prepared.execute("pragma user_version").fetchone() == (len(known),)
    open_files = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    assert not any(file.startswith(str(path)) for file in open_files), "nothing is left open"


def test_a_file_that_cannot_be_used_is_left_to_whoever_opens_it(path: Path) -> None:
    made(path)
    path.write_bytes(b"SQLite format 3\0" + bytes(4096))

    assert not prepare_journal(f"sqlite:///{path}")
    with pytest.raises(JournalError, match="is damaged"):
        open_journal(f"sqlite:///{path}")


def test_what_is_found_is_what_the_page_says_a_page_always_and_a_bit_seldom() -> None:
    with journal(100) as path:
        found = dict(sweep(path, 25))

    assert found.keys() == KINDS.keys()
    assert found["page"].by_promheal == 25
    assert found["1 bit"].by_promheal < 25, "then docs/reference/journal.md says too little"
    for kind in found.values():
        assert kind.by_promheal >= kind.by_quick_check


# -- is it still there?


def test_what_goes_away_in_the_middle_of_a_transaction_is_not_called_stored(
    path: Path, patient: Callable[[], Journal]
) -> None:
    journal = patient()

    def work(transaction: Transaction) -> None:
        transaction.admit(Admission([alert()]), [], sender="am", now=NOW)
        path.unlink()

    with pytest.raises(JournalError, match="was removed or moved away"):
        journal.atomically(work)

    assert journal.condition.state is JournalState.GONE
    assert not journal.acquire()


def test_a_copy_with_the_same_name_is_another_file(
    path: Path, patient: Callable[[], Journal]
) -> None:
    journal = patient()
    shutil.copy(path, f"{path}.copy")
    Path(f"{path}.copy").replace(path)

    assert "was replaced" in journal.condition.problem
    wait_until(lambda: "until then: rm -f" in journal.condition.remedy, what="it is saved")


def test_who_ends_leaves_alone_what_was_put_in_the_place_of_its_files(path: Path) -> None:
    journal = open_journal(f"sqlite:///{path}", patient=True)
    admit(journal, "A")
    for part in (path, Path(f"{path}-wal")):
        part.unlink()
        part.write_text("another's")

    journal.close()

    assert Path(f"{path}-wal").read_text() == "another's", (
        "SQLite looks whether the database has moved"
    )


def test_where_it_cannot_be_saved_the_remedy_does_not_say_so(
    path: Path, patient: Callable[[], Journal]
) -> None:
    journal = patient()
    path.parent.rename(f"{path.parent}.away")

    assert journal.condition.state is JournalState.GONE
    wait_until(lambda: "put a backup in its place" in journal.condition.remedy, what="it is tried")


def test_it_is_not_alive_only_because_a_person_must_see_to_its_journal(
    make_service: Callable[..., Promheal], config: Path
) -> None:
    service = make_service()
    (config / "journal.db").unlink()

    assert "was removed" in service.ready()
    assert service.dead() == "", "a new process mends nothing"


def test_a_folder_that_may_not_be_written_says_who_would_have_to_be_let_in(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o555)
    code = (
        "import sys; from receiver.journal import open_journal\n"
        "found = open_journal(sys.argv[1], patient=True)\n"
        "print(found.condition.state, found.condition); found.close()"
    )
    url = f"sqlite:///{folder}/journal.db"
    # Root may write everywhere, but for what it has given away.
    drop = [] if os.geteuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    said = subprocess.run(
        [*drop, sys.executable, "-c", code, url], capture_output=True, text=True, check=False
    )

    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("unavailable"), said.stdout
    assert f"let user {os.geteuid()} write into {folder}" in said.stdout
