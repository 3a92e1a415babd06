"""Where Alertmanager leads an alert, and the routes that we print, beside its own amtool."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from receiver.actions import discover
from receiver.cli.config import command
from receiver.config.files import LoadedConfig, load
from receiver.doctor.routing import WebhookConfig, read_routing, witness
from receiver.policy.strategy import Strategy
from tests.factories import parse_matcher
from tests.tools import REPOSITORY, tool


def amtool(path: Path, labels: Mapping[str, str]) -> list[str]:
    """Return the receivers that Alertmanager's own tool names."""
    done = subprocess.run(
        [
            *(tool("amtool"), "config", "routes", "test", f"--config.file={path}"),
            *(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(",")


def written(path: Path, route: Mapping[str, Any]) -> str:
    def receivers(one: Mapping[str, Any]) -> list[str]:
        below = [name for each in one.get("routes", ()) for name in receivers(each)]
        return [*([one["receiver"]] if "receiver" in one else []), *below]

    names = dict.fromkeys(receivers(route))
    path.write_text(json.dumps({"route": route, "receivers": [{"name": n} for n in names]}))
    return path.read_text()


def ours(text: str, labels: Mapping[str, str]) -> list[str]:
    return [route.receiver for route in read_routing(text).root.reached(labels)]


@pytest.mark.parametrize(
    ("routes", "labels", "right"),
    [
        ([{"receiver": "a", "matchers": ['x="1"']}], {"x": "1"}, ["a"]),
        ([{"receiver": "a", "matchers": ['x="1"']}], {"x": "2"}, ["root"]),
        ([{"receiver": "a", "continue": True}, {"receiver": "b"}], {"x": "1"}, ["a", "b"]),
        ([{"receiver": "a"}, {"receiver": "b"}], {"x": "1"}, ["a"]),
        ([{"receiver": "a", "match": {"x": "1"}, "continue": True}], {"x": "1"}, ["a"]),
        ([{"receiver": "a", "match_re": {"x": "1|2"}}], {"x": "12"}, ["root"]),
        ([{"receiver": "a", "matchers": ['x!=""', "y!~z.*"]}], {"x": "1", "y": "zz"}, ["root"]),
        ([{"matchers": ['x="1"'], "routes": [{"receiver": "b"}]}], {"x": "1"}, ["b"]),
        ([{"matchers": ['x="1"']}], {"x": "1"}, ["root"]),
        (
            [
                {
                    "receiver": "a",
                    "continue": True,
                    "routes": [{"receiver": "b", "matchers": ['y="1"']}],
                },
                {"receiver": "c", "matchers": ['y!="1"']},
            ],
            {"y": "1"},
            ["b"],
        ),
        ([{"receiver": "a", "matchers": ['{x="1",y="2"}']}], {"x": "1", "y": "2"}, ["a"]),
    ],
)
def test_an_alert_reaches_whom_alertmanager_says(
    tmp_path: Path, routes: Sequence[Any], labels: Mapping[str, str], right: list[str]
) -> None:
    text = written(tmp_path / "am.yml", {"receiver": "root", "routes": routes})
    assert ours(text, labels) == amtool(tmp_path / "am.yml", labels) == right


@pytest.mark.parametrize("seed", range(30))
def test_random_trees_are_read_as_alertmanager_does(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    number = 0

    def matcher() -> str:
        return (
            dice.choice("xyz")
            + dice.choice(["=", "!=", "=~", "!~"])
            + json.dumps(dice.choice(["", "1", "2", "1|2", "a.*", ".+"]))
        )

    def route(depth: int) -> dict[str, Any]:
        nonlocal number
        number += 1
        made: dict[str, Any] = {"receiver": f"r{number}"}
        if depth:
            made["matchers"] = [matcher() for _ in range(dice.randrange(3))]
            made["continue"] = dice.random() < 0.5
            if dice.random() < 0.3:
                del made["receiver"]  # it inherits
        if depth < 3:
            made["routes"] = [route(depth + 1) for _ in range(dice.randrange(1, 4))]
        return made

    text = written(tmp_path / "am.yml", route(0))
    for _ in range(3):
        labels = {name: dice.choice(["1", "2", "ab", "12"]) for name in dice.sample("xyz", 2)}
        assert ours(text, labels) == amtool(tmp_path / "am.yml", labels), (text, labels)


def test_routes_inherit_what_they_do_not_say() -> None:
    routing = read_routing(
        """
route:
  receiver: root
  group_by: [a]
  group_interval: 1m
  routes:
    - matchers: [x="1"]
      group_by: []
    - group_wait: 0s
      repeat_interval: 1h
      receiver: hook
receivers:
  - name: root
    email_configs: [{to: a@example.org}]
  - name: hook
    webhook_configs: [{url: "<secret>", send_resolved: false, max_alerts: 5}, {url: "http://a"}]
"""
    )
    first, second = routing.root.routes
    assert (first.receiver, first.group_by, first.group_wait) == ("root", (), 30.0)
    assert (second.group_by, second.group_wait, second.group_interval) == (("a",), 0.0, 60.0)
    assert (first.repeat_interval, second.repeat_interval) == (14_400.0, 3_600.0)
    secret, plain = routing.webhooks["hook"]
    assert secret == WebhookConfig(url="<secret>", send_resolved=False, max_alerts=5)
    assert (secret.hidden, plain.hidden) == (True, False)
    assert routing.kinds == {"root": ("email",), "hook": ("webhook",)}


@pytest.mark.parametrize(
    "text", ["", "[", "a: b", "route: {}", "route: 3\nreceivers: []", "receivers: [1]\nroute: {}"]
)
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="its configuration cannot be read"):
        read_routing(text)


# -- the routes that we print

SETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "F14: no label of ours": {
        "nginx-down": {"match": ['alertname="NginxDown"'], "target": ["instance"]}
    },
    "several names, other targets": {
        "a": {"match": ['alertname=~"High-CPU|Dis\'k"'], "target": ["service"]},
        "b": {"match": ['alertname=~"A\\\\.B|C"', 'severity="critical"'], "target": ["pod"]},
    },
    "none says a name": {
        "a": {"match": ['team="web"', 'severity=~"warning|critical"'], "target": ["host"]},
        "b": {"match": ['service!~"db.*"'], "target": ["service"]},
        "c": {"match": ['service=~"web-.+"', 'service!="web-x"'], "target": []},
    },
    "mixed, and one whose name is a pattern": {
        "a": {"match": ['alertname="A"'], "target": ["service"]},
        "b": {"match": ['alertname=~"Node.*"'], "target": ["instance"]},
        "c": {"match": ['path="C:\\\\x"'], "target": []},
    },
    "names in UTF-8": {"a": {"match": ['alertname="Zü spät, \\"ja\\""'], "target": ["service"]}},
}


def loaded(
    folder: Path, strategies: Mapping[str, Mapping[str, Any]], **settings: Any
) -> LoadedConfig:
    action = {"action": "log", "message": "it was seen"}
    for name, content in (
        ("promheal.yml", settings),
        (
            "healing_strategies.yml",
            {"strategies": {k: {**v, "actions": [action]} for k, v in strategies.items()}},
        ),
        ("services.yml", {"services": {}}),
    ):
        (folder / name).write_text(json.dumps(content))
    return load(folder / "promheal.yml", discover(), {})


def printed(folder: Path) -> tuple[list[Any], list[Any]]:
    """Return the routes and the receivers that `promheal config alertmanager` prints."""
    done = CliRunner().invoke(command, ["alertmanager", str(folder / "promheal.yml")])
    assert done.exit_code == 0, done.output
    routes, receivers = done.output.split("# Below `receivers:`")
    return yaml.safe_load(routes), yaml.safe_load(receivers)


@pytest.mark.parametrize("name", SETS)
def test_by_the_printed_routes_every_strategy_gets_its_alerts_and_people_too(
    tmp_path: Path, name: str
) -> None:
    config = loaded(tmp_path, SETS[name])
    routes, receivers = printed(tmp_path)
    path = tmp_path / "am.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "route": {"receiver": "nobody", "routes": [*routes, {"receiver": "people"}]},
                "receivers": [{"name": "people"}, {"name": "nobody"}, *receivers],
            }
        )
    )
    subprocess.run([tool("amtool"), "check-config", str(path)], check=True, capture_output=True)
    for strategy in config.strategies:
        alert = witness(strategy, {})
        assert alert is not None, strategy.name
        assert all(matcher.matches(alert) for matcher in strategy.match)
        assert all(alert.get(label) for label in strategy.target)
        found = amtool(path, alert)
        assert set(found) == {"promheal", "people"}, (strategy.name, alert, found)
        assert found == ours(path.read_text(), alert)
    assert set(amtool(path, {"alertname": "Other"})) == {"people"}


