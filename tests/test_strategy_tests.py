"""`promheal test`: files, expectations, what must never happen, and the four forms of results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from receiver.actions import discover
from receiver.cli import root
from receiver.testing.case import CaseResult, run_case
from receiver.testing.reader import read_suite
from receiver.testing.schema import NAME, schema_of_tests
from receiver.yaml.diagnostics import InvalidConfig
from tests.tools import REPOSITORY

HEAD = """\
strategies:
  latency:
    match: ['alertname="HighLatency"']
    target: [service]
    mode: {mode}
    actions:
      - {{action: enable_cache, service: "{{{{ labels.service }}}}"}}
      - {{action: restart_service, service: "{{{{ labels.service }}}}"}}
services:
  checkout:
    manager: {{command: {{restart: [restart], status: [status]}}}}
    settings: {{file: /tmp/settings.yml, reload: {{signal: HUP}}}}
tests:
  - name: a test
    alerts:
      - labels: {{alertname: HighLatency, service: checkout}}
        firing: {firing}
        {healed}
"""
HEALED = "healed_by: {action: restart_service, in: 30s}"


def written(
    folder: Path, rest: str, *, healed: str = "", firing: str = "0x3 1x160", mode: str = "auto"
) -> Path:
    path = folder / "tests.yml"
    head = HEAD.format(healed=healed, firing=firing, mode=mode)
    path.write_text(head + "".join(f"    {line}\n" for line in rest.strip(chr(10)).splitlines()))
    return path


def result(folder: Path, rest: str, **more: Any) -> CaseResult:
    actions = discover()
    suite = read_suite(written(folder, rest, **more), actions)
    return run_case(suite, suite.tests[0], actions, traced=True)


def passes(folder: Path, rest: str, **more: Any) -> None:
    found = result(folder, rest, **more)
    assert found.failures == (), found


def promheal(*arguments: str | Path) -> tuple[Any, str]:
    """Return the exit code and what was printed."""
    done = CliRunner().invoke(root, ["test", *map(str, arguments)], standalone_mode=False)
    code = done.return_value if done.exception is None else done.exception
    return code, done.output


PASSING = """
decision_test:
  - {eval_time: 59s, strategy: latency, exp_decision: {verdict: none}}
  - {eval_time: 1m, strategy: latency, target: 'service="checkout"', exp_decision: {verdict: allow}}
run_test:
  - eval_time: 15m
    exp_runs:
      - {strategy: latency, started: 1m, finished: 1m30s, outcome: healed,
         steps: [{enable_cache: done}, {restart_service: done}], undone: []}
call_test:
  - eval_time: 15m
    exp_calls:
      - 1m enable_cache service=checkout
      - 1m restart_service service=checkout
  - {eval_time: 15m, exp_calls: [1m restart_service service=checkout], some: true}
breaker_test:
  - {eval_time: 15m, name: 'strategy:latency', exp_state: CLOSED}
metric_test:
  - {eval_time: 15m, exp_samples: ['promheal_heals_total{outcome="healed", strategy="latency"} 1']}
never:
  - {strategy: '*', more_than: {runs: 1, per: 1h}}
  - {action: restart_service, while: {alert: {service: payments}}}
  - {outcome: failed}
"""


def test_what_is_as_expected_passes(tmp_path: Path) -> None:
    passes(tmp_path, PASSING, healed=HEALED)


@pytest.mark.parametrize(
    ("rest", "got", "why"),
    [
        (
            "decision_test: [{eval_time: 7m, strategy: latency, exp_decision: {verdict: allow}}]",
            "wait grace_period until 11m, decided at 7m",
            "guard grace: wait grace_period until 11m",
        ),
        (
            "run_test:\n  - {eval_time: 5m, exp_runs: [{strategy: latency, outcome: healed}]}",
            'on service="checkout", started 1m, verifying, steps enable_cache done, restart',
            "",
        ),
        (
            "run_test:\n  - {eval_time: 8m, exp_runs: []}",
            "undone enable_cache",
            'latency on service="checkout": guard grace: wait grace_period',
        ),
        (
            "call_test:\n  - {eval_time: 5m, exp_calls: []}",
            "1m restart_service service=checkout",
            "",
        ),
        (
            "breaker_test:\n  - {eval_time: 5m, name: self-healing-main, exp_state: OPEN}",
            "self-healing-main CLOSED",
            "",
        ),
        (
            "metric_test:\n  - {eval_time: 5m, exp_samples: ['promheal_dormants 0']}",
            "there is no promheal_dormants; the nearest is promheal_dormant",
            "",
        ),
        (
            "metric_test:\n  - {eval_time: 5m, exp_samples: ['promheal_dormant 1']}",
            "promheal_dormant 0",
            "",
        ),
        ("never:\n  - {action: restart_service}", "1m restart_service service=checkout", ""),
        (
            "never:\n  - {more_than: {runs: 2, per: 1h}}",
            '21m run 3 of latency on service="checkout", ineffective',
            "",
        ),
        (
            "never:\n  - {action: restart_service, while: {alert: {service: checkout}}}",
            "1m restart_service service=checkout",
            "",
        ),
        (
            "events:\n  - {at: 1s, approve: {strategy: latency}}",
            "latency has no unfinished run",
            "",
        ),
    ],
)
def test_a_failure_says_what_was_expected_what_came_and_which_guard(
    tmp_path: Path, rest: str, got: str, why: str
) -> None:
    (failure,) = result(tmp_path, rest).failures

    assert failure.kind == rest.partition(":")[0]
    assert failure.expected
    assert got in "\n".join(failure.got)
    assert why in "\n".join(failure.why)
    assert failure.line > 15


@pytest.mark.parametrize(
    ("rest", "more"),
    [
        ("""
