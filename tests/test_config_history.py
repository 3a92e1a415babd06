"""`promheal config history`, `diff` and `rollback`, and what rollback leaves as it is."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from receiver.app import Options, build
from receiver.cli import main
from receiver.config import rollback
from tests.acceptance.server import Promheal
from tests.test_stored_config import MAIN, STRATEGIES, write

OTHER = STRATEGIES.replace("message: well", "message: better")


def run(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(said), pytest.raises(SystemExit) as ended:
        main(["config", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.getvalue()


class Place:
    """A configuration of which two versions were loaded, and one was refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = write(folder)
        self.url = f"sqlite:///{folder}/j.db"
        self.hashes = [self.load()]
        write(folder, strategies=OTHER)
        self.hashes.append(self.load())

    def load(self) -> str:
        service = build(Options(config_file=self.config, storage_url=self.url))
        try:
            service.housekeeping.note_loads()
            return service.config.hash
        finally:
            service.close(0)

    def ask(self, command: str, *arguments: str) -> tuple[int, str]:
        given = [f"--storage.url={self.url}"]
        if command != "history":
            given.append(f"--config.file={self.config}")
        return run(command, *arguments, *given)

    def back(self, *arguments: str) -> tuple[int, str]:
        return self.ask("rollback", self.hashes[0][:8], "--reason=it was better", *arguments)

    def audits(self) -> list[str]:
        service = build(Options(config_file=self.config, storage_url=self.url))
        try:
            return [one.detail for one in service.journal.read(lambda t: t.audits(limit=9))]
        finally:
            service.close(0)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_history_says_what_was_loaded_and_what_is_in_force(place: Place) -> None:
    code, said = place.ask("history")
    first, second = (one[:12] for one in place.hashes)
    assert code == 0
    _, newest, oldest = said.splitlines()
    assert newest.split()[-5:] == ["start", "-", second, "in", "force"]
    assert oldest.split()[-3:] == ["start", "-", first]
    code, said = place.ask("history", "-o", "json", "--limit=1")
    answer = json.loads(said)
    assert (answer["loads"][0]["hash"], answer["loads"][0]["inForce"]) == (place.hashes[1], True)
    assert answer["next"] == answer["loads"][0]["id"]


def test_diff_shows_what_has_changed_without_secrets(place: Place) -> None:
    code, said = place.ask("diff", place.hashes[0][:6])
    first, second = (one[:12] for one in place.hashes)
    assert code == 1
    assert said.splitlines()[:2] == [
        f"--- {first}/healing_strategies.yml", f"+++ {second}/healing_strategies.yml",
    ]  # fmt: skip
    assert "-        message: well" in said
    assert "+        message: better" in said
    assert place.ask("diff", place.hashes[1]) == (0, "")
    assert place.ask("diff", place.hashes[1], "--files") == (0, "")
    write(place.folder, main=MAIN.replace("s3cret", "other-s3cret"))
    code, said = place.ask("diff", place.hashes[1], "--files")
    assert code == 1
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("named", "said"),
    [("abcd", "no configuration abcd is kept"), ("xyz", "is no hash"), ("ab", "is no hash")],
)
def test_a_hash_that_is_none_is_refused(place: Place, named: str, said: str) -> None:
    if place.hashes[0].startswith("abcd"):
        pytest.skip("it is one")
    code, text = place.ask("diff", named)
    assert code == 2
    assert said in text


def test_the_page_before_an_id_beyond_all_is_refused(place: Place) -> None:
    code, said = place.ask("history", f"--before={2**63}")
    assert (code, "Invalid value for '--before'" in said) == (2, True)


