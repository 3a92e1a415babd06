"""The shipped strategies on the shipped rules: sick, healed, verified; or failed and undone.

All is real: Prometheus, Alertmanager, two promheals, supervisord, gunicorns that read their
settings, Redis and the workers of a queue. The rules are those of rules/ with shorter windows and
thresholds that a busy machine reaches; the strategies are those of configs/ with a shorter
`verify.within`.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import yaml

from tests.acceptance.server import Promheal
from tests.brokers import free_ports, redis_server
from tests.chain import Exporter, start_alertmanager, start_prometheus, wait_until
from tests.listener import Listener
from tests.tools import REPOSITORY, tool

pytestmark = pytest.mark.heavy

HERE: Final = Path(__file__).parent
LIMITED, LEAKING, ASKING, SLOW, MAIL, ODD = "limited", "leaking", "asking", "slow", "mail", "odd"
ALERTS: Final = {
    "HighCPU": LIMITED,
    "HighMemory": LEAKING,
    "LowSuccessRate": ASKING,
    "HighLatency": SLOW,
    "QueueStuck": MAIL,
    "CompositeAnomaly": ODD,
}
SICK_AT: Final = 50.0
"""Seconds of history that a z-score above 3 needs, when one is taken each second."""

FASTER: Final = (
    (r"\[2m\]", "[4s]"),
    (r"\[1m\]", "[2s]"),
    (r"\[1d\]", "[3m]"),
    (r"interval: 30s", "interval: 1s"),
    (r">= 120", ">= 8"),
    (r"for: \d+m", "for: 1s"),
    (r"> 0\.(8|95)$", "> 0.15"),  # cores: none gets a whole one where all of this runs
    (r"> (500e6|1e9)$", "> 120e6"),
    (r"^( +)> (1|2\.5)$", r"\1> 0.25"),
)


def rules() -> str:
    """The shipped ones, but for what is only a warning, and those that a test forces to fire."""
    groups = []
    for path in sorted((REPOSITORY / "rules").glob("*.yml")):
        if path.stem == "preventive":
            continue
        text = path.read_text()
        for slow, fast in FASTER:
            text = re.sub(slow, fast, text, flags=re.MULTILINE)
        for group in yaml.safe_load(text)["groups"]:
            group["rules"] = [
                rule
                for rule in group["rules"]
                if rule.get("labels", {}).get("severity") != "warning"
                or rule["alert"] == "CompositeAnomaly"
            ]
            groups.append(group)
    forced = [
        {
            "alert": alert,
            "expr": f"forced_{alert} > 0",
            "labels": {"severity": "critical"},
            "annotations": {"summary": "forced", "description": "forced"},
        }
        for alert in ALERTS
    ]
    return yaml.safe_dump({"groups": [*groups, {"name": "forced", "rules": forced}]})


def strategies(*, fail: bool) -> dict[str, Any]:
    """The shipped ones for all services; or with a last step that fails, for those in -b."""
    text = (REPOSITORY / "configs/healing_strategies.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["strategies"]
    for name, strategy in list(found.items()):
        if strategy.get("preventive"):
            del found[name]
            continue
        strategy["verify"] = {"within": "40s"}
        strategy["match"].append(f'service{"=" if fail else "!"}~".*-b"')
        if fail:
            # Where none of its steps can be undone, one that can be comes before them.
            undoable = {"rate_limit", "enable_cache", "fallback_llm", "scale_workers"}
            if not undoable & {step["action"] for step in strategy["actions"]}:
                first = {"action": "rate_limit", "service": "{{ labels.service }}", "limit": 1}
                strategy["actions"].insert(0, first)
            strategy["actions"].append({"action": "command", "argv": ["/bin/false"]})
    return found


class Patients:
    """Gunicorns and queue workers below one supervisord."""

    def __init__(self, stack: ExitStack, folder: Path, redis_port: int) -> None:
        self.folder = folder
        self.socket = folder / "s.sock"
        self.ports: dict[str, int] = {}
        self.services: dict[str, Any] = {}
        programs = [
            "[unix_http_server]", f"file={self.socket}",
            "[supervisord]", "nodaemon=true", f"logfile={folder}/supervisord.log",
            f"pidfile={folder}/supervisord.pid",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "[program:mail]",
            f"command={sys.executable} {HERE / 'queue_worker.py'} {redis_port}",
            "numprocs=2", "process_name=%(process_num)d", "startsecs=1",
            f"stderr_logfile={folder}/mail.log",
        ]  # fmt: skip
        names = [each + end for each in (LIMITED, LEAKING, ASKING, SLOW) for end in ("", "-b")]
        names += [f"{MAIL}-b", f"{ODD}-b"]
        settings = {"rate_limit": 0, "cache": {"enabled": False}, "llm": {"provider": "good"}}
        for name, port in zip(names, free_ports(len(names)), strict=True):
            mine = {**settings}
            if name == LIMITED:
                mine["rate_limit"] = 400
            if name.endswith("-b"):
                mine["rate_limit"] = 100
            if name.startswith(ASKING):
                mine["llm"] = {"provider": "broken"}
            self.settings(name).write_text(yaml.safe_dump(mine) + "# as the team left it\n")
            self.ports[name] = port
            command = [
                tool("gunicorn"), "patient:app", "--workers", "1", "--bind", f"127.0.0.1:{port}",
                "--pid", str(folder / f"{name}.pid"), "--chdir", str(HERE),
                "--no-control-socket", "--graceful-timeout", "2",
            ]  # fmt: skip
            if name.startswith(LIMITED):
                command += ["--worker-class", "gthread", "--threads", "2"]
            programs += [
                f"[program:{name}]", f"command={' '.join(command)}", "startsecs=1",
                (f'environment=PATIENT_NAME="{name}",PATIENT_SETTINGS="{self.settings(name)}",'
                f'PATIENT_WORKS="{name == LIMITED:d}"'),
                f"stderr_logfile={folder}/{name}.log",
            ]  # fmt: skip
            self.services[name] = {
                "manager": {"supervisor": {"socket": str(self.socket), "process": name}},
                "health": {"url": f"http://127.0.0.1:{port}/"},
                "settings": {"file": str(self.settings(name)), "reload": {"signal": "HUP"}},
                "llm": {"providers": ["broken", "expired", "good"]},
                "workers": {
                    "scale": "gunicorn", "pidfile": str(folder / f"{name}.pid"), "min": 1, "max": 3,
                },
                "cache": {"redis": f"redis://127.0.0.1:{redis_port}/2", "match": f"{name}:*"},
            }  # fmt: skip
        queue = {
            "redis": f"redis://127.0.0.1:{redis_port}/0", "waiting": "jobs",
            "working": "jobs:working:*", "alive": "jobs:alive:{worker}",
        }  # fmt: skip
        supervised = {"supervisor": {"socket": str(self.socket), "process": "mail:*"}}
        self.services[MAIL] = {"manager": supervised, "queue": queue}
        self.services[f"{MAIL}-b"]["queue"] = {
            **queue, "waiting": "b:jobs", "working": "b:working:*", "alive": "b:alive:{worker}"
        }  # fmt: skip
        self.services[ODD] = {"manager": supervised}
        (folder / "supervisord.conf").write_text("\n".join(programs))
        process = subprocess.Popen(
            [tool("supervisord"), "-c", str(folder / "supervisord.conf")],
            stdout=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        for name in names:
            wait_until(partial(self.get, name, "/"), within=60, what=f"{name} answers")

    def settings(self, name: str) -> Path:
        return self.folder / f"{name}.yml"

    def setting(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.settings(name).read_text())
        return found

    def get(self, name: str, path: str) -> int:
        """The status of an answer; 0 for none."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.ports[name]}{path}", timeout=5
            ) as a:
                return int(a.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def workers(self, name: str) -> int:
        pid = int((self.folder / f"{name}.pid").read_text())
        return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def master(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())


class Visitors:
    """Those who use the services, and tell Prometheus how it was; and the broker's exporter."""

    BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)

    def __init__(self, stack: ExitStack, patients: Patients, broker: redis.Redis) -> None:
        self.exporter = stack.enter_context(Exporter())
        self.patients = patients
        self.broker = broker
        self.odd = False
        """Whether the odd one is unlike itself."""
        self._ending = threading.Event()
        self._counts: dict[tuple[str, str], float] = {}
        for work in (self._slow, self._ask, self._queue, self._odd):
            thread = threading.Thread(target=self._always, args=(work,), daemon=True)
            thread.start()
            stack.callback(thread.join)
        stack.callback(self._ending.set)

    def _always(self, work: Callable[[], None]) -> None:
        while not self._ending.wait(0.1):
            work()

    def _add(self, series: str, by: float = 1, /, **labels: str) -> None:
        key = (series, json.dumps(labels, sort_keys=True))
        self._counts[key] = self._counts.get(key, 0.0) + by
        self.exporter.set(series, self._counts[key], **labels)

    def _slow(self) -> None:
        began = time.monotonic()
        self.patients.get(SLOW, "/slow")
        took = time.monotonic() - began
        name = "http_request_duration_seconds"
        for bound in (*self.BUCKETS, float("inf")):
            le = "+Inf" if bound == float("inf") else str(bound)
            self._add(f"{name}_bucket", float(took <= bound), service=SLOW, le=le)
        self._add(f"{name}_count", service=SLOW)

    def _ask(self) -> None:
        status = self.patients.get(ASKING, "/ask") or 503
        self._add("http_requests_total", service=ASKING, code=str(status))

    def _queue(self) -> None:
        self.exporter.set("queue_jobs_waiting", int(self.broker.llen("jobs")), service=MAIL)
        done = int(self.broker.get("done") or 0)
        self.exporter.set("queue_jobs_done_total", done, service=MAIL)

    def _odd(self) -> None:
        self.exporter.set("process_resident_memory_bytes", 110e6 if self.odd else 2e7, service=ODD)
        self.exporter.set("queue_jobs_waiting", 90 if self.odd else 0, service=ODD)
        self._add("queue_jobs_done_total", service=ODD)

    def force(self, alert: str, service: str) -> None:
        self.exporter.set(f"forced_{alert}", 1, service=service)


