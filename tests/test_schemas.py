from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from receiver.actions import discover
from receiver.config.files import service_keys
from receiver.config.schemas import render_schema, schemas, write_schemas
from receiver.config.strategies import STRATEGY_KEYS
from receiver.services.managers import MANAGERS

ROOT = Path(__file__).parent.parent
ACTIONS = discover()
FILES = ("promheal", "services", "healing_strategies")


def found(name: str, text: str) -> list[str]:
    schema = schemas(ACTIONS)[name]
    errors = jsonschema.Draft7Validator(schema).iter_errors(yaml.safe_load(text))
    return ["/".join(map(str, error.absolute_path)) for error in errors]


def shipped(name: str) -> str:
    return (ROOT / "configs" / f"{name}.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_the_published_schema_is_up_to_date(name: str) -> None:
    published = ROOT / "docs" / "schemas" / f"{name}.schema.json"
    assert published.read_text(encoding="utf-8") == render_schema(schemas(ACTIONS)[name])


def test_the_schemas_can_be_written_anew(tmp_path: Path) -> None:
    write_schemas(tmp_path, ACTIONS)
    for name in FILES:
        published = ROOT / "docs" / "schemas" / f"{name}.schema.json"
        assert (tmp_path / published.name).read_bytes() == published.read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_schema_is_one_and_takes_the_shipped_file(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(schemas(ACTIONS)[name])
    assert found(name, shipped(name)) == []
    assert f"$schema=../docs/schemas/{name}.schema.json" in shipped(name).splitlines()[0]


@pytest.mark.parametrize(
    ("name", "good", "bad", "place"),
    [
        ("promheal", "timeout: 5s ", "tiemout: 5s ", "prometheus"),
        ("promheal", "timeout: 5s ", "timeout: 5 ", "prometheus/timeout"),
        ("promheal", "auto_healing: true", "auto_healing: 'yes'", "flags/auto_healing"),
        ("promheal", "runs: 8", "runs: eight", "engine/max_concurrent_runs"),
        ("services", "supervisor:", "supervisr:", "services/checkout/manager"),
        ("services", "start: [", "strat: [", "services/worker/manager/process"),
        ("healing_strategies", "high-cpu:", "high cpu:", "strategies"),
        ("healing_strategies", "mode: auto", "mode: fast", "strategies/high-cpu/mode"),
        ("healing_strategies", "within: 5m", "within: soon", "strategies/high-cpu/verify/within"),
        (
            "healing_strategies",
            "target: [service]",
            "target: service",
            "strategies/high-cpu/target",
        ),
        ("healing_strategies", "timeout: 2m", "tmeout: 2m", "strategies/high-cpu/actions/1"),
        (
            "healing_strategies",
            "action: restart_if_critical",
            "action: restart_it",
            "strategies/high-cpu/actions/1",
        ),
    ],
)
def test_a_planted_error_is_refused(name: str, good: str, bad: str, place: str) -> None:
    text = shipped(name)
    assert good in text
    assert place in found(name, text.replace(good, bad, 1))


def test_the_schema_has_every_key_that_is_read() -> None:
    made = schemas(ACTIONS)
    strategies = made["healing_strategies"]["properties"]["strategies"]["additionalProperties"]
    assert set(strategies["properties"]) == {*STRATEGY_KEYS, "actions"}
    steps = strategies["properties"]["actions"]["items"]["anyOf"]
    assert [step["properties"]["action"]["const"] for step in steps] == list(ACTIONS.names)
    services = made["services"]["properties"]["services"]["additionalProperties"]
    assert set(services["properties"]["manager"]["properties"]) == set(MANAGERS)
    assert set(services["properties"]) == set(service_keys(MANAGERS))


def test_every_key_of_a_service_that_is_documented_is_taken_by_reader_and_schema() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    section = page.partition("\n## services.yml\n")[2].partition("\n### ")[0]
    named = {row.partition(".")[0] for row in re.findall(r"^\| `([\w.]+)`", section, re.MULTILINE)}
    assert named == set(service_keys(MANAGERS))


@pytest.mark.parametrize("where", ["web-1", "zone=a", "{label: instance}"])
def test_where_a_service_is_touched_may_be_written_in_an_editor(where: str) -> None:
    text = shipped("services").replace("    manager:", f"    runs_on: {where}\n    manager:", 1)
    assert found("services", text) == []
    assert found("services", text.replace(where, "[web-1]")) == ["services/checkout/runs_on"]


def test_the_docstring_of_a_field_becomes_its_description() -> None:
    timeout = schemas(ACTIONS)["promheal"]["properties"]["prometheus"]
    described = json.dumps(timeout)
    assert "For one question; a later answer proves nothing." in described


def nodes(schema: Any) -> Any:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


def test_every_mapping_of_known_keys_is_closed() -> None:
    for schema in schemas(ACTIONS).values():
        for node in nodes(schema):
            if node.get("type") == "object" and "properties" in node:
                assert node["additionalProperties"] is False
