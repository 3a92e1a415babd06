"""Wrong configurations of a real Alertmanager: doctor finds each, and its remedy works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.actions import discover
from receiver.clients.alertmanager import Alertmanager
from receiver.config.files import load
from receiver.doctor.delivery import examine
from receiver.policy.finding import Finding, Grade
from receiver.settings import AlertmanagerSettings
from tests.acceptance.server import Promheal
from tests.chain import free_port, start_alertmanager, wait_until
from tests.listener import Listener

STRATEGIES = {
    "nginx-down": {
        "match": ['alertname="NginxDown"'],
        "target": ["instance"],
        "actions": [{"action": "log", "message": "it was seen"}],
    }
}


@pytest.fixture(scope="module")
def promheal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Promheal]:
    with Promheal(tmp_path_factory.mktemp("promheal"), STRATEGIES) as server:
        yield server


def right(url: str) -> dict[str, Any]:
    """What `promheal config alertmanager` prints, in a whole configuration."""
    return {
        "route": {
            "receiver": "team",
            "routes": [
                {
                    "receiver": "promheal",
                    "matchers": ['alertname="NginxDown"'],
                    "continue": True,
                    "group_by": ["alertname", "instance"],
                    "group_wait": "0s",
                    "group_interval": "10s",
                    "repeat_interval": "4h",
                },
                {"receiver": "team"},
            ],
        },
        "receivers": [
            {
                "name": "promheal",
                "webhook_configs": [
                    {"url": f"{url}/webhook", "send_resolved": True, "max_alerts": 0}
                ],
            },
            {"name": "team"},
        ],
    }


def address(listener: Listener) -> str:
    return listener.url.replace("json://", "http://").removesuffix("/told")


def examined(
    folder: Path, config: dict[str, Any], strategies: Mapping[str, Any] = STRATEGIES
) -> list[Finding]:
    with start_alertmanager(folder / "am", config=config) as alertmanager:
        write(folder, alertmanager.url, strategies)
        return list(examine(load(folder / "promheal.yml", discover(), {}), 5.0))


def write(folder: Path, alertmanager: str, strategies: Mapping[str, Any] = STRATEGIES) -> None:
    (folder / "promheal.yml").write_text(json.dumps({"alertmanager": {"url": alertmanager}}))
    (folder / "healing_strategies.yml").write_text(json.dumps({"strategies": strategies}))
    (folder / "services.yml").write_text(json.dumps({"services": {}}))


@pytest.fixture(scope="module")
def hides(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether this Alertmanager hides the URLs of webhooks, as it does from 0.26 on."""
    folder = tmp_path_factory.mktemp("hides")
    with start_alertmanager(folder, webhook="http://127.0.0.1:1/webhook") as alertmanager:
        text = Alertmanager(AlertmanagerSettings(url=alertmanager.url)).configuration()
    return "<secret>" in text


def ill(findings: list[Finding]) -> list[tuple[Grade, str]]:
    return [(each.state, each.detail) for each in findings if each.state is not Grade.OK]


def test_a_right_configuration_leaves_nothing_to_say(tmp_path: Path, promheal: Promheal) -> None:
    found = examined(tmp_path, right(promheal.url))
    assert ill(found) == []
    assert found[-1].subject == "strategy nginx-down"
    assert "is led to promheal" in found[-1].detail


def _route(config: dict[str, Any]) -> dict[str, Any]:
    route: dict[str, Any] = config["route"]["routes"][0]
    return route