class Ward:
    """All of it, begun at once; each test looks after one of them."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        (folder / "redis").mkdir()
        self.redis = stack.enter_context(redis_server(folder / "redis")).port
        self.keys = stack.enter_context(redis.Redis(port=self.redis, db=2))
        self.broker = stack.enter_context(redis.Redis(port=self.redis, db=0))
        (folder / "patients").mkdir()
        self.patients = Patients(stack, folder / "patients", self.redis)
        self.team = stack.enter_context(Listener())
        self.visitors = Visitors(stack, self.patients, self.broker)
        self.good = Promheal(folder / "good", {})
        self.bad = Promheal(folder / "bad", {})
        self.alertmanager = stack.enter_context(self._alertmanager(folder))
        scraped = [self.visitors.exporter.address]
        scraped += [f"127.0.0.1:{self.patients.ports[name]}" for name in (LIMITED, LEAKING)]
        self.prometheus = stack.enter_context(
            start_prometheus(
                folder / "prometheus",
                targets={"services": scraped},
                rules=rules(),
                alertmanagers=(self.alertmanager.url.removeprefix("http://"),),
            )
        )
        self.began = time.monotonic()
        for server, fail in ((self.good, False), (self.bad, True)):
            self._configure(server, fail=fail)
            stack.enter_context(server)

    def _alertmanager(self, folder: Path) -> Any:
        hooks = [
            {"url": f"{server.url}/webhook", "send_resolved": True, "max_alerts": 0}
            for server in (self.good, self.bad)
        ]
        route = {
            "receiver": "promheal", "group_by": ["..."], "group_wait": "0s",
            "group_interval": "1s", "repeat_interval": "4h",
        }  # fmt: skip
        config = {"route": route, "receivers": [{"name": "promheal", "webhook_configs": hooks}]}
        return start_alertmanager(folder / "alertmanager", config=config)

    def _configure(self, server: Promheal, *, fail: bool) -> None:
        probed = f"http://127.0.0.1:{self.patients.ports[SLOW]}/v1"
        often = {"failures": 99, "open_for": "1s", "permanent_after": 99}
        server.configure(
            strategies(fail=fail),
            prometheus={"url": self.prometheus.url},
            alertmanager={"url": self.alertmanager.url},
            notify={"channels": {"team": {"url": self.team.url}}},
            llm={"providers": {"expired": {"base_url": probed, "keys": ["NO_SUCH_KEY"]}}},
            engine={
                "backoff": {"first": "100ms", "most": "200ms"},
                "dormant_after": 99,
                "main_breaker": often,
            },
        )
        (server.folder / "services.yml").write_text(
            json.dumps({"services": self.patients.services})
        )

    def healed(self, strategy: str) -> dict[str, Any]:
        (run, *_) = self.good.finished(strategy)
        said = json.dumps(run, indent=1)
        assert run["outcome"] == "healed", f"{said}\n{self.good.tail()[-3000:]}"
        return run

    def undone(self, strategy: str) -> dict[str, Any]:
        (run, *_) = self.bad.finished(strategy)
        assert run["outcome"] == "rolled_back", json.dumps(run, indent=1)
        assert "command: " in run["reason"]
        return run


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with ExitStack() as stack:
        found = Ward(stack, tmp_path_factory.mktemp("ward"))
        for number in range(40):
            found.keys.set(f"{LEAKING}:page:{number}", "x")
        found.keys.set("other:page", "x")
        found.patients.get(LEAKING, "/leak?bytes=150000000")
        found.broker.set("hang", 1)
        found.broker.lpush("jobs", *range(30))
        wait_until(lambda: found.broker.get("hanging") == b"2", within=60, what="both hang")
        found.broker.delete("hang")  # which those that hang already do not notice
        for alert, service in ALERTS.items():
            found.visitors.force(alert, f"{service}-b")
        yield found


def steps(run: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(step["phase"], step["action"], step["state"]) for step in run["steps"]]


# -- sick, healed, verified


def test_high_cpu_sheds_load(ward: Ward) -> None:
    run = ward.healed("high-cpu")
    assert steps(run) == [("run", "rate_limit", "done"), ("run", "restart_if_critical", "done")]
    assert ward.patients.setting(LIMITED)["rate_limit"] == 50


def test_high_memory_is_cleared_and_given_back(ward: Ward) -> None:
    master = ward.patients.master(LEAKING)
    run = ward.healed("high-memory")
    assert steps(run) == [("run", "clear_cache", "done"), ("run", "restart_service", "done")]
    assert ward.patients.master(LEAKING) != master or run["steps"][1]["result"]["pid"] == master
    assert ward.keys.keys() == [b"other:page"], "only its own"


def test_low_success_rate_turns_to_another_provider_and_tells(ward: Ward) -> None:
    run = ward.healed("low-success-rate")
    assert [step[1] for step in steps(run)] == ["fallback_llm", "restart_service", "notify"]
    assert run["steps"][0]["result"]["after"] == "good", "the key of `expired` does not work"
    assert ward.patients.setting(ASKING)["llm"] == {"provider": "good"}
    assert run["steps"][2]["result"]["sent"] is True
    assert f"{ASKING} fails requests" in [title for title, _ in ward.team.messages]


def test_high_latency_is_answered_from_the_cache_by_more(ward: Ward) -> None:
    run = ward.healed("high-latency")
    assert steps(run) == [("run", "enable_cache", "done"), ("run", "scale_workers", "done")]
    assert ward.patients.setting(SLOW)["cache"] == {"enabled": True}
    assert ward.patients.workers(SLOW) == 3


def test_a_stuck_queue_moves_on_and_each_job_is_done_once(ward: Ward) -> None:
    run = ward.healed("queue-stuck")
    assert steps(run) == [("run", "restart_service", "done"), ("run", "redistribute_tasks", "done")]
    assert run["steps"][1]["result"]["moved"] == 2
    wait_until(lambda: ward.broker.llen("log") == 30, within=30, what="all are done")
    assert sorted(map(int, ward.broker.lrange("log", 0, -1))) == list(range(30))


def test_an_anomaly_is_kept_and_told(ward: Ward) -> None:
    time.sleep(max(0.0, SICK_AT - (time.monotonic() - ward.began)))
    ward.visitors.odd = True
    ward.good.until("ml-composite-anomaly", bool, "begins")
    ward.visitors.odd = False
    run = ward.healed("ml-composite-anomaly")
    assert steps(run) == [("run", "snapshot", "done"), ("run", "notify", "done")]
    kept = json.loads(gzip.decompress(Path(run["steps"][0]["result"]["path"]).read_bytes()))
    assert "service:anomaly_score" in json.dumps(kept)
    assert f"{ODD} is unlike itself" in [title for title, _ in ward.team.messages]


# -- a later step fails, and the earlier ones are undone


@pytest.mark.parametrize(
    ("strategy", "service", "undone"),
    [
        ("high-cpu", LIMITED, ["rate_limit"]),
        ("high-memory", LEAKING, ["rate_limit"]),
        ("low-success-rate", ASKING, ["fallback_llm"]),
        ("high-latency", SLOW, ["scale_workers", "enable_cache"]),
        ("queue-stuck", MAIL, ["rate_limit"]),
        ("ml-composite-anomaly", ODD, ["rate_limit"]),
    ],
)
def test_what_came_before_is_undone(
    ward: Ward, strategy: str, service: str, undone: list[str]
) -> None:
    run = ward.undone(strategy)
    name = f"{service}-b"
    assert [action for phase, action, _ in steps(run) if phase == "rollback"] == undone
    assert ward.patients.settings(name).read_text().endswith("# as the team left it\n")
    mine = ward.patients.setting(name)
    assert mine["cache"] == {"enabled": False}
    assert mine["llm"] == {"provider": "broken" if service == ASKING else "good"}
    assert mine["rate_limit"] == 100
    # The last undo has it read its settings again: for a moment the old worker is beside a new one.
    wait_until(lambda: ward.patients.workers(name) == 1, what="one worker, as before")
