"""Real brokers that tests start for themselves, on free ports, in folders of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from receiver.actions import discover
from receiver.config.files import load
from receiver.services import Service
from tests.tools import REPOSITORY, tool

PATIENCE = 60.0
_POLICIES = ("global", "basic", "detailed")


def service_with(part: str, folder: Path) -> Service:
    """The service `shop` of a configuration in *folder*, with a line of its own."""
    manager = "    manager: {command: {restart: [/bin/true]}}\n"
    (folder / "services.yml").write_text(f"services:\n  shop:\n{manager}    {part}\n")
    return load(folder / "promheal.yml", discover(), {}).inventory.get("shop")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(probe.getsockname()[1])
        return found


def eventually(holds: Callable[[], Any], what: str = "", within: float = PATIENCE) -> Any:
    """What *holds* returns as soon as it is true."""
    deadline = time.monotonic() + within
    while not (value := holds()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:g} s: {what or holds}")
        time.sleep(0.02)
    return value


@contextmanager
def running(argv: list[str], log: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all its children, which end with the block."""
    with log.open("ab") as out:
        popen = subprocess.Popen(argv, stdout=out, stderr=out, start_new_session=True, **more)
    try:
        yield popen
    finally:
        if popen.poll() is None:
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()


class Redis:
    """A redis-server, and redis-py as the witness of what is in it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.client: Any = redis.Redis(port=port, decode_responses=True)

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def ready(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[Redis]:
    (port,) = free_ports(1)
    argv = [tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with running([*argv, "--save", "", *options], folder / "redis.log"):
        server = Redis(port)
        eventually(server.ready, "redis-server listens")
        yield server
        server.client.close()


class RabbitMQ:
    """A RabbitMQ with its management plug-in, and the account guest, guest."""

    def __init__(self, port: int, management: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{management}"

    def ask(self, path: str) -> Any:
        """The answer of its management plug-in; none, where it gives none or refuses."""
        login = b64encode(b"guest:guest").decode()
        request = urllib.request.Request(
            f"{self.url}/api/{path}", headers={"Authorization": f"Basic {login}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.load(response)
        except OSError:
            return {}

    def queue(self, name: str) -> dict[str, Any]:
        return dict(self.ask(f"queues/%2f/{name}"))


@contextmanager
def rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    """Debian's, unpacked by `make develop`; it starts in some seven seconds."""
    port, management, epmd, distribution = free_ports(4)
    usr = REPOSITORY / ".tools/usr"
    (server,) = usr.glob("lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
    (folder / "plugins").write_text("[rabbitmq_management].")
    # Statistics every second, where five is usual.
    policies = [f"management.sample_retention_policies.{name}.minute = 1" for name in _POLICIES]
    own = [f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}"]
    collect = ["collect_statistics_interval = 500"]
    (folder / "rabbitmq.conf").write_text("\n".join([*own, *collect, *policies, ""]))
    env = {
        "PATH": f"{usr}/lib/erlang/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd),
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    log = folder / "rabbitmq.log"
    with (
        running([f"{usr}/lib/erlang/bin/epmd"], log, env=env),
        running([str(server)], log, env=env, cwd=folder),
    ):
        broker = RabbitMQ(port, management)
        eventually(lambda: broker.ask("overview"), log.read_text(errors="replace")[-2000:], 120)
        yield broker
