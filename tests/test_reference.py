"""Each key is described once: reader, published schema and reference agree about all of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import msgspec
import pytest
import yaml

from receiver.actions import discover
from receiver.config.files import load
from receiver.config.reference import named_in, render_page, tables, write_reference
from receiver.config.schemas import schemas
from receiver.yaml.diagnostics import InvalidConfig
from tests.tools import REPOSITORY

REFERENCE = REPOSITORY / "docs/reference"
PAGES = sorted(
    page for page in REFERENCE.rglob("*.md") if named_in(page.read_text(encoding="utf-8"))
)
ACTIONS = discover()
TABLES = {
    name: struct
    for name, struct in tables(ACTIONS).items()
    if struct.__module__.startswith("receiver.")  # what else is installed is not documented here
}
Place = tuple[str | int, ...]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert render_page(text, tables(ACTIONS), page.relative_to(REFERENCE)) == text


def test_the_tables_can_be_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "configuration.md"
    text = (REFERENCE / page.name).read_text(encoding="utf-8")
    page.write_text(text.replace("| `engine.resync` | duration |", "| `engine.resync` | text |"))
    write_reference(tmp_path, ACTIONS)
    assert page.read_text(encoding="utf-8") == text


def test_every_struct_of_the_configuration_has_its_table() -> None:
    named = {name for page in PAGES for name in named_in(page.read_text(encoding="utf-8"))}
    assert named == set(TABLES)


class Row(NamedTuple):
    default: str
    meaning: str


@cache
def documented(name: str) -> dict[str, Row]:
    """The keys of the struct *name* as a page has them."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = re.search(rf"<!-- keys of {name}: .*?-->(.*?)<!-- end -->", text, re.DOTALL)
        if found:
            rows = re.findall(r"^\| `([^`]+)` \|.*\| (.*) \| (.*) \|$", found[1], re.MULTILINE)
            # Keys of a shared base have a table of their own, to which one row of others refers.
            return {key: Row(*rest) for key, *rest in rows if not key.endswith("<http_config>")}
    raise AssertionError(name)


@pytest.mark.parametrize("name", TABLES)
def test_every_key_says_what_it_means(name: str) -> None:
    assert all(row.meaning for row in documented(name).values())


# --- each key through the reader and through the schema -------------------------------------------

WRITTEN = yaml.safe_load((REPOSITORY / "tests/payloads/keys.yml").read_text(encoding="utf-8"))
"""By struct: mappings that together have all of its keys whose default is no sample of them."""
COMMAND = {"command": {"restart": ["/bin/true"]}}
MINIMAL: dict[str, Any] = {
    "promheal": {
        "http": {"allow": ["http://127.0.0.1:8080/admin"]},
        "notify": {"channels": {"team": {"url": "json://127.0.0.1/"}}},
    },
    "services": {"services": {"shop": {"manager": COMMAND}}},
    "healing_strategies": {"strategies": {}},
}


def _provider(sample: Any) -> Any:
    return {"promheal": {"llm": {"providers": {"one": sample}}}}


def _channel(sample: Any) -> Any:
    return {"promheal": {"notify": {"channels": {"one": sample}}}}


def _service(sample: Any) -> Any:
    return {"services": {"services": {"shop": sample}}}


def _manager(kind: str) -> Callable[[Any], Any]:
    return lambda sample: _service({"manager": {kind: sample}})


def _workers(kind: str) -> Callable[[Any], Any]:
    return lambda sample: _service({"manager": COMMAND, "workers": {"scale": kind, **sample}})


def _cache(sample: Any) -> Any:
    return _service({"manager": COMMAND, "cache": sample})


def _queue(sample: Any) -> Any:
    return _service({"manager": COMMAND, "queue": sample})


def _strategy(sample: Any) -> Any:
    return {"healing_strategies": {"strategies": {"one": sample}}}


def _step(sample: Any) -> Any:
    return _strategy({"match": ['alertname="A"'], "target": ["service"], "actions": [sample]})


def _action(name: str) -> Callable[[Any], Any]:
    def placed(sample: Any) -> Any:
        services: dict[str, Any] = {
            "manager": COMMAND,
            "settings": {"file": "/etc/shop.yml"},
            "llm": {"providers": ["a", "b"]},
            "workers": {"scale": "gunicorn", "pidfile": "/run/x.pid", "min": 1, "max": 9},
            "cache": {"http": {"url": "http://127.0.0.1:8080/admin/x"}},
            "queue": {"command": {"redistribute": ["/bin/true"]}},
            "logs": "/var/log/shop.log",
        }
        return _step({"action": name, **sample}) | _service(services)

    return placed


def _upstream(sample: Any) -> Any:
    return {"promheal": {"prometheus": {"url": "http://127.0.0.1:9090", **sample}}}


