"""The command line as a process, and its answers. `serve` and `demo` have tests of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from receiver.cli import COMMANDS
from receiver.cli.output import colored
from receiver.journal import open_journal
from receiver.policy.decide import GUARDS
from tests.chain import free_port
from tests.tools import cpu_seconds

FIRING: dict[str, Any] = {
    "version": "4",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "HighLatency", "service": "checkout"},
            "startsAt": "2026-11-22T04:31:42Z",
        },
        {
            "status": "resolved",
            "labels": {"alertname": "HighLatency", "service": "search"},
            "startsAt": "2026-11-22T04:31:42Z",
            "endsAt": "2026-11-22T04:32:42Z",
        },
    ],
}


def promheal(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "receiver", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=60,
        check=False,
    )


@pytest.fixture
def files(config: Path) -> list[str]:
    """The flags that name the configuration and the journal."""
    return [
        "--config.file", str(config / "promheal.yml"),
        "--storage.url", f"sqlite:///{config}/journal.db",
    ]  # fmt: skip


@pytest.fixture
def alerts(tmp_path: Path) -> str:
    path = tmp_path / "alerts.json"
    path.write_text(json.dumps(FIRING))
    return str(path)


@pytest.mark.alone
def test_help_costs_little(tmp_path: Path) -> None:
    assert cpu_seconds("--help", bytecode=tmp_path) < 0.150


def test_every_command_has_help_that_tells_what_it_is_for() -> None:
    for name in COMMANDS:
        answer = promheal(name, "--help")
        assert answer.returncode == 0, answer.stderr
        assert len(answer.stdout.splitlines()) > 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serv"], "there is no command 'serv'; did you mean 'serve'?"),
        (["serve", "--no-such"], "No such option"),
        (["serve", "--config.file", "/no/such.yml"], "/no/such.yml: no such file"),
        (["serve", "--web.listen-address", "0.0.0.0:3001"], "has no access control"),
        (["serve", "--web.listen-address", "[::]:3001"], "has no access control"),
        (["serve", "--web.listen-address", "example.com:3001"], "is no IP address"),
        (["serve", "--web.listen-address", "3001"], "write HOST:PORT"),
        (["serve", "--web.listen-address", "127.0.0.1:99999"], "write HOST:PORT"),
        (["serve", "--storage.url", "mysql://x"], "write sqlite:///PATH"),
        (["once", "--alerts", "/no/such.json"], "does not exist"),
        (["runs", "--limit", "0"], "limit"),
        (["status", "--url", "http://127.0.0.1:1"], "is `promheal serve` running there?"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(
    arguments: list[str], says: str, files: list[str]
) -> None:
    if arguments[0] == "serve" and "--config.file" not in arguments:
        arguments = arguments + files[:2]
    answer = promheal(*arguments)

    assert answer.returncode == 2, answer
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_shared_metrics_folder_is_refused(files: list[str], tmp_path: Path) -> None:
    answer = promheal("serve", *files, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))

    assert (answer.returncode, "PROMETHEUS_MULTIPROC_DIR" in answer.stderr) == (2, True)


# -- check

FIVE_MISTAKES = """\
strategies:
  latency:
    match: ['alertname=HighLatency"']
    target: [service]
    grace_perod: 5m
    budget: [{runs: many, per: 1h}]
    verify: {within: 5 minutes}
    actions:
      - action: logg
        message: "slow"
