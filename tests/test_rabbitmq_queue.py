"""A real RabbitMQ, with workers that hang."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from msgspec import structs

from receiver.errors import ActionError
from receiver.services.rabbitmq_queue import RabbitBroker, RabbitQueue
from tests.brokers import RabbitMQ, eventually, rabbitmq, running
from tests.hostile import SHARPEST
from tests.test_queues import redistribute

CONSUMER = """
import os, sys, time, pika
port, name, prefetch = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, heartbeat=0))
channel = connection.channel()
channel.basic_qos(prefetch_count=prefetch)
def work(channel, method, properties, body):
    if name == "hangs":
        connection.sleep(600)  # it keeps its connection, and confirms nothing
    time.sleep(0.05)
    with open(f"{name}.done", "a") as file:
        file.write(body.decode() + "\\n")
    channel.basic_ack(method.delivery_tag)
channel.basic_consume("jobs", work)
channel.start_consuming()
"""


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


class TestRabbitMQ:
    """A real one, with workers that hang."""

    def test_what_a_stuck_worker_held_is_done_by_another(
        self, rabbit: RabbitMQ, tmp_path: Path
    ) -> None:
        (tmp_path / "password").write_text("guest\n")
        broker = RabbitBroker(
            url=rabbit.url,
            queue="jobs",
            username="guest",
            password_file=str(tmp_path / "password"),
            stuck_after=1.0,
        )
        queue = RabbitQueue(rabbitmq=broker)
        patient = RabbitQueue(rabbitmq=structs.replace(broker, stuck_after=600.0))
        with pytest.raises(ActionError, match="has no queue 'jobs' in vhost '/'; 0 connections"):
            redistribute(queue)
        (tmp_path / "wrong").write_text("wrong")
        refused = structs.replace(broker, password_file=str(tmp_path / "wrong"))
        with pytest.raises(ActionError, match="answered 401; check `username`"):
            redistribute(RabbitQueue(rabbitmq=refused))

        parameters = pika.ConnectionParameters("127.0.0.1", rabbit.port)
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            channel.queue_declare("jobs", durable=True)
            channel.confirm_delivery()
            for number in range(20):
                channel.basic_publish("", "jobs", str(number))
        (tmp_path / "worker.py").write_text(CONSUMER)
        argv = [sys.executable, "worker.py", str(rabbit.port)]
        with running([*argv, "hangs", "20"], tmp_path / "hangs.log", cwd=tmp_path):
            eventually(lambda: rabbit.queue("jobs").get("messages_unacknowledged") == 20)
            with running([*argv, "works", "1"], tmp_path / "works.log", cwd=tmp_path):
                eventually(lambda: rabbit.queue("jobs").get("consumers") == 2)
                assert redistribute(patient)["moved"] == 0
                assert not list(queue.probe(timeout=10.0))
                result = eventually(lambda: found if (found := redistribute(queue))["moved"] else 0)
                assert (result["moved"], len(result["closed"])) == (20, 1)
                done = tmp_path / "works.done"
                eventually(lambda: done.exists() and len(done.read_text().split()) == 20)
                assert sorted(map(int, done.read_text().split())) == list(range(20))
                eventually(lambda: rabbit.queue("jobs").get("messages") == 0)
                assert redistribute(queue)["closed"] == {}
                assert rabbit.queue("jobs")["consumers"] == 1

    def test_a_hostile_name_is_one_queue_and_no_other(
        self, rabbit: RabbitMQ, tmp_path: Path
    ) -> None:
        """None is there, or its path is refused; one that is there is found as itself."""
        (tmp_path / "password").write_text("guest\n")
        broker = RabbitBroker(
            url=rabbit.url, queue="kept", username="guest",
            password_file=str(tmp_path / "password"), stuck_after=600.0,
        )  # fmt: skip
        parameters = pika.ConnectionParameters("127.0.0.1", rabbit.port)
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            channel.queue_declare("kept")
            channel.confirm_delivery()
            channel.basic_publish("", "kept", "a message")
            for value in SHARPEST:
                name = value.replace("{f}", str(tmp_path / "canary"))
                queue = RabbitQueue(rabbitmq=structs.replace(broker, queue=name))
                with pytest.raises(ActionError):
                    redistribute(queue)
            for name in ("kept/get", "a%2Fb", "\u202ex"):
                channel.queue_declare(name)
                queue = RabbitQueue(rabbitmq=structs.replace(broker, queue=name))
                eventually(lambda queue=queue: moved(queue) == 0, name)  # type: ignore[misc]
            found = channel.basic_get("kept", auto_ack=True)
            assert found[2] == b"a message"
        assert not (tmp_path / "canary").exists()


def moved(queue: RabbitQueue) -> int | None:
    """None, while the management plug-in has not yet heard of it."""
    try:
        return int(redistribute(queue)["moved"])
    except ActionError:
        return None
