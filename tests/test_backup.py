"""Backups: online, verified, and restored so that nothing acts before a person says so."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from receiver.app import Promheal
from receiver.cli import main
from receiver.errors import JournalError, RefusedError, UnsoundError
from receiver.healing.restoring import restore
from receiver.journal import Journal, open_journal
from receiver.journal.backup import Backup, extract, make, verify
from receiver.journal.backup_folder import BackupFolder
from receiver.journal.copying import TABLES
from receiver.journal.marker import marker_path
from receiver.policy.run import Outcome, State
from receiver.policy.signal import Signal
from receiver.policy.target import Key
from receiver.web.flask_app import create_app
from tests.chain import wait_until
from tests.factories import NOW, alert, notification
from tests.test_copying import contents, fill
from tests.world import World

FILES = {"promheal.yml": "prometheus: {url: http://p:9090}\n"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "promheal.db"


@pytest.fixture
def journal(path: Path) -> Journal:
    opened = open_journal(f"sqlite:///{path}")
    fill(opened)
    return opened


def backed_up(path: Path, target: Path) -> Backup:
    return make(path, target, now=NOW, version="1.0", files=FILES)


def put_back(backup: Path, path: Path, *, force: bool = False) -> int:
    return restore(backup, path, reason="the disk died", force=force, stamp="now").unknown


def called(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    try:
        main(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_a_backup_holds_every_row_and_the_configuration(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "a.backup"

    made = backed_up(path, target)

    assert contents(f"sqlite:///{target}") == contents(f"sqlite:///{path}")
    assert made == verify(target)
    assert made.files == ("promheal.yml",)
    assert set(made.rows) == set(TABLES)
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.backup", "data"]
    journal.close()


def test_it_is_made_while_alerts_come_in_and_has_all_that_was_answered_before(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    world = World(journal)
    told: list[str] = []
    ending = threading.Event()

    def storm() -> None:
        while not ending.is_set():
            name = f"N{len(told)}"
            world.intake.admit(notification(alert(labels={"alertname": name})))
            told.append(name)

    thread = threading.Thread(target=storm)
    thread.start()
    for number in range(5):
        before = list(told)
        target = tmp_path / f"{number}.backup"
        backed_up(path, target)
        with closing(sqlite3.connect(target)) as connection:
            found = {
                row[0] for row in connection.execute("select labels ->> 'alertname' from episode")
            }
        assert set(before) <= found
    ending.set()
    thread.join()
    assert len(told) > 20
    journal.close()


def damaged(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(4096))


def without_rows(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("delete from decision")
        connection.commit()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [damaged, without_rows, cut])
def test_what_is_not_what_was_written_is_refused_and_changes_nothing(
    journal: Journal, path: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    target = tmp_path / "a.backup"
    backed_up(path, target)
    journal.close()
    before = path.read_bytes()
    harm(target)

    with pytest.raises(UnsoundError, match="is damaged") as refused:
        verify(target)
    assert refused.value.remedy == "take another backup"
    with pytest.raises(UnsoundError):
        put_back(target, path, force=True)

    assert path.read_bytes() == before


def test_what_is_no_backup_is_refused(journal: Journal, path: Path, tmp_path: Path) -> None:
    journal.close()
    with pytest.raises(UnsoundError, match="not a backup"):
        verify(path)
    with pytest.raises(JournalError, match="there is no backup"):
        verify(tmp_path / "none")
    (tmp_path / "text").write_text("not a database, but long enough to be read as one" * 100)
    with pytest.raises(UnsoundError, match="take another backup"):
        verify(tmp_path / "text")
    with pytest.raises(JournalError, match="choose another place for the backup"):
        backed_up(path, tmp_path / "text" / "b.backup")
    with pytest.raises(JournalError, match="there is no journal"):
        backed_up(tmp_path / "none.db", tmp_path / "b.backup")
    with pytest.raises(RefusedError, match="exists"):
        backed_up(path, tmp_path / "text")


def test_a_full_disk_leaves_no_half_a_backup(
    journal: Journal, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("receiver.journal.backup._sync", full)

    with pytest.raises(JournalError, match="No space left"):
        backed_up(path, tmp_path / "a.backup")

    assert [one.name for one in tmp_path.iterdir()] == ["data"]
    journal.close()


def test_it_is_restored_elsewhere_paused_and_nothing_acts(tmp_path: Path, path: Path) -> None:
    journal = open_journal(f"sqlite:///{path}")
    world = World(journal)
    world.fire()
    world.consider()
    (run,) = world.runs()
    assert run.state is State.VERIFYING
    backed_up(path, tmp_path / "a.backup")
    journal.close()

    elsewhere = tmp_path / "elsewhere" / "journal.db"
    assert put_back(tmp_path / "a.backup", elsewhere) == 1

    again = World(open_journal(f"sqlite:///{elsewhere}"))
    (run,) = again.runs()
    assert (run.state, run.outcome) == (State.FINISHED, Outcome.UNKNOWN)
    restored = again.journal.read(lambda t: t.newest())
    again.clock.now = restored + 10
    again.verifier.signal = Signal.FIRING
    again.consider()
    assert again.verdict() == ("wait", "paused")
    assert again.spy.calls == []
    (audit,) = again.journal.read(lambda t: t.audits(limit=1))
    assert (audit.action, audit.reason) == ("restore", "the disk died")

    again.control.resume(by="anna", reason="looked at it")
    assert again.consider(Key("latency", 'service="other"')) is None
    assert again.consider() == restored + 300, "another host may just have acted on it"
    assert again.verdict() == ("wait", "grace_period")
    again.clock.now = restored + 300
    again.consider()
    assert again.spy.calls == ["run one"]
    again.journal.close()


def test_a_newer_journal_and_another_one_need_force_and_are_moved_aside(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "a.backup"
    backed_up(path, target)
    journal.atomically(lambda t: t.put_audit("pause", "all", by="a", reason="b", now=NOW))
    journal.mark()  # type: ignore[attr-defined]
    journal.close()

    with pytest.raises(RefusedError, match="is newer than the backup"):
        put_back(target, path)
    put_back(target, path, force=True)

    assert path.with_name("promheal.db.before-restore-now").exists()
    with pytest.raises(RefusedError, match="another journal"):
        put_back(target, path)
    open_journal(f"sqlite:///{path}").close()


def test_a_lost_or_damaged_journal_needs_no_force(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    backed_up(path, tmp_path / "a.backup")
    journal.close()
    path.write_bytes(b"nothing that can be read")

    put_back(tmp_path / "a.backup", path)
    open_journal(f"sqlite:///{path}").close()

    path.unlink()
    put_back(tmp_path / "a.backup", path)
    open_journal(f"sqlite:///{path}").close()


def test_while_a_promheal_acts_on_it_nothing_is_restored(
    make_service: Callable[..., Promheal], tmp_path: Path
) -> None:
    service = make_service()
    service.start()
    path = service.folder / "journal.db"
    assert path.exists()
    assert service.acting.wait(10)
    backed_up(path, tmp_path / "a.backup")

    with pytest.raises(RefusedError, match="end it, and try again"):
        put_back(tmp_path / "a.backup", path, force=True)


def test_where_it_cannot_be_put_what_was_there_stays(
    journal: Journal, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backed_up(path, tmp_path / "a.backup")
    journal.close()
    before = path.read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("receiver.healing.restoring.extract", fails)
    with pytest.raises(JournalError, match="make room"):
        put_back(tmp_path / "a.backup", path, force=True)

    assert path.read_bytes() == before
    assert not [one for one in path.parent.iterdir() if "restored" in one.name]


def test_the_commands_tell_what_they_did_and_what_is_next(
    journal: Journal, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.close()
    config = tmp_path / "config"
    shutil.copytree("configs", config)
    backup, url = str(tmp_path / "a.backup"), f"--storage.url=sqlite:///{path}"

    assert called(["backup", backup, url, f"--config.file={config}/promheal.yml"]) == 0
    said = capsys.readouterr().out
    assert "verified  yes" in said
    assert "healing_strategies.yml, promheal.yml, services.yml" in said
    assert called(["backup", backup, "--check"]) == 0
    assert capsys.readouterr().out == said

    other = f"--storage.url=sqlite:///{tmp_path}/other/promheal.db"
    to = tmp_path / "to"
    arguments = ["restore", backup, other, "--reason", "a test", f"--config.to={to}"]
    assert called(arguments) == 0
    said = capsys.readouterr().out
    assert "everything is paused" in said
    assert (to / "promheal.yml").read_text() == (config / "promheal.yml").read_text()
    assert (to / "promheal.yml").stat().st_mode & 0o077 == 0, "it may hold secrets"
    assert called(arguments) == 1, "a file of the configuration is there already"
    assert "nothing was restored" in capsys.readouterr().err
    assert called(["restore", backup, other]) == 2, "a reason is needed"
    before = path.read_bytes()
    arguments = ["restore", backup, url, "--reason=x", "--force", f"--config.to={backup}/to"]
    assert called(arguments) == 2
    assert "nothing was restored" in capsys.readouterr().err
    new = tmp_path / "new"
    newer = ["restore", backup, other, "--reason=x", f"--config.to={new}"]
    assert called(newer) == 1, "what was restored is another journal now"
    assert (path.read_bytes(), list(new.iterdir())) == (before, [])


def test_a_folder_keeps_the_newest_and_leaves_other_files_alone(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    folder = BackupFolder(tmp_path / "backups", keep=2)
    assert folder.newest() is None
    for number in range(4):
        made = folder.add(path, now=NOW + 60 * number, version="1", files={})
        (folder.folder / f"mine-{number}.txt").touch()

    assert len(folder.paths()) == 2
    assert folder.newest() == (NOW + 180, made.size)
    assert len(list(folder.folder.iterdir())) == 6, "nothing of a rehearsal is left"
    journal.close()


def test_a_backup_that_cannot_be_restored_removes_no_older_one(
    journal: Journal, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BackupFolder(tmp_path / "backups", keep=1)
    first = folder.add(path, now=NOW, version="1", files={})

    def lossy(backup: Path, target: Path) -> None:
        extract(backup, target)
        with closing(sqlite3.connect(target)) as connection:
            connection.execute("delete from decision")
            connection.commit()

    monkeypatch.setattr("receiver.journal.backup_folder.extract", lossy)
    with pytest.raises(UnsoundError, match="restored on trial"):
        folder.add(path, now=NOW + 60, version="1", files={})

    assert first.path in folder.paths()
    journal.close()


def test_a_scheduled_backup_is_made_when_one_is_due_and_status_shows_it(
    make_service: Callable[..., Promheal], config: Path
) -> None:
    (config / "promheal.yml").write_text("backup: {folder: kept, every: 1h, keep: 2}\n")
    service = make_service()
    client = create_app(service).test_client()

    def shown() -> dict[str, Any]:
        answer = client.get("/api/status").json
        assert answer is not None
        backup: dict[str, Any] = answer["backup"]
        return backup

    assert shown()["at"] is None
    service.start()
    assert service.acting.wait(10)

    def is_made() -> bool:
        service.background.run_now("backup")  # in vain until it leads
        return bool(shown()["at"])

    wait_until(is_made)
    found = shown()
    (made,) = (config / "kept").iterdir()
    assert found["bytes"] == made.stat().st_size
    assert found["everySeconds"] == 3600
    assert set(verify(made).files) >= {"promheal.yml", "services.yml"}
    service.background.run_now("backup")
    time.sleep(0.3)
    assert len(list((config / "kept").iterdir())) == 1, "the next one is due in an hour"
    (task,) = [one for one in service.background.tasks if one.id == "backup"]
    assert (task.failures, task.last_error) == (0, "")


def test_a_folder_that_hangs_holds_up_no_scrape_and_no_status(
    make_service: Callable[..., Promheal], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config / "promheal.yml").write_text("backup: {folder: kept, every: 1h, keep: 2}\n")
    first = make_service()
    BackupFolder(config / "kept", keep=2).add(config / "journal.db", now=NOW, version="1", files={})
    first.close()
    answers = threading.Event()
    listed = BackupFolder.paths

    def hangs(folder: BackupFolder) -> list[Path]:
        assert answers.wait(30)
        return listed(folder)

    monkeypatch.setattr(BackupFolder, "paths", hangs)
    service = make_service()
    client = create_app(service).test_client()
    service.start()

    def shown() -> tuple[float | None, str]:
        (age,) = [
            line.split()[1]
            for line in client.get("/metrics").text.splitlines()
            if line.startswith("promheal_backup_last_success_timestamp_seconds ")
        ]
        answer = client.get("/api/status").json
        assert answer is not None
        return answer["backup"]["at"], age

    assert shown() == (None, "0.0"), "the rule for an old backup fires in the end"
    answers.set()
    wait_until(lambda: shown() == (NOW, "1.8e+09"), what="it answers")


def test_without_a_folder_there_is_no_task_and_nothing_to_show(
    make_service: Callable[..., Promheal],
) -> None:
    service = make_service()

    assert service.present().backup is None
    assert "backup" not in {task.id for task in service.background.tasks}


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_for_postgresql_its_own_tools_are_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [command, str(tmp_path / "x"), "--storage.url=postgresql://a@b/c"]
    if command == "restore":
        arguments += ["--reason", "why"]
    assert called(arguments) == 2
    assert "pg_" in capsys.readouterr().err
    assert marker_path(tmp_path / "x").exists() is False