"""


def test_five_mistakes_are_five_problems_each_with_its_place(config: Path) -> None:
    (config / "healing_strategies.yml").write_text(FIVE_MISTAKES)

    answer = promheal("check", "-o", "json", str(config / "promheal.yml"))

    assert answer.returncode == 1
    problems = json.loads(answer.stdout)["problems"]
    assert [(p["line"], p["column"]) for p in problems] == [
        (3, 35), (5, 5), (6, 21), (7, 22), (9, 17),
    ]  # fmt: skip
    assert "did you mean 'grace_period'?" in problems[1]["message"]
    assert "did you mean 'log'?" in problems[4]["message"]


def test_the_text_shows_the_line_and_a_caret(config: Path) -> None:
    (config / "healing_strategies.yml").write_text(FIVE_MISTAKES)

    answer = promheal("check", str(config / "promheal.yml"))

    assert f"{config}/healing_strategies.yml:5:5: unknown key 'grace_perod'" in answer.stdout
    assert "    grace_perod: 5m" in answer.stdout
    assert "^^^^^^^^^^^" in answer.stdout
    assert "\x1b" not in answer.stdout, "no colours for what is no terminal"
    assert answer.stderr == "5 problems\n"


def test_github_gets_annotations(config: Path) -> None:
    (config / "healing_strategies.yml").write_text(FIVE_MISTAKES)

    lines = promheal("check", "-o", "github", str(config / "promheal.yml")).stdout.splitlines()

    assert len(lines) == 5
    start = f"::error file={config}/healing_strategies.yml,line=5,col=5::unknown key"
    assert lines[1].startswith(start)


def test_what_ships_is_sound() -> None:
    answer = promheal("check", "--config.file", "configs/promheal.yml")

    assert answer.returncode == 0, answer.stdout
    assert answer.stdout.startswith("SUCCESS: 11 strategies, 6 services")


CHECKED_RULES = """groups:
- name: g
  rules:
  - alert: HighLatency
    expr: rate(latency_seconds_sum[2m]) > 1
  - alert: HighLatency
    expr: rate(latency_seconds_sum[%s]) > 1
    labels: {severity: critical}
  - alert: Another
    expr: rate(x[9d]) > 1
