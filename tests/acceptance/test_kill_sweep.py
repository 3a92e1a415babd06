"""kill -9 in the middle of every action, through the whole engine; 20 times by `make kill-sweep`.

In each round all actions act at the same moment, on parts that take their time; promheal is killed
with all that it started, and started again. Then every run comes to its end as its action declares:
what may be repeated goes on, and anything else is `unknown`. No effect is there twice that must not
be, and no file or queue is anything but whole.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import yaml

from receiver.actions import discover
from tests.acceptance.server import Promheal, alert
from tests.brokers import redis_server
from tests.chain import start_alertmanager, wait_until
from tests.figures import Record, scaled
from tests.listener import Listener

ROUNDS: Final = int(os.environ.get("KILLS", scaled(2, 30)))
OFTEN: Final = scaled(1, 20)
"""How often an action is killed in its middle to count as a point that was; some last no moment."""
SLOW: Final = 0.4
"""Seconds that most of the actions take."""
TASKS: Final = 3_000
KEYS: Final = 4_000
TEXT: Final = (
    "rate_limit: 100  # as the team left it\ncache: {enabled: false}\nllm: {provider: a}\n"
)
ONCE: Final = {"command", "http"}
"""What is not repeated after a crash, as it is written below."""


class Http:
    """Answers slowly, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        board = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                board.asked[self.path] += 1
                time.sleep(SLOW)
                try:
                    self.send_response(204)
                    self.end_headers()
                except OSError:
                    pass  # who asked is dead

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def steps(folder: Path, url: str) -> dict[str, dict[str, Any]]:
    """A step of each action."""
    service = {"service": "{{ labels.service }}"}
    said = ["sh", "-c", f'echo "$1" >> {folder}/commands; sleep {SLOW}', "sh", "{{ labels.round }}"]
    return {
        "clear_cache": service,
        "command": {"argv": said},
        "enable_cache": service,
        "fallback_llm": service,
        "http": {"url": f"{url}/once/{{{{ labels.round }}}}"},
        "log": {"message": "round {{ labels.round }}"},
        "notify": {"channel": "team", "message": "round {{ labels.round }}"},
        "rate_limit": {**service, "limit": 50},
        "redistribute_tasks": service,
        "restart_if_critical": service,
        "restart_service": service,
        "scale_workers": {**service, "by": 1},
        "silence": {"duration": "10m"},
        "snapshot": service,
        "wait": {"duration": "300ms"},
    }