events:
  - {at: 30s, pause: {scope: 'strategy:latency', for: 5m, reason: deploy}}
decision_test:
  - {eval_time: 2m, strategy: latency, exp_decision: {verdict: wait, reason: paused, until: 5m30s}}
  - {eval_time: 6m, strategy: latency, exp_decision: {verdict: allow}}
""", {}),
        ("""
events:
  - {at: 2m, approve: {strategy: latency}}
decision_test:
  - {eval_time: 1m, strategy: latency, exp_decision: {verdict: wait, reason: awaiting_approval}}
call_test:
  - {eval_time: 3m, exp_calls: [2m restart_service service=checkout], some: true}
""", {"mode": "approve"}),
        ("""
events:
  - {at: 2m, reject: {strategy: latency, reason: no}}
decision_test:
  - {eval_time: 3m, strategy: latency, exp_decision: {verdict: deny, reason: rejected}}
call_test:
  - {eval_time: 3m, exp_calls: []}
""", {"mode": "approve"}),
        ("""
events:
  - {at: 90s, cancel: {strategy: latency}}
run_test:
  - eval_time: 3m
    exp_runs: [{strategy: latency, outcome: cancelled, finished: 1m30s, undone: [enable_cache]}]
""", {}),
        ("""
actions:
  - {action: restart_service, fails: supervisor says no}
  - {action: enable_cache, undo_fails: it is gone}
run_test:
  - eval_time: 3m
    exp_runs: [{strategy: latency, outcome: rollback_failed}]
""", {}),
        ("""
actions:
  - {action: restart_service, nth: 2, takes: 3m}
run_test:
  - eval_time: 15m
    exp_runs:
      - {strategy: latency, started: 1m, outcome: ineffective}
      - {strategy: latency, started: 11m, finished: 13m, outcome: rolled_back,
         steps: [{enable_cache: done}, {restart_service: failed}]}
""", {}),
        ("""
events:
  - {at: 0s, silence: {matchers: ['service="checkout"'], for: 10m}}
call_test:
  - {eval_time: 9m59s, exp_calls: []}
  - {eval_time: 11m, exp_calls: [10m restart_service service=checkout], some: true}
""", {}),
        ("""
events:
  - {at: 30s, prometheus: down}
  - {at: 5m, prometheus: up}
decision_test:
  - {eval_time: 2m, strategy: latency, exp_decision: {verdict: wait, reason: condition_unknown}}
call_test:
  - {eval_time: 5m, exp_calls: [5m restart_service service=checkout], some: true}
""", {}),
        ("""
events:
  - {at: 0s, alertmanager: down}
  - {at: 5m, alertmanager: up}
decision_test:
  - {eval_time: 4m, strategy: latency, exp_decision: {verdict: none}}
  - {eval_time: 5m, strategy: latency, exp_decision: {verdict: allow}}
""", {}),
        ("""
events:
  - {at: 0s, scrape: {matchers: ['service="checkout"'], up: false}}
  - {at: 5m, scrape: {matchers: ['service="checkout"'], up: true}}
decision_test:
  - {eval_time: 2m, strategy: latency, exp_decision: {verdict: wait, reason: monitoring_suspect}}
  - {eval_time: 6m, strategy: latency, exp_decision: {verdict: allow}}
""", {}),
        ("""
events:
  - {at: 0s, restart: promheal, during: restart_service}
  - {at: 1m20s, restart: promheal}
run_test:
  - eval_time: 10m
    exp_runs: [{strategy: latency, started: 1m, finished: 1m30s, outcome: healed}]
