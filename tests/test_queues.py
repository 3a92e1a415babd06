"""A real Redis, with workers that die: nothing is lost, nothing is done twice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from receiver.actions.redistribute_tasks import RedistributeParams, RedistributeTasks
from receiver.errors import ActionError
from receiver.services import Inventory, Queue, Service
from receiver.services.celery_queue import CeleryQueue
from receiver.services.command import CommandManager
from receiver.services.command_queue import CommandQueue, Redistribute
from receiver.services.rabbitmq_queue import RabbitQueue
from receiver.services.redis_queue import RedisQueue
from receiver.yaml.diagnostics import InvalidConfig
from tests import factories
from tests.brokers import (
    Redis,
    eventually,
    running,
    service_with,
)
from tests.killing import killed_in_the_middle
from tests.test_template import HOSTILE


def inventory(queue: Queue | None) -> Inventory:
    manager = CommandManager(restart_argv=("true",))
    return Inventory({"shop": Service(name="shop", manager=manager, queue=queue)})


def redistribute(queue: Queue | None, service: str = "shop", **more: Any) -> dict[str, Any]:
    context = factories.context(inventory=inventory(queue), **more)
    return RedistributeTasks().run(RedistributeParams(service=service), context)


class TestAction:
    def test_it_may_be_repeated_and_not_undone(self) -> None:
        params = RedistributeParams(service="shop")
        assert RedistributeTasks().idempotent(params)
        assert not RedistributeTasks().undoable(params)

    def test_a_service_without_a_queue_is_told_and_left_alone(self) -> None:
        with pytest.raises(ActionError, match=r"has no `queue` in .* nothing was touched"):
            redistribute(None)
        for name in ("shop", "shpo", "{{ labels.service }}"):
            params = RedistributeParams(service=name)
            assert len(list(RedistributeTasks().problems(params, inventory(None)))) == 1

    def test_a_hostile_label_reaches_no_queue(self) -> None:
        touched: list[str] = []

        class Spy:
            def redistribute(self, *, timeout: float) -> dict[str, Any]:
                touched.append("redistribute")
                return {}

        for value in HOSTILE:
            with pytest.raises(ActionError, match="nothing was touched"):
                redistribute(Spy(), service=value)
        assert not touched
        redistribute(Spy())
        assert touched == ["redistribute"]


class TestCommand:
    def test_its_exit_code_counts(self) -> None:
        argv = (sys.executable, "-c", "print('moved 3')")
        result = redistribute(CommandQueue(command=Redistribute(redistribute=argv)))
        assert result["output"] == "moved 3\n"
        with pytest.raises(ActionError, match="'false' ended with exit code 1"):
            redistribute(CommandQueue(command=Redistribute(redistribute=("false",))))
        slow = CommandQueue(command=Redistribute(redistribute=("sleep", "100")))
        with pytest.raises(ActionError, match="'sleep' did not end within"):
            redistribute(slow, timeout=0.2)
        assert not list(slow.probe(timeout=1.0))
        gone = CommandQueue(command=Redistribute(redistribute=("/no/program",)))
        assert list(gone.probe(timeout=1.0)) == [
            "there is no program '/no/program'; write its whole path"
        ]


WORKER = """
import sys, threading, time, redis
port, name, pace = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
r = redis.Redis(port=port)
r.set(f"jobs:alive:{name}", 1, ex=2)  # before the first task is taken
def beat():
    while True:
        r.set(f"jobs:alive:{name}", 1, ex=2)
        time.sleep(0.1)
threading.Thread(target=beat, daemon=True).start()
while True:
    task = r.blmove("jobs", f"jobs:working:{name}", 1.0)
    if task is not None:
        time.sleep(pace)
        done = r.pipeline(transaction=True)
        done.lrem(f"jobs:working:{name}", 1, task)
        done.rpush("done", task)
        done.execute()