class Sweep:
    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.listener = stack.enter_context(Listener())
        self.http = Http()
        thread = threading.Thread(target=self.http.server.serve_forever, args=(0.02,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(self.http.server.server_close)
        stack.callback(self.http.server.shutdown)
        (folder / "redis").mkdir()
        self.port = stack.enter_context(redis_server(folder / "redis")).port
        self.broker = stack.enter_context(redis.Redis(port=self.port, decode_responses=True))
        self.alertmanager = stack.enter_context(start_alertmanager(folder / "alertmanager"))
        self.steps = steps(folder, self.http.url)
        self.cut: Counter[str] = Counter()
        """How often the kill came in the middle of an action."""
        often = {"failures": 9_999, "open_for": "1s", "permanent_after": 9_999}
        self.server = Promheal(folder / "promheal", {})
        self.server.configure(
            {
                name: {
                    "match": [f'alertname="{name}"'],
                    "target": ["round"],
                    "budget": [],
                    "breaker": often,
                    "actions": [{"action": name, **step}],
                    **({"values": {"round": "[0-9]+-command"}} if name == "command" else {}),
                }
                for name, step in self.steps.items()
            },
            alertmanager={"url": self.alertmanager.url},
            http={"allow": [f"{self.http.url}/once/"]},
            notify={"channels": {"team": {"url": self.listener.url}}},
            engine={
                "max_concurrent_runs": 32,
                "backoff": {"first": "10ms", "most": "20ms"},
                "dormant_after": 9_999,
                "main_breaker": often,
                "target_breaker": often,
                "storm": {"targets": 9_999},
            },
        )
        (self.server.folder / "services.yml").write_text(json.dumps({"services": self._services()}))

    def _services(self) -> dict[str, Any]:
        """One for each action, since two may not act on one at once."""
        slowly = ["sh", "-c", f"sleep {SLOW}; date +%s >> {self.folder}/restarts"]
        (self.folder / "commands").touch()
        number = self.folder / "number"
        number.write_text("2")
        found = {}
        for name in self.steps:
            (self.folder / f"{name}.yml").write_text(TEXT)
            found[name] = {
                "manager": {"command": {"restart": slowly}},
                "settings": {
                    "file": str(self.folder / f"{name}.yml"),
                    "reload": {"command": ["sleep", str(SLOW)]},
                },
                "llm": {"providers": ["a", "b"]},
                "cache": {"redis": f"redis://127.0.0.1:{self.port}/2", "match": "shop:*"},
                "queue": {
                    "redis": f"redis://127.0.0.1:{self.port}/0", "waiting": "jobs",
                    "working": "working:*", "alive": "alive:{worker}",
                },
                "workers": {
                    "scale": "command", "ask": ["cat", str(number)], "min": 0, "max": 9_999,
                    "to": ["sh", "-c", f'sleep {SLOW}; printf %s "$1" > {number}', "sh", "{count}"],
                },
            }  # fmt: skip
        return found

    def begin(self) -> None:
        for name in self.steps:
            (self.folder / f"{name}.yml").write_text(TEXT)
        with self.broker.pipeline() as pipe:
            pipe.flushdb()
            for worker in range(3):
                tasks = range(worker * TASKS, worker * TASKS + TASKS)
                pipe.rpush(f"working:{worker}", *tasks)
            pipe.execute()
        with redis.Redis(port=self.port, db=2) as cache, cache.pipeline() as pipe:
            pipe.flushdb()
            for key in range(KEYS):
                pipe.set(f"shop:{key}", "x")
            pipe.set("other", "x")
            pipe.execute()

    def round(self, number: int, dice: random.Random) -> None:
        self.begin()
        workers = int((self.folder / "number").read_text())
        name = str(number)
        self.server.post(
            *(
                alert(action, service=action, round=f"{name}-{action}", severity="critical")
                for action in self.steps
            )
        )
        time.sleep(dice.uniform(0.01, SLOW * 1.2))
        self.server.kill9()
        self.server.start()
        runs = {
            action: wait_until(partial(self.ended, action, number), within=60, what=action)
            for action in self.steps
        }
        for action, run in runs.items():
            (step,) = [step for step in run["steps"] if step["phase"] == "run"]
            cut = step["attempt"] > 1 or step["state"] == "unknown"
            self.cut[action] += cut
            if cut and action in ONCE:
                assert (run["outcome"], step["state"]) == ("unknown", "unknown"), run
            else:
                assert (run["outcome"], step["state"]) == ("inconclusive", "done"), run
        self.look(name, runs, workers)

    def ended(self, action: str, number: int) -> dict[str, Any] | None:
        """The run of an action in this round, when it has ended."""
        target = f'round="{number}-{action}"'
        for run in self.server.runs(action):
            if run["target"] == target and run["state"] == "finished":
                return self.server.run(run["id"])
        return None

    def look(self, name: str, runs: Mapping[str, Mapping[str, Any]], workers: int) -> None:
        """What has become of everything."""

        def setting(action: str) -> Any:
            text = (self.folder / f"{action}.yml").read_text()
            assert "  # as the team left it\n" in text
            return yaml.safe_load(text)

        assert setting("rate_limit")["rate_limit"] == 50
        assert setting("enable_cache")["cache"] == {"enabled": True}
        assert setting("fallback_llm")["llm"] == {"provider": "b"}
        assert [path.name for path in self.folder.glob(".*.promheal-*")] == []
        with redis.Redis(port=self.port, db=2) as cache:
            assert cache.keys() == [b"other"]
        assert self.broker.keys("working:*") == []
        tasks = Counter(map(int, self.broker.lrange("jobs", 0, -1)))
        assert tasks == Counter(range(3 * TASKS)), "none is lost, none is there twice"
        assert int((self.folder / "number").read_text()) == workers + 1
        commands = (self.folder / "commands").read_text().split()
        assert commands.count(f"{name}-command") <= 1
        assert self.http.asked[f"/once/{name}-http"] <= 1
        told = [body for _, body in self.listener.messages]
        assert f"round {name}-notify" in told
        silences = self.silences(f"{name}-silence")
        assert len(silences) == 1, silences
        kept = Path(runs["snapshot"]["steps"][0]["result"]["path"])
        assert json.loads(gzip.decompress(kept.read_bytes()))

    def silences(self, name: str) -> list[Any]:
        """Those that stand for a round, by their matchers."""
        url = f"{self.alertmanager.url}/api/v2/silences"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)
        wanted = {"name": "round", "value": name}
        return [one for one in found if wanted in [_plain(each) for each in one["matchers"]]]


def _plain(matcher: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": matcher["name"], "value": matcher["value"]}


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    with ExitStack() as stack:
        found = Sweep(stack, tmp_path)
        stack.enter_context(found.server)
        yield found


def test_every_action_is_in_the_sweep(tmp_path: Path) -> None:
    ours = {
        name
        for name in discover().names
        if type(discover().get(name)).__module__.startswith("receiver.")
    }
    assert set(steps(tmp_path, "")) == ours


def test_killed_in_the_middle_each_run_ends_as_declared(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], record_property: Record
) -> None:
    dice = random.Random(20)
    for number in range(ROUNDS):
        sweep.round(number, dice)
        with capsys.disabled():
            if ROUNDS > 2:
                print(f"kill {number + 1} of {ROUNDS}: {dict(sweep.cut)}")  # noqa: T201
    assert sum(sweep.cut.values()) >= ROUNDS, "the kills came in the middle of something"
    record_property("points of a run", sum(cut >= OFTEN for cut in sweep.cut.values()))
