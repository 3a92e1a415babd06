"""No text that leaves promheal, and none that it keeps, shows a secret that it knows."""

from __future__ import annotations

import gzip
import http.server
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import StringIO
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from receiver import log, redaction
from receiver.actions import discover
from receiver.config.files import load
from receiver.errors import ConfigError
from receiver.redaction import known, learn, learn_url, learn_variables, redact, redact_json
from tests.acceptance.server import Promheal, Undaunted, alert, notification
from tests.brokers import eventually
from tests.figures import Record

SECRET = "pa$$ w/ö\"r'd&<1>"


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        quote(SECRET, safe="").lower().replace("%c3%b6", "%c3%b6"),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps(json.dumps(SECRET, ensure_ascii=False), ensure_ascii=False),
        repr(SECRET),
        "pa$$ w/ö&#34;r&#39;d&amp;&lt;1&gt;",
        "Basic " + b64encode(f"bob:{SECRET}".encode()).decode(),
        "Basic " + b64encode(f"alice:{SECRET}".encode()).decode(),
        b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_found_in_every_form(shown: str) -> None:
    known(SECRET)
    text = redact(f"it said: {shown}, then")
    assert "REDACTED" in text
    assert text.startswith("it said: ")
    assert text.endswith(", then")
    for rest in (SECRET[:6], "r'd&"):
        assert rest not in unquote(text)


@pytest.mark.parametrize(
    "text",
    [
        "password: hunter2secret",
        "password: 'hunter2secret' # for now",
        "redis: {password: hunter2secret, url: x}",
        'redis: {"password": "hunter2secret"}',
        "redis_password:\n    hunter2secret",
        "password: |\n  hunter2secret",
        "argv: [redis-cli, --password, hunter2secret]",
        "argv: [redis-cli, --password=hunter2secret, ping]",
        "argv: [redis-cli, --password, another-one, --token, hunter2secret]",
        "argv:\n  - --password\n  - hunter2secret\n",
        "argv:\n- '--api-token'\n- 'hunter2secret'",
        "redis: {password: another-one, token: hunter2secret}",
        "headers: {Authorization: Bearer hunter2secret}",
        'headers: {X-Api-Key: "hunter2secret"}',
        "url: redis://:hunter2secret@127.0.0.1:6379/0",
        "url: http://bob:hunter2secret@127.0.0.1:9090",
        "url: https://hunter2secret@example.com/",
        "url: https://example.com/hook?token=hunter2secret&x=1",
        "password: hunter2secret\n\tbroken: [",
    ],
)
def test_a_file_gives_its_secrets_away(text: str) -> None:
    learn(text)
    assert redact("echo hunter2secret") == "echo REDACTED"


@pytest.mark.parametrize(
    "text",
    [
        "password_file: /etc/promheal/redis.password",
        "bearer_token_file: secrets/token.txt",
        "pipe: 'a: https://example.com:9090/path@v1?x=1'",
        "token: '{{ labels.token }}'",
        "equal:\n  - token\n  - alertname",
        "password: abc",
    ],
)
def test_what_is_no_secret_is_left(text: str) -> None:
    learn(text)
    assert redact(text) == text


def test_of_a_url_the_password_alone_is_taken_out_known_or_not() -> None:
    text = "cannot reach redis://bob:pw1@10.0.0.1:6379/0?token=abc&db=1"
    assert redact(text) == "cannot reach redis://bob:REDACTED@10.0.0.1:6379/0?token=REDACTED&db=1"
    assert redact(redact(text)) == redact(text)


def test_a_short_one_is_not_looked_for_in_words() -> None:
    known("guest")
    assert redact("a guest of the host") == "a guest of the host"


def test_a_number_in_json_stays_a_number() -> None:
    known("123456")
    assert json.loads(redact_json('{"pid": 123456, "said": "no 123456"}')) == {
        "pid": 123456,
        "said": "no REDACTED",
    }


