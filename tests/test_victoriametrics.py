"""Whose word counts where VictoriaMetrics is asked? A real one, with a real vmalert or without."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from receiver.clients.prometheus import Prometheus
from receiver.healing.verifier import PrometheusVerifier
from receiver.policy.authority import Speaker
from receiver.policy.link import expression_of
from receiver.policy.proof.judgement import Judgement
from receiver.policy.signal import Signal, SignalDoubt
from receiver.settings import PrometheusSettings
from tests.chain import Program, free_port, running, wait_until
from tests.tools import tool

FIRING, UNKNOWN = Signal.FIRING, Signal.UNKNOWN
RULES = """
groups:
  - name: tests
    interval: 1s
    rules:
      - {alert: Sick, expr: sick > 0, labels: {severity: critical}}
      - {alert: Queer, expr: sick default 0 > 0}
      - {alert: QuietlyQueer, expr: (sick default 0) > 5}
"""
LABELS = {"service": "a", "instance": "i"}


class Victoria:
    """A VictoriaMetrics in which the service `a` is sick."""

    def __init__(self, program: Program) -> None:
        self.url = program.url
        self.prometheus = Prometheus(PrometheusSettings(url=program.url))
        self.verifier = PrometheusVerifier(self.prometheus, time.time)
        body = b'sick{service="a",instance="i"} 1\n'
        request = urllib.request.Request(f"{program.url}/api/v1/import/prometheus", body)
        with urllib.request.urlopen(request, timeout=10):
            pass
        wait_until(lambda: self.prometheus.query("sick"), what="it is stored")

    def judge(
        self,
        name: str,
        said: str | None = None,
        *,
        speaker: Speaker = Speaker.SENDER,
        **labels: str,
    ) -> Judgement:
        alert = {"alertname": name, "alertgroup": "tests", **LABELS, **labels}
        return self.verifier.confirm(alert, said, speaker=speaker)


def victoria(folder: Path, stack: ExitStack, *arguments: str) -> Program:
    port = free_port()
    argv = [
        tool("victoria-metrics"),
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=1s",
        *arguments,
    ]
    url = f"http://127.0.0.1:{port}"
    return stack.enter_context(running(argv, url, folder / "victoria-metrics.log"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victoria]:
    """It knows no rules."""
    with ExitStack() as stack:
        yield Victoria(victoria(tmp_path_factory.mktemp("alone"), stack))


@pytest.fixture(scope="module")
def with_rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victoria]:
    """It hands on the rules of a vmalert."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "rules.yml").write_text(RULES)
    port = free_port()
    with ExitStack() as stack:
        program = victoria(folder, stack, f"-vmalert.proxyURL=http://127.0.0.1:{port}")
        argv = [
            tool("vmalert"),
            f"-rule={folder / 'rules.yml'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-datasource.url={program.url}",
            f"-notifier.url=http://127.0.0.1:{free_port()}",  # nobody is there
        ]
        stack.enter_context(running(argv, f"http://127.0.0.1:{port}", folder / "vmalert.log"))
        found = Victoria(program)
        wait_until(
            lambda: [rule for rule in found.prometheus.rules("Queer") if rule.firing],
            what="its alert fires",
        )
        yield found


def test_the_rule_of_vmalert_is_the_only_one(with_rules: Victoria) -> None:
    judged = with_rules.judge("Sick", "vector(1)", severity="critical")
    assert (judged.signal, judged.expression) == (FIRING, "sick > 0")

    elsewhere = with_rules.judge("Sick", "vector(1)", severity="critical", service="b")
    assert (elsewhere.signal, elsewhere.expression) == (UNKNOWN, "sick > 0")


def test_a_rule_in_metricsql_is_confirmed_by_its_server_and_proves_nothing(
    with_rules: Victoria,
) -> None:
    judged = with_rules.judge("Queer")
    assert judged.signal is FIRING
    assert judged.binding is not None

    after = with_rules.verifier.look(judged.binding, since=time.time())
    assert (after.signal, after.doubt) == (UNKNOWN, SignalDoubt.DATA)
    assert "cannot be read" in after.detail
    assert "verify.query" in after.detail

    for name, service in (("Queer", "b"), ("QuietlyQueer", "a")):
        assert with_rules.judge(name, service=service).signal is UNKNOWN


def test_a_target_that_died_is_not_healed_by_an_answer_about_the_past(
    with_rules: Victoria,
) -> None:
    judged = with_rules.judge("Sick", severity="critical")
    assert judged.binding is not None

    since = time.time()  # from here on it says nothing any more
    until = since + 6
    while time.time() < until:
        assert with_rules.verifier.look(judged.binding, since=since).signal is not Signal.CLEARED
        time.sleep(0.5)


def test_without_rules_only_a_trusted_link_of_vmui_confirms(alone: Victoria) -> None:
    link = f"http://vm:8428/vmui/#/?g0.expr={quote_plus('sick > 0')}&g0.tab=0"
    said = expression_of(link)
    assert said == "sick > 0"
    assert alone.prometheus.rules() == ()

    judged = alone.judge("Sick", said)
    assert (judged.signal, judged.doubt, judged.expression) == (UNKNOWN, SignalDoubt.RULE, None)
    assert alone.judge("Sick", said, speaker=Speaker.TRUSTED).signal is FIRING


def test_another_clusters_alert_is_known_by_the_external_labels_of_the_settings(
    with_rules: Victoria,
) -> None:
    settings = PrometheusSettings(url=with_rules.url, external_labels={"cluster": "west"})
    verifier = PrometheusVerifier(Prometheus(settings), time.time)
    alert = {"alertname": "Sick", "alertgroup": "tests", "severity": "critical", **LABELS}

    assert verifier.confirm(alert | {"cluster": "west"}, None).signal is FIRING
    judged = verifier.confirm(alert | {"cluster": "east"}, None)
    assert (judged.signal, judged.doubt) == (UNKNOWN, SignalDoubt.ELSEWHERE)
    assert 'from another Prometheus: cluster="east", here "west"' in judged.detail
