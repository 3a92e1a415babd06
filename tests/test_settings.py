from __future__ import annotations

from pathlib import Path

import pytest

from receiver.actions import Actions
from receiver.config.files import load
from receiver.errors import ConfigError
from receiver.settings import FlagSettings, Settings
from receiver.settings.environment import dotenv, with_environment
from receiver.yaml.diagnostics import InvalidConfig


def test_a_file_of_variables_is_read(tmp_path: Path) -> None:
    path = tmp_path / ".env.local"
    path.write_text(
        "# comment\n\nA=1\nexport B = two words \nC=\"quoted # text\"\nD='x'\nE=\nF=a=b\n"
    )

    assert dotenv(path) == {
        "A": "1", "B": "two words", "C": "quoted # text", "D": "x", "E": "", "F": "a=b",
    }  # fmt: skip


def test_a_file_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert dotenv(tmp_path / "no") == {}


@pytest.mark.parametrize("line", ["no equals", "=x", "a b=c", "1a=c"])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / ".env.local"
    path.write_text(f"A=1\n{line}\n")

    with pytest.raises(ConfigError, match=r"\.env\.local:2:1: write NAME=VALUE"):
        dotenv(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="cannot be read"):
        dotenv(tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "on"),
    [("true", True), ("1", True), ("ON", True), ("false", False), ("0", False), (" no ", False)],
)
def test_the_environment_sets_a_flag(text: str, on: bool) -> None:
    settings = Settings(flags=FlagSettings(auto_healing=not on))

    found = with_environment(settings, {"FEATURE_AUTO_HEALING_ENABLED": text})

    assert found.flags.auto_healing is on


def test_what_the_environment_does_not_set_stays() -> None:
    settings = Settings(flags=FlagSettings(auto_healing=False))

    assert with_environment(settings, {"FEATURE_AUTO_HEALING_ENABLED": ""}) == settings


def test_a_flag_that_is_no_boolean_is_refused() -> None:
    with pytest.raises(ConfigError, match="FEATURE_AUTO_HEALING_ENABLED='maybe'"):
        with_environment(Settings(), {"FEATURE_AUTO_HEALING_ENABLED": "maybe"})


@pytest.mark.parametrize("name", ["", "anonymous", "@file", "n" * 101])
def test_nobody_is_trusted_who_cannot_show_who_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "promheal.yml").write_text(
        f"prometheus:\n  url: http://p\n  trusted_senders:\n    - {name!r}\n"
    )
    (tmp_path / "services.yml").write_text("services: {}\n")
    (tmp_path / "healing_strategies.yml").write_text("strategies: {}\n")

    with pytest.raises(InvalidConfig) as raised:
        load(tmp_path / "promheal.yml", Actions([]), {})

    (problem,) = raised.value.problems
    assert (problem.line, problem.column) == (4, 7)
    assert "--web.config.file" in problem.message
