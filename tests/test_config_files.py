from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.actions import Action, Actions, discover
from receiver.actions.log import Log
from receiver.actions.restart import RestartParams
from receiver.config.files import LoadedConfig, load
from receiver.policy.strategy import Expect, Mode, OnFailure
from receiver.services import Health, Inventory
from receiver.services.supervisor import Supervisor
from receiver.settings import Settings
from receiver.yaml.diagnostics import Diagnostic, DiagnosticSeverity, InvalidConfig, format_problem
from tests.factories import parse_matcher

CONFIGS = Path(__file__).parent.parent / "configs"
NAMES = ("promheal.yml", "services.yml", "healing_strategies.yml")
ACTIONS = discover()

SERVICES = "services:\n  checkout:\n    manager: {supervisor: {socket: /s, process: checkout}}\n"
STRATEGY = "strategies:\n  a:\n    match: ['alertname=\"A\"']\n"
STRATEGIES = STRATEGY + "    actions: [{action: log, message: hi}]\n"


class Folder:
    """A directory with a configuration in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write()

    def write(
        self, promheal: str = "{}\n", services: str = SERVICES, strategies: str = STRATEGIES
    ) -> None:
        for name, text in zip(NAMES, (promheal, services, strategies), strict=True):
            (self.path / name).write_text(text, encoding="utf-8", newline="")

    def load(
        self, environ: Mapping[str, str] | None = None, actions: Actions = ACTIONS
    ) -> LoadedConfig:
        return load(self.path / "promheal.yml", actions, environ or {})

    def problems(
        self, environ: Mapping[str, str] | None = None, actions: Actions = ACTIONS
    ) -> list[Diagnostic]:
        with pytest.raises(InvalidConfig) as error:
            self.load(environ, actions)
        return list(error.value.problems)

    def places(self) -> list[tuple[str, int, int]]:
        return [(Path(it.file).name, it.line, it.column) for it in self.problems()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_shipped_configuration_has_no_problem() -> None:
    loaded = load(CONFIGS / "promheal.yml", ACTIONS, {})
    assert loaded.problems == ()
    assert loaded.strategies.names == (
        "high-cpu",
        "high-memory",
        "low-success-rate",
        "high-latency",
        "queue-stuck",
        "ml-composite-anomaly",
        "high-cpu-ahead",
        "high-memory-ahead",
        "low-success-rate-ahead",
        "high-latency-ahead",
        "queue-stuck-ahead",
    )
    assert loaded.inventory.names == (
        "checkout",
        "worker",
        "gateway",
        "shop",
        "catalogue",
        "printer",
    )
    assert loaded.settings.engine == Settings().engine
    assert loaded.settings.flags == Settings().flags
    assert loaded.settings.journal == Settings().journal


def test_the_shipped_configuration_shows_the_defaults() -> None:
    shown = load(CONFIGS / "promheal.yml", ACTIONS, {}).strategies.get("high-cpu")
    plain = load(CONFIGS / "promheal.yml", ACTIONS, {}).strategies.get("high-memory")
    assert shown is not None
    assert plain is not None
    for field in ("mode", "grace_period", "budget", "when", "verify", "on_failure"):
        assert getattr(shown, field) == getattr(plain, field)


def test_an_item_may_hold_several_matchers_as_alertmanagers_do(folder: Folder) -> None:
    folder.write(
        promheal="""maintenance:
  - {name: night, match: ['{team="shop", zone!="a"}', 'b=c,d=e'], weekly: ['sat 01:00 - 02:00']}
""",
        strategies="""strategies:
  several:
    match: ['{alertname="A",team=~"a,b"}', 'zone="x"']
    target: [service]
    actions:
      - {action: log, message: x, if: ['{a="b",c="d"}']}
