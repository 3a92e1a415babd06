"""A real `promheal serve` with its files, that can be asked, killed and started again.

And what it is given: alerts, strategies, and actions that leave a trace (spy.py).
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver.policy.fingerprint import fingerprint
from tests.chain import free_port, wait_until
from tests.postgres import Postgres, postgres

PATIENCE = 60.0
"""Seconds that anything may take on a machine that has more to do than to run this."""
RESUMED = 5.0
"""Seconds after the start within which promheal goes on with what it was doing."""

Series = tuple[str, frozenset[tuple[str, str]]]
"""A metric's name and its labels."""
HELD = {"acting", "waiting", "verifying", "rolling_back"}


_servers: list[Postgres] = []
_databases: dict[Path, str] = {}


@contextmanager
def journals_in_postgres() -> Iterator[None]:
    """Have every journal of the tests in a real PostgreSQL: `pytest --storage=postgres`."""
    with postgres(durable=True) as server:
        _servers.append(server)
        yield
        _servers.clear()


def storage(journal: Path) -> str:
    """What --storage.url is for a journal, which *journal* stands for, wherever journals are."""
    if not _servers:
        return f"sqlite:///{journal}"
    if journal not in _databases:
        _databases[journal] = _servers[0].create()
    return _databases[journal]


def only_in_a_file(why: str) -> None:
    """Leave a test out whose promise is another one where journals are in PostgreSQL."""
    if _servers:
        pytest.skip(why)


class Answer(NamedTuple):
    status: int
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str,
    body: bytes | None = None,
    *,
    method: str = "",
    accept: str = "",
    token: str = "",
    context: ssl.SSLContext | None = None,
) -> Answer:
    headers = {"Content-Type": "application/json", "Accept": accept or "*/*"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, body, headers, method=method or None)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