def test_an_alert_groups_as_finely_as_targets_are_told_apart(tmp_path: Path) -> None:
    def grouped(name: str) -> list[set[str]]:
        loaded(tmp_path, SETS[name])
        return [set(route["group_by"]) for route in printed(tmp_path)[0]]

    assert grouped("F14: no label of ours") == [{"alertname", "instance"}]
    assert grouped("several names, other targets") == [{"alertname", "service", "pod"}]
    assert {"..."} in grouped("none says a name")


def test_what_grows_stale_soon_is_repeated_sooner(tmp_path: Path) -> None:
    loaded(tmp_path, SETS["F14: no label of ours"], engine={"stale_after": "1h"})
    assert printed(tmp_path)[0][0]["repeat_interval"] == "48m"
    loaded(tmp_path, SETS["F14: no label of ours"])
    assert printed(tmp_path)[0][0]["repeat_interval"] == "4h"


@pytest.mark.parametrize(
    ("matchers", "labels", "right"),
    [
        (['alertname="A"'], {"service": "s"}, {"alertname": "A", "service": "s"}),
        (
            ['severity!=""', 'severity=~"warning|critical"', 'env!="test"'],
            {"env": "test", "severity": "page"},
            {"alertname": "promheal-doctor", "service": "promheal-doctor", "severity": "critical"},
        ),
        (['service!~"promheal.*"'], {}, None),
        (['x=~"[0-9]{4}"'], {}, None),
    ],
)
def test_an_example_of_a_strategys_alerts(
    matchers: list[str], labels: Mapping[str, str], right: Mapping[str, str] | None
) -> None:
    match = tuple(parse_matcher(text) for text in matchers)
    strategy = Strategy(name="a", match=match, target=("service",), actions=())
    assert witness(strategy, labels) == right


def test_the_shipped_configuration_leads_the_shipped_strategies_to_promheal() -> None:
    """Its route is written by hand, with what all of them have in their target."""
    config = load(REPOSITORY / "configs/promheal.yml", discover(), {})
    path = REPOSITORY / "configs/alertmanager.yml"
    routing = read_routing(path.read_text())
    for strategy in config.strategies:
        alert = witness(strategy, {"severity": "warning"})
        assert alert is not None
        assert amtool(path, alert) == ["promheal", "team"], strategy.name
        ours, _ = routing.root.reached(alert)
        assert set(strategy.target) <= set(ours.group_by)
        assert ours.repeat_interval < config.settings.engine.stale_after