def test_variables_are_known_by_their_names() -> None:
    learn_variables(
        {
            "PGPASSWORD": "postgres-pw-1",
            "SLACK_TOKEN": "xoxb-1234567",
            "OPENAI_API_KEY": "sk-abcdefgh",
            "PWD": "/srv/promheal",
            "BROKER": "amqp://u:broker-pw-1@h/",
        }
    )
    text = "postgres-pw-1 xoxb-1234567 sk-abcdefgh /srv/promheal broker-pw-1"
    assert redact(text) == "REDACTED REDACTED REDACTED /srv/promheal REDACTED"


def test_a_secret_url_is_one_in_all_its_parts() -> None:
    learn_url("slack://T0123456789/B0123456789/xyzxyzxyzxyz?fmt=abcdefgh", entirely=True)
    text = redact("T0123456789 B0123456789 xyzxyzxyzxyz abcdefgh")
    assert text == "REDACTED REDACTED REDACTED REDACTED"


def test_rotated_tokens_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "MOST", 3)
    for number in range(5):
        known(f"token-number-{number}")
    assert redact("token-number-1") == "token-number-1"
    assert redact("token-number-4") == "REDACTED"


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_a_log_line_shows_none(form: str) -> None:
    known(SECRET)
    stream = StringIO()
    before = logging.getLogger().handlers[:]
    try:
        log.configure("info", form, stream)
        try:
            int(SECRET)
        except ValueError as error:
            logging.getLogger("t").exception(
                "said %s", SECRET, extra={"cause": error, "more": {"x": [SECRET]}, "count": 1}
            )
    finally:
        logging.getLogger().handlers[:] = before
    line = stream.getvalue()
    assert line.count("REDACTED") >= 4
    assert "pa$$" not in line


def test_doctor_does_not_print_the_password_of_a_url(tmp_path: Path) -> None:
    (tmp_path / "promheal.yml").write_text(
        'prometheus: {url: "http://bob:s3cretPW@127.0.0.1:1"}\n'
        'alertmanager: {url: "http://bob:pw@127.0.0.1:1"}\n'
    )
    (tmp_path / "services.yml").write_text("services: {}\n")
    (tmp_path / "healing_strategies.yml").write_text("strategies: {}\n")
    arguments = ["doctor", "--config.file=promheal.yml", "--storage.url=sqlite:///f09.db"]
    for form in ("table", "json", "yaml"):
        done = subprocess.run(
            [sys.executable, "-m", "receiver", *arguments, "--output", form],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert "http://bob:REDACTED@127.0.0.1:1" in said
        assert "s3cretPW" not in said
        assert "bob:pw" not in said


def test_a_broken_file_is_shown_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "promheal.yml").write_text(
        'prometheus: {url: "http://bob:s3cretPW@127.0.0.1:1", timeuot: 5s}\n'
    )
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "promheal.yml", discover(), {})
    assert "s3cretPW" not in str(refused.value)
    head, line, caret = str(refused.value).split("\n")[:3]
    assert "promheal.yml:1:54: unknown key 'timeuot'" in head
    assert line[caret.index("^") :].startswith("timeuot")


# ── seeded: every key that can hold a secret has one of its own, and the others repeat it ──


class _Parrot(http.server.BaseHTTPRequestHandler):
    """A stand-in for an upstream that says in its refusal all that it was sent."""

    protocol_version = "HTTP/1.1"
    heard: list[str]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        login = self.headers.get("Authorization", "")
        if login.startswith("Basic "):
            login += " " + b64decode(login[6:]).decode()
        said = f"refused {self.path} {unquote(self.path)} {login} {dict(self.headers)} {body[:200]}"
        self.heard.append(said)
        # Once as JSON of Prometheus, and as text to those who read no JSON.
        answer = json.dumps({"status": "error", "error": said, "message": said}).encode()
        status = 500
        if self.path.startswith(("/api/v1/rules", "/api/v1/status")):
            status = 404  # as of one that has no rules, or nothing would begin
        if self.path.startswith("/api/v1/query"):
            series = {"metric": {"service": "shop"}, "value": [time.time(), "1"]}
            fires = "query=ill+" in body
            data = {"resultType": "vector", "result": [series] if fires else []}
            status = 200
            answer = json.dumps({"status": "success", "data": data, "warnings": [said]}).encode()
        if self.path.startswith(("/api/v2/alerts", "/api/v2/silences")):
            status, answer = 200, b"[]"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  as http.server calls them

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _parrot() -> Iterator[tuple[str, list[str]]]:
    heard: list[str] = []
    handler = type("Parrot", (_Parrot,), {"heard": heard})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", heard
        finally:
            server.shutdown()
            thread.join()


