"""What is said in each state of trouble: the table of docs/reference/states.md, state by state.

Each is brought about in a real promheal, with a real Prometheus and Alertmanager to ask, and
everything that tells of it is looked at: the command, the API, the metrics, the shipped rules over
them, and the log. With STATES=write in the environment the page is written anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from receiver.reporting.needs.need import NeedReason
from tests.acceptance.disk import disk
from tests.acceptance.server import PATIENCE, Promheal, ask, notification, only_in_a_file, strategy
from tests.acceptance.terminal import Ward, ward_in
from tests.chain import free_port, start_alertmanager, wait_until
from tests.tools import REPOSITORY, tool

PAGE: Final = REPOSITORY / "docs/reference/states.md"
RULES: Final = REPOSITORY / "rules/promheal.yml"
HEAD: Final = "| state | `promheal status` | `reason` of the API | metric | rule | log |"
FALSE: Final = {"action": "command", "argv": ["/bin/false"]}
TRUE: Final = {"action": "command", "argv": ["/bin/true"]}
SOON: Final = {"within": "1s", "settle": "1s", "at_most": "2s"}
SAID: Final = "needs a person: "
"""Before the title, in the log."""
TOKEN: Final = "of-olga-and-nobody-else"
UNTOLD: Final = "http://127.0.0.1:{}"
LOOKED_AT: Final = (10, 45, 300, 1_500)
"""Minutes after the state has begun at which the rules are asked: each has another `for`."""


class Place:
    """A promheal beside a Prometheus that knows who is ill, and an Alertmanager."""

    def __init__(self, folder: Path, ward: Ward, alertmanager: str, stack: ExitStack) -> None:
        self.folder = folder
        self.ward = ward
        self.alertmanager = alertmanager
        self.stack = stack
        self.server: Promheal

    def start(
        self,
        *actions: dict[str, Any],
        settings: dict[str, Any] | None = None,
        web: dict[str, Any] | None = None,
        arguments: tuple[str, ...] = (),
        disk_full: bool = False,
        **keys: Any,
    ) -> None:
        what = {"heal": strategy(*actions, match="Sick", **{**KEYS, **keys})} if actions else {}
        given = {
            "prometheus": {"url": self.ward.prometheus},
            "alertmanager": {"url": self.alertmanager},
            **(settings or {}),
        }
        more: dict[str, Any] = {}
        if disk_full:
            where = self.stack.enter_context(disk(self.folder / "disk", "tmpfs"))
            more["journal"] = where.folder / "journal.db"
            self.fill = where.fill
        if web is not None:
            more |= {"web": web, "token": TOKEN}
        self.server = Promheal(self.folder / "promheal", what, **more, **given)
        if disk_full:
            self.server.within = where.entrance
        self.server.arguments += arguments
        self.stack.enter_context(self.server)

    def infect(self, *services: str) -> None:
        assert self.server.post(*self.ward.infect(*services)).status == 202

    def status(self) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "receiver", "status", "--url", self.server.url],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "PROMHEAL_TOKEN": self.server.token, "COLUMNS": "200"},
        )
        return done.returncode, done.stdout

    def needs(self, reason: NeedReason) -> list[dict[str, Any]]:
        found = self.server.get("/api/status")["needs"]
        return [need for need in found if need["reason"] == reason]

    def reload(self) -> None:
        self.server.ask("/-/reload", b"")


KEYS: Final[dict[str, Any]] = {"target": ["service"], "grace_period": "1h", "verify": SOON}


class Case(NamedTuple):
    title: str
    reason: NeedReason
    begin: Callable[[Place], None]
    metric: str
    """A metric with its labels, whose value is shown."""
    rule: str = ""
    """The alert about promheal that fires; another one or none is an error."""


def failed(place: Place) -> None:
    place.start(FALSE, settings=calm())
    place.infect("a")
    place.server.finished("heal")
    place.infect("b")


def ineffective(place: Place) -> None:
    place.start(TRUE, settings=calm(), verify={"within": "1s", "settle": "1s", "at_most": "30s"})
    alerts = place.ward.infect("a", "b")
    # Of a series with one sample nobody knows how often it is scraped.
    time.sleep(3)
    for alert in alerts:
        assert place.server.post(alert).status == 202
        place.server.finished("heal", alerts.index(alert) + 1)


def approval(place: Place) -> None:
    place.start(TRUE, mode="approve")
    place.infect("a")


def storm(place: Place) -> None:
    place.start(
        {"action": "wait", "duration": "1h"}, settings={"engine": {"storm": {"targets": 1}}}
    )
    place.infect("a", "b")


def breaker(place: Place) -> None:
    place.start(FALSE, breaker={"failures": 1, "open_for": "1h"})
    place.infect("a")


def permanent(place: Place) -> None:
    place.start(FALSE, breaker={"failures": 1, "permanent_after": 1})
    place.infect("a")


def dormant(place: Place) -> None:
    place.start(FALSE, settings={"engine": {"dormant_after": 1}})
    place.infect("a")


def paused(place: Place) -> None:
    place.start(TRUE)
    pause = json.dumps({"reason": "the database is being moved"}).encode()
    assert place.server.ask("/api/system/heal/pause", pause).status == 201


def prometheus_down(place: Place) -> None:
    place.start(TRUE, settings={"prometheus": {"url": f"http://127.0.0.1:{free_port()}"}})


def alertmanager_down(place: Place) -> None:
    place.start(TRUE, settings={"alertmanager": {"url": f"http://127.0.0.1:{free_port()}"}})


def disk_full(place: Place) -> None:
    only_in_a_file("it is the disk of a file that is full")
    place.start(TRUE, disk_full=True)
    place.fill()
    others = [{"labels": {"alertname": f"X{n}"}, "status": "firing"} for n in range(2_000)]

    def refused() -> bool:
        return place.server.deliver(json.dumps(notification(*others)).encode()).status == 503

    wait_until(refused, within=PATIENCE, what="it cannot store")


def wrong_token(place: Place) -> None:
    place.start(TRUE, web={"bearer_tokens": [{
        "name": "olga", "role": "operator", "sha256": sha256(TOKEN.encode()).hexdigest(),
    }]})  # fmt: skip
    for _ in range(3):
        body = json.dumps(notification()).encode()
        assert ask(f"{place.server.url}/webhook", body, token="of-somebody-else").status == 401


def broken_reload(place: Place) -> None:
    place.start(TRUE)
    (place.server.folder / "healing_strategies.yml").write_text("strategies: {heal: {}}\n")
    assert place.server.ask("/-/reload", b"").status != 200


def dry_run(place: Place) -> None:
    place.start(TRUE, arguments=("--dry-run",))


def no_strategy(place: Place) -> None:
    place.start()


def calm() -> dict[str, Any]:
    """Two failures are no reason to stop."""
    return {"engine": {"backoff": {"first": "50ms", "most": "50ms"}}}


_N = NeedReason
CASES: Final = (
    Case("A heal failed", _N.FAILED, failed,
         'promheal_heals_total{outcome="failed",strategy="heal"}', "PromhealHealsFailing"),
    Case("A heal changed nothing", _N.INEFFECTIVE, ineffective,
         'promheal_heals_total{outcome="ineffective",strategy="heal"}', "PromhealHealsIneffective"),
    Case("An approval is asked for", _N.AWAITING_APPROVAL, approval,
         "promheal_approvals_pending", "PromhealApprovalPending"),
    Case("A storm", _N.STORM, storm, 'promheal_storm_active{strategy="heal"}', "PromhealStorm"),
    Case("A breaker is open", _N.BREAKER_OPEN, breaker,
         'promheal_breaker_state{breaker="strategy:heal",state="OPEN"}', "PromhealBreakerOpen"),
    Case("A breaker is open for good", _N.BREAKER_PERMANENT_OPEN, permanent,
         'promheal_breaker_state{breaker="strategy:heal",state="PERMANENT_OPEN"}',
         "PromhealBreakerPermanentlyOpen"),
    Case("Dormant", _N.DORMANT, dormant, "promheal_dormant", "PromhealDormant"),
    Case("Paused", _N.PAUSED, paused, 'promheal_pauses{scope="all"}', "PromhealPaused"),
    Case("Prometheus is down", _N.UPSTREAM_DOWN, prometheus_down,
         'promheal_upstream_up{upstream="prometheus"}', "PromhealUpstreamDown"),
    Case("Alertmanager is down", _N.UPSTREAM_DOWN, alertmanager_down,
         'promheal_upstream_up{upstream="alertmanager"}', "PromhealUpstreamDown"),
    Case("The disk is full", _N.JOURNAL_NOT_WRITABLE, disk_full,
         "promheal_journal_writable", "PromhealJournalNotWritable"),
    Case("Alertmanager has a wrong token", _N.NOTIFICATIONS_REFUSED, wrong_token,
         'promheal_notifications_total{code="401"}', "PromhealNotificationsRefused"),
    Case("A reload was refused", _N.RELOAD_FAILED, broken_reload,
         "promheal_config_last_reload_successful", "PromhealConfigReloadFailed"),
    Case("Dry run", _N.DRY_RUN, dry_run, "promheal_dry_run", "PromhealDryRun"),
    Case("No strategy", _N.NO_STRATEGY, no_strategy,
         'promheal_strategies{mode="auto"}', "PromhealNoStrategy"),
)  # fmt: skip


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("alertmanager")
    with start_alertmanager(folder, webhook=UNTOLD.format(free_port())) as running:
        yield running.url


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with ward_in(tmp_path_factory.mktemp("ward")) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path, ward: Ward, alertmanager: str) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, ward, alertmanager, stack)
    for ill in ward.ill.iterdir():
        ill.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title.replace(" ", "-"))
def test_each_state_says_what_it_is_everywhere(place: Place, case: Case) -> None:
    case.begin(place)
    (need, *_) = wait_until(
        lambda: place.needs(case.reason), within=PATIENCE, what=f"{case.reason} is told"
    )
    if case.rule in {"PromhealHealsFailing", "PromhealHealsIneffective"}:
        wait_until(lambda: len(place.needs(case.reason)) == 2, within=PATIENCE, what="both ended")
    place.reload()  # which looks at once, and not within half a minute
    wait_until(lambda: logged(place.server, need["title"]), within=PATIENCE, what="it is logged")

    code, said = place.status()
    assert code == 1
    assert f"{need['severity'].upper()}: {need['title']}" in said
    assert f"$ {need['command']}" in said
    assert need["title"] in place.server.ask("/").body.replace("&#34;", '"')
    metrics = exposed(place.server)
    assert metrics[f'promheal_needs{{severity="{need["severity"]}"}}'] > 0
    assert case.rule in fired(metrics)
    row = [
        case.title,
        f"`{need['severity'].upper()}: {need['title']}`<br>`{need['command']}`",
        f"`{need['reason']}`",
        f"`{case.metric} {metrics[case.metric]:g}`",
        f"[{case.rule}](../runbooks/{case.rule}.md)",
        f"`{SAID}{need['title']}`",
    ]
    compared(row)


def test_healthy_is_said_of_nothing_else(place: Place) -> None:
    place.start(TRUE)
    wait_until(
        lambda: len(place.server.get("/api/status")["upstreams"]) == 2,
        within=PATIENCE,
        what="both were asked",
    )

    status = place.server.get("/api/status")

    assert (status["status"], status["needs"]) == ("healthy", [])
    assert place.status()[0] == 0
    assert fired(exposed(place.server)) <= {"PromhealHeartbeatMissing", "PromhealWatchdog"}


def test_the_page_has_a_row_for_each_state_and_every_reason() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert list(rows(text)) == [case.title for case in CASES]
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert listed == list(NeedReason)


def exposed(server: Promheal) -> dict[str, float]:
    """The metrics that are numbers, by their names as Prometheus writes them."""
    found = {}
    for (name, labels), value in server.metrics().items():
        listed = ",".join(f"{key}={json.dumps(one)}" for key, one in sorted(labels))
        if not isnan(value):
            found[f"{name}{{{listed}}}" if listed else name] = value
    return found


def fired(metrics: dict[str, float]) -> set[str]:
    """Which of the shipped alerts fire when it stays so, after a quiet hour without a need."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    alerts = [one["alert"] for group in rules["groups"] for one in group["rules"] if "alert" in one]
    series = [
        {"series": with_job(name), "values": course(name, now)} for name, now in metrics.items()
    ]
    series.append({"series": 'up{job="promheal",instance="a"}', "values": "1x1700"})
    test = {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": f"{60 + minutes}m", "alertname": name, "exp_alerts": []}
            for minutes in LOOKED_AT
            for name in alerts
        ],
    }
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    done = subprocess.run(
        [tool("promtool"), "test", "rules", "/dev/stdin"],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return set(re.findall(r"alertname: ?(\w+)", done.stdout + done.stderr))


def course(name: str, now: float) -> str:
    """An hour as before the state, and a day of it.

    Counters have moved once, but Alertmanager sends what is refused again; and ages grow.
    """
    if name.endswith("_oldest_seconds") and now:
        return "0x60 0+60x1600"
    if name.startswith("promheal_notifications_total"):
        return f"0x60 0+{now:g}x1600"
    return f"{0 if '_total' in name else now:g}x60 {now:g}x1600"


def with_job(name: str) -> str:
    metric, brace, labels = name.partition("{")
    job = 'job="promheal",instance="a"'
    return f"{metric}{{{job},{labels}" if brace else f"{metric}{{{job}}}"


def logged(server: Promheal, title: str) -> bool:
    """Whether the log has the need; a number in it is that of the first look."""
    said = server.log.read_text(encoding="utf-8").replace('\\"', '"')
    return re.search(SAID + re.sub(r"\d+", r"\\d+", re.escape(title)), said) is not None


def rows(text: str) -> dict[str, str]:
    table = text.partition(HEAD)[2].partition("\n\n")[0]
    return {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}


def compared(cells: list[str]) -> None:
    """Hold a row to the page's, or write it there."""
    line = "| " + " | ".join(plain(cell) for cell in cells) + " |"
    text = PAGE.read_text(encoding="utf-8")
    written = rows(text)[cells[0]]
    if os.environ.get("STATES") == "write":
        PAGE.write_text(text.replace(written, line), encoding="utf-8")
        return
    assert written == line


def plain(cell: str) -> str:
    """Without what differs each time."""
    cell = re.sub(r"promheal run \d+", "promheal run ID", cell)
    cell = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", cell)
    return re.sub(r"/\S*/(promheal\.yml|healing_strategies\.yml)", r"\1", cell).replace("|", "\\|")
