"""Celery over a real Redis: workers that die and live, and messages that they wrote."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.actions.redistribute_tasks import RedistributeTasks
from receiver.errors import ActionError
from receiver.services.celery_queue import CeleryBroker, CeleryQueue, _Restoring
from receiver.services.resp import asked
from tests.brokers import Redis, eventually, running
from tests.killing import killed_in_the_middle
from tests.test_queues import inventory, redistribute
from tests.tools import REPOSITORY

APP = """
import os, time
from celery import Celery
app = Celery("app", broker="{broker}")
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True)
@app.task(name="add")
def add(number, pause):
    time.sleep(600 if "HANGS" in os.environ else pause)
    with open("{folder}/done", "a") as file:
        file.write(f"{{number}}\\n")
@app.task(name="limited", rate_limit="1/h")
def limited(number):
    add(number, 0)
"""


@pytest.fixture(autouse=True)
def _redis_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of these tests has just been started, and what they put there is older."""
    monkeypatch.setattr("receiver.services.celery_queue._BACK", 0.0)


class TestCelery:
    """Real workers, and messages that they wrote."""

    @pytest.fixture
    def app(self, redis: Redis, tmp_path: Path) -> Iterator[Any]:
        (tmp_path / "app.py").write_text(APP.format(broker=redis.url(0), folder=tmp_path))
        space: dict[str, Any] = {}
        exec((tmp_path / "app.py").read_text(), space)
        yield space["app"]
        space["app"].close()

    @contextmanager
    def worker(self, folder: Path, name: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        argv = [sys.executable, "-m", "celery", "-A", "app", "worker", "-n", f"{name}@test"]
        more = ["--concurrency", "1", "--prefetch-multiplier", "10"]
        environ = {**os.environ, **env}
        with running([*argv, *more], folder / f"{name}.log", cwd=folder, env=environ) as popen:
            yield popen

    def test_what_a_dead_worker_held_is_done_by_another_and_nothing_twice(
        self, app: Any, redis: Redis, tmp_path: Path
    ) -> None:
        queue = CeleryQueue(celery=CeleryBroker(broker=redis.url(), held_for=1.0))
        for number in range(4):
            app.send_task("add", (number, 0), priority=9 if number == 3 else None)
        with self.worker(tmp_path, "dies", HANGS="1"):
            eventually(lambda: redis.client.hlen("unacked") == 4, "a worker took them")
        # Another one has tasks of its own: at work, waiting, for a time, and held back for a rate.
        app.send_task("add", (10, 3))
        app.send_task("add", (11, 0))
        app.send_task("add", (12, 0), countdown=4)
        app.send_task("limited", (13,))
        app.send_task("limited", (14,))
        with self.worker(tmp_path, "lives") as lives:
            eventually(lambda: redis.client.hlen("unacked") == 9, "another took its own")
            taken = max(
                score for _, score in redis.client.zrange("unacked_index", 0, -1, withscores=True)
            )
            eventually(lambda: time.time() > taken + 2.1)
            os.kill(lives.pid, signal.SIGSTOP)
            with pytest.raises(ActionError, match="1 workers of Celery listen, but 1 did not"):
                redistribute(queue, timeout=1.0)
            os.kill(lives.pid, signal.SIGCONT)
            assert not list(queue.probe(timeout=10.0))
            assert redis.client.hlen("unacked") == 9
            result = redistribute(queue)
            assert (result["moved"], result["to"]) == (4, {"celery": 4})
            assert (result["workers"], result["left"]) == (1, 1)
            done = tmp_path / "done"
            expected = ["0", "1", "10", "11", "12", "13", "2", "3"]
            eventually(lambda: done.exists() and len(done.read_text().split()) >= len(expected))
            assert redistribute(queue)["moved"] == 0
            assert redis.client.hlen("unacked") == 1
            assert sorted(done.read_text().split()) == expected
        assert not redis.client.keys("*reply*")

    def test_killed_in_the_middle_it_loses_nothing(self, app: Any, redis: Redis) -> None:
        queue = CeleryQueue(celery=CeleryBroker(broker=redis.url(), queues=("celery", "other")))
        killed = 0
        for turn in range(20):
            fill_unacked(app, redis, 500, old=1000)
            killed += killed_in_the_middle(
                RedistributeTasks(),
                "shop",
                inventory(queue),
                lambda: redis.client.llen("celery") > 250 * turn,
            )
            assert redis.client.hlen("unacked") == redis.client.zcard("unacked_index")
        assert killed >= 10
        redistribute(queue)
        assert redis.client.exists("unacked", "unacked_index") == 0
        found = [
            json.loads(message)["headers"]["id"]
            for name in ("celery", "celery\x06\x166")
            for message in redis.client.lrange(name, 0, -1)
        ]
        assert len(found) == len(set(found)) == 20 * 500

    def test_what_it_cannot_tell_is_left(self, app: Any, redis: Redis) -> None:
        queue = CeleryQueue(celery=CeleryBroker(broker=redis.url(), queues=("other",)))
        fill_unacked(app, redis, 4, old=1000)
        redis.client.hset("unacked", "nonsense", "[1, 2")
        redis.client.zadd("unacked_index", {"nonsense": 1, "gone": 2})
        result = redistribute(queue)
        assert (result["moved"], result["left"]) == (0, 5)
        assert redis.client.hlen("unacked") == 5
        ours = CeleryQueue(celery=CeleryBroker(broker=redis.url(), held_for=2000.0))
        assert redistribute(ours)["moved"] == 0

    def test_it_needs_few_rights(self, app: Any, redis: Redis, tmp_path: Path) -> None:
        page = (REPOSITORY / "docs/reference/actions/redistribute_tasks.md").read_text()
        (rights,) = re.findall(r"\| Celery \| `(\+time [^`]+)`", page)
        rules = ["on", ">s3cret", "allkeys", "resetchannels", "&/*", "-@all", *rights.split()]
        redis.client.execute_command("ACL", "SETUSER", "healer", *rules)
        (tmp_path / "password").write_text("s3cret")
        broker = CeleryBroker(
            broker=redis.url(), username="healer", password_file=str(tmp_path / "password")
        )
        fill_unacked(app, redis, 3, old=1000)
        (problem,) = CeleryQueue(celery=broker).probe(timeout=5.0)
        assert "no worker of Celery listens" in problem
        assert redistribute(CeleryQueue(celery=broker))["moved"] == 3
        redis.client.execute_command("ACL", "DELUSER", "healer")

    def test_after_a_restart_of_redis_its_workers_have_time_to_come_back(
        self, app: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that lives and does not listen again yet would be taken for dead."""
        monkeypatch.setattr("receiver.services.celery_queue._BACK", 1e6)
        queue = CeleryQueue(celery=CeleryBroker(broker=redis.url(), held_for=1.0))
        fill_unacked(app, redis, 2, old=1e6)
        assert (redistribute(queue)["moved"], redistribute(queue)["left"]) == (0, 2)
        since = redis.client.time()[0] - redis.client.info("server")["uptime_in_seconds"]
        redis.client.flushall()
        eventually(lambda: time.time() > since + 4)
        fill_unacked(app, redis, 2, old=2.0)
        assert redistribute(queue)["moved"] == 2, "what was taken since is known to be theirs"

    def test_what_was_given_out_again_since_the_look_stays(self, app: Any, redis: Redis) -> None:
        fill_unacked(app, redis, 1, old=1000)
        broker = CeleryBroker(broker=redis.url())
        with asked(broker.broker, broker, time.monotonic() + 10) as ask:
            restoring = _Restoring(broker, ask, time.monotonic() + 10)
            ((tag, score),) = restoring.held()
            redis.client.zadd("unacked_index", {tag: time.time()})
            assert restoring.restore(tag, score) == ""
        assert redis.client.hlen("unacked") == 1

    def test_exchanges_are_bound_to_queues(self, app: Any, redis: Redis) -> None:
        fill_unacked(app, redis, 1, old=1000)
        ((tag, whole),) = redis.client.hgetall("unacked").items()
        message, _, _ = json.loads(whole)
        redis.client.hset("unacked", tag, json.dumps([message, "shop", "orders"]))
        queue = CeleryQueue(celery=CeleryBroker(broker=redis.url()))
        redis.client.sadd("_kombu.binding.shop", "orders\x06\x16\x06\x16celery")
        redis.client.sadd("_kombu.binding.shop", "orders\x06\x16\x06\x16second")
        assert redistribute(queue)["left"] == 1  # two queues had it
        redis.client.srem("_kombu.binding.shop", "orders\x06\x16\x06\x16second")
        assert redistribute(queue)["to"] == {"celery": 1}


def fill_unacked(app: Any, redis: Redis, count: int, old: float) -> None:
    """Have *count* messages held since *old* seconds, by nobody; every second has a priority."""
    waiting = redis.client.lrange("celery", 0, -1)
    redis.client.delete("celery")
    app.send_task("add", (1, 0))
    (text,) = redis.client.lrange("celery", 0, -1)
    redis.client.delete("celery")
    if waiting:
        redis.client.rpush("celery", *waiting)
    message = json.loads(text)
    with redis.client.pipeline() as pipe:
        for number in range(count):
            tag = str(uuid.uuid4())
            message["headers"]["id"] = message["properties"]["correlation_id"] = tag
            message["properties"]["delivery_tag"] = tag
            message["properties"]["priority"] = 7 * (number % 2)
            pipe.hset("unacked", tag, json.dumps([message, "", "celery"]))
            pipe.zadd("unacked_index", {tag: time.time() - old + number / 1000})
        pipe.execute()