SEEDS = {
    name: f"seed{number:02}{name}zQ9/+x"
    for number, name in enumerate(
        (
            "prometheusurl", "alertmanagertoken", "httptoken", "llmkey", "channelurl",
            "channelfile", "channelenv", "rabbitmq", "supervisor", "redis", "environment",
        )
    )
}  # fmt: skip


def _seeded(folder: Path, parrot: str) -> Promheal:
    for name in ("alertmanagertoken", "httptoken", "rabbitmq", "supervisor", "redis"):
        (folder / name).write_text(f"{SEEDS[name]}\n")
    (folder / "channelfile").write_text(
        f"json://{parrot}/{quote(SEEDS['channelfile'], safe='')}?-X-Key=1"
    )
    (folder / ".env.local").write_text(
        f"LLM_ONE={SEEDS['llmkey']}\n"
        f"TOLD=json://u:{quote(SEEDS['channelenv'], safe='')}@{parrot}/told\n"
    )
    command = {"restart": ["/bin/true"], "status": ["/bin/true"]}
    leaking = {
        "target": ["service"],
        "when": "ill == 1",
        "grace_period": "1s",
        "budget": [{"runs": 9, "per": "1h"}],
        "verify": {"query": "ill == 1", "within": "1s"},
    }
    server = Undaunted(
        folder,
        {
            "call": {
                **leaking,
                "match": ['alertname="Call"'],
                "actions": [
                    {
                        "action": "http",
                        "url": f"http://{parrot}/heal",
                        "bearer_token_file": str(folder / "httptoken"),
                    }
                ],
            },
            "say": {
                **leaking,
                "match": ['alertname="Say"'],
                "actions": [
                    {
                        "action": "command",
                        "argv": ["/bin/sh", "-c", f"cat {folder}/httptoken; exit 1"],
                    }
                ],
            },
            "look": {
                **leaking,
                "match": ['alertname="Look"'],
                "actions": [{"action": "snapshot"}, {"action": "log", "message": "looked"}],
            },
        },
        prometheus={"url": f"http://bob:{quote(SEEDS['prometheusurl'], safe='')}@{parrot}"},
        alertmanager={
            "url": f"http://{parrot}",
            "bearer_token_file": str(folder / "alertmanagertoken"),
        },
        http={"allow": [f"http://{parrot}/"]},
        llm={
            "providers": {
                "one": {"base_url": f"http://{parrot}", "keys": ["LLM_ONE"], "header": "x-api-key"}
            },
            "probe": "1s",
        },
        notify={
            "channels": {
                "a": {"url": f"json://u:{quote(SEEDS['channelurl'], safe='')}@{parrot}/told"},
                "b": {"url_file": "channelfile"},
                "c": {"url_env": "TOLD"},
            },
            "on": {"failed": ["a", "b", "c"], "inconclusive": ["a", "b", "c"]},
        },
    )
    services = {
        "broker": {
            "manager": {"command": command},
            "queue": {
                "rabbitmq": {
                    "url": f"http://{parrot}",
                    "username": "guest",
                    "password_file": str(folder / "rabbitmq"),
                    "queue": "q",
                    "stuck_after": "5m",
                }
            },
        },
        "super": {
            "manager": {
                "supervisor": {
                    "url": f"http://{parrot}/RPC2",
                    "username": "u",
                    "password_file": str(folder / "supervisor"),
                    "process": "p",
                }
            }
        },
    }
    (folder / "services.yml").write_text(json.dumps({"services": services}))
    return server


def _traces(text: str) -> list[str]:
    """Return which seeds are in a text, in any of their forms."""
    found = []
    for name, seed in SEEDS.items():
        forms = {seed, quote(seed, safe=""), quote(seed), b64encode(seed.encode()).decode()[:24]}
        forms |= {f"seed{seed[4:6]}{name}"}
        forms |= {
            b64encode(f"{user}:{seed}".encode()).decode()[8:28] for user in ("bob", "u", "guest")
        }
        if any(form in text for form in forms):
            found.append(name)
    return found


