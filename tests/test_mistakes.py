"""What people got wrong when they tried it: the message names the place, the cause and a remedy.

Where the remedy is a text to write, it is written, and what was wrong is right then.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from receiver.actions import discover
from receiver.config.files import load
from receiver.errors import ConfigError
from receiver.policy.strategy import Strategy
from receiver.services.managers import MANAGERS
from receiver.services.workers.kinds import WORKERS
from receiver.settings import Settings
from tests.calls import dry_parse

STRATEGY = """\
strategies:
  slow:
    match: ['alertname="HighLatency"']
    target: [service]
    actions:
      - {action: log, message: slow}
"""
COMMAND = "      - {action: command, argv: ▸'/bin/systemctl restart checkout'}\n"


class Mistake(NamedTuple):
    file: str
    text: str
    """With ▸ before the place."""
    cause: str
    wrong: str
    """What is to be replaced."""
    right: str
    """By what, as the message has it."""


MISTAKES = {
    "02 a URL without a scheme": Mistake(
        "promheal", "prometheus: {url: ▸127.0.0.1:39090}\n", "'127.0.0.1:39090'",
        "127.0.0.1:39090", "http://127.0.0.1:39090",
    ),
    "04 a tab": Mistake(
        "healing_strategies", STRATEGY.replace("      - {", "▸\t- {"), "a tab",
        "\t", "      ",
    ),
    "05 a matcher as a mapping": Mistake(
        "healing_strategies",
        STRATEGY.replace("['alertname=\"HighLatency\"']", "▸{alertname: HighLatency}"),
        "expected a list, found a mapping",
        "{alertname: HighLatency}", '["alertname=\\"HighLatency\\""]',
    ),
    "a matcher without a list": Mistake(
        "healing_strategies",
        STRATEGY.replace("['alertname=\"HighLatency\"']", '▸alertname="High Latency"'),
        "expected a list, found",
        'alertname="High Latency"', "['alertname=\"High Latency\"']",
    ),
    "10 a label as in rules of Prometheus": Mistake(
        "healing_strategies", STRATEGY.replace("slow}", "▸'{{ $labels.service }}'}"),
        "unexpected char '$'",
        "'{{ $labels.service }}'", "'{{ labels.service }}'",
    ),
    "12 an argv as one text": Mistake(
        "healing_strategies", STRATEGY + COMMAND, "expected a list",
        "'/bin/systemctl restart checkout'", "[/bin/systemctl, restart, checkout]",
    ),
    "16 a unit without its ending": Mistake(
        "services", "services:\n  c: {manager: {systemd: {unit: ▸checkout}}}\n", "'checkout'",
        "unit: checkout", "unit: checkout.service",
    ),
    "19 strategies as a list": Mistake(
        "healing_strategies", "strategies:\n  ▸- match: ['a=\"b\"']\n    target: [a]\n"
        "    actions: [{action: log, message: x}]\n", "expected a mapping, found a list",
        "- match", "NAME:\n    match",
    ),
    "21 a budget as a text": Mistake(
        "healing_strategies", STRATEGY + "    budget: ▸3/h\n", "expected a list, found '3/h'",
        "3/h", '[{"runs":3,"per":"1h"}]',
    ),
    "26 an empty file": Mistake(
        "services", "▸", "the file is empty",
        "", "services: {}",
    ),
}  # fmt: skip


def _load(folder: Path, mistake: Mistake, text: str) -> None:
    files = {"promheal": "{}\n", "services": "services: {}\n", "healing_strategies": STRATEGY}
    for name, content in {**files, mistake.file: text}.items():
        (folder / f"{name}.yml").write_text(content)
    load(folder / "promheal.yml", discover(), {})


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_the_remedy_works_when_it_is_followed(tmp_path: Path, mistake: Mistake) -> None:
    before, _, after = mistake.text.partition("▸")
    place = (
        f"{mistake.file}.yml:{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"
    )

    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, mistake, before + after)

    said = str(refused.value).split("\n")[0]
    assert place in said
    assert mistake.cause in said
    told = {"\t": "spaces", "- match": "write NAME: before each, without the dash"}
    assert told.get(mistake.wrong, mistake.right.removeprefix("unit: ")) in said
    assert "^" not in said, "a regular expression is no message"
    _load(tmp_path, mistake, (before + after).replace(mistake.wrong, mistake.right, 1))


def _patterns(info: msgspec.inspect.Type, where: str) -> list[str]:  # noqa: PLR0911  a case a type
    """Return where texts must match a pattern and no example is given."""
    match info:
        case msgspec.inspect.Metadata(type=msgspec.inspect.StrType(pattern=str())):
            return [] if (info.extra_json_schema or {}).get("examples") else [where]
        case msgspec.inspect.StrType(pattern=str()):
            return [where]
        case msgspec.inspect.Metadata():
            return _patterns(info.type, where)
        case msgspec.inspect.VarTupleType():
            return _patterns(info.item_type, where)
        case msgspec.inspect.DictType():
            return _patterns(info.key_type, where) + _patterns(info.value_type, where)
        case msgspec.inspect.UnionType():
            return [found for each in info.types for found in _patterns(each, where)]
        case msgspec.inspect.StructType():
            return [
                found
                for each in info.fields
                for found in _patterns(each.type, f"{where}.{each.name}")
            ]
        case _:
            return []


@pytest.mark.parametrize(
    "kind",
    [Settings, Strategy, *MANAGERS.values(), *WORKERS.values(),
     *(discover().get(name).Params for name in discover().names)],
)  # fmt: skip
def test_no_message_is_a_raw_regular_expression(kind: type[Any]) -> None:
    assert _patterns(msgspec.inspect.type_info(kind), kind.__name__) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek"], "there is no command 'chek'; did you mean 'check'?"),
        (["frobnicate"], "there is no command 'frobnicate'; known: alerts, approve,"),
        (["breaker", "rest"], "No such command 'rest'. Did you mean 'reset'?"),
        (["approve", "x", "--reason", "y"], "'x' is no run's number; `promheal runs --state"),
        (["approve", "1"], "Missing option '--reason'"),
        (["runs", "--strateg", "x"], "Did you mean one of: '--state', '--strategy'?"),
        (["once", "--alerts", "nope.json"], "File 'nope.json' does not exist"),
    ],
)
def test_at_the_command_line(arguments: list[str], said: str) -> None:
    assert said in _refused(arguments)


def _refused(arguments: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "receiver", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["--port", "3001"], "serve --web.listen-address 127.0.0.1:3001"),
        (["--config.file", "x.yml", "serve"], "serve --config.file x.yml"),
        (["--dry-run"], "serve --dry-run"),
        (["serve", "--port=80"], "--web.listen-address 127.0.0.1:80"),
        (["serve", "--listen", "0.0.0.0:80"], "--web.listen-address 0.0.0.0:80"),
        (["work", "--port", "3002"], "--web.listen-address 127.0.0.1:3002"),
        (["status", "--host", "10.0.0.1"], "--url http://10.0.0.1:3001"),
    ],
)
def test_an_option_as_others_call_it_is_answered_with_ours(
    arguments: list[str], right: str
) -> None:
    said = _refused(arguments)

    assert (
        f"No such option {arguments[0 if arguments[0][0] == '-' else 1].partition('=')[0]!r}"
        in said
    )
    written = said.rstrip("?\n").rpartition(right)
    assert (written[1], written[2]) == (right, ""), said
    whole = right.split() if arguments[0].startswith("-") else [arguments[0], *right.split()]
    dry_parse(whole, whole=True)