class Served:
    """What a promheal that serves is told and asked, wherever it runs."""

    def ask(self, path: str, body: bytes | None = None) -> Answer:
        raise NotImplementedError

    def post(self, *alerts: Mapping[str, Any], **fields: Any) -> Answer:
        """Send one notification."""
        return self.deliver(json.dumps(notification(*alerts, **fields)).encode())

    def deliver(self, body: bytes) -> Answer:
        return self.ask("/webhook", body)

    def get(self, path: str) -> Any:
        answer = self.ask(path)
        assert answer.status == 200, answer
        return answer.json()

    def runs(self, strategy: str = "", state: str = "") -> list[dict[str, Any]]:
        """All runs, oldest first."""
        found: list[dict[str, Any]] = []
        wanted = "".join(f"&{n}={v}" for n, v in (("strategy", strategy), ("state", state)) if v)
        page: dict[str, Any] = {"next": 2**62}
        while page["next"] is not None:
            page = self.get(f"/api/runs?limit=500&before={page['next']}{wanted}")
            found += page["runs"]
        return found[::-1]

    def run(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/runs/{number}")
        return found

    def alerts(self) -> dict[str, dict[str, Any]]:
        """What fires, by fingerprint."""
        found: dict[str, dict[str, Any]] = {}
        offset: int | None = 0
        while offset is not None:
            page = self.get(f"/api/alerts?limit=500&offset={offset}")
            found |= {alert["fingerprint"]: alert for alert in page["alerts"]}
            offset = page["next"]
        return found

    def until(
        self,
        strategy: str,
        true: Callable[[list[dict[str, Any]]], Any],
        what: str = "",
        *,
        within: float = PATIENCE,
    ) -> list[dict[str, Any]]:
        """Wait until *true* of a strategy's runs, and return them in full, oldest first."""

        def look() -> Any:
            runs = self.runs(strategy)
            return runs if true(runs) else None

        found = wait_until(look, within=within, what=f"{strategy}: {what}")
        return [self.run(run["id"]) for run in found]

    def finished(
        self, strategy: str, number: int = 1, *, within: float = PATIENCE
    ) -> list[dict[str, Any]]:
        """Wait until *number* runs of a strategy are finished, and return these."""
        runs = self.until(
            strategy,
            lambda runs: sum(run["state"] == "finished" for run in runs) >= number,
            f"{number} finished",
            within=within,
        )
        return [run for run in runs if run["state"] == "finished"]

    def metrics(self) -> dict[Series, float]:
        text = self.ask("/metrics").body
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        found, series = self.metrics(), (f"promheal_{name}", frozenset(labels.items()))
        if name == "decisions_total":  # what has not been decided is not there
            return found.get(series, 0)
        return found[series]


class Promheal(Served):
    """`python -m receiver serve` in a process group of its own, on a journal that stays."""

    def __init__(
        self,
        folder: Path,
        strategies: Mapping[str, Any],
        *,
        port: int | None = None,
        journal: Path | None = None,
        web: Mapping[str, Any] | None = None,
        token: str = "",
        context: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> None:
        """*web* is its web configuration; *token* and *context*, with which it is asked."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "promheal.log"
        self.journal = journal or folder / "journal.db"
        self.storage_url = storage(self.journal)
        self.shared = self.storage_url.startswith("postgresql:")
        """Whether several may act on its journal beside each other."""
        self.port = port or free_port()
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.arguments: list[str] = []
        """More of its command line."""
        self.within: list[str] = []
        """What it is started by, as `nsenter`."""
        self.token = token
        self.context = context
        if web is not None:
            self.configure_web(web)
            self.arguments.append(f"--web.config.file={self.folder / 'web.yml'}")
        self.ready_at = 0.0
        """When the last start was over, seconds since the epoch."""
        self.process: subprocess.Popen[bytes] | None = None
        self.configure(strategies, **settings)

    def configure(self, strategies: Mapping[str, Any], **settings: Any) -> None:
        write_configuration(self.folder, strategies, settings)

    def configure_web(self, web: Mapping[str, Any]) -> None:
        """Write the web configuration, at one stroke: it is read while it runs."""
        (self.folder / "web.new").write_text(json.dumps(web, indent=1) + "\n")
        (self.folder / "web.new").rename(self.folder / "web.yml")

    def sql(self, *statements: str) -> int:
        """Execute statements on its journal, past promheal; the rows that the last one changed."""
        changed = 0
        if self.shared:
            with psycopg.connect(self.storage_url, options="-c search_path=promheal") as server:
                for statement in statements:
                    changed = server.execute(statement.encode()).rowcount
            return changed
        with closing(sqlite3.connect(self.journal, timeout=30)) as file, file:
            for statement in statements:
                changed = file.execute(statement).rowcount
        return changed

    # -- its life

    def launch(self) -> None:
        """Start it, and do not wait."""
        assert self.process is None
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FEATURE_", "PROMETHEUS_"))
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.within,
                    *(sys.executable, "-m", "receiver", "serve"),
                    f"--config.file={self.folder / 'promheal.yml'}",
                    f"--storage.url={self.storage_url}",
                    f"--storage.path={self.journal.parent}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *self.arguments,
                ],
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.folder,
                start_new_session=True,
            )

    def start(self) -> Self:
        """Start it, and return when it says that it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self, status: int = 200) -> None:
        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                pytest.fail(f"promheal does not come up:\n{self.tail()}", pytrace=False)
            try:
                return self.ask("/-/ready").status == status
            except OSError:
                return False

        wait_until(ready, within=PATIENCE, what="promheal is ready")
        self.ready_at = time.time()

    def kill9(self) -> None:
        """End arbiter and worker at one stroke, in the middle of whatever they do."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def terminate(self) -> None:
        """Send SIGTERM, as an init system does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait for its end and return its exit code."""
        assert self.process is not None
        code = self.process.wait(PATIENCE)
        self.process = None
        return code

    def stop(self) -> int:
        self.terminate()
        return self.ended()

    def worker(self) -> int:
        assert self.process is not None
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def __enter__(self) -> Self:
        try:
            return self.start() if self.process is None else self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def tail(self) -> str:
        return self.log.read_text()[-8_000:]

    @contextmanager
    def waiting(self) -> Iterator[Self]:
        """Start it where it cannot be ready, and end it."""
        try:
            self.launch()
            yield self
        finally:
            self.__exit__()

    def ask(self, path: str, body: bytes | None = None) -> Answer:
        return ask(self.url + path, body, token=self.token, context=self.context)


# ── what happens ──


def alert(
    name: str, /, *, status: str = "firing", started: float = 0.0, ended: float = 0.0, **labels: str
) -> dict[str, Any]:
    """One alert of a notification. It began a minute ago unless *started* says when."""
    whole = {"alertname": name, **labels}
    now = time.time()
    return {
        "status": status,
        "labels": whole,
        "annotations": {"summary": f"{name} of a test"},
        "startsAt": stamp(started or now - 60),
        "endsAt": stamp(ended or now) if status == "resolved" else "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": fingerprint(whole),
    }


def resolved(one: Mapping[str, Any]) -> dict[str, Any]:
    """The same alert, that it is over now."""
    return {**one, "status": "resolved", "endsAt": stamp(time.time())}


def notification(*alerts: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "promheal",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": list(alerts),
        **fields,
    }


def as_prometheus(alerts: Iterable[Mapping[str, Any]], *, ended: bool = False) -> bytes:
    """The body in which Prometheus tells Alertmanager of alerts."""
    ends = stamp(time.time() + (0 if ended else 3600))
    body = [
        {**{key: one[key] for key in ("labels", "annotations", "startsAt")}, "endsAt": ends}
        for one in alerts
    ]
    return json.dumps(body).encode()


def routing(*webhooks: str, max_alerts: int = 0, token: str = "", **route: Any) -> dict[str, Any]:
    """Configure Alertmanager to tell each webhook of each alert at once."""
    to: dict[str, Any] = {"send_resolved": True, "max_alerts": max_alerts}
    if token:
        to["http_config"] = {"authorization": {"credentials": token}}
    return {
        "route": {
            "receiver": "promheal",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "4h",
            **route,
        },
        "receivers": [
            {"name": "promheal", "webhook_configs": [{"url": url, **to} for url in webhooks]}
        ],
    }


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


class Undaunted(Promheal):
    """A promheal that goes on however often it fails and however much is ill."""

    def configure(self, strategies: Mapping[str, Any], **settings: Any) -> None:
        keen, calm = undaunted(strategies, settings)
        super().configure(keen, **calm)


class Sender:
    """Posts one body after the other on one connection, as Alertmanager does."""

    def __init__(self, server: Promheal) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)

    def post(self, body: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/webhook", body, headers)
        with self._connection.getresponse() as answer:
            answer.read()
            return answer.status

    def close(self) -> None:
        self._connection.close()


# ── what is done about it ──


def write_configuration(
    folder: Path,
    strategies: Mapping[str, Any],
    settings: Mapping[str, Any],
    services: Mapping[str, Any] = {},
) -> None:
    """Write the three files. JSON is YAML."""
    for name, content in (
        ("promheal.yml", settings),
        ("healing_strategies.yml", {"strategies": strategies}),
        ("services.yml", {"services": services}),
    ):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def undaunted(
    strategies: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the same, so that no failure and no number of the ill stops anything.

    For what must hold besides; what stops it has tests of its own.
    """
    never = {"failures": 1_000_000}
    engine = {
        "storm": {"targets": 1_000_000},
        "dormant_after": 1_000_000,
        "backoff": {"first": "1ms", "most": "1ms"},
        "main_breaker": never,
        "target_breaker": never,
        **settings.get("engine", {}),
    }
    keen = {name: {"breaker": never, **each} for name, each in strategies.items()}
    return keen, {**settings, "engine": engine}


def strategy(*actions: Mapping[str, Any], match: str, **keys: Any) -> dict[str, Any]:
    """A strategy for the alerts of one name, which acts once and then leaves them in peace."""
    return {
        "match": [f'alertname="{match}"'],
        "grace_period": "1h",
        "verify": {"within": "1s"},
        "actions": list(actions),
        **keys,
    }


class Event(NamedTuple):
    """What a spy said."""

    event: str
    name: str
    fingerprint: str
    pid: int
    session: int
    at: float
    known_exit: str


class Spies:
    """Actions that write down what they do, and that can be held in the middle of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("hold", "fail"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def step(
        self, name: str, *, undo: str = "", seconds: float = 0.0, **keys: Any
    ) -> dict[str, Any]:
        """A `command` step that runs a spy, and another one to take it back."""
        more = {"undo": self._argv(undo, 0.0)} if undo else {}
        argv = self._argv(name, seconds)
        return {"action": "command", "argv": argv, "timeout": "5m", **more, **keys}

    def _argv(self, name: str, seconds: float) -> list[str]:
        program = str(Path(__file__).with_name("spy.py"))
        return [sys.executable, "-I", "-S", program, str(self.folder), name, str(seconds)]

    def hold(self, *names: str) -> None:
        for name in names:
            (self.folder / "hold" / name).touch()

    def release(self, *names: str) -> None:
        for name in names or [path.name for path in (self.folder / "hold").iterdir()]:
            (self.folder / "hold" / name).unlink(missing_ok=True)

    def fail(self, name: str) -> None:
        (self.folder / "fail" / name).touch()

    def events(self, *names: str) -> list[Event]:
        """What they said in order, of some or of all."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        found = []
        for line in lines:
            event, name, of, pid, session, at, known = line.split()
            if not names or name in names:
                found.append(Event(event, name, of, int(pid), int(session), float(at), known))
        return found

    def starts(self, *names: str) -> list[str]:
        """The names of the spies that were started, in order."""
        return [event.name for event in self.events(*names) if event.event == "start"]

    def started(self, name: str, times: int = 1) -> Event:
        """Wait until a spy was started the *times*-th time."""
        wait_until(
            lambda: len(self.starts(name)) >= times, within=PATIENCE, what=f"{name} is started"
        )
        return [e for e in self.events(name) if e.event == "start"][times - 1]


def most_at_once(events: Iterable[Event]) -> int:
    """How many spies ran at the same moment at most."""
    now = most = 0
    for event in events:
        now += 1 if event.event == "start" else -1
        most = max(most, now)
    return most


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}
