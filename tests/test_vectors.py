"""Some hundred ways for a label to become code: each is refused, and each remedy works.

Every vector of tests/vectors.py is first seen to work, without the rule: the canary comes. Then
`promheal check` refuses it, what the refusal proposes is written into the file as it stands, check
takes it, and no hostile value gets through what was written.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from receiver import process
from receiver.actions import discover
from receiver.actions.command import Command, CommandParams
from receiver.actions.parameters import render_params
from receiver.config.files import load
from receiver.errors import ActionError, TemplateError
from receiver.yaml.diagnostics import InvalidConfig
from tests import factories
from tests.hostile import CORPUS, values
from tests.postgres import Postgres, postgres
from tests.test_template import variables
from tests.vectors import ABSENT, RUN, Vector, furnish

ACTIONS: Final = discover()
LABEL: Final = "{{ labels.x }}"
VALUES: Final = re.compile(r"by values: (\{[^']*'[^']*'\}) in the strategy")
ENV: Final = re.compile(r'by env: (\{.*?"\}) in this step')
IDS: Final = [" ".join(vector.argv)[:60] for vector in RUN]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def den(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    vector = getattr(getattr(request.node, "callspec", None), "params", {}).get("vector")
    library = vector is not None and ".so" in vector.value
    furnish(tmp_path, tmp_path / "canary", library=library)
    if vector is not None and "psql" in vector.program:
        give_psql(tmp_path, request.getfixturevalue("server"))
    return tmp_path


def give_psql(folder: Path, server: Postgres) -> None:
    """The real psql, which finds the real server: a step's environment is clean."""
    found = {**server.client(), "PGDATABASE": "postgres"}
    given = [shlex.quote(f"{name}={value}") for name, value in found.items()]
    script = folder / "psql"
    script.write_text(f'#!/bin/sh\nexec env {" ".join(given)} psql "$@"\n')
    script.chmod(0o755)


def argv_of(vector: Vector, den: Path, label: str) -> list[str]:
    words = [word.replace("{d}", str(den)).replace("{x}", label) for word in vector.argv]
    return [word.replace("{f}", str(den / "canary")) for word in words]


def value_of(vector: Vector, den: Path) -> str:
    return vector.value.replace("{d}", str(den)).replace("{f}", str(den / "canary"))


def write(folder: Path, strategies: dict[str, Any], settings: str = "{}\n") -> Path:
    (folder / "healing_strategies.yml").write_text(
        yaml.safe_dump({"strategies": strategies}, sort_keys=False)
    )
    (folder / "services.yml").write_text("services: {}\n")
    (folder / "promheal.yml").write_text(settings)
    return folder / "promheal.yml"


def strategy(argv: list[str], *, field: str = "argv") -> dict[str, Any]:
    step: dict[str, Any] = {"action": "command", "argv": argv}
    if field == "undo":
        step = {"action": "command", "argv": ["true"], "undo": argv}
    return {"match": ['alertname="A"'], "actions": [step]}


