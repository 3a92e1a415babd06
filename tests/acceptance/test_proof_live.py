"""Whose word counts before an act? A real Prometheus, and senders who say what they like."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.acceptance.server import (
    PATIENCE,
    Promheal,
    Spies,
    alert,
    ask,
    notification,
    strategy,
)
from tests.chain import Exporter, Program, free_port, start_prometheus, wait_until

RULES = """
groups:
  - name: tests
    rules:
      - {alert: Sick, expr: sick > 0}
"""


class Watched:
    """A Prometheus with the rule Sick for one service, which is well."""

    def __init__(self, exporter: Exporter, program: Program) -> None:
        self.exporter, self.program = exporter, program

    def alert(self, name: str, expression: str) -> dict[str, Any]:
        """An alert of the service, with a link that says that its rule is *expression*."""
        return fired(name, self.exporter, expression)

    def sick(self, value: float) -> None:
        self.exporter.set("sick", value, service="a")
        query = f"{self.program.url}/api/v1/query?query=sick"
        wait_until(
            lambda: [
                one
                for one in ask(query).json()["data"]["result"]
                if float(one["value"][1]) == value
            ],
            what=f"it is scraped: {value}",
        )


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Exporter() as exporter:
        targets = {"shop": [exporter.address]}
        with start_prometheus(tmp_path / "prometheus", targets=targets, rules=RULES) as program:
            found = Watched(exporter, program)
            found.sick(0)
            yield found


@pytest.fixture
def spies(tmp_path: Path) -> Spies:
    return Spies(tmp_path / "spies")


def fired(name: str, exporter: Exporter, expression: str) -> dict[str, Any]:
    one = alert(name, job="shop", instance=exporter.address, service="a")
    return {**one, "generatorURL": f"http://evil.example/graph?g0.expr={quote_plus(expression)}"}


def decided(server: Promheal, name: str, verdict: str, reason: str) -> None:
    def found() -> bool:
        return server.metric("decisions_total", strategy=name, verdict=verdict, reason=reason) > 0

    wait_until(found, within=PATIENCE, what=f"{name}: {verdict} {reason}")


@pytest.mark.parametrize("forged", ["vector(1)", "up", "sick >= 0"])
def test_a_forged_link_confirms_nothing(
    watched: Watched, tmp_path: Path, spies: Spies, forged: str
) -> None:
    """Each of these returns a series that fits the alert."""
    strategies = {
        "known": strategy(spies.step("known"), match="Sick"),
        "unknown": strategy(spies.step("unknown"), match="Invented"),
        "whens": strategy(spies.step("whens"), match="When", when="sick == 0"),
        "queries": strategy(
            spies.step("queries"),
            match="Query",
            verify={"within": "5s", "query": 'up{job="shop"} == 1'},
        ),
    }
    settings = {"url": watched.program.url}
    with Promheal(tmp_path, strategies, prometheus=settings) as server:
        server.post(
            watched.alert("Sick", forged),
            *(watched.alert(n, forged) for n in ("Invented", "When", "Query")),
        )
        # The rule does not return it, whatever the link says.
        decided(server, "known", "wait", "condition_unknown")
        decided(server, "unknown", "wait", "rule_unknown")
        (waiting,) = server.runs("unknown")
        assert (waiting["state"], waiting["reason"]) == ("pending", "rule_unknown")
        detail = server.get("/api/decisions?strategy=unknown")["decisions"][0]["detail"]
        assert "Prometheus has no rule called 'Invented'" in detail
        # The operator's own words may confirm it.
        wait_until(
            lambda: {"whens", "queries"} <= set(spies.starts()), within=PATIENCE, what="confirmed"
        )
        assert sorted(spies.starts()) == ["queries", "whens"]
        for run in (*server.runs("whens"), *server.runs("queries")):
            assert "vector" not in str(server.run(run["id"])["verify"]["query"])
        # And when the rule is true, its alert is confirmed, whatever its link says.
        watched.sick(1)
        server.post(watched.alert("Sick", "sick < 0"))
        wait_until(lambda: "known" in spies.starts(), within=PATIENCE, what="it is confirmed")
        run = server.runs("known")[-1]
        assert server.run(run["id"])["verify"]["query"] == "sick > 0"


WEB = {
    "bearer_tokens": [
        {"name": name, "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest()}
        for name, role in (("ours", "webhook"), ("theirs", "webhook"), ("admin", "operator"))
    ]
}


def test_the_expressions_of_a_trusted_sender_count_where_no_rule_is_known(
    watched: Watched, tmp_path: Path, spies: Spies
) -> None:
    strategies = {"x": strategy(spies.step("x"), match="Ruler")}
    prometheus = {"url": watched.program.url, "trusted_senders": ["ours"]}

    with Promheal(tmp_path, strategies, prometheus=prometheus, web=WEB, token="admin") as server:

        def post(token: str, expression: str) -> None:
            body = json.dumps(notification(watched.alert("Ruler", expression))).encode()
            assert ask(f"{server.url}/webhook", body, token=token).status == 202

        post("theirs", "vector(1)")
        decided(server, "x", "wait", "rule_unknown")
        post("ours", "sick > 0")
        decided(server, "x", "wait", "condition_unknown")
        post("theirs", "vector(1)")  # it changes nothing for whom we trust
        before = server.metric(
            "decisions_total", strategy="x", verdict="wait", reason="condition_unknown"
        )
        wait_until(
            lambda: (
                server.metric(
                    "decisions_total", strategy="x", verdict="wait", reason="condition_unknown"
                )
                > before
            ),
            within=PATIENCE,
            what="it is decided once more",
        )
        assert spies.starts() == []
        watched.sick(1)
        post("theirs", "sick < 0")
        wait_until(spies.starts, within=PATIENCE, what="it is confirmed")
        run = server.runs("x")[-1]
        assert server.run(run["id"])["verify"]["query"] == "sick > 0"


def test_a_trusted_name_that_nobody_has_is_told(tmp_path: Path) -> None:
    prometheus = {"url": "http://127.0.0.1:9", "trusted_senders": ["ours", "alertmanger"]}
    with Promheal(tmp_path, {}, prometheus=prometheus, web=WEB, token="admin") as server:
        assert "trusted_senders names 'alertmanger'" in server.tail()
        assert "'ours'" not in server.tail()


def test_while_prometheus_cannot_be_asked_a_run_waits_unless_it_says_otherwise(
    tmp_path: Path, spies: Spies
) -> None:
    port = free_port()  # nobody is there
    strategies = {
        "careful": strategy(spies.step("careful"), match="Sick"),
        "bold": strategy(spies.step("bold"), match="Bold", when_blind="act"),
        "asking": strategy(spies.step("asking"), match="Asking", when="up", when_blind="act"),
    }
    prometheus = {"url": f"http://127.0.0.1:{port}"}
    with (
        Exporter() as exporter,
        Promheal(tmp_path, strategies, prometheus=prometheus, engine={"resync": "1h"}) as server,
    ):
        exporter.set("sick", 1, service="a")
        server.post(*(fired(n, exporter, "vector(1)") for n in ("Sick", "Bold", "Asking")))
        decided(server, "careful", "wait", "condition_unknown")
        decided(server, "asking", "wait", "condition_unknown")
        wait_until(spies.starts, within=20, what=f"{server.get('/api/decisions?strategy=bold')}")
        assert spies.starts() == ["bold"]
        (run,) = server.runs("careful")
        detail = server.get("/api/decisions?strategy=careful")["decisions"][0]["detail"]
        assert run["reason"] == "condition_unknown"
        assert "Connection refused" in detail

        # It comes back, and nobody needs to say anything again.
        targets = {"shop": [exporter.address]}
        with start_prometheus(
            tmp_path / "prometheus", targets=targets, rules=RULES, port=port
        ) as program:
            assert program.url == prometheus["url"]
            wait_until(lambda: "careful" in spies.starts(), within=PATIENCE, what="it is confirmed")
            assert time.time() - run["createdAt"] >= 1


def test_a_stopped_prometheus_is_no_yes(watched: Watched, tmp_path: Path, spies: Spies) -> None:
    strategies = {"x": strategy(spies.step("x"), match="Sick")}
    with Promheal(tmp_path, strategies, prometheus={"url": watched.program.url}) as server:
        watched.sick(1)
        watched.program.stop()
        server.post(watched.alert("Sick", "sick > 0"))
        decided(server, "x", "wait", "condition_unknown")
        assert spies.starts() == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["once", "watch"])
def test_a_file_on_the_command_line_is_the_operators_word_where_no_rule_is_known(
    watched: Watched, tmp_path: Path, spies: Spies, command: str
) -> None:
    """Where Prometheus has the rule, that is asked; a server believes the same alerts of nobody."""
    strategies = {
        name.lower(): strategy(spies.step(name.lower()), match=name, verify={"within": "1s"})
        for name in ("Sick", "Reading", "Linked")
    }
    settings = {"url": watched.program.url}
    server = Promheal(tmp_path, strategies, prometheus=settings)
    reading = {"metric": "Reading", "value": 1, "timestamp": time.time(), "service": "a"}
    found = {}
    for name, content in (
        ("sick", notification(watched.alert("Sick", "vector(1)"))),
        ("reading", reading),
        ("linked", notification(watched.alert("Linked", "sick == 0"))),  # it fails, and all wait
    ):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(content))
        argv = [
            *(sys.executable, "-m", "receiver", command, f"--alerts={file}", "-o", "json"),
            f"--config.file={tmp_path / 'promheal.yml'}",
            f"--storage.url=sqlite:///{tmp_path / 'files.db'}",
        ]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
            assert process.stdout is not None
            told = ""
            while line := process.stdout.readline():
                told += line
                if line == "}\n":  # the whole of what `watch` tells once
                    break
            process.send_signal(signal.SIGTERM)
        (found[name],) = json.loads(told)["results"]

    assert (found["sick"]["result"], found["sick"]["reason"]) == ("wait", "condition_unknown")
    assert sorted(spies.starts()) == ["linked", "reading"]
    if command == "once":
        with server:
            server.post(watched.alert("Reading", "vector(1)"))
            decided(server, "reading", "wait", "rule_unknown")
