"""What stands behind the hash of a configuration, and what its secrets become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from receiver.actions import discover
from receiver.config import stored
from receiver.config.files import LoadedConfig, load
from receiver.config.left_out import fill_in, leave_out
from receiver.errors import ConfigError, JournalError
from receiver.journal import ConfigLoad, Journal
from tests.factories import NOW
from tests.test_journal import journal as journal  # noqa: PLC0414  the fixture, of both databases

MAIN = """\
# the token was hunter2secret once
prometheus:
  url: http://bob:s3cret@prom:9090
  http_headers: {X-Anything: {values: [plain-secret]}}
alertmanager:
  url: http://am:9093
  authorization: {credentials: abc}
notify:
  channels: {ops: {url: 'slack://TokenA/TokenB'}}
http: {allow: ["http://a/", "http://b/"]}
maintenance: []
"""
STRATEGIES = """\
strategies:
  call:
    match: ['alertname="A"']
    actions:
      - {action: http, url: "http://a/heal", headers: {X-Api-Key: hunter2secret, Accept: text/html}}
      - action: log
        message: well
"""
SERVICES = "services: {}\n"


def write(folder: Path, main: str = MAIN, strategies: str = STRATEGIES) -> Path:
    (folder / "promheal.yml").write_text(main)
    (folder / "healing_strategies.yml").write_text(strategies)
    (folder / "services.yml").write_text(SERVICES)
    return folder / "promheal.yml"


def loaded(folder: Path) -> LoadedConfig:
    return load(folder / "promheal.yml", discover(), {})


def test_a_stored_configuration_has_its_texts_without_any_secret(tmp_path: Path) -> None:
    write(tmp_path)
    packed = stored.pack(loaded(tmp_path))
    kept = stored.unpack(packed)

    whole = "\n".join(file.text for file in kept.files)
    for secret in ("hunter2", "s3cret", "plain-secret", "abc", "TokenA", "TokenB"):
        assert secret not in whole
    assert "url: http://bob:REDACTED@prom:9090\n" in whole
    assert "authorization: {credentials: REDACTED}" in whole
    assert "headers: {X-Api-Key: REDACTED, Accept: text/html}" in whole
    assert [file.name for file in kept.files] == [
        "promheal.yml", "healing_strategies.yml", "services.yml",
    ]  # fmt: skip
    assert kept.flags["auto_healing"]
    (strategy,) = stored.strategies_of(packed, discover())
    assert (strategy.name, len(strategy.actions)) == ("call", 2)


def test_secrets_are_put_back_from_the_same_place_and_all_is_as_it_was() -> None:
    for text in (MAIN.partition("\n")[2], STRATEGIES):
        filled = fill_in(leave_out(text), text)
        assert (filled.text, filled.missing) == (text, ())
    assert filled.kept == ("strategies.call.actions[0].headers.X-Api-Key",)


@pytest.mark.parametrize(
    ("present", "why"),
    [
        (STRATEGIES.replace("http://a/heal", "http://b/heal"), "it would go elsewhere"),
        (STRATEGIES.replace("X-Api-Key: hunter2secret, ", ""), "no such key"),
        (STRATEGIES.replace("      - {", "      - action: log\n        message: x\n      - {"), ""),
    ],
)
def test_a_secret_goes_nowhere_but_where_it_goes_now(present: str, why: str) -> None:
    filled = fill_in(leave_out(STRATEGIES), present)
    (missing,) = filled.missing
    assert missing.place == "strategies.call.actions[0].headers.X-Api-Key"
    assert missing.line == 5
    assert why in missing.why
    assert "hunter2secret" not in filled.text


def test_a_password_in_a_url_is_put_back_only_into_the_same_url() -> None:
    then = leave_out("prometheus: {url: 'http://bob:s3cret@old'}")
    assert "http://bob:new@old" in fill_in(then, "prometheus: {url: 'http://bob:new@old'}").text
    (missing,) = fill_in(then, "prometheus: {url: 'http://bob:new@elsewhere'}").missing
    assert missing.why == "it was http://bob:REDACTED@old, and is http://bob:REDACTED@elsewhere"


def test_what_stands_behind_an_option_of_a_secret_is_left_out_however_short() -> None:
    text = "argv: [mysql, --user, bob, '--password', abc]\nenv: {PROMHEAL_DB_PASS: abcd}"
    shown = "argv: [mysql, --user, bob, '--password', REDACTED]\nenv: {PROMHEAL_DB_PASS: REDACTED}"
    assert leave_out(text) == shown


def test_what_cannot_be_unpacked_is_said() -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        stored.unpack(b"nothing")


def note(journal: Journal, at: float, hashed: str | None, **more: str) -> None:
    values: dict[str, Any] = {"at": at, "how": "start", "hash": hashed, "version": "1", **more}
    load = ConfigLoad(**values)
    body = None if hashed is None else b"body of " + hashed.encode()
    journal.atomically(lambda t: t.put_load(load, body))


def test_loads_are_noted_once_counted_while_they_repeat_and_found_by_their_hash(
    journal: Journal,
) -> None:
    note(journal, NOW, "ab12")
    note(journal, NOW, "ab12")  # the same one, after a commit that was not heard of
    note(journal, NOW + 1, "ab12")
    note(journal, NOW + 2, "ab34", how="/-/reload", by="anna")
    note(journal, NOW + 3, None, how="SIGHUP", error="promheal.yml:3:1: no")

    loads = journal.read(lambda t: t.loads(limit=9))
    assert [(one.hash, one.how, one.by, one.times, one.error) for one in loads] == [
        (None, "SIGHUP", "", 1, "promheal.yml:3:1: no"),
        ("ab34", "/-/reload", "anna", 1, ""),
        ("ab12", "start", "", 2, ""),
    ]
    assert (loads[2].at, loads[2].last_at) == (NOW, NOW + 1)
    assert journal.read(lambda t: t.loads(limit=1, before=loads[0].id)) == [loads[1]]
    assert journal.read(lambda t: t.load_in_force()) == loads[1]
    found = journal.read(lambda t: t.configurations("ab"))
    assert [(one.hash, one.body, one.last_at) for one in found] == [
        ("ab12", b"body of ab12", NOW + 2),  # until then it was in force
        ("ab34", b"body of ab34", NOW + 2),
    ]
    assert not journal.read(lambda t: t.configurations("ab2"))


def test_what_is_in_force_or_was_lately_outlives_the_retention(journal: Journal) -> None:
    for number, hashed in enumerate(("aa", "bb", "cc")):
        note(journal, NOW + 10 * number, hashed)

    def left(before: float) -> tuple[list[str], list[str | None]]:
        journal.atomically(lambda t: t.prune(before=before, limit=100))
        return journal.read(
            lambda t: (
                [one.hash for one in t.configurations("", limit=9)],
                [one.hash for one in t.loads(limit=9)],
            )
        )

    # aa was in force until 10 s later, bb until 20, and cc is.
    assert left(NOW + 5) == (["aa", "bb", "cc"], ["cc", "bb", "aa"])
    assert left(NOW + 15) == (["bb", "cc"], ["cc", "bb"])
    assert left(NOW + 1_000) == (["cc"], ["cc"])


def test_a_load_is_noted_once_and_a_refused_one_with_its_error(
    tmp_path: Path,
) -> None:
    from receiver.app import Options, build  # noqa: PLC0415  a whole service

    config = write(tmp_path)
    service = build(Options(config_file=config, storage_url=f"sqlite:///{tmp_path}/j.db"))
    try:
        service.housekeeping.note_loads()
        service.housekeeping.note_loads()
        config.write_text("engin: {}\n")
        with pytest.raises(ConfigError):
            service.reload("SIGHUP")
        config.write_text(MAIN.replace("maintenance: []", ""))
        service.reload(by="anna")
        loads = service.journal.read(lambda t: t.loads(limit=9))
        assert [(one.how, one.by, one.times) for one in loads] == [
            ("/-/reload", "anna", 1), ("SIGHUP", "", 1), ("start", "", 1),
        ]  # fmt: skip
        assert "did you mean 'engine'" in loads[1].error
        assert loads[0].hash == service.config.hash
        assert loads[1].hash is None
    finally:
        service.close(0)