def check(config: Path) -> tuple[int, list[str]]:
    """Call the command itself; return its exit code and what it told."""
    called = subprocess.run(
        [sys.executable, "-m", "receiver", "check", str(config), "-o", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return called.returncode, [each["message"] for each in json.loads(called.stdout)["problems"]]


def declared(told: dict[str, Any], message: str) -> None:
    """Write what *message* proposes as `values` into a strategy."""
    found = VALUES.search(message)
    assert found is not None, message
    told.setdefault("values", {}).update(yaml.safe_load(found[1]))


def handed_over(told: dict[str, Any], message: str, field: str) -> bool:
    """Write what *message* proposes as `env` into a strategy, if it does; what stood there goes."""
    found = ENV.search(message)
    if found is None:
        return False
    (step,) = told["actions"]
    step["env"] = yaml.safe_load(found[1])
    (name,) = step["env"]
    step[field] = [word.replace(LABEL, f"${name}") for word in step[field]]
    return True


@pytest.mark.parametrize("vector", RUN, ids=IDS)
def test_each_works_where_nothing_is_refused(vector: Vector, den: Path) -> None:
    argv = argv_of(vector, den, value_of(vector, den))
    if shutil.which(argv[0], path=process.PATH) is None:
        pytest.skip(f"there is no {argv[0]} here; what is refused is in the other tests")
    try:
        process.run(argv, timeout=20.0)
    except ActionError as error:
        pytest.fail(str(error))
    assert (den / "canary").exists()


@pytest.fixture
def furnished(tmp_path: Path) -> Path:
    """Of programs that are not here, only the name: they are checked, and not run."""
    furnish(tmp_path, tmp_path / "canary")
    for vector in (*RUN, *ABSENT):
        if shutil.which(vector.program, path=process.PATH) is None:
            stub = tmp_path / vector.program.rpartition("/")[2]
            stub.write_text("#!/bin/sh\n")
            stub.chmod(0o755)
    return tmp_path


def strategies_of(den: Path, field: str) -> dict[str, dict[str, Any]]:
    found = {}
    for number, vector in enumerate((*RUN, *ABSENT)):
        argv = argv_of(vector, den, LABEL)
        stub = den / argv[0].rpartition("/")[2]
        if shutil.which(argv[0], path=process.PATH) is None:
            argv[0] = str(stub)
        found[f"v{number}"] = strategy(argv, field=field)
    return found


def messages(den: Path, strategies: dict[str, Any]) -> list[str]:
    try:
        return [each.message for each in load(write(den, strategies), ACTIONS, {}).problems]
    except InvalidConfig as invalid:
        return [each.message for each in invalid.problems]


@pytest.mark.parametrize("field", ["argv", "undo"])
def test_check_refuses_each_and_takes_each_with_the_pattern_that_it_proposes(
    field: str, furnished: Path
) -> None:
    strategies = strategies_of(furnished, field)
    code, told = check(write(furnished, strategies))
    assert code == 1
    assert len(told) == len(strategies) == len(RUN) + len(ABSENT)
    assert all(message.startswith(f"{field}[") for message in told)
    for strategy, message in zip(strategies.values(), told, strict=True):
        declared(strategy, message)
    assert check(write(furnished, strategies)) == (0, [])


@pytest.mark.parametrize("field", ["argv", "undo"])
def test_check_takes_each_with_the_variable_that_it_proposes(field: str, furnished: Path) -> None:
    strategies = strategies_of(furnished, field)
    _, told = check(write(furnished, strategies))
    changed = {
        name: strategy
        for (name, strategy), message in zip(strategies.items(), told, strict=True)
        if handed_over(strategy, message, field)
    }
    # Where a label would choose the program it is written out.
    assert len(changed) > 0.7 * len(strategies)
    assert check(write(furnished, changed)) == (0, [])


@pytest.mark.parametrize("vector", RUN, ids=IDS)
def test_with_the_proposed_pattern_no_hostile_value_is_run(vector: Vector, den: Path) -> None:
    argv = argv_of(vector, den, LABEL)
    if shutil.which(argv[0], path=process.PATH) is None:
        argv[0] = "/bin/true"
    changed = strategy(argv)
    declared(changed, messages(den, {"a": changed})[0])
    loaded = load(write(den, {"a": changed}), ACTIONS, {}).strategies.get("a")
    assert loaded is not None
    (step,) = loaded.actions
    assert isinstance(step.params, CommandParams)
    refused, taken = 0, 0
    for value in [value_of(vector, den), *values(str(den / "canary"))]:
        try:
            rendered = render_params(step.params, variables(x=value), loaded.values)
        except TemplateError as error:
            told = str(error)
            refused += "labels.x is " in told and "`values` lets it be only" in told
        else:
            taken += 1
            assert value != value_of(vector, den)
            assert re.fullmatch("[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}", value)
            assert value in "".join(rendered.argv)
    assert refused + taken == 1 + len(CORPUS)
    assert taken < 20
    good = "one" if loaded.values["labels.x"].listed else "checkout"
    assert good in "".join(render_params(step.params, variables(x=good), loaded.values).argv)
    assert not (den / "canary").exists()


SAFE: Final = {
    "sh": ["sh", "-c", 'printf %s "$PROMHEAL_X"'],
    "bash": ["bash", "-c", 'printf %s "$PROMHEAL_X"'],
    "python3": ["python3", "-c", 'import os; print(end=os.environ["PROMHEAL_X"])'],
    "perl": ["perl", "-e", "print $ENV{PROMHEAL_X}"],
    "awk": ["awk", 'BEGIN { printf "%s", ENVIRON["PROMHEAL_X"] }'],
    "node": ["node", "-e", "process.stdout.write(process.env.PROMHEAL_X)"],
    "make": ["make", "-s", "-f", "{d}/Makefile.env"],
}
"""How what check proposes reads a variable; make, as docs/reference/actions/command.md says."""


@pytest.mark.parametrize("program", SAFE)
def test_in_a_variable_each_hostile_value_is_only_a_text(program: str, den: Path) -> None:
    if shutil.which(program, path=process.PATH) is None:
        pytest.skip(f"there is no {program} here")
    (den / "Makefile.env").write_text('all:\n\t@printf %s "$$PROMHEAL_X"\n')
    argv = tuple(word.replace("{d}", str(den)) for word in SAFE[program])
    params = CommandParams(argv=argv, env={"PROMHEAL_X": LABEL})
    for value in {value_of(vector, den) for vector in RUN if "{f}" in vector.value}:
        rendered = render_params(params, variables(x=value))
        said = Command().run(rendered, factories.context(timeout=20.0))
        assert said["output"] == value
    assert not (den / "canary").exists()


# ── from the alert to the end ──


def promheal(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "receiver", *arguments, "--config.file", str(config),
         "--storage.url", f"sqlite:///{config.parent}/journal.db", "-o", "json"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def sent(den: Path, value: str) -> str:
    labels = {"alertname": "A", "x": value}
    at = datetime.now(UTC).isoformat()
    path = den / "alert.json"
    alert = {"status": "firing", "labels": labels, "startsAt": at}
    path.write_text(json.dumps({"version": "4", "alerts": [alert]}))
    return str(path)


def ran(den: Path, told: dict[str, Any], value: str) -> dict[str, Any]:
    """Return what `promheal once` did about an alert with this value."""
    called = promheal(write(den, {"a": told}), "once", "--alerts", sent(den, value))
    (result,) = json.loads(called.stdout)["results"]
    return dict(result)


PROVED: Final = [vector for vector in RUN if vector.argv[0] in {"make", "flock", "tar"}][:6]


@pytest.mark.parametrize("vector", PROVED, ids=[" ".join(vector.argv) for vector in PROVED])
def test_what_check_refuses_is_not_even_begun_with(vector: Vector, den: Path) -> None:
    config = write(den, {"a": strategy(argv_of(vector, den, LABEL))})
    alert = sent(den, value_of(vector, den))
    for called in (promheal(config, "once", "--alerts", alert), promheal(config, "explain", alert)):
        assert called.returncode == 2
        assert "a label may not choose" in called.stderr or "labels.x can be any" in called.stderr
    assert not (den / "canary").exists()


@pytest.mark.parametrize("vector", PROVED, ids=[" ".join(vector.argv) for vector in PROVED])
def test_a_value_that_is_not_what_it_may_be_fails_the_run_before_its_first_step(
    vector: Vector, den: Path
) -> None:
    told = strategy(argv_of(vector, den, LABEL))
    declared(told, messages(den, {"a": told})[0])
    told["actions"].insert(0, {"action": "command", "argv": ["touch", str(den / "first")]})
    run = ran(den, told, value_of(vector, den))
    assert run["result"] == "failed"
    assert "labels.x is " in run["reason"]
    assert "`values` lets it be only" in run["reason"]
    assert not (den / "first").exists()
    assert not (den / "canary").exists()


def test_explain_and_observe_say_so_beforehand(den: Path) -> None:
    told = strategy(["echo", LABEL]) | {"values": {"x": "[a-z]+"}}
    said = "it would fail before its first step: labels.x is '-rf'; `values` lets it be only [a-z]+"
    for mode, verdict in (("auto", "allow"), ("observe", "deny"), ("approve", "wait")):
        config = write(den, {"a": told | {"mode": mode}})
        called = promheal(config, "explain", sent(den, "-rf"))
        ((strategy_said,),) = (alert["strategies"] for alert in json.loads(called.stdout)["alerts"])
        details = {each["guard"]: each["detail"] for each in strategy_said["guards"]}
        assert strategy_said["verdict"] == verdict
        assert said in details["mode"]
        assert (said in details["approval"]) is (mode == "approve")
        called = promheal(config, "explain", sent(den, "checkout"))
        assert "would fail" not in called.stdout


def test_a_value_that_is_what_it_may_be_is_an_argument(den: Path) -> None:
    told = strategy(["touch", f"{den}/{LABEL}.healed"]) | {"values": {"x": "[a-z]+"}}
    ran(den, told, "checkout")
    assert (den / "checkout.healed").exists()


def test_the_flag_makes_a_warning_of_it_and_nothing_else(den: Path) -> None:
    """What was refused before this release, code for a shell, it does not let through."""
    plain = strategy(["make", "-f", str(den / "Makefile"), "VAR={{ labels.x }}"])
    runner = strategy(["timeout", "5", LABEL])
    code, told = check(write(den, {"a": plain, "b": runner}, "undeclared_values: warn\n"))
    assert code == 3
    assert len(told) == 2
    assert "say what it may be, by values: {x: " in told[0]
    called = promheal(den / "promheal.yml", "once", "--alerts", sent(den, "-rf"))
    assert called.returncode != 2
    code, told = check(
        write(den, {"a": strategy(["sh", "-c", f"x {LABEL}"])}, "undeclared_values: warn\n")
    )
    assert code == 1
    assert "labels never become code" in told[0]
    code, told = check(write(den, {"a": plain}, "undeclared_values: ignore\n"))
    assert code == 1
    assert "none of refuse, warn" in told[0]
