"""The commands that ask a running server: a real one in this process, and one that misbehaves."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shlex
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
import yaml
from werkzeug.serving import make_server

from receiver.app import Promheal
from receiver.cli import client, main, values
from receiver.cli.called import COMMANDS as CALLED
from receiver.cli.called import called
from receiver.healing.control import MAX_REASON
from receiver.journal import Transaction
from receiver.policy.breaker import MAIN, BreakerEvent, Happening, Thresholds
from receiver.policy.dormancy import Dormancy
from receiver.settings.environment import environment
from receiver.web.access.auth import AuthMiddleware
from receiver.web.access.control import AccessControl
from receiver.web.access.web_config import Role, Token, WebConfig
from receiver.web.flask_app import create_app
from tests.tools import cpu_seconds

Ask = Callable[..., tuple[int, str, str]]

COMMANDS: dict[str, list[str]] = {
    "status": ["status"],
    "alerts": ["alerts"],
    "breakers": ["breakers"],
    "breaker reset": ["breaker", "reset", MAIN, "--reason", "why"],
    "pause": ["pause", "--reason", "why"],
    "resume": ["resume", "--reason", "why"],
    "approve": ["approve", "1", "--reason", "why"],
    "reject": ["reject", "1", "--reason", "why"],
    "cancel": ["cancel", "1", "--reason", "why"],
    "tasks": ["tasks"],
    "tasks list": ["tasks", "list"],
    "tasks pause": ["tasks", "pause"],
    "tasks resume": ["tasks", "resume"],
    "tasks cleanup": ["tasks", "cleanup"],
    "tasks remove": ["tasks", "remove", "resync"],
    "audit": ["audit"],
}
"""Every command that asks, called as simply as it can be."""
EACH = pytest.mark.parametrize("command", list(COMMANDS.values()), ids=list(COMMANDS))


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Call the command line; return exit code, standard output and standard error."""
    for name in environment():
        if name.startswith("PROMHEAL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return call


# --- a real server --------------------------------------------------------------------------------


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve *app* on a free port; yield its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def service(config: Path, make_service: Callable[..., Promheal]) -> Promheal:
    """One that acts, with a strategy beside the log's that asks a person first."""
    path = config / "healing_strategies.yml"
    path.write_text(
        path.read_text()
        + """\
  careful:
    match: ['alertname="Careful"']
    target: [service]
    mode: approve
    actions: [{action: log, message: approved}]
  slow:
    match: ['alertname="Slow"']
    target: [service]
    actions: [{action: wait, duration: 1h}, {action: log, message: late}]
"""
    )
    service = make_service()
    service.start()
    assert service.acting.wait(10)
    return service


@pytest.fixture
def real(service: Promheal, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(create_app(service)) as url:
        monkeypatch.setenv("PROMHEAL_URL", url)
        yield url


def fire(service: Promheal, name: str, target: str = "shop") -> None:
    alert = {
        "status": "firing",
        "labels": {"alertname": name, "service": target},
        "startsAt": "2026-11-22T04:31:42Z",
    }
    answer = create_app(service).test_client().post("/webhook", json={
        "version": "4", "alerts": [alert]
    })  # fmt: skip
    assert answer.status_code == 202


def run_in(service: Promheal, state: str) -> int:
    """The run that is in *state*, once there is one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for run in service.journal.read(lambda t: t.runs(limit=9)):
            if state in {run.state, run.reason}:
                return run.id
        time.sleep(0.01)
    pytest.fail(f"no run is {state}")


def trip(service: Promheal, name: str, times: int) -> None:
    """Have a breaker fail so often that it opens, *times* times; 3 are for good."""
    now = service.clock()

    def write(transaction: Transaction) -> None:
        for number in range(times):
            transaction.happen(
                name,
                Happening(
                    event=BreakerEvent.FAILURE,
                    at=now - 100 + number,
                    started_at=now - 100 + number - 0.5,
                    thresholds=Thresholds(failures=1, open_for=0.1, permanent_after=3),
                ),
            )

    service.journal.atomically(write)


def lull(service: Promheal) -> None:
    dormancy = Dormancy(failures=10, failed_at=0.0, since=86_400.0, reason="Exceeded maximum")
    service.journal.atomically(lambda t: t.put_dormancy(dormancy))


def test_status_of_a_server_that_needs_a_prometheus(ask: Ask, real: str) -> None:
    code, out, err = ask("status")

    assert (code, err) == (1, "")
    rows = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in out.splitlines()}
    assert rows["status"] == "warning"
    assert rows["healing"] == "on"
    assert rows["tasks active"].startswith("3 of 3")
    assert rows["flags"].startswith("auto_healing on, auto_detection on, preventive_healing off")
    assert out.endswith(
        "needs you\n"
        "  WARNING: there is no Prometheus to ask: no heal can be proven\n"
        "      Set prometheus.url in promheal.yml, and reload\n"
        "      $ promheal doctor\n"
    )


def test_status_shows_what_stops_it_and_what_to_do(ask: Ask, real: str, service: Promheal) -> None:
    fire(service, "Careful")
    run_in(service, "awaiting_approval")
    lull(service)
    trip(service, "strategy:latency", 1)
    assert ask("pause", "--reason", "a storm", "--target", 'service="shop"')[0] == 0
    assert ask("tasks", "pause")[0] == 0

    code, out, _ = ask("status")

    assert code == 1
    assert "dormant since 1970-01-02 00:00:00Z: Exceeded maximum" in out
    assert "CRITICAL: Self-Healing Engine in DORMANT mode" in out
    assert "Call POST /api/system/heal/resume with valid reason" in out
    titles = out.split("\n\n")
    assert [part.splitlines()[0] for part in titles[1:]] == [
        "breakers not closed", "pauses", "tasks that do not run as they should", "needs you",
    ]  # fmt: skip
    assert "strategy:latency  HALF_OPEN" in titles[1]
    assert MAIN not in titles[1]
    assert 'target:service="shop"  until resumed' in titles[2]
    assert "a storm" in titles[2]


def test_what_an_older_server_does_not_say_is_as_if_all_were_well(ask: Ask) -> None:
    old = {"status": "warning", "selfHealing": {"enabled": False}, "issues": ["WARNING: off"]}
    with scripted(json.dumps(old)) as server:
        code, out, _ = ask("status", "--url", server.url)

    assert code == 1
    assert "healing                  off" in out
    assert "WARNING: off" in out


def test_status_names_keys_and_services_that_do_not_work(ask: Ask) -> None:
    ill = {
        "status": "critical",
        "selfHealing": {"enabled": True, "consecutiveFailures": 3, "backoffUntil": 86_400.0},
        "llm": {
            "keyManagement": {"totalKeys": 2, "activeKeys": 1, "failedKeys": 1},
            "providers": [
                {"name": "openai", "keys": [
                    {"name": "KEY_A", "state": "active", "detail": ""},
                    {"name": "KEY_B", "state": "failed", "detail": "401"},
                ]},
            ],
        },
        "services": [
            {"name": "shop", "state": "running", "detail": ""},
            {"name": "mail", "state": "stopped", "detail": "exit 1"},
        ],
        "waiting": {"grace_period": 2},
    }  # fmt: skip
    with scripted(json.dumps(ill)) as server:
        _, out, _ = ask("status", "--url", server.url)

    assert "3, nothing begins until 1970-01-02 00:00:00Z" in out
    assert "keys                     1 of 2 active" in out
    assert "keys not active\n  openai  KEY_B  failed  401" in out
    assert "services not running\n  mail  stopped  exit 1" in out
    assert "2 grace_period" in out
    assert "KEY_A" not in out


def test_json_and_yaml_are_the_answer_as_it_is(ask: Ask, real: str) -> None:
    for command in (["status"], ["alerts"], ["breakers"], ["tasks"], ["audit"]):
        as_json = json.loads(ask(*command, "-o", "json")[1])
        as_yaml = yaml.safe_load(ask(*command, "-o", "yaml")[1])
        assert as_json.keys() == as_yaml.keys(), command
    status = json.loads(ask("status", "-o", "json")[1])
    assert status["circuitBreakers"][0]["name"] == MAIN


def test_alerts_are_listed_with_who_would_heal_them_page_by_page(
    ask: Ask, real: str, service: Promheal
) -> None:
    assert ask("alerts") == (0, "nothing fires\n", "")
    fire(service, "HighLatency")
    fire(service, "Nobody's", "mail")

    _, out, _ = ask("alerts", "--limit", "1")
    assert 'latency     HighLatency{service="shop"}' in out
    assert out.splitlines()[-1] == "more: --offset 1"
    _, out, _ = ask("alerts", "--offset", "1")
    assert '-           Nobody\'s{service="mail"}' in out


def test_pause_and_resume_of_everything_of_a_strategy_and_of_a_target(
    ask: Ask, real: str, service: Promheal
) -> None:
    fire(service, "Careful")
    run_in(service, "awaiting_approval")
    for arguments, scope in (
        ([], "all"),
        (["--strategy", "latency"], "strategy:latency"),
        (["--target", 'service="shop"'], 'target:service="shop"'),
    ):
        code, out, _ = ask("pause", "--reason", " a storm ", "--for", "30m", *arguments)
        (pause,) = service.journal.read(lambda t: t.pauses(now=service.clock()))
        assert pause.until is not None
        assert (code, pause.scope, pause.reason) == (0, scope, "a storm")
        assert round(pause.until - pause.since) == 1800
        assert scope in out

        code, out, _ = ask("resume", "--reason", "over", *arguments)
        assert (code, "lifted:" in out, scope in out) == (0, True, True)
        code, _, err = ask("resume", "--reason", "over", *arguments)
        assert (code, "paused" in err) == (1, True), "there is nothing left to end"


def test_a_pause_says_what_it_covers_and_a_resume_what_stays(
    ask: Ask, real: str, service: Promheal
) -> None:
    fire(service, "Slow")
    slow = run_in(service, "waiting")
    fire(service, "Careful")
    careful = run_in(service, "busy")

    code, out, _ = ask("pause", "--reason", "deploy", "--target", "shop")
    assert (code, out.splitlines()[1].split()[0]) == (0, 'target:service="shop"')
    assert out.splitlines()[2:] == [
        "it holds for the strategies: latency, careful, slow",
        'alerts that fire: 2; targets now: service="shop"',
        f"runs that wait, and do not begin: {careful}",
        f"runs under way, which go on: {slow}; promheal cancel ID --reason WHY ends one",
    ]
    code, out, _ = ask("pause", "--reason", "x", "--target", "service=new", "--even-if-unknown")
    assert (code, out.splitlines()[3]) == (0, "nothing of it fires now; it holds for what comes")
    ask("pause", "--reason", "x", "--strategy", "slow")

    code, _, err = ask("resume", "--reason", "done")
    assert code == 1
    problem, *commands = err.splitlines()
    assert 'paused are target:service="shop", target:service="new", strategy:slow: ' in problem
    assert commands == [
        "to lift it:",
        "  promheal resume --target 'service=\"shop\"' --reason WHY",
        "  promheal resume --target 'service=\"new\"' --reason WHY",
        "  promheal resume --strategy slow --reason WHY",
    ]
    code, out, _ = ask("resume", "--reason", "done", "--target", "service=shop")
    assert code == 0
    assert out.split("still paused:")[1].splitlines()[-2:] == [
        "  promheal resume --target 'service=\"new\"' --reason WHY",
        "  promheal resume --strategy slow --reason WHY",
    ]


def test_the_command_that_lifts_a_pause_works_when_it_is_followed(
    ask: Ask, real: str, service: Promheal
) -> None:
    hostile = 'it\'s "a\\b",x={}\x1b[2J\n\u202e$(reboot)`!'
    fire(service, "Careful", hostile)
    number = run_in(service, "awaiting_approval")
    target = service.journal.read(lambda t: t.run(number)).target  # type: ignore[union-attr]
    code, out, _ = ask("pause", "--reason", "x", "--target", target)
    assert (code, "\x1b" in out, "\u202e" in out) == (0, False, False)

    _, _, err = ask("resume", "--reason", "x")
    command = err.splitlines()[-1].replace("WHY", "x")

    assert ask(*shlex.split(command)[1:])[0] == 0
    assert service.journal.read(lambda t: t.pauses(now=service.clock())) == []


def test_what_is_not_known_is_told_with_the_nearest_and_with_the_option(
    ask: Ask, real: str, service: Promheal
) -> None:
    fire(service, "Careful")
    run_in(service, "awaiting_approval")

    code, out, err = ask("pause", "--reason", "x", "--target", "shp")

    assert (code, out) == (1, "")
    assert err == (
        "promheal: no target 'shp' is known; did you mean service=\"shop\"? to pause it all "
        "the same, add --even-if-unknown\n"
    )


def test_an_older_server_does_not_say_what_a_pause_covers(ask: Ask) -> None:
    answer = '{"id": 1, "scope": "all", "reason": "x", "since": 0}'
    with scripted(answer, 201) as server:
        code, out, _ = ask("pause", "--reason", "x", "--url", server.url)
    assert (code, len(out.splitlines())) == (0, 2)
    with scripted('{"dormancyEnded": true, "pausesLifted": []}') as server:
        assert ask("resume", "--reason", "x", "--url", server.url)[:2] == (
            0,
            "dormancy has ended\n",
        )


def test_resume_ends_dormancy(ask: Ask, real: str, service: Promheal) -> None:
    lull(service)

    assert ask("resume", "--reason", "repaired")[:2] == (0, "dormancy has ended\n")
    assert service.journal.read(lambda t: t.dormancy()).since is None


def test_breakers_are_listed_and_reset(ask: Ask, real: str, service: Promheal) -> None:
    strange = 'target:service="a/b?c#d%2F é",zone="..\x1b[31m"'
    trip(service, strange, 3)
    trip(service, MAIN, 1)

    _, out, _ = ask("breakers")
    assert f"{MAIN}" in out
    assert "strategy:latency" in out
    assert "PERMANENT_OPEN  3         3      Exceeded permanent failure threshold" in out
    assert "\x1b" not in out

    code, _, err = ask("breaker", "reset", strange, "--reason", "repaired")
    assert (code, "force" in err, "\x1b" in err) == (1, True, False)
    code, out, _ = ask("breaker", "reset", strange, "--reason", "repaired", "--force")
    assert (code, "CLOSED" in out) == (0, True)
    assert ask("breaker", "reset", MAIN, "--reason", "repaired")[0] == 0
    assert service.journal.read(lambda t: t.breaker(strange)).trips == 0


def test_a_run_that_waits_is_approved_once(ask: Ask, real: str, service: Promheal) -> None:
    fire(service, "Careful")
    number = str(run_in(service, "awaiting_approval"))

    code, out, _ = ask("approve", number, "--reason", "looked at it")
    assert (code, out.split()[5:7]) == (0, [number, "careful"])
    run_in(service, "finished")
    code, _, err = ask("approve", number, "--reason", "once more")
    assert (code, "does not wait for approval" in err) == (1, True)


def test_a_run_that_waits_is_rejected(ask: Ask, real: str, service: Promheal) -> None:
    fire(service, "Careful")
    number = str(run_in(service, "awaiting_approval"))

    code, out, _ = ask("reject", number, "--reason", "not during the sale")

    assert (code, "cancelled" in out, "not during the sale" in out) == (0, True, True)


def test_a_run_that_acts_is_cancelled(ask: Ask, real: str, service: Promheal) -> None:
    fire(service, "Slow")
    number = str(run_in(service, "waiting"))

    assert ask("cancel", number, "--reason", "wrong one")[0] == 0
    run_in(service, "finished")
    code, _, err = ask("cancel", number, "--reason", "wrong one")
    assert (code, "cannot be cancelled" in err) == (1, True)


def test_tasks_are_listed_paused_resumed_removed_and_brought_back(
    ask: Ask, real: str, service: Promheal
) -> None:
    assert ask("tasks")[1] == ask("tasks", "list")[1]
    assert "resync" in ask("tasks")[1]
    assert "paused" in ask("tasks", "pause", "--reason", "looking")[1]
    assert "paused" not in ask("tasks", "resume")[1]
    assert ask("tasks", "remove", "retention", "--reason", "why") == (0, "removed  retention\n", "")
    code, out, _ = ask("tasks", "cleanup")
    assert (code, out.splitlines()[0]) == (0, "registered  retention")
    code, _, err = ask("tasks", "remove", "no such", "--reason", "why")
    assert (code, "no task 'no such'" in err) == (1, True)


def test_the_audit_has_it_all_newest_first_page_by_page(ask: Ask, real: str) -> None:
    assert ask("audit") == (0, "nobody changed anything\n", "")
    ask("pause", "--reason", "one")
    ask("resume", "--reason", "two")

    _, out, _ = ask("audit", "--limit", "1")
    assert out.splitlines()[1].split()[4:7] == ["resume", "all", "two"]
    assert out.splitlines()[-1] == "more: --before 2"
    assert "pause" in ask("audit", "--before", "2")[1]


def test_what_the_server_refuses_is_exit_code_1_and_what_is_no_request_is_2(
    ask: Ask, real: str
) -> None:
    assert ask("approve", "7", "--reason", "x")[0] == 1
    assert ask("breaker", "reset", "no-such", "--reason", "x")[0] == 1
    code, _, err = ask("pause", "--reason", "x", "--strategy", "no-such")
    assert (code, err.startswith("promheal: no strategy 'no-such'")) == (1, True)
    code, _, err = ask("pause", "--reason", "x", "--for", "400d")
    assert (code, "answered 400: for: " in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pause"], "Missing option '--reason'"),
        (["pause", "--reason", "  "], "must not be empty; write why"),
        (["pause", "--reason", "x" * 501], "one line of up to 500 characters"),
        (["pause", "--reason", "two\nlines"], "one line of up to 500 characters"),
        (["pause", "--reason", "\udcff"], "one line of up to 500 characters"),
        (["pause", "--reason", "x", "--for", "soon"], "'soon' is not a duration"),
        (["pause", "--reason", "x", "--for", "0s"], "must be longer than nothing"),
        (["pause", "--reason", "x", "--target", ""], "write web, or service="),
        (["resume", "--reason", "x", "--target", 'service=~"("'], "is no regular expression"),
        (["pause", "--reason", "x", "--strategy", "a", "--target", "b"], "give one of them"),
        (["approve", "0", "--reason", "x"],
         "'0' is no run's number; `promheal runs --state pending` shows them"),
        (["run", "²"], "'²' is no run's number; `promheal runs` shows them"),
        (["runs", "--state", "failed"], "write --outcome failed"),
        (["runs", "--outcome", "pending"], "write --state pending"),
        (["runs", "--outcome", "great"], "'great' is not one of 'healed', 'ineffective'"),
        (["breaker", "reset", "..", "--reason", "x"], "'..' is no name"),
        (["breaker", "reset", "", "--reason", "x"], "'' is no name"),
        (["tasks", "remove", "."], "'.' is no name"),
        (["tasks", "forget"], "No such command 'forget'"),
        (["alerts", "--limit", "501"], "501 is not in the range"),
        (["status", "--user", "ann"], "--user needs --password-file as well"),
        (["status", "--token-file", ""], "--token-file is empty"),
        (["status", "--url", ""], "--url is empty"),
    ],
)  # fmt: skip
def test_a_wrong_call_asks_nobody(ask: Ask, arguments: list[str], says: str) -> None:
    code, out, err = ask(*arguments)

    assert (code, out) == (2, "")
    assert says in err


def test_reasons_are_as_long_as_the_server_takes_them(ask: Ask, real: str) -> None:
    assert values.MAX_REASON == MAX_REASON
    assert ask("pause", "--reason", "é" * MAX_REASON)[0] == 0


# --- who may --------------------------------------------------------------------------------------


@pytest.fixture
def guarded(service: Promheal, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same behind access control: the token `vivi` may look, `olga` may change."""
    tokens = {}
    for name, role in (("vivi", Role.VIEWER), ("olga", Role.OPERATOR)):
        digest = hashlib.sha256(name.encode()).hexdigest()
        tokens[digest] = Token(name=name, sha256=digest, role=role)
    access = AccessControl(lambda: WebConfig(tokens=tokens))
    with serving(AuthMiddleware(create_app(service), access)) as url:
        monkeypatch.setenv("PROMHEAL_URL", url)
        yield url


def test_who_may_look_may_not_change(
    ask: Ask, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMHEAL_TOKEN", "vivi")
    assert ask("status")[0] == 1, "it is asked, and there is no Prometheus"
    code, _, err = ask("pause", "--reason", "x")
    assert (code, err.startswith("promheal: ")) == (1, True)

    monkeypatch.setenv("PROMHEAL_TOKEN", "olga")
    assert ask("pause", "--reason", "x")[0] == 0
    assert "olga" in ask("audit")[1]


def test_401_tells_how_to_say_who_asks(
    ask: Ask, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = ask("status")
    assert (code, out) == (2, "")
    assert f"{guarded} wants to know who asks" in err
    for way in ("--token-file", "--user and --password-file", "PROMHEAL_TOKEN", "config.yml"):
        assert way in err

    monkeypatch.setenv("PROMHEAL_TOKEN", "mallory")
    code, _, err = ask("status")
    assert (code, "does not take these credentials" in err, "mallory" in err) == (2, True, False)


def test_run_and_runs_ask_as_config_yml_says(
    ask: Ask, guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "xdg/promheal"
    folder.mkdir(parents=True)
    (folder / "token").write_text("vivi\n")
    (folder / "config.yml").write_text("bearer_token_file: token\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))

    code, out, err = ask("runs")
    assert (code, out) == (0, "no runs\n")
    assert err == (
        f"promheal: warning: {folder}/token holds a secret, and every user of this machine can "
        f"read it; chmod 600 {folder}/token\n"
    )
    assert ask("run", "7")[0] == 1


# --- a server that misbehaves ---------------------------------------------------------------------


class Scripted(ThreadingHTTPServer):
    """Answers everything with one answer, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, body: str, status: int, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = (body, status, headers)
        self.asked: list[tuple[str, str, dict[str, str], str]] = []
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A failed handshake is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, body))
        text, status, more = self.server.answer
        time.sleep(self.server.delay)
        raw = text.encode("utf-8", "surrogatepass")
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_DELETE = _do  # noqa: N815  http.server's names

    def log_message(self, *_: Any) -> None:
        """Be silent."""


@contextmanager
def scripted(
    body: str = "{}", status: int = 200, *, tls: ssl.SSLContext | None = None, **headers: str
) -> Iterator[Scripted]:
    with Scripted(body, status, headers) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def refusal(message: str, code: str = "x") -> str:
    return json.dumps({"error": {"code": code, "message": message}})


@pytest.mark.parametrize(
    ("status", "body", "code", "says"),
    [
        (403, refusal("an operator may"), 1, "promheal: an operator may\n"),
        (404, refusal("not there"), 1, "promheal: not there\n"),
        (409, refusal("not now"), 1, "promheal: not now\n"),
        (409, "", 2, "answered 409, and not as promheal does; --url says where"),
        (401, "", 2, "give credentials with --token-file"),
        (400, refusal("the body: x"), 2, "answered 400: the body: x\n"),
        (415, refusal("json"), 2, "answered 415: json\n"),
        (429, refusal("later"), 2, "answered 429: later\n"),
        (500, refusal("our mistake"), 2, "answered 500: our mistake\n"),
        (502, "<html>", 2, "answered 502, and not as promheal does"),
        (200, "<html>", 2, "and not as promheal does; --url says where promheal listens"),
        (200, "NaN", 2, "and not as promheal does"),
        (200, "[" * 100_000, 2, "and not as promheal does"),
        (401, "<title>Sign in \x1b[2J</title>", 2, "wants to know who asks; give credentials"),
        (200, "<!doctype html><title>Sign in \x1b[2J</title>", 2, "does: it says 'Sign in "),
        (400, "Client sent an HTTP request to an HTTPS server.\n", 2, "request to an HTTPS server"),
        (404, refusal("none", "no_such_path"), 2, "is promheal, and has no /api/breakers: --url"),
        (200, '["not an object"]', 2, "in words of another version"),
        (404, refusal("\x1b[2J\u202eevil\nline"), 1, r"\u001b[2J\u202eevil\u000aline"),
        (500, refusal("x" * 5000), 2, f": {'x' * 1000}\n"),
        (404, '{"error": "text"}', 2, "answered 404, and not as promheal does"),
        (404, refusal("no run 7; GET /api/runs lists them"), 1, "7; `promheal runs` lists them\n"),
        (409, refusal("it needs force: true and a reason"), 1, "it needs --force and a reason\n"),
    ],
)  # fmt: skip
def test_what_the_server_answered_is_told(
    ask: Ask, status: int, body: str, code: int, says: str
) -> None:
    with scripted(body, status) as server:
        ended, out, err = ask("breakers", "--url", server.url)

    assert (ended, out) == (code, "")
    assert says in err
    assert "\x1b" not in err
    assert [path for _, path, _, _ in server.asked].count("/api/breakers") == 1


@EACH
def test_every_command_takes_every_answer(ask: Ask, command: list[str]) -> None:
    for status, body, code, says in (
        (403, refusal("an operator may"), 1, "promheal: an operator may"),
        (503, refusal("full"), 2, "answered 503: full"),
        (200, "<html>", 2, "and not as promheal does"),
        (200, '["not an object"]', 2, "in words of another version"),
        (200, '{"audit": null, "tasks": 1, "alerts": [1], "status": 5}', 2, "of another version"),
    ):
        with scripted(body, status) as server:
            ended, out, err = ask(*command, "--url", server.url)

        assert (ended, out, says in err) == (code, "", True), err


@EACH
def test_a_redirect_is_told_and_not_followed(
    ask: Ask, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMHEAL_TOKEN", "secret")
    for status in (301, 302, 303, 307, 308):
        with scripted() as there, scripted("", status, Location=there.url + "/x\x85") as here:
            code, _, err = ask(*command, "--url", here.url)

            assert (code, there.asked) == (2, [])
            assert f"answered {status}: it is elsewhere, at {there.url}/x" in err
            assert "give the right --url" in err
            assert "secret" not in err


@pytest.mark.parametrize(
    ("command", "method", "path", "body"),
    [
        (["alerts", "--limit", "7"], "GET", "/api/alerts?limit=7", ""),
        (["audit", "--before", "9"], "GET", "/api/audit?limit=20&before=9", ""),
        (["breaker", "reset", 'target:a="b/c"', "--reason", "x"], "POST",
         "/api/breakers/target%3Aa%3D%22b%2Fc%22/reset", '{"reason":"x"}'),
        (["breaker", "reset", "é%2e \udcff", "--reason", "x", "--force"], "POST",
         "/api/breakers/%C3%A9%252e%20%FF/reset", '{"reason":"x","force":true}'),
        (["pause", "--reason", "x", "--for", "90m"], "POST", "/api/system/heal/pause",
         '{"reason":"x","scope":"all","for":"1h30m"}'),
        (["pause", "--reason", "x"], "POST", "/api/system/heal/pause",
         '{"reason":"x","scope":"all"}'),
        (["resume", "--reason", "x", "--target", "t"], "POST", "/api/system/heal/resume",
         '{"reason":"x","scope":"target:t"}'),
        (["cancel", "5", "--reason", "x"], "POST", "/api/runs/5/cancel", '{"reason":"x"}'),
        (["tasks", "remove", "a:b", "--reason", "x&y"], "DELETE",
         "/api/tasks/a%3Ab?reason=x%26y", "{}"),
        (["tasks", "cleanup"], "POST", "/api/tasks/cleanup", "{}"),
    ],
)  # fmt: skip
def test_requests_are_as_the_api_has_them(
    ask: Ask, command: list[str], method: str, path: str, body: str
) -> None:
    with scripted("{}", 404) as server:
        ask(*command, "--url", server.url + "/promheal/")

    asked_method, asked_path, headers, asked_body = server.asked[0]
    assert (asked_method, asked_path, asked_body) == (method, f"/promheal{path}", body)
    assert headers.get("content-type") == (None if method == "GET" else "application/json")
    assert headers["user-agent"] == "promheal"
    assert "authorization" not in headers


def test_the_environment_adds_no_proxy_and_no_netrc(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    with scripted("{}", 404) as server:
        assert ask("tasks", "--url", server.url)[0] == 2

    assert all("authorization" not in headers for _, _, headers, _ in server.asked)


def test_user_and_password_are_sent_as_such(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("pass\n")
    path.chmod(0o600)

    with scripted("{}", 404) as server:
        ask("tasks", "--url", server.url, "--user", "ann", "--password-file", str(path))

    assert server.asked[0][2]["authorization"] == "Basic YW5uOnBhc3M="
    assert all("authorization" not in headers for _, _, headers, _ in server.asked[1:]), (
        "a stranger"
    )


def test_nobody_there_is_told_with_what_to_do(ask: Ask) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as held:
        port = held.getsockname()[1]

    code, _, err = ask("status", "--url", f"http://127.0.0.1:{port}")

    assert code == 2
    assert err == (
        f"promheal: http://127.0.0.1:{port}: Connection refused; is `promheal serve` running "
        "there? --url says where to ask\n"
    )


def test_a_name_that_nobody_knows_is_told(ask: Ask) -> None:
    code, _, err = ask("status", "--url", "http://no-such-host.invalid")

    assert (code, "Traceback" in err) == (2, False)
    assert err.startswith("promheal: http://no-such-host.invalid: ")


@pytest.mark.parametrize("command", [["status"], ["pause", "--reason", "x"]])
def test_a_silent_server_is_not_waited_for_for_ever(
    ask: Ask, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.Server.__init__, "__kwdefaults__", {"timeout": 0.2})
    with scripted() as server:
        server.delay = 1.0
        code, _, err = ask(*command, "--url", server.url)

    assert code == 2
    assert f"{server.url}: no answer within 0.2s" in err
    changes = command[0] == "pause"
    assert ("it may have been done all the same, `promheal audit` tells" in err) == changes


def test_an_answer_that_drips_ends_at_the_deadline(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.Server.__init__, "__kwdefaults__", {"timeout": 0.5})
    done = threading.Event()

    def drip(environ: Any, start: Any) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "application/json")])
        for _ in range(50):
            if not done.wait(0.1):
                yield b" "

    with serving(drip) as url:
        begun = time.monotonic()
        code, _, err = ask("status", "--url", url)
        took = time.monotonic() - begun
        done.set()

    assert (code, "no answer within 0.5s" in err) == (2, True)
    assert took < 3


def test_an_answer_without_end_is_not_kept(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER", 1 << 20)
    with scripted("x" * ((1 << 20) + 1)) as server:
        code, _, err = ask("status", "--url", server.url)

    assert (code, "the answer is larger than 1 MiB" in err) == (2, True)


def test_a_connection_that_is_cut_off_is_told(ask: Ask) -> None:
    with scripted("{}") as server:
        server.answer = ("{}", 200, {"Content-Length": "100"})
        code, _, err = ask("status", "--url", server.url)

    assert (code, "Traceback" in err) == (2, False)
    assert err.startswith(f"promheal: {server.url}: ")


@pytest.mark.parametrize(
    "labels", [{"alertname": "\x1b]0;evil\x07", "n": "\u202e"}, {"alertname": "a\nb\rc"}]
)
def test_what_arrived_in_alerts_does_not_steer_the_terminal(
    ask: Ask, labels: dict[str, str]
) -> None:
    alert = {"labels": labels, "startsAt": 0.0, "lastSeen": 0.0, "strategies": []}
    with scripted(json.dumps({"alerts": [alert], "next": None})) as server:
        code, out, _ = ask("alerts", "--url", server.url)

    assert code == 0
    assert len(out.splitlines()) == 2
    assert not set("\x1b\x07\r\u202e") & set(out)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine = authority.issue_cert("ann@example")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "ann.crt")
    mine.private_key_pem.write_to_path(tmp_path / "ann.key")
    (tmp_path / "ann.key").chmod(0o600)
    return authority


def context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(made)
    return made


HEALTHY = json.dumps({"status": "healthy", "selfHealing": {"enabled": True}})


def test_tls_with_the_ca_that_is_named(ask: Ask, authority: trustme.CA, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    with scripted(HEALTHY, tls=context(authority)) as server:
        url = server.url.replace("http:", "https:")
        code, _, err = ask(
            "status", "--url", url, "--ca-file", str(tmp_path / "ca.pem"),
            "--token-file", str(token),
        )  # fmt: skip

    assert (code, err) == (0, "")
    assert server.asked[0][2]["authorization"] == "Bearer secret"


def test_a_certificate_that_is_not_trusted_gets_no_credentials(
    ask: Ask, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMHEAL_TOKEN", "secret")
    # What makes other programs trust it counts for nothing here.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with scripted(HEALTHY, tls=context(authority)) as server:
        code, _, err = ask("status", "--url", server.url.replace("http:", "https:"))

    assert (code, server.asked) == (2, [])
    assert "its certificate is not trusted: " in err
    assert "--ca-file names the certificates that sign the server's" in err


def test_a_certificate_for_another_name_is_told(
    ask: Ask, authority: trustme.CA, tmp_path: Path
) -> None:
    for name, url in (("127.0.0.2", "127.0.0.1"), ("heal.example", "localhost")):
        with scripted(HEALTHY, tls=context(authority, name)) as server:
            code, _, err = ask(
                "status", "--url", f"https://{url}:{server.server_port}",
                "--ca-file", str(tmp_path / "ca.pem"),
            )  # fmt: skip

        assert (code, server.asked) == (2, [])
        assert "--url must name the server as its certificate does" in err


def test_a_client_certificate_is_shown_to_who_wants_one(
    ask: Ask, authority: trustme.CA, tmp_path: Path
) -> None:
    wanting = context(authority)
    wanting.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(wanting)
    with scripted(HEALTHY, tls=wanting) as server:
        call = [
            "status", "--url", server.url.replace("http:", "https:"),
            "--ca-file", str(tmp_path / "ca.pem"),
        ]  # fmt: skip
        pair = ["--cert-file", str(tmp_path / "ann.crt"), "--key-file", str(tmp_path / "ann.key")]
        assert ask(*call, *pair)[0] == 0
        code, _, err = ask(*call)

    assert (code, len(server.asked)) == (2, 1)
    assert "it may want --cert-file and --key-file" in err, err


def test_http_and_https_that_are_mixed_up_are_told(ask: Ask, authority: trustme.CA) -> None:
    with scripted(HEALTHY) as server:
        code, _, err = ask("status", "--url", server.url.replace("http:", "https:"))
    assert (code, "if the server speaks none, write http://" in err) == (2, True)

    with scripted(HEALTHY, tls=context(authority)) as server:
        code, _, err = ask("status", "--url", server.url)
    assert (code, "https:// if it speaks TLS" in err) == (2, True)


# --- its own words --------------------------------------------------------------------------------


def test_what_the_api_names_has_a_command() -> None:
    """Its messages say `GET /api/runs lists them`; here the command is named."""
    named = set(re.findall(r"GET /api/\w+", "".join(_messages())))
    named |= {f"GET /api/{one}" for one in re.findall(r'among="(\w+)"', "".join(_sources()))}
    assert len(named) >= 3
    assert named <= set(CALLED)
    assert "GET" not in called("; ".join(named))


def _sources() -> Iterator[str]:
    for path in Path("receiver").rglob("*.py"):
        yield path.read_text()


def _messages() -> Iterator[str]:
    """What the server raises, as its source has it."""
    for source in _sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Raise) and node.exc is not None:
                yield from (
                    one.value
                    for one in ast.walk(node.exc)
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                )


# --- costs ----------------------------------------------------------------------------------------


@pytest.mark.alone
def test_help_of_a_client_command_costs_little(tmp_path: Path) -> None:
    assert cpu_seconds("status", "--help", bytecode=tmp_path) < 0.150


def test_every_answer_that_is_shown_is_checked_before() -> None:
    with pytest.raises(Exception, match="-o json shows them as they are"):
        client.understood({"a": "\x1b"}, dict[str, int])
    assert client.understood({"a": 1}, dict[str, int]) == {"a": 1}
    assert msgspec.json.decode("{}") == {}