def _kept(folder: Path) -> dict[str, str]:
    """Return what promheal has written below its folder, by name."""
    given = {*SEEDS, ".env.local", "promheal.yml", "services.yml", "healing_strategies.yml"}
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in given:
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            found[str(path.relative_to(folder))] = content.decode("utf-8", "replace")
    return found


def _packed(journal: Path) -> dict[str, str]:
    """Return what stands compressed in a journal, by its table and row."""
    found: dict[str, str] = {}
    with closing(sqlite3.connect(journal)) as connection:
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'"):
            for number, row in enumerate(connection.execute(f"select * from {table}")):
                for value in row:
                    if isinstance(value, bytes):
                        name = f"{table} {number} {len(found)}"
                        found[name] = zlib.decompress(value).decode()
    return found


def test_seeded_tokens_are_nowhere_beside_a_stand_in_that_repeats_them(
    tmp_path: Path, record_property: Record
) -> None:
    with _parrot() as (address, heard):
        server = _seeded(tmp_path, address)
        said = {}
        config = str(tmp_path / "promheal.yml")
        environ = {**os.environ, "SOME_API_TOKEN": SEEDS["environment"]}
        file = tmp_path / "alerts.json"
        file.write_text(json.dumps(notification(alert("Call", service="shop"))))
        for command in (
            ["explain", str(file)],
            ["explain", "-o", "json", str(file)],
            ["check"],
            ["check", "--prometheus", "-o", "json"],
            ["doctor", f"--storage.url=sqlite:///{tmp_path}/x.db"],
            ["doctor", "-o", "json", f"--storage.url=sqlite:///{tmp_path}/x.db"],
            ["doctor", "-o", "yaml", f"--storage.url=sqlite:///{tmp_path}/x.db"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "receiver", *command, "--config.file", config],
                capture_output=True, text=True, env=environ, check=False,
            )  # fmt: skip
            said[" ".join(command)] = done.stdout + done.stderr
        with server:
            server.post(alert("Call", service="shop"), alert("Say", service="till"))
            server.post(alert("Look", service="cart"))
            runs = [*server.finished("say"), *server.finished("call")]
            eventually(lambda: list(tmp_path.rglob("*.json.gz")))
            eventually(lambda: sum("/told" in one for one in heard) >= 2)
            whole = (tmp_path / "promheal.yml").read_text()
            database = f"redis://:{SEEDS['redis']}@127.0.0.1:6379/0"
            (tmp_path / "promheal.yml").write_text(
                whole.replace("{", f'{{ "redis": {{"url": "{database}"}},', 1)
            )
            said["reload"] = server.ask("/-/reload", b"").body
            assert "unknown key 'redis'" in said["reload"]
            (tmp_path / "promheal.yml").write_text(whole)
            for path in (
                "/", "/runs", *(f"/runs/{run['id']}" for run in runs), "/api/status", "/api/runs",
                *(f"/api/runs/{run['id']}" for run in runs), "/api/decisions", "/api/alerts",
                "/metrics", "/-/ready", "/strategies/call", "/api/audit", "/openapi.yaml",
            ):  # fmt: skip
                said[path] = server.ask(path).body
            server.stop()
        said |= _kept(tmp_path) | _packed(tmp_path / "journal.db")
    # Each was sent, or it proves nothing.
    sent = "\n".join(heard)
    assert [name for name in SEEDS if name not in _traces(sent)] == ["redis", "environment"]
    assert any(where.startswith("decision_input") for where in said)
    for door in ("doctor", "promheal.log", "/api/runs", "journal.db", "configuration"):
        assert "REDACTED" in "".join(text for where, text in said.items() if where.startswith(door))
    found = {where: traces for where, text in said.items() if (traces := _traces(text))}
    record_property("tokens", len(SEEDS))
    record_property("occurrences", sum(map(len, found.values())))
    assert found == {}