"""
"""A worker as the documentation wants it."""


def lists(redis: Redis, **more: Any) -> RedisQueue:
    return RedisQueue(
        redis=redis.url(),
        waiting="jobs",
        working="jobs:working:*",
        alive="jobs:alive:{worker}",
        **more,
    )


class TestRedis:
    def test_what_the_dead_hold_waits_again_and_the_oldest_first(self, redis: Redis) -> None:
        redis.client.lpush("jobs", *range(10))
        for _ in range(3):
            redis.client.rpoplpush("jobs", "jobs:working:dead")  # 0, 1, 2
        redis.client.rpoplpush("jobs", "jobs:working:living")
        redis.client.set("jobs:alive:living", 1)
        result = redistribute(lists(redis))
        assert result["moved"] == 3
        assert result["from"] == {"jobs:working:dead": 3}
        assert (result["living"], result["waiting"]) == (1, 9)
        taken = [redis.client.rpop("jobs") for _ in range(9)]
        assert taken == ["0", "1", "2", "4", "5", "6", "7", "8", "9"]
        assert redis.client.lrange("jobs:working:living", 0, -1) == ["3"]
        assert redistribute(lists(redis))["moved"] == 0

    def test_workers_may_take_at_the_left(self, redis: Redis) -> None:
        redis.client.rpush("jobs", *range(5))
        for _ in range(3):
            redis.client.lmove("jobs", "jobs:working:dead", "LEFT", "RIGHT")
        assert redistribute(lists(redis, take="left"))["moved"] == 3
        assert [redis.client.lpop("jobs") for _ in range(5)] == ["0", "1", "2", "3", "4"]

    def test_other_keys_are_no_lists_of_workers(self, redis: Redis) -> None:
        redis.client.set("jobs:working:text", "x")
        redis.client.hset("jobs:working:hash", "a", "b")
        redis.client.rpush("xjobs:working:other", 1)
        redis.client.rpush("jobs:working", 2)
        redis.client.rpush("jobs:working:\u00fc*[x]", 3)
        assert redistribute(lists(redis))["moved"] == 1
        assert redis.client.lrange("jobs", 0, -1) == ["3"]
        assert redis.client.exists("jobs:working:text", "jobs:working:hash", "xjobs:working:other")

    def test_more_than_one_batch(self, redis: Redis) -> None:
        redis.client.rpush("jobs:working:dead", *range(12_345))
        assert redistribute(lists(redis))["moved"] == 12_345
        assert redis.client.llen("jobs") == 12_345

    def test_it_needs_few_rights(self, redis: Redis, tmp_path: Path) -> None:
        redis.client.rpush("jobs:working:dead", 1)
        rights = ["+scan", "+eval", "+exists", "+lmove", "+llen"]
        rules = ["on", ">s3cret", "resetkeys", "~jobs", "~jobs:*", "-@all", *rights]
        redis.client.execute_command("ACL", "SETUSER", "healer", *rules)
        (tmp_path / "password").write_text("s3cret")
        login = {"username": "healer", "password_file": str(tmp_path / "password")}
        assert not list(lists(redis, **login).probe(timeout=5.0))
        assert redistribute(lists(redis, **login))["moved"] == 1
        redis.client.execute_command("ACL", "SETUSER", "healer", "-lmove")
        redis.client.rpush("jobs:working:dead", 1)
        with pytest.raises(ActionError, match=r"refused EVAL: .*0 tasks were moved"):
            redistribute(lists(redis, **login))
        with pytest.raises(ActionError, match="refused EVAL"):
            lists(redis, **login).probe(timeout=5.0)
        assert redis.client.lrange("jobs:working:dead", 0, -1) == ["1"]
        redis.client.execute_command("ACL", "DELUSER", "healer")

    def test_workers_die_and_it_is_killed_and_each_task_is_done_once(
        self, redis: Redis, tmp_path: Path
    ) -> None:
        """20 times: a worker dies with tasks, we die amid them, others produce and work on."""
        produced = 0
        queue = lists(redis)
        argv = [sys.executable, "-c", WORKER, str(redis.port)]
        killed = 0
        with (
            running([*argv, "one", "0.002"], tmp_path / "one.log"),
            running([*argv, "two", "0.002"], tmp_path / "two.log"),
        ):
            eventually(lambda: redis.client.exists("jobs:alive:one", "jobs:alive:two") == 2)
            for turn in range(20):
                # A dead worker, which held more than a batch.
                held = [f"dead-{turn}-{n}" for n in range(2000)]
                redis.client.rpush(f"jobs:working:dead{turn}", *held)
                redis.client.lpush("jobs", *(f"new-{turn}-{n}" for n in range(10)))
                produced += 2010
                before = redis.client.llen(f"jobs:working:dead{turn}")
                killed += killed_in_the_middle(
                    RedistributeTasks(),
                    "shop",
                    inventory(queue),
                    lambda: redis.client.llen(f"jobs:working:dead{turn}") < before,
                )
            assert killed >= 10
            redistribute(queue)
            assert not redis.client.keys("jobs:working:dead*")
            eventually(lambda: redis.client.llen("done") >= 500)
        everything = [
            task
            for key in redis.client.scan_iter(_type="list")
            for task in redis.client.lrange(key, 0, -1)
        ]
        assert len(everything) == len(set(everything)) == produced

    def test_a_worker_that_is_killed_loses_no_task(self, redis: Redis, tmp_path: Path) -> None:
        redis.client.lpush("jobs", *range(60))
        argv = [sys.executable, "-c", WORKER, str(redis.port)]
        with running([*argv, "one", "0.05"], tmp_path / "one.log"):
            eventually(lambda: redis.client.llen("done") >= 2)
        with running([*argv, "two", "0"], tmp_path / "two.log"):
            assert redistribute(lists(redis))["moved"] == 0  # its heart beat a moment ago
            eventually(lambda: redistribute(lists(redis))["moved"] == 1)
            eventually(lambda: redis.client.llen("done") == 60)
        assert sorted(map(int, redis.client.lrange("done", 0, -1))) == list(range(60))


class TestConfiguration:
    def test_each_kind_is_told_by_its_key(self, config: Path) -> None:
        rabbitmq = "url: 'http://h:1', queue: q, username: u, password_file: /p, stuck_after: 1h"
        for text, kind in (
            ("redis: redis://h, waiting: a, working: 'w:*', alive: 'a:{worker}'", RedisQueue),
            (f"rabbitmq: {{{rabbitmq}}}", RabbitQueue),
            ("celery: {broker: rediss://h/1}", CeleryQueue),
            ("command: {redistribute: [a]}", CommandQueue),
        ):
            assert type(service_with(f"queue: {{{text}}}", config).queue) is kind
        assert service_with("", config).queue is None

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("{}", "one of the keys redis, rabbitmq, celery, command"),
            ("{redis: redis://h, waiting: a, working: 'w:*'}", "missing key 'alive'"),
            ("{redis: redis://h, waiting: a, working: w, alive: '{worker}'}", "must have one *"),
            ("{redis: redis://h, waiting: a, working: 'w?*', alive: '{worker}'}", "none of ? ["),
            ("{redis: redis://h, waiting: a, working: 'w*', alive: a}", "must have {worker} once"),
            (
                "{redis: redis://h, waiting: wa, working: 'w*', alive: '{worker}'}",
                "waiting list too",
            ),
            ("{celery: {broker: 'amqp://h'}}", "is no address"),
            ("{celery: {broker: 'redis://h', held_for: 0s}}", "held_for"),
            ("{celery: {broker: 'redis://h', queues: []}}", "queues"),
            ("{command: {redistribute: []}}", "redistribute"),
            ("{rabbitmq: {url: 'http://h', queue: q}}", "missing key 'stuck_after'"),
        ],
    )
    def test_what_is_wrong_is_told_when_it_is_loaded(
        self, text: str, problem: str, config: Path
    ) -> None:
        with pytest.raises(InvalidConfig) as error:
            service_with(f"queue: {text}", config)
        assert problem in str(error.value)