""",
    )
    loaded = folder.load()
    strategy = loaded.strategies.get("several")
    assert strategy is not None
    texts = ['alertname="A"', 'team=~"a,b"', 'zone="x"']
    assert strategy.match == tuple(map(parse_matcher, texts))
    assert strategy.actions[0].condition == tuple(map(parse_matcher, ['a="b"', 'c="d"']))
    texts = ['team="shop"', 'zone!="a"', "b=c", "d=e"]
    assert loaded.settings.maintenance[0].match == tuple(map(parse_matcher, texts))


def test_what_is_written_is_what_is_read(folder: Folder) -> None:
    folder.write(
        promheal="prometheus: {url: http://p, timeout: 3s}\nengine: {max_concurrent_runs: 2}\n",
        services=SERVICES + "    health: {url: http://c/health, timeout: 1s}\n",
        strategies="""strategies:
  night:
    description: no
    match: ['alertname="HighCPU"', severity=~"warning|critical"]
    target: [service, zone]
    mode: observe
    grace_period: 1h30m
    budget: [{runs: 2, per: 1h}, {runs: 5, per: 1d}]
    when: 'up{service="{{ labels.service }}"} == 1'
    actions:
      - action: log
        message: "{{ labels.service }} at {{ value }}"
        level: warning
      - action: restart_service
        service: checkout
        timeout: 10s
        if: ['team!="shop"']
    verify: {within: 10m, query: 'sum(up) > 3', expect: present}
    on_failure: keep
""",
    )
    loaded = folder.load()
    assert loaded.settings.prometheus is not None
    assert loaded.settings.prometheus.timeout == 3.0
    assert loaded.settings.engine.max_concurrent_runs == 2
    checkout = loaded.inventory.get("checkout")
    assert checkout.manager == Supervisor(socket="/s", process="checkout")
    assert checkout.health == Health(url="http://c/health", timeout=1.0)
    strategy = loaded.strategies.get("night")
    assert strategy is not None
    assert strategy.description == "no"
    assert strategy.match == (
        parse_matcher('alertname="HighCPU"'),
        parse_matcher('severity=~"warning|critical"'),
    )
    assert strategy.target == ("service", "zone")
    assert strategy.mode is Mode.OBSERVE
    assert strategy.grace_period == 5400.0
    assert [(budget.runs, budget.per) for budget in strategy.budget] == [(2, 3600.0), (5, 86400.0)]
    assert strategy.when == 'up{service="{{ labels.service }}"} == 1'
    assert [(step.action, step.timeout) for step in strategy.actions] == [
        ("log", Log.timeout),
        ("restart_service", 10.0),
    ]
    assert strategy.actions[1].params == RestartParams(service="checkout")
    assert strategy.actions[1].condition == (parse_matcher('team!="shop"'),)
    assert strategy.verify.within == 600.0
    assert strategy.verify.expect is Expect.PRESENT
    assert strategy.on_failure is OnFailure.KEEP
    assert loaded.files == tuple(
        folder.path / name for name in ("promheal.yml", "healing_strategies.yml", "services.yml")
    )


def test_five_mistakes_are_five_problems_each_at_its_place(folder: Folder) -> None:
    folder.write(
        strategies="""strategies:
  high-cpu:
    match: ['alertname="HighCPU"', 'severity=~"warning|(critical"']
    target: [service]
    grace_period: 5 minutes
    when: 'rate(up) > 1'
    actions:
      - action: restart_servic
        service: checkout
      - action: restart_service
        service: checkout
        tiemout: 60s