def _hook(config: dict[str, Any]) -> dict[str, Any]:
    hook: dict[str, Any] = config["receivers"][0]["webhook_configs"][0]
    return hook


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], Grade, str]] = {
    "max_alerts": (
        lambda c: _hook(c).update(max_alerts=5), Grade.WARN, "write `max_alerts: 0`"
    ),
    "send_resolved": (
        lambda c: _hook(c).update(send_resolved=False), Grade.WARN, "write `send_resolved: true`"
    ),
    "repeat_interval above stale_after": (
        lambda c: _route(c).update(repeat_interval="12h"), Grade.WARN, "write `repeat_interval: 4h`"
    ),
    "group_interval 5m": (
        lambda c: _route(c).update(group_interval="5m"), Grade.WARN, "write `group_interval: 10s`"
    ),
    "group_interval by default": (
        lambda c: _route(c).pop("group_interval"), Grade.WARN, "write `group_interval: 10s`"
    ),
    "group_wait 2m": (
        lambda c: _route(c).update(group_wait="2m"), Grade.WARN, "write `group_wait: 0s`"
    ),
    "no group_by": (
        lambda c: _route(c).pop("group_by"), Grade.WARN, "write `group_by: [alertname, instance]`"
    ),
    "other receiver": (
        lambda c: _route(c).update(receiver="team"),
        Grade.FAIL,
        "goes to team, team and not to promheal; `promheal config alertmanager` prints the route",
    ),
    "other labels": (
        lambda c: _route(c).update(matchers=['service!=""']),
        Grade.FAIL,
        "`promheal config alertmanager` prints the route",
    ),
    "another route before it": (
        lambda c: c["route"]["routes"].insert(0, {"receiver": "team"}),
        Grade.FAIL,
        "`promheal config alertmanager` prints the route",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_is_told_with_its_remedy(tmp_path: Path, promheal: Promheal, name: str) -> None:
    """And the remedy, followed word for word, leaves nothing to say."""
    spoil, state, remedy = WRONG[name]
    config = right(promheal.url)
    spoil(config)
    ((found, detail),) = ill(examined(tmp_path, config))
    assert found is state
    assert remedy in detail
    if "write `" in detail:
        written = yaml.safe_load(detail.partition("write `")[2].partition("`")[0])
        of_hook = written.keys() & {"max_alerts", "send_resolved"}
        (_hook(config) if of_hook else _route(config)).update(written)
        assert ill(examined(tmp_path, config)) == []


def test_a_wrong_path_or_port_is_found_where_alertmanager_shows_it(
    tmp_path: Path, promheal: Promheal, hides: bool
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for url, state, remedy in (
        (f"{promheal.url}/alerts", Grade.FAIL, f"write `url: {promheal.url}/webhook`"),
        (f"{nobody}/webhook", Grade.WARN, "mend host and port in `url:`"),
        (f"{nobody}/alerts", Grade.FAIL, "what answers there is not promheal; mend `url:`"),
    ):
        config = right(promheal.url)
        _hook(config)["url"] = url
        found = examined(tmp_path, config)
        if hides:
            assert any("`promheal doctor --send-test-alert` shows" in f.detail for f in found)
            continue
        assert (state, True) in [(s, remedy in detail) for s, detail in ill(found)], url
        if "write" in remedy:
            _hook(config).update(yaml.safe_load(remedy.partition("`")[2].rstrip("`")))
            assert ill(examined(tmp_path, config)) == []


def test_a_webhook_of_people_is_none_of_ours(tmp_path: Path, promheal: Promheal) -> None:
    config = right(promheal.url)
    with Listener() as people:
        url = f"{address(people)}/page"
        config["receivers"][1]["webhook_configs"] = [{"url": url, "max_alerts": 7}]
        assert ill(examined(tmp_path, config)) == []
        assert people.paths == []


def test_a_password_in_a_webhooks_url_is_not_shown(
    tmp_path: Path, promheal: Promheal, hides: bool
) -> None:
    config = right(promheal.url.replace("http://", "http://u:s3cr3t@"))
    found = examined(tmp_path, config)
    assert ill(found) == []
    assert not any("s3cr3t" in each.detail for each in found)


def test_remedies_are_for_all_strategies_of_a_route(tmp_path: Path, promheal: Promheal) -> None:
    other = {
        **STRATEGIES["nginx-down"],
        "match": ['alertname="NginxDown"', 'pod!=""'],
        "target": ["pod"],
    }
    both = {**STRATEGIES, "other": other}
    config = right(promheal.url)
    ((_, detail),) = ill(examined(tmp_path, config, both))
    named = detail.partition("write `group_by: [")[2].partition("]")[0].split(", ")
    assert set(named) == {"alertname", "instance", "pod"}
    _route(config)["group_by"] = named
    assert ill(examined(tmp_path, config, both)) == []


# -- doctor --send-test-alert


def sent(
    folder: Path, alertmanager: str, promheal: Promheal, *more: str
) -> tuple[int, dict[str, Any], str]:
    write(folder, alertmanager)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "receiver", "doctor", "-o", "json", "--send-test-alert"),
            f"--config.file={folder}/promheal.yml",
            f"--storage.url=sqlite:///{folder}/journal.db",
            f"--url={promheal.url}",
            *more,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    found = json.loads(done.stdout)["findings"][0] if done.stdout else {}
    return done.returncode, found, done.stderr


def quick(url: str) -> dict[str, Any]:
    config = right(url)
    for route in config["route"]["routes"]:
        route.update(group_wait="0s", group_interval="1s")
    return config


def test_a_test_alert_arrives_twice_is_decided_by_nobody_and_ends(
    tmp_path: Path, promheal: Promheal
) -> None:
    with start_alertmanager(tmp_path / "am", config=quick(promheal.url)) as alertmanager:
        for _ in range(2):
            code, found, told = sent(tmp_path, alertmanager.url, promheal, "--yes")
            assert (code, found["state"]) == (0, "ok"), (found, told)
            assert 'promheal="test"' in found["detail"]
            assert found["detail"].endswith(" s by promheal")
            assert "  promheal (webhook)\n  team (tells nobody)\n" in told
        asked = Alertmanager(AlertmanagerSettings(url=alertmanager.url))
        wait_until(lambda: not asked.alerts(), what="it has ended")
    status = promheal.get("/api/status")
    assert status["lastTestAlert"]["id"] in found["detail"]
    assert status["lastTestAlert"]["receiver"] == "promheal"
    assert status["alerts"]["firing"] == 0
    assert promheal.runs() == []
    assert promheal.get("/api/decisions")["decisions"] == []


def test_it_says_who_took_what_does_not_arrive(tmp_path: Path, promheal: Promheal) -> None:
    config = quick(promheal.url)
    _route(config)["receiver"] = "team"
    with start_alertmanager(tmp_path / "am", config=config) as alertmanager:
        code, found, _ = sent(tmp_path, alertmanager.url, promheal, "--yes")
        assert Alertmanager(AlertmanagerSettings(url=alertmanager.url)).alerts() == ()
    assert code == 1
    assert "was not sent: Alertmanager would take it to team (tells nobody)" in found["detail"]
    assert "`promheal config alertmanager` prints the route" in found["detail"]


@pytest.mark.slow
def test_a_webhook_that_leads_elsewhere_is_told_apart_from_one_that_fails(
    tmp_path: Path, promheal: Promheal
) -> None:
    config = quick(f"http://127.0.0.1:{free_port()}")
    with start_alertmanager(tmp_path / "am", config=config) as alertmanager:
        code, found, _ = sent(tmp_path, alertmanager.url, promheal, "--yes")
        asked = Alertmanager(AlertmanagerSettings(url=alertmanager.url))
        wait_until(lambda: not asked.alerts(), what="it has ended")
    assert code == 1
    assert (
        "did not arrive within 11 s; Alertmanager took it to promheal (webhook)"
        in (found["detail"])
    )
    assert "notifications by webhooks failed: mend `url:`" in found["detail"]
    with Listener() as other:
        config = quick(address(other))
        with start_alertmanager(tmp_path / "other", config=config) as alertmanager:
            code, found, _ = sent(tmp_path, alertmanager.url, promheal, "--yes")
    assert code == 1
    assert "its webhook leads to something else than this promheal" in found["detail"]


def test_a_silence_is_named(tmp_path: Path, promheal: Promheal) -> None:
    with start_alertmanager(tmp_path / "am", config=quick(promheal.url)) as alertmanager:
        asked = Alertmanager(AlertmanagerSettings(url=alertmanager.url))
        identity = asked.silence(
            {"alertname": "NginxDown"},
            starts_at=0, ends_at=4e9, created_by="a", comment="b",
        )  # fmt: skip
        code, found, _ = sent(tmp_path, alertmanager.url, promheal, "--yes")
    assert code == 1
    assert f"Alertmanager keeps it to itself, by {identity} (a silence" in found["detail"]


def test_nothing_is_sent_that_nobody_agreed_to(tmp_path: Path, promheal: Promheal) -> None:
    with start_alertmanager(tmp_path / "am", config=quick(promheal.url)) as alertmanager:
        code, _, told = sent(tmp_path, alertmanager.url, promheal)
        assert code == 2
        assert "  promheal (webhook)" in told
        assert "there is no terminal to ask on; --yes sends it all the same" in told
        code, _, told = sent(tmp_path, alertmanager.url, promheal, "--yes", "--strategy=none")
        assert (code, "there is no strategy 'none'; known: nginx-down" in told) == (2, True)
        nobody = f"http://127.0.0.1:{free_port()}"
        code, _, told = sent(tmp_path, alertmanager.url, promheal, "--yes", f"--url={nobody}")
        assert code == 2
        assert "is `promheal serve` running there?" in told
        assert Alertmanager(AlertmanagerSettings(url=alertmanager.url)).alerts() == ()


def test_on_a_terminal_it_asks_before_it_sends(tmp_path: Path, promheal: Promheal) -> None:
    with start_alertmanager(tmp_path / "am", config=quick(promheal.url)) as alertmanager:
        write(tmp_path, alertmanager.url)
        before = promheal.get("/api/status")["lastTestAlert"]
        said = typed(tmp_path, promheal, b"n\n")
        assert "Send it? [y/N]" in said
        assert promheal.get("/api/status")["lastTestAlert"] == before
        said = typed(tmp_path, promheal, b"y\n")
        assert "arrived in" in said
        assert promheal.get("/api/status")["lastTestAlert"] != before


def typed(folder: Path, promheal: Promheal, answer: bytes) -> str:
    """Call it on a terminal, type *answer*, and return what the terminal shows."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "receiver", "doctor", "--send-test-alert"),
            f"--config.file={folder}/promheal.yml",
            f"--storage.url=sqlite:///{folder}/journal.db",
            f"--url={promheal.url}",
        ],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.write(ours, answer)  # the terminal keeps it until it is read
        shown = b""
        with suppress(OSError):  # that nobody holds the other end any more
            while chunk := os.read(ours, 4096):
                shown += chunk
        process.wait(timeout=60)
    os.close(ours)
    return shown.decode()