"""


def restarting(config: Path, **verify: str) -> str:
    """Have a strategy that heals: what only watches has nothing to prove."""
    strategies = {
        "latency": {
            "match": ['alertname="HighLatency"'],
            "actions": [{"action": "command", "argv": ["true"]}],
            "verify": verify,
        }
    }
    file = config / "healing_strategies.yml"
    file.write_text(json.dumps({"strategies": strategies}))
    return str(config / "promheal.yml")


def test_check_says_how_far_back_the_rules_of_a_strategy_look(config: Path) -> None:
    rules = config / "rules"
    rules.mkdir()
    (rules / "g.yml").write_text(CHECKED_RULES % "15m")

    answer = promheal("check", "--rules", str(rules), restarting(config))

    said = answer.stdout
    assert answer.returncode == 0, said
    assert "strategy latency: HighLatency looks 2m back: a proof takes 5m at most\n" in said
    assert "looks 15m back: a proof takes 16m30s at most, longer than `verify.within`" in said
    assert "Another" not in said


def test_check_warns_at_its_place_of_a_rule_that_needs_longer_than_is_waited(config: Path) -> None:
    rules = config / "g.yml"
    rules.write_text(CHECKED_RULES % "2h")

    answer = promheal("check", "--rules", str(rules), restarting(config))

    assert answer.returncode == 3
    assert f"{rules}:6:12: warning: strategy latency: HighLatency looks 2h back" in answer.stdout
    assert "can only end inconclusive; write a `verify.query`" in answer.stdout

    for remedy in ({"at_most": "3h"}, {"query": "rate(latency_seconds_sum[1m]) > 1"}):
        answer = promheal("check", "--rules", str(rules), restarting(config, **remedy))
        assert answer.returncode == 0, "the remedies work"


def test_check_warns_of_less_time_than_the_rule_needs(config: Path) -> None:
    """Mistake 23: who wrote 10s would wonder for minutes."""
    rules = config / "g.yml"
    rules.write_text(CHECKED_RULES % "5m")

    answer = promheal("check", "--rules", str(rules), restarting(config, within="10s"))

    assert answer.returncode == 3
    told = "looks 5m back, so it may fire for as long after a heal: a proof takes 6m30s at most"
    assert told in answer.stdout
    remedy = re.search(r"5m back.* write `within: (\w+)`", answer.stdout)
    assert remedy is not None
    for right in ({"within": remedy[1]}, {"query": "latency > 1"}):
        answer = promheal("check", "--rules", str(rules), restarting(config, **right))
        assert answer.returncode == 0, "the remedies work"


def test_check_says_of_what_it_cannot_read_that_it_is_never_ineffective(config: Path) -> None:
    rules = config / "g.yml"
    rules.write_text(CHECKED_RULES % "1_000")

    answer = promheal("check", "-o", "json", "--rules", str(rules), restarting(config))

    said = json.loads(answer.stdout)
    (problem,) = said["problems"]
    assert "is not known, so its runs are never called ineffective" in problem["message"]
    assert [each["warning"] for each in said["rules"]] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rules", "absent.yml"), "absent.yml: no such file"),
        (("--prometheus",), "promheal.yml names none"),
    ],
)
def test_check_refuses_rules_that_are_not_there(
    config: Path, arguments: tuple[str, ...], said: str
) -> None:
    answer = promheal("check", *arguments, restarting(config))
    assert answer.returncode == 2
    assert said in answer.stderr


def test_check_says_that_prometheus_cannot_be_asked(config: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    (config / "promheal.yml").write_text(f'prometheus: {{url: "{url}"}}\n')
    answer = promheal("check", "--prometheus", restarting(config))
    assert answer.returncode == 1
    assert "cannot be asked: /api/v1/rules: Connection refused" in answer.stdout


# -- explain


def test_explain_lists_every_strategy_and_what_every_guard_says(
    files: list[str], config: Path, alerts: str
) -> None:
    path = config / "healing_strategies.yml"
    path.write_text(path.read_text() + path.read_text().partition("\n")[2].replace(
        "latency", "other").replace("HighLatency", "HighCPU"))  # fmt: skip

    answer = promheal("explain", *files, "-o", "json", alerts)

    assert answer.returncode == 0, answer.stderr
    firing, resolved = json.loads(answer.stdout)["alerts"]
    assert (firing["status"], len(firing["fingerprint"])) == ("firing", 16)
    assert [(s["strategy"], s["matched"], s["target"], s["verdict"], s["reason"], s["until"])
            for s in firing["strategies"]] == [
        ("latency", True, 'service="checkout"', "allow", None, None),
        ("other", False, None, None, None, None),
    ]  # fmt: skip
    assert [(g["guard"], g["verdict"]) for g in firing["strategies"][0]["guards"]] == [
        (name, "allow") for name, _ in GUARDS
    ]
    assert (resolved["strategies"][0]["verdict"], resolved["strategies"][0]["reason"]) == (
        "deny", "resolved",
    )  # fmt: skip
    assert not (config / "journal.db").exists(), "nothing is written down"


def test_explain_for_people_tells_why_not(files: list[str], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    reading = {"timestamp": 1, "metric": "HighCPU", "evil": "\x1b[31m"}
    path.write_text(json.dumps(reading))

    answer = promheal("explain", *files, str(path))

    assert 'latency: does not match alertname="HighLatency"; has no label service' in answer.stdout
    assert "\x1b" not in answer.stdout


def test_explain_says_that_prometheus_cannot_be_asked(
    files: list[str], config: Path, alerts: str
) -> None:
    (config / "promheal.yml").write_text(f'prometheus: {{url: "http://127.0.0.1:{free_port()}"}}\n')

    answer = promheal("explain", *files, "-o", "json", alerts)

    said = json.loads(answer.stdout)["alerts"][0]["strategies"][0]
    assert (said["verdict"], said["reason"]) == ("wait", "condition_unknown")
    (current,) = [guard for guard in said["guards"] if guard["guard"] == "current"]
    assert "Connection refused" in current["detail"]
    assert "Connection refused" in promheal("explain", *files, alerts).stdout


# -- once


@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_once_says_that_prometheus_cannot_be_asked(
    files: list[str], config: Path, alerts: str, flags: list[str]
) -> None:
    (config / "promheal.yml").write_text(f'prometheus: {{url: "http://127.0.0.1:{free_port()}"}}\n')

    answer = promheal("once", *files, *flags, "--alerts", alerts)

    assert answer.returncode == 1
    assert "condition_unknown" in answer.stdout
    assert "Connection refused" in answer.stdout


def test_once_dry_run_decides_on_every_alert_of_a_target(
    files: list[str], config: Path, tmp_path: Path
) -> None:
    always = [f"{day} 00:00 - 24:00" for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")]
    window = {"name": "the last one's", "weekly": always, "match": ['node="b"']}
    (config / "promheal.yml").write_text(json.dumps({"maintenance": [window]}))
    firing = FIRING["alerts"][0]
    both = [{**firing, "labels": {**firing["labels"], "node": node}} for node in "ab"]
    alerts = tmp_path / "both.json"
    alerts.write_text(json.dumps({**FIRING, "alerts": both}))

    answer = promheal("once", *files, "--dry-run", "--alerts", str(alerts), "-o", "json")

    (result,) = json.loads(answer.stdout)["results"]
    assert result["result"] == "allow"


def test_once_goes_the_whole_way_and_says_how_it_ended(
    files: list[str], config: Path, alerts: str
) -> None:
    answer = promheal("once", *files, "--alerts", alerts, "-o", "json")

    (result,) = json.loads(answer.stdout)["results"]
    assert (answer.returncode, result["result"]) == (1, "inconclusive"), "no Prometheus, no proof"
    assert result["target"] == 'service="checkout"'
    assert '"slow: checkout"' in answer.stderr, "the action's own log line"

    again = promheal("once", *files, "--alerts", alerts, "-o", "json")
    (result,) = json.loads(again.stdout)["results"]
    assert (again.returncode, result["result"], result["reason"]) == (1, "wait", "grace_period")


def test_once_dry_run_does_nothing(files: list[str], config: Path, alerts: str) -> None:
    answer = promheal("once", *files, "--dry-run", "--alerts", alerts, "-o", "json")

    (result,) = json.loads(answer.stdout)["results"]
    assert (answer.returncode, result["result"], result["actions"]) == (0, "allow", ["log"])
    journal = open_journal(f"sqlite:///{config}/journal.db")
    assert journal.read(lambda t: (t.runs(limit=9), t.keys())) == ([], set())
    journal.close()
    assert "slow" not in answer.stderr


def test_once_refuses_what_is_too_old(files: list[str], alerts: str) -> None:
    os.utime(alerts, (time.time() - 600, time.time() - 600))

    refused = promheal("once", *files, "--alerts", alerts)
    allowed = promheal("once", *files, "--alerts", alerts, "--max-age", "1h", "--dry-run")

    assert refused.returncode == 2
    assert re.search(r"10m(\d+s)? old; alerts older than 5m are refused", refused.stderr)
    assert allowed.returncode == 0


def test_once_leaves_the_acting_to_a_server_that_runs(
    files: list[str], config: Path, alerts: str
) -> None:
    server = open_journal(f"sqlite:///{config}/journal.db")
    assert server.acquire()

    answer = promheal("once", *files, "--alerts", alerts)

    server.close()
    assert (answer.returncode, "a server acts on" in answer.stderr) == (2, True)
    assert "--storage.url" in answer.stderr


def test_once_with_nothing_that_applies_is_fine_and_says_so(
    files: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"timestamp": time.time(), "metric": "Other"}))

    answer = promheal("once", *files, "--alerts", str(path))

    assert answer.returncode == 0
    assert "no strategy applies" in answer.stdout


def test_explain_says_that_a_test_alert_is_never_decided(files: list[str], tmp_path: Path) -> None:
    firing = json.loads(json.dumps(FIRING))
    for alert in firing["alerts"]:
        alert["labels"]["promheal"] = "test"
    (tmp_path / "test.json").write_text(json.dumps(firing))
    answer = promheal("explain", *files, str(tmp_path / "test.json"), "-o", "json")
    (latency, _) = json.loads(answer.stdout)["alerts"]
    for said in latency["strategies"]:
        assert said["matched"] is False
        assert "it tells of the way here, and is never decided" in said["why"]


# -- config alertmanager: tests/test_routing.py


def test_routes_come_from_the_strategies_of_a_file_that_can_be_read(
    files: list[str], tmp_path: Path
) -> None:
    printed = promheal("config", "alertmanager", *files[:2], "--web.external-url", "http://h:1/x/")
    assert printed.returncode == 0
    assert "url: http://h:1/x/webhook" in printed.stdout
    (tmp_path / "broken.yml").write_text("prometheus: [")
    broken = promheal("config", "alertmanager", str(tmp_path / "broken.yml"))
    assert (broken.returncode, broken.stdout) == (2, "")
    assert "broken.yml:2:1: no YAML" in broken.stderr
    (tmp_path / "promheal.yml").write_text("{}")
    (tmp_path / "healing_strategies.yml").write_text("strategies: {}")
    (tmp_path / "services.yml").write_text("services: {}")
    empty = promheal("config", "alertmanager", str(tmp_path / "promheal.yml"))
    assert empty.returncode == 2
    assert "has no strategies" in empty.stderr


@pytest.mark.parametrize(("terminal", "variable", "colors"), [
    (True, None, True), (True, "", True), (True, "1", False), (False, None, False),
])  # fmt: skip
def test_colors_are_for_a_terminal_unless_no_color_says_so(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, variable: str | None, colors: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if variable is not None:
        monkeypatch.setenv("NO_COLOR", variable)
    assert colored(err=True) is colors