"""
    )
    found = folder.problems()
    assert [(it.line, it.column) for it in found] == [(3, 47), (5, 19), (6, 11), (8, 17), (12, 9)]
    assert all(Path(it.file).name == "healing_strategies.yml" for it in found)
    assert format_problem(found[-1]).endswith(
        ":12:9: unknown key 'tiemout'; did you mean 'timeout'?\n"
        " 12 |         tiemout: 60s\n"
        "    |         ^^^^^^^"
    )


def test_the_problems_of_all_files_are_told_at_once(folder: Folder) -> None:
    (folder.path / ".env.local").write_text("FEATURE_AUTO_HEALING_ENABLED=maybe\n")
    folder.write(
        promheal="engin: {}\nflags: {auto_healing: yes}\n",
        services="services:\n  checkout:\n    manager: {supervisr: {}}\n",
        strategies=STRATEGIES + "    mode: fast\n",
    )
    found = folder.problems({"FEATURE_AUTO_HEALING_ENABLED": "perhaps"})
    assert [(Path(it.file).name, it.line, it.column) for it in found] == [
        ("promheal.yml", 1, 1),
        ("promheal.yml", 2, 23),
        (".env.local", 0, 0),
        ("environment", 0, 0),
        ("services.yml", 3, 15),
        ("healing_strategies.yml", 5, 11),
    ]


# `▸` stands before the place where the problem must be found.
PROMHEAL = [
    ("▸", "the file is empty"),
    ("▸# nothing\n", "the file is empty"),
    ("▸[]", "expected a mapping, found a list"),
    ("▸promethues: {url: http://p}", "unknown key 'promethues'; did you mean 'prometheus'?"),
    ("prometheus: ▸{timeout: 5s}", "missing key 'url'"),
    ("prometheus:\n  ▸ulr: http://p", "unknown key 'ulr'; did you mean 'url'?"),
    ("flags:▸", "expected a mapping, found nothing; remove the key, or write {}"),
    ("flags: {auto_healing: ▸on}", "expected true or false, found 'on'; write true"),
    ("engine: {max_concurrent_runs: ▸eight}", "expected a whole number, found 'eight'"),
    ("engine: {resync: ▸60}", "'60' is not a duration"),
    ("journal: {retention: ▸90 d}", "'90 d' is not a duration"),
    ("http: {allow: ▸http://a}", "expected a list, found 'http://a'; write [http://a]"),
    ("services: ▸other.yml", "no such file"),
    ("strategies: ▸'sub/other.yml'", "no such file"),
    ("services: ▸[a.yml]", "expected a text, found a list"),
    ("http: {allow: []}\n▸http: {}", "duplicate key 'http'; it is in line 1 already"),
    ("engine: ▸&e {}", "anchor &e: YAML anchors are not read"),
    ("engine: ▸{resync: 1m", "no YAML: while parsing a flow mapping: "),
    ("flags: {}\n▸---\nflags: {}", "a second document"),
]
SERVICE = "services:\n  a:\n    "
SERVICES_YML = [
    (
        SERVICES.replace("/s,", "▸'/run/{{ labels.a }}',"),
        "there are no templates in services.yml: a label chooses the service",
    ),
    ("▸", "the file is empty"),
    ("▸service: {}", "unknown key 'service'; did you mean 'services'?"),
    ("▸{}", "missing key 'services'"),
    ("services:▸", "expected a mapping, found nothing; write {} for none"),
    ("services: ▸[a]", "expected a mapping, found a list"),
    ("services:\n  a:▸", "expected a mapping, found nothing"),
    (SERVICE + "▸health: {url: http://a}", "missing key 'manager'"),
    (SERVICE + "manager: ▸supervisor", "expected a mapping with one manager"),
    (SERVICE + "manager: ▸{}", "a manager is missing; known: supervisor, systemd, process, "),
    (SERVICE + "manager: {▸upstart: {unit: a}}", "unknown manager 'upstart'; known: "),
    (SERVICE + "manager: {▸proces: {}}", "unknown manager 'proces'; did you mean 'process'?"),
    (
        SERVICE + "manager: {command: {restart: [a]}, ▸process: {pidfile: /p, start: [a]}}",
        "a second manager",
    ),
    (SERVICE + "manager: {supervisor: ▸{process: a}}", "write either `socket` or `url`"),
    (SERVICE + "manager: {process: {pidfile: /p, start: ▸[]}}", "must not be empty"),
    (
        SERVICE + "manager: {process: ▸{pidfile: /p, start: [a], stop_signal: FOO}}",
        "unknown signal 'FOO'",
    ),
    (SERVICE + "manager: {command: {restart: ▸restart a}}", "expected a list"),
    (
        SERVICE + "manager: {command: {restart: [a]}}\n    health: {url: 'http://a', ▸timout: 1s}",
        "unknown key 'timout'; did you mean 'timeout'?",
    ),
    (SERVICES + "  ▸checkout: {}", "duplicate key 'checkout'; it is in line 2 already"),
]
STEPS = STRATEGY + "    actions:\n      - "
STRATEGIES_YML = [
    ("▸", "the file is empty"),
    ("▸strategy: {}", "unknown key 'strategy'"),
    ("strategies:▸", "expected a mapping, found nothing; write {} for none"),
    ("strategies:\n  a:\n    ▸match: ['a=b']", "missing key 'actions'"),
    ("strategies:\n  a:\n    ▸actions: [{action: log, message: x}]", "missing key 'match'"),
    (STRATEGIES.replace("  a:", "  ▸high cpu:"), "'high cpu' cannot name a strategy"),
    (STRATEGIES.replace("  a:", f"  ▸{'a' * 65}:"), "cannot name a strategy"),
    (STRATEGIES.replace("  a:", "  ▸'':"), "'' cannot name a strategy"),
    (STRATEGIES.replace("  a:", "  ▸größe:"), "'größe' cannot name a strategy"),
    (STRATEGIES + STRATEGIES.partition("\n")[2].replace("  a:", "  ▸a:"), "duplicate key 'a'"),
    (STRATEGIES.replace("['alertname=\"A\"']", "▸[]"), "must not be empty"),
    (STRATEGIES.replace("['alertname=\"A\"']", "[severity▸]"), "no operator"),
    (STRATEGIES.replace("['alertname=\"A\"']", "['▸{}']"), "no matcher here"),
    (STRATEGIES.replace("['alertname=\"A\"']", "['{a=\"b\",c▸}']"), "operator"),
    (STRATEGIES.replace("['alertname=\"A\"']", "['a=~▸\"b(\"']"), "is no regular expression"),
    (STRATEGIES.replace("['alertname=\"A\"']", "▸alertname=A"), "write [alertname=A]"),
    (STRATEGIES + "    target: ▸service", "expected a list, found 'service'; write [service]"),
    (STRATEGIES + "    target: [▸service name]", "'service name' is no label's name"),
    (STRATEGIES + "    target: [zone, ▸'']", "'' is no label's name"),
    (STRATEGIES + "    mode: ▸automatic", "'automatic' is none of observe, approve, auto"),
    (STRATEGIES + "    grace_period: ▸5", "'5' is not a duration"),
    (STRATEGIES + "    budget: ▸{runs: 3, per: 1h}", "expected a list, found a mapping"),
    (STRATEGIES + "    budget: [{▸run: 3, per: 1h}]", "unknown key 'run'; did you mean 'runs'?"),
    (STRATEGIES + "    budget: [▸{runs: 3}]", "missing key 'per'"),
    (STRATEGIES + "    when: ▸'up >'", "no PromQL that can be asked: "),
    (STRATEGIES + "    when: ▸''", "no PromQL that can be asked: "),
    (STRATEGIES + f"    when: ▸'{'1+' * 2048}1'", "more than 250 operators and brackets"),
    (STRATEGIES + "    when: ▸'up{a=\"{{ labels.a }}\"} >'", "no PromQL that can be asked: "),
    (STRATEGIES + "    when: ▸'up > {{ labels.a }}'", "outside quotes"),
    (STRATEGIES + "    when: ▸'up[5m]'", "the expression is a range or a string"),
    (STRATEGIES + f"    when: ▸'{'(' * 9000}'", "more than 250 operators and brackets"),
    (
        STRATEGIES + "    verify: {query: ▸'sum(up'}",
        "no PromQL that can be asked: unclosed left parenthesis",
    ),
    (STRATEGIES + "    verify: {expect: ▸present}", "`present` needs a `query`"),
    (STRATEGIES + "    verify: {expect: ▸full}", "'full' is none of empty, present"),
    (STRATEGIES + "    verify: ▸5m", "expected a mapping, found '5m'"),
    (STRATEGIES + "    on_failure: ▸rollbak", "did you mean 'rollback'?"),
    (STRATEGIES + "    ▸retries: 3", "unknown key 'retries'; known: actions, breaker"),
    (STRATEGY + "    actions: ▸[]", "must not be empty"),
    (STRATEGY + "    actions: ▸{action: log}", "expected a list, found a mapping"),
    (STEPS + "▸log", "expected a mapping, found 'log'; write `- action: NAME`"),
    (STEPS + "▸message: hi", "missing key 'action'; known: clear_cache, "),
    (STEPS + "action: ▸lgo", "unknown action 'lgo'; did you mean 'log'?"),
    (STEPS + "action:▸", "expected a text, found nothing"),
    (STEPS + "▸action: log", "missing key 'message'"),
    (STEPS + "{action: log, ▸mesage: hi}", "unknown key 'mesage'; did you mean 'message'?"),
    (STEPS + "{action: log, message: hi, level: ▸loud}", "'loud' is none of info, warning, error"),
    (STEPS + "{action: log, message: hi, timeout: ▸0s}", "must be more than 0"),
    (STEPS + "{action: log, message: hi, if: ▸a=b}", "expected a list, found 'a=b'; write [a=b]"),
    (STEPS + "{action: log, message: hi, if: ['a▸']}", "no operator"),
    (STEPS + "{action: log, message: ▸'{{ labels.a'}", "for the text {{ itself"),
    (STEPS + "{action: log, message: ▸'{{ lables.a }}'}", "lables"),
    (STEPS + "{action: log, message: ▸{{ labels.a }}}", "write a template in quotes"),
    (STEPS + "{action: wait, duration: ▸long}", "'long' is not a duration"),
    (STEPS + "{action: command, argv: ▸[]}", "must not be empty"),
    (STEPS + "{action: command, argv: [/bin/echo, ▸'{% x %}']}", "only {{ … }} may be used"),
    (STEPS + "{action: command, argv: [echo, -n, ▸'{{ labels.a }}']}", "argv[2]: labels.a can be"),
    (STEPS + "{action: command, argv: [true], undo: [echo, ▸'{{ value }}']}", "undo[1]: value can"),
    (STEPS + "{action: ▸command, argv: [true], env: {PATH: /x}}", "env: 'PATH' may not be set"),
    (STEPS + "{action: silence, duration: 1h, labels: [▸'{{ labels.a }}']}", "labels[0]: labels.a"),
    (STRATEGIES + "    values: ▸[a]", "expected a mapping, found a list"),
    (STRATEGIES + "    values: {a: '▸[a-z-]+'}", "write for example '[a-z][a-z-]*'"),
    (STRATEGIES + "    values: {a: 'a▸.'}", "`.` lets everything through"),
    (STRATEGIES + "    values: {a: ▸}", "expected a text, found nothing"),
    (STRATEGIES + "    values: {▸target: a}", "hand it over as a variable"),
    (STRATEGIES + "    values: {▸strategy: a}", "the operator's own text, and needs no pattern"),
    (STRATEGIES + "    values: {▸labels: a}", "'labels' names no value; write the name of a label"),
    (STRATEGIES + "    values: {▸alert.x: a}", "'alert.x' names no value"),
    (STRATEGIES + "    values: ▸{a: x, labels.a: y}", "two of its names are one"),
    (STEPS + "{action: ▸restart_service, service: chekout}", "did you mean 'checkout'?"),
    (STEPS + "{action: http, url: http://a, json: {a: [▸'{{ 1 + 1 }}']}}", "`+` may not be used"),
]
BROKEN = [
    (index, *case)
    for index, cases in enumerate((PROMHEAL, SERVICES_YML, STRATEGIES_YML))
    for case in cases
]


@pytest.mark.parametrize(("index", "marked", "message"), BROKEN)
def test_what_is_wrong_is_told_at_its_place(
    folder: Folder, index: int, marked: str, message: str
) -> None:
    before, after = marked.split("▸")
    (folder.path / NAMES[index]).write_text(before + after, encoding="utf-8")
    [problem] = folder.problems()
    assert Path(problem.file).name == NAMES[index]
    assert (problem.line, problem.column) == (
        before.count("\n") + 1,
        len(before) - before.rfind("\n"),
    )
    assert message in problem.message
    assert problem.severity is DiagnosticSeverity.ERROR


def test_a_value_is_declared_by_any_of_its_names(folder: Folder) -> None:
    values = "{a: x, labels.value: y, annotations.b: z, value: '1', alert.starts_at: '[0-9]+'}"
    names = "labels.a", "labels.value", "annotations.b", "value", "alert.starts_at"
    more = "alert.labels.a", 'labels.a | default("none") | upper', "strategy"
    argv = ", ".join(f"'{{{{ {name} }}}}'" for name in (*names, *more))
    folder.write(
        strategies=f"{STRATEGY}    actions: [{{action: command, argv: [echo, {argv}]}}]\n"
        f"    values: {values}\n"
    )
    loaded = folder.load()
    assert loaded.problems == ()
    strategy = loaded.strategies.get("a")
    assert strategy is not None
    assert tuple(strategy.values) == names


def test_a_pattern_that_no_step_uses_is_told(folder: Folder) -> None:
    folder.write(strategies=STRATEGIES + "    values: {sevice: '[a-z]+'}\n")
    (problem,) = folder.load().problems
    assert problem.severity is DiagnosticSeverity.WARNING
    assert problem.message.startswith("no step uses labels.sevice")
    assert (problem.line, problem.column) == (5, 14)


def test_other_braces_in_services_are_texts(folder: Folder) -> None:
    status = "[docker, inspect, --format, '{{.State.Running}}', checkout]"
    folder.write(
        services="services:\n  checkout:\n    manager:\n"
        f"      command: {{restart: [/bin/true], status: {status}}}\n"
    )
    assert folder.load().problems == ()


def test_a_missing_file_is_named_with_the_remedy(folder: Folder) -> None:
    for name in NAMES[1:]:
        (folder.path / name).unlink()
    services, strategies = folder.problems()
    assert format_problem(services) == (
        f"{folder.path / 'services.yml'}: no such file; write it, or name another as `services:` "
        "in promheal.yml"
    )
    assert "or name another as `strategies:`" in strategies.message


def test_a_missing_main_file_is_the_only_problem(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"promheal\.yml: no such file"):
        load(tmp_path / "promheal.yml", ACTIONS, {})


def test_a_missing_file_is_not_told_while_another_may_be_meant(folder: Folder) -> None:
    (folder.path / "services.yml").unlink()
    (folder.path / "promheal.yml").write_text("servics: other.yml\n")
    assert folder.places() == [("promheal.yml", 1, 1)]


def test_files_that_cannot_be_read_are_problems(folder: Folder) -> None:
    (folder.path / "services.yml").write_bytes(b"services: \xff\n")
    (folder.path / "healing_strategies.yml").unlink()
    (folder.path / "healing_strategies.yml").mkdir()
    services, strategies = folder.problems()
    assert (services.line, services.column) == (1, 11)
    assert "is not UTF-8" in services.message
    assert strategies.message == "cannot be read: Is a directory"


def test_other_names_are_relative_to_the_main_file(folder: Folder) -> None:
    (folder.path / "sub").mkdir()
    (folder.path / "services.yml").rename(folder.path / "sub" / "ours.yaml")
    (folder.path / "promheal.yml").write_text("services: sub/ours.yaml\n")
    assert folder.load().inventory.names == ("checkout",)


def test_names_of_files_that_no_system_has_are_problems(folder: Folder) -> None:
    for name in ('"a\\0b"', "a" * 5000, '""', "/dev/null/x"):
        (folder.path / "promheal.yml").write_text(f"services: {name}\n")
        assert folder.problems()


def test_actions_are_not_asked_about_an_inventory_that_is_not_known(folder: Folder) -> None:
    folder.write(
        services="services: {checkout: {}}\n",
        strategies=STEPS + "{action: restart_service, service: checkout}\n",
    )
    assert folder.places() == [("services.yml", 1, 22)]


class Careful(Action):
    name = "careful"
    Params = RestartParams

    def problems(self, params: RestartParams, inventory: Inventory) -> Iterable[str]:
        if params.service == "crash":
            raise RuntimeError("oops")
        yield from (f"{params.service} {number}" for number in range(2))


def test_what_an_action_finds_is_told_at_its_name(folder: Folder) -> None:
    folder.write(strategies=STEPS + "service: x\n        action: careful\n")
    found = folder.problems(actions=Actions([Careful()]))
    assert [(it.line, it.column, it.message) for it in found] == [(6, 17, "x 0"), (6, 17, "x 1")]


def test_an_action_that_fails_to_check_is_a_problem(folder: Folder) -> None:
    folder.write(strategies=STEPS + "{action: careful, service: crash}\n")
    [problem] = folder.problems(actions=Actions([Careful()]))
    assert problem.message == "its parameters could not be checked: RuntimeError: oops"


def test_an_action_with_a_parameter_that_yaml_cannot_give_is_a_problem(folder: Folder) -> None:
    class Odd(Action):
        name = "odd"
        Params = msgspec.defstruct("Params", [("raw", bytes)])

    folder.write(strategies=STEPS + "{action: odd, raw: x}\n")
    [problem] = folder.problems(actions=Actions([Odd()]))
    assert "cannot be read from YAML" in problem.message


def test_managers_are_those_that_are_given(folder: Folder) -> None:
    class Fake(msgspec.Struct):
        name: str

    folder.write(services="services: {a: {manager: {fake: {name: no}}}}\n")
    loaded = load(folder.path / "promheal.yml", ACTIONS, {}, {"fake": Fake})
    assert repr(loaded.inventory.get("a").manager) == repr(Fake("no"))


def test_a_second_is_too_short_for_a_proof_but_only_a_warning(folder: Folder) -> None:
    folder.write(strategies=STRATEGIES + "    verify: {within: 500ms}\n")
    [problem] = folder.load().problems
    assert (problem.line, problem.column, problem.severity) == (5, 22, DiagnosticSeverity.WARNING)


def test_a_when_that_is_asked_of_the_blind_is_warned_of(folder: Folder) -> None:
    step = "\n    actions: [{action: log, message: hi}]\n    match: [a=b]\n    when_blind: act\n"
    folder.write(strategies="strategies:\n  s:" + step)
    assert folder.load().problems == ()

    folder.write(strategies="strategies:\n  s:" + step + "    when: up\n")
    (problem,) = folder.load().problems
    assert (problem.line, problem.column, problem.severity) == (5, 17, DiagnosticSeverity.WARNING)
    assert "nothing begins blind" in problem.message


def test_warnings_are_told_with_the_errors(folder: Folder) -> None:
    folder.write(strategies=STRATEGIES + "    verify: {within: 500ms}\n    mode: no\n")
    assert [it.severity for it in folder.problems()] == [
        DiagnosticSeverity.WARNING,
        DiagnosticSeverity.ERROR,
    ]


FLAG = "FEATURE_AUTO_HEALING_ENABLED"


@pytest.mark.parametrize(
    ("file", "local", "environ", "healing"),
    [
        (None, None, None, True),
        ("false", None, None, False),
        ("true", "false", None, False),
        ("false", "true", None, True),
        ("true", "false", "true", True),
        ("true", "true", "false", False),
        ("false", None, "", False),
        ("false", "true", "", True),
    ],
)
def test_the_environment_wins_over_env_local_and_that_over_the_file(
    folder: Folder, file: str | None, local: str | None, environ: str | None, healing: bool
) -> None:
    if file is not None:
        folder.write(promheal=f"flags: {{auto_healing: {file}}}\n")
    if local is not None:
        (folder.path / ".env.local").write_text(f"{FLAG}={local}\n")
    loaded = folder.load({} if environ is None else {FLAG: environ})
    assert loaded.settings.flags.auto_healing is healing


def test_a_broken_env_local_is_a_problem_at_its_line(folder: Folder) -> None:
    (folder.path / ".env.local").write_text("A=b\nnonsense\n")
    assert folder.places() == [(".env.local", 2, 1)]
    (folder.path / ".env.local").write_bytes(b"\xff")
    [problem] = folder.problems()
    assert format_problem(problem).startswith(f"{folder.path}/.env.local: cannot be read: ")


def test_the_hash_tells_configurations_apart(folder: Folder) -> None:
    hashes = {folder.load().hash, folder.load({"PATH": "/bin"}).hash, folder.load().hash}
    assert len(hashes) == 1
    hashes.add(folder.load({FLAG: "false"}).hash)
    for name in NAMES:
        with (folder.path / name).open("a", encoding="utf-8") as file:
            file.write("# a comment\n")
        hashes.add(folder.load().hash)
    assert len(hashes) == 5
    assert all(len(it) == 64 and set(it) <= set("0123456789abcdef") for it in hashes)


def test_a_bomb_of_aliases_is_refused_at_once(folder: Folder) -> None:
    lines = ["a0: &a0 {x: y}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    folder.write(strategies="\n".join(lines))
    began = time.process_time()
    folder.problems()
    assert time.process_time() - began < 1


def test_many_strategies_are_loaded_quickly(folder: Folder) -> None:
    entry = """  s{n}:
    description: Shed load first; restart only what is critical.
    match: ['alertname="HighCPU{n}"', 'severity=~"warning|critical"']
    target: [service]
    budget: [{{runs: 3, per: 1h}}, {{runs: 8, per: 1d}}]
    when: 'avg(rate(process_cpu_seconds_total{{job="a"}}[1m])) > 0.{n}'
    actions:
      - {{action: log, message: "{{{{ labels.service }}}}"}}
      - {{action: restart_service, service: "{{{{ labels.service }}}}", timeout: 60s}}
    verify: {{within: 5m}}