KINDS: dict[str, Callable[[Any], Any]] = {
    "HTTPConfig": _upstream,
    "Settings": lambda sample: {"promheal": sample},
    "LlmProvider": _provider,
    "NotifyChannel": _channel,
    "Service": _service,
    "Strategy": _strategy,
    "StepKeys": _step,
    **{
        struct: _manager(kind)
        for kind, struct in {
            "supervisor": "Supervisor", "process": "Process", "systemd": "Systemd",
            "docker": "Docker", "kubernetes": "Kubernetes", "command": "CommandManager",
        }.items()
    },
    **{
        struct: _workers(kind)
        for kind, struct in {
            "gunicorn": "Gunicorn", "supervisor": "SupervisorGroup", "systemd": "SystemdTemplate",
            "kubernetes": "Replicas", "celery": "CeleryPool", "command": "WorkerCommands",
        }.items()
    },
    **dict.fromkeys(("RedisCache", "FileCache", "HttpCache"), _cache),
    **dict.fromkeys(("RedisQueue", "CeleryQueue", "RabbitQueue", "CommandQueue"), _queue),
}  # fmt: skip


def place(name: str, sample: Any) -> dict[str, Any]:
    """Return the three files with a sample of the struct *name* where it belongs."""
    if name in KINDS:
        return {**copy.deepcopy(MINIMAL), **KINDS[name](sample)}
    action = next(each for each in ACTIONS.names if ACTIONS.get(each).Params.__name__ == name)
    return {**copy.deepcopy(MINIMAL), **_action(action)(sample)}


def path_of(key: str) -> Place:
    """`budget[].runs` → ("budget", 0, "runs")."""
    path: list[str | int] = []
    for part in key.split("."):
        path.append(part.removesuffix("[]"))
        if part.endswith("[]"):
            path.append(0)
    return tuple(path)


def holds(sample: Any, path: Place) -> bool:
    for part in path:
        if isinstance(part, int):
            if not isinstance(sample, list) or not sample:
                return False
        elif not isinstance(sample, dict) or part not in sample:
            return False
        sample = sample[part]
    return True


def changed(sample: Any, path: Place, change: Callable[[Any, Any], None]) -> Any:
    """Return a copy of *sample* in which *change* was called with the parent and the last part."""
    found = copy.deepcopy(sample)
    parent = found
    for part in path[:-1]:
        parent = parent[part]
    change(parent, path[-1])
    return found


@cache
def validators() -> dict[str, jsonschema.Draft7Validator]:
    return {name: jsonschema.Draft7Validator(each) for name, each in schemas(ACTIONS).items()}


def read(files: dict[str, Any], folder: Path) -> bool:
    """Whether the reader takes *files*."""
    for name, content in files.items():
        text = yaml.safe_dump(content, default_flow_style=True, width=10_000)
        (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    try:
        load(folder / "promheal.yml", ACTIONS, {})
    except InvalidConfig:
        return False
    return True


def valid(files: dict[str, Any]) -> bool:
    """Whether the published schemas take *files*."""
    return all(validators()[name].is_valid(content) for name, content in files.items())


@cache
def samples(name: str) -> list[Any]:
    """Mappings that have all keys of *name*: a key that nobody wrote gets its default."""
    found = copy.deepcopy(WRITTEN[name])
    for key, row in documented(name).items():
        path = path_of(key)
        if row.default.startswith("`") and not any(holds(sample, path) for sample in found):
            there = next(sample for sample in found if holds(sample, path[:-1]))
            for part in path[:-1]:
                there = there[part]
            there[path[-1]] = yaml.safe_load(row.default.strip("`"))
    return list(found)


def sample_with(name: str, key: str) -> Any:
    path = path_of(key)
    return next(sample for sample in samples(name) if holds(sample, path))


@pytest.mark.parametrize("name", TABLES)
def test_every_key_has_a_sample_that_both_take(name: str, tmp_path: Path) -> None:
    for key in documented(name):
        assert any(holds(sample, path_of(key)) for sample in samples(name)), key
    for sample in samples(name):
        files = place(name, sample)
        assert valid(files), sample
        assert read(files, tmp_path), sample


def taken_when_spoilt(name: str, spoil: Callable[[Any, Any], None], folder: Path) -> list[str]:
    """The keys of *name* of which reader or schema takes what *spoil* made of them."""
    found = []
    for key in documented(name):
        files = place(name, changed(sample_with(name, key), path_of(key), spoil))
        found += [f"{key}: schema"] if valid(files) else []
        found += [f"{key}: reader"] if read(files, folder) else []
    return found


@pytest.mark.parametrize("name", TABLES)
def test_a_key_that_is_misspelt_is_refused_by_both(name: str, tmp_path: Path) -> None:
    def misspell(parent: Any, key: Any) -> None:
        parent[f"{key}_"] = parent.pop(key)

    assert taken_when_spoilt(name, misspell, tmp_path) == []


@pytest.mark.parametrize("name", TABLES)
def test_a_value_of_another_type_is_refused_by_both(name: str, tmp_path: Path) -> None:
    def replace(parent: Any, key: Any) -> None:
        parent[key] = 5 if isinstance(parent[key], dict) else {"zzz": [1]}

    assert taken_when_spoilt(name, replace, tmp_path) == []


def test_a_struct_that_has_no_sample_is_found() -> None:
    assert set(WRITTEN) == set(TABLES)
    assert all(issubclass(struct, msgspec.Struct) for struct in TABLES.values())