def test_rollback_puts_back_what_was_keeps_what_is_and_says_so_in_the_audit(place: Place) -> None:
    (place.folder / "healing_strategies.yml").chmod(0o640)
    code, said = place.back("--no-reload")

    file = place.folder / "healing_strategies.yml"
    assert (code, file.read_text()) == (0, STRATEGIES)
    assert file.stat().st_mode & 0o777 == 0o640
    (kept,) = place.folder.glob("healing_strategies.yml.before-rollback-*")
    assert kept.read_text() == OTHER
    assert f"put back: {file}; what was there: {kept}" in said
    assert "secret kept as it is now: strategies.call.actions[0].headers.X-Api-Key" in said
    assert "the hash is" not in said  # it is the very same
    assert place.audits() == [f"{place.hashes[0][:12]} in {file}"]
    assert place.load() == place.hashes[0]
    assert "already" in place.back("--no-reload")[1]


def test_rollback_writes_nothing_where_a_secret_is_gone_and_output_says_what_to_fill_in(
    place: Place,
) -> None:
    gone = OTHER.replace("X-Api-Key: hunter2secret, ", "")
    write(place.folder, strategies=gone)
    code, said = place.back()
    assert code == 1
    assert "healing_strategies.yml:5: strategies.call.actions[0].headers.X-Api-Key" in said
    assert (place.folder / "healing_strategies.yml").read_text() == gone
    code, said = place.back(f"--output={place.folder / 'old'}")
    assert code == 0
    assert "fill in: healing_strategies.yml:5" in said
    assert "X-Api-Key: REDACTED" in (place.folder / "old/healing_strategies.yml").read_text()
    assert place.back(f"--output={place.folder / 'old'}")[0] == 1  # nothing is overwritten
    assert place.audits() == []


def test_rollback_leaves_what_something_else_makes(place: Place) -> None:
    file = place.folder / "healing_strategies.yml"
    file.rename(place.folder / "..data")
    file.symlink_to(place.folder / "..data")
    code, said = place.back()
    assert code == 2
    assert "is a link, so something else makes it; write the old files elsewhere" in said


def test_rollback_to_what_is_not_accepted_any_more_changes_nothing(place: Place) -> None:
    (place.folder / ".env.local").write_text("no equals\n")
    before = (place.folder / "healing_strategies.yml").read_text()
    code, said = place.back()
    assert code == 2
    assert "nothing was changed" in said
    assert (place.folder / "healing_strategies.yml").read_text() == before


def test_a_rollback_that_fails_half_way_leaves_all_files(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place.folder, main=MAIN + "# new\n", strategies=OTHER)
    before = {path: path.read_text() for path in place.folder.glob("*.yml")}
    synced = rollback._sync

    def fail(folder: Path) -> None:
        synced(folder)
        raise OSError("the disk is full")

    monkeypatch.setattr(rollback, "_sync", fail)
    code, said = place.back()
    assert code == 2
    assert "nothing was changed: the disk is full" in said
    assert {path: path.read_text() for path in place.folder.glob("*.yml")} == before
    assert not list(place.folder.glob("*before-rollback*"))


def test_a_running_promheal_loads_what_was_put_back(tmp_path: Path) -> None:
    strategies = {"noop": {"match": ['alertname="A"'], "actions": [{"action": "log"}]}}
    strategies["noop"]["actions"] = [{"action": "log", "message": "one"}]
    with Promheal(tmp_path, strategies) as server:
        url = f"--storage.url=sqlite:///{server.journal}"
        first = json.loads(run("history", "-o", "json", url)[1])["loads"][0]["hash"]
        file = tmp_path / "healing_strategies.yml"
        then = file.read_text()
        file.write_text(then.replace("one", "two"))
        assert server.ask("/-/reload", b"").status == 200
        code, said = run(
            "rollback", first, "--reason=back", url, f"--url={server.url}",
            f"--config.file={tmp_path}/promheal.yml",
        )  # fmt: skip
        assert (code, said.splitlines()[-1]) == (0, "reloaded"), said
        assert file.read_text() == then
        loads = json.loads(run("history", "-o", "json", url)[1])["loads"]
        assert [(one["how"], one["by"]) for one in loads] == [
            ("/-/reload", "anonymous"), ("/-/reload", "anonymous"), ("start", ""),
        ]  # fmt: skip
        assert loads[0]["hash"] == first