"""
    folder.write(strategies="strategies:\n" + "".join(entry.format(n=n) for n in range(500)))
    folder.load()
    began = time.process_time()
    assert len(folder.load().strategies) == 500
    assert time.process_time() - began < 1.5  # about 0.1 on a machine with nothing else to do


# ── whatever stands in the files, it is a value or an InvalidConfig ──

SHIPPED = {name: (CONFIGS / name).read_text(encoding="utf-8") for name in NAMES}
PIECES = st.sampled_from(
    [
        "\n",
        "\n  ",
        ": ",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "#",
        "&a ",
        "*a",
        "!!str ",
        ">",
        '"',
        "'",
        "<<: *a",
        "\t",
        "\\",
        "%",
        "@",
        "---\n",
        "...\n",
        "~",
        "null",
        "\x00",
        "\ufeff",
        "{{",
        "}}",
        "{%",
        "日本",
        "\x85",
        "\u2028",
        "=~",
        "(",
        "a=",
        "0",
        "-1",
        "1e999",
        "�",
    ]
)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> bytes:
    """Return *text* with some pieces of it gone, doubled or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 60)))
        middle = draw(st.one_of(st.just(""), st.just(text[start:end] * 2), PIECES))
        text = text[:start] + middle + text[end:]
    return text.encode("utf-8", "surrogatepass")