call_test:
  - eval_time: 10m
    exp_calls:
      - 1m enable_cache service=checkout
      - 1m restart_service service=checkout
      - 1m restart_service service=checkout
""", {"healed": HEALED}),
        ("""
events:
  - {at: 35m, reset: {breaker: 'strategy:latency', force: true, reason: tried}}
breaker_test:
  - {eval_time: 36m, name: 'strategy:latency', exp_state: CLOSED}
""", {}),
        ("""
call_test:
  - {eval_time: 30m, exp_calls: [6m15s restart_service service=checkout], some: true}
metric_test:
  - {eval_time: 30m, exp_samples: ['promheal_relapses_total{strategy="latency"} 1']}
""", {"healed": "healed_by: {action: restart_service, nth: 1, for: 5m}"}),
    ],
)  # fmt: skip
def test_people_and_the_world_do_things_meanwhile(
    tmp_path: Path, rest: str, more: dict[str, Any]
) -> None:
    passes(tmp_path, rest, **more)


def test_every_problem_of_a_file_is_reported_at_its_place(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
  - labels: {service: checkout}
    firing: 1xx
actions:
  - {action: restart_servic}
events:
  - {at: 1m}
  - {at: soon, prometheus: down}
decision_test:
  - {eval_time: 1m, strategy: latenc, exp_decision: {verdict: allow}}
  - {eval_time: 1m, strategy: latency, exp_decision: {verdict: maybe}}
run_test:
  - {eval_time: 1m, exp_run: []}
call_test:
  - {eval_time: 1m, exp_calls: [restart_service]}
metric_test:
  - {eval_time: 1m, exp_samples: ['promheal_dormant']}
never:
  - {more_than: {per: 1h}}
  - {strategy: latency, reason: busy}
""",
    )

    with pytest.raises(InvalidConfig) as caught:
        read_suite(path, discover())

    found = [(one.line, one.message) for one in caught.value.problems]
    assert all(line > 16 for line, _ in found)
    assert len(found) == 7, found
    assert "did you mean 'exp_runs'" in str(caught.value)