def check(folder: Path) -> None:
    """Load, and look at every problem that it raises."""
    found: tuple[Diagnostic, ...] = ()
    try:
        load(folder / "promheal.yml", ACTIONS, {})
    except InvalidConfig as error:
        found = error.problems
    for problem in found:
        shown = format_problem(problem).split("\n")
        assert problem.message in "\n".join(shown)
        if problem.line:
            assert 1 <= problem.column <= len(problem.source) + 1
            assert "^" in shown[-1] or not problem.source.strip()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(CONFIGS, folder, dirs_exist_ok=True)
    return folder


def restore(folder: Path) -> None:
    for name, text in SHIPPED.items():
        (folder / name).write_text(text, encoding="utf-8")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(NAMES), content=st.binary(max_size=300))
def test_random_bytes_are_a_problem_and_no_accident(
    fuzzed: Path, name: str, content: bytes
) -> None:
    restore(fuzzed)
    (fuzzed / name).write_bytes(content)
    check(fuzzed)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_slip_of_the_pen_is_a_problem_and_no_accident(fuzzed: Path, data: Any) -> None:
    restore(fuzzed)
    name = data.draw(st.sampled_from(NAMES))
    (fuzzed / name).write_bytes(data.draw(mutated(SHIPPED[name])))
    check(fuzzed)