def test_names_that_do_not_exist_are_reported_together(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
  - labels: {service: checkout}
    firing: 1x4
actions:
  - {action: restart_servic}
  - {action: log}
decision_test:
  - {eval_time: 1m, strategy: latenc, exp_decision: {verdict: allow}}
call_test:
  - {eval_time: 1m, exp_calls: [restart_service, 1m restart_servce service=x]}
breaker_test:
  - {eval_time: 1m, name: 'strategy:latencies', exp_state: OPEN}
metric_test:
  - {eval_time: 1m, exp_samples: [promheal_dormant, 'promheal_dormant{a} 1']}
never:
  - {action: restart_service, more_than: {runs: 1, per: 1h}}
  - {target: checkout}
""",
    )

    with pytest.raises(InvalidConfig) as caught:
        read_suite(path, discover())

    messages = [problem.message for problem in caught.value.problems]
    assert len(messages) == 11, messages
    assert sum("did you mean" in message for message in messages) == 4


def test_a_test_of_promtool_may_have_ours_behind_it(tmp_path: Path) -> None:
    ours = written(tmp_path, PASSING, healed=HEALED).read_text()
    both = tmp_path / "both.yml"
    both.write_text(f"rule_files: [&rules rules.yml]\ntests: []\n---\n{ours}")

    assert promheal(both)[0] == 0


def test_what_a_query_answers_is_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "queries:\n  - {query: up == 1, values: stale 1x200}")
    path.write_text(path.read_text().replace("mode: auto", "when: up == 1"))
    actions = discover()
    suite = read_suite(path, actions)
    assert run_case(suite, suite.tests[0], actions).failures == ()

    path.write_text(path.read_text().replace("query: up == 1", "query: up == 0"))
    suite = read_suite(path, actions)
    (failure,) = run_case(suite, suite.tests[0], actions).failures
    assert failure.got == ("none to up == 1",)


def test_the_forms_of_the_results(tmp_path: Path) -> None:
    path = written(tmp_path, "call_test:\n  - {eval_time: 5m, exp_calls: []}")
    line = len(path.read_text().splitlines())

    code, text = promheal(path)
    assert code == 1
    assert f"{path}:{line}:9: a test: call_test, at 5m\n      exp: no calls\n      got: 1m" in text
    assert "FAILED: 1 of 1 tests" in text
    value = json.loads(promheal(path, "-o", "json")[1])
    assert (value["passed"], value["failed"]) == (0, 1)
    assert value["tests"][0]["failures"][0]["line"] == line
    suite = ET.fromstring(promheal(path, "-o", "junit")[1].encode()).find("testsuite")
    assert suite is not None
    assert suite.attrib["failures"] == "1"
    assert suite.find("testcase/failure") is not None
    assert promheal(path, "-o", "github")[1].startswith(
        f"::error file={path},line={line},col=9::a test: call_test%0Aexp: no calls%0Agot: 1m"
    )


def test_neither_a_name_nor_a_path_steers_a_terminal_or_github(tmp_path: Path) -> None:
    path = written(tmp_path, "call_test:\n  - {eval_time: 5m, exp_calls: []}")
    odd = tmp_path / "a,b:c%.yml"
    odd.write_text(path.read_text().replace("a test", '"a \\a\\e]0;title"'))

    text = promheal(odd, "--trace")[1]
    assert ":9: a \\u0007\\u001b]0;title: call_test" in text
    text = promheal(odd, "-o", "github")[1]
    assert text.startswith(f"::error file={tmp_path}/a%2Cb%3Ac%25.yml,line=")
    assert "::a \\u0007" in text


def test_exit_codes(tmp_path: Path) -> None:
    good = written(tmp_path, PASSING, healed=HEALED)

    assert promheal(good)[0] == 0
    assert promheal(good, "--run", "^a test$")[0] == 0
    assert "matches no test; there are 'a test'" in str(promheal(good, "--run", "nothing")[0])
    assert "is no regular expression of RE2: missing ): (" in str(promheal(good, "--run", "(")[0])
    assert promheal(good, "--coverage.fail-under", "60")[0] == 0
    code, text = promheal(good, "--coverage", "--coverage.fail-under", "90")
    assert (code, "a run that does not heal" in text) == (3, True)
    assert promheal(tmp_path / "absent.yml")[0] == 2
    assert "name test files" in str(promheal()[0])


def test_the_trace_tells_what_happened(tmp_path: Path) -> None:
    code, text = promheal(written(tmp_path, PASSING, healed=HEALED), "--trace")

    assert code == 0
    lines = [" ".join(line.split()[:3]) for line in text.splitlines()[1:-1]]
    assert lines[:2] == ["1m notified status=firing", "1m decided strategy=latency"]
    assert "1m30s run ended:" in lines


def test_the_same_bytes_whatever_the_seed_of_hashes(tmp_path: Path) -> None:
    path = written(tmp_path, PASSING, healed=HEALED)

    def run(seed: int) -> bytes:
        return subprocess.run(
            [sys.executable, "-m", "receiver", "test", path, "-o", "json", "--coverage", "--trace"],
            check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout  # fmt: skip

    assert run(0) == run(1)


def test_a_first_file_passes_and_sees_everything(tmp_path: Path) -> None:
    config = REPOSITORY / "receiver/demo/promheal.yml"
    path = tmp_path / "new" / "first.yml"

    assert promheal("--init", path, "--config.file", config)[0] == 0
    assert promheal(path, "--coverage.fail-under", "100")[0] == 0
    assert "exists" in str(promheal("--init", path, "--config.file", config)[0])


ANY = """
strategies:
  s:
    match: ['alertname=~"A.*B"']
    target: [service]
    mode: observe
    actions: [{action: log, message: x}]
"""


def test_a_first_file_passes_wherever_it_is_or_is_not_written(tmp_path: Path) -> None:
    config = tmp_path / "a: b # c" / "promheal.yml"
    config.parent.mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/er")
    config.write_text("{}")
    (config.parent / "services.yml").write_text("services: {}")
    strategies = config.parent / "healing_strategies.yml"
    strategies.write_text(ANY.replace('=~"A.*B"', '="A"'))
    path = tmp_path / "link" / "first.yml"

    assert promheal("--init", path, "--config.file", config)[0] == 0
    assert promheal(path)[0] == 0
    below = promheal("--init", path / "x.yml", "--config.file", config)[0]
    assert f"{path} exists" in str(below)
    beyond = promheal("--init", "/proc/none/x.yml", "--config.file", config)[0]
    assert "cannot be written" in str(beyond)
    strategies.write_text(ANY)
    none = promheal("--init", tmp_path / "none.yml", "--config.file", config)[0]
    assert "no strategy for whose matchers an alert can be made up" in str(none)
    assert not (tmp_path / "none.yml").exists()


def test_the_schema_for_editors_is_published_and_takes_what_the_reader_takes(
    tmp_path: Path,
) -> None:
    schema = schema_of_tests(discover())
    jsonschema.Draft7Validator.check_schema(schema)
    assert json.loads((REPOSITORY / "docs/schemas" / NAME).read_text()) == schema

    jsonschema.validate(
        yaml.safe_load(written(tmp_path, PASSING, healed=HEALED).read_text()), schema
    )
