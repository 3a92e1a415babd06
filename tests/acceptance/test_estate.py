"""The machines on which test_many_machines.py builds are what they are taken for."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.acceptance.estate import Alertmanager, Estate, Host, Postgres, estate_in
from tests.acceptance.server import PATIENCE, alert, alive
from tests.chain import wait_until
from tests.tools import REPOSITORY

TOKEN = "token-of-alertmanager"


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    with estate_in(tmp_path) as found:
        yield found


@contextmanager
def hearing(host: Host, port: int) -> Iterator[list[tuple[str | None, dict[str, Any]]]]:
    """An HTTP server of a host, and what it is told with whose token."""
    heard: list[tuple[str | None, dict[str, Any]]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append((self.headers["Authorization"], body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host.address, port), Handler, False)
    server.socket.close()
    server.socket = host.tcp()
    server.server_bind()
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_hosts_have_networks_of_their_own(estate: Estate) -> None:
    one, other = estate.host("one"), estate.host("other")
    spaces = {each.namespace for each in (one, other, estate.desk, estate.switch)}
    assert len(spaces | {str(Path("/proc/self/ns/net").readlink())}) == 5
    seen = one.run(["readlink", "/proc/self/ns/net"]).stdout.strip()
    assert seen == one.namespace
    with hearing(one, 8080) as heard:
        answer = other.ask(f"{one.address}:8080", "/", b'{"from": "other"}')
        assert (answer.status, heard) == (202, [(None, {"from": "other"})])
        with pytest.raises(ConnectionRefusedError):
            other.ask(f"{other.address}:8080", "/", b"{}")


def test_estates_do_not_see_each_other(tmp_path: Path) -> None:
    with estate_in(tmp_path / "ours") as ours, estate_in(tmp_path / "theirs") as theirs:
        host = ours.host("web")
        assert theirs.host("web").address == host.address
        with hearing(host, 8080):
            assert ours.desk.ask(f"{host.address}:8080", "/", b"{}").status == 202
            with pytest.raises(ConnectionRefusedError):
                theirs.desk.ask(f"{host.address}:8080", "/", b"{}")


def test_a_cut_stops_what_two_hosts_say_and_nothing_else(estate: Estate) -> None:
    one, other, third = (estate.host(name) for name in ("one", "other", "third"))
    with hearing(one, 8080) as heard, other.connect((one.address, 8080)) as open_before:
        with estate.cut(one, other):
            with pytest.raises(TimeoutError):
                other.connect((one.address, 8080), timeout=0.5)
            with pytest.raises(TimeoutError):
                one.connect((other.address, 1), timeout=0.5)
            assert third.ask(f"{one.address}:8080", "/", b'{"from": "third"}').status == 202
            open_before.sendall(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
            time.sleep(0.5)
            assert len(heard) == 1
        # What was said meanwhile arrives when they are let back.
        wait_until(lambda: len(heard) == 2, within=PATIENCE, what="it arrives")


def client(host: Host, db: Postgres, sql: str, within: float = PATIENCE) -> str:
    """What PostgreSQL answers a host, or why there is no answer."""
    code = (
        "import psycopg, sys; print(*psycopg.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"
    )
    argv = [sys.executable, "-c", code, db.url, sql]
    done = host.run(argv, env=db.environ_of_clients, within=within)
    return done.stdout.strip() or done.stderr


def test_postgres_keeps_what_it_committed(estate: Estate) -> None:
    db, host = Postgres(estate, estate.host("db")), estate.host("client")
    assert client(host, db, "SHOW fsync") == "on"
    db.sql("CREATE TABLE said (what text)")
    db.sql("INSERT INTO said VALUES ('before')")
    said = "SELECT what FROM said"
    db.kill9()
    assert "Connection refused" in client(host, db, said)
    db.start()
    assert client(host, db, said) == "before"
    with estate.cut(db.host, host):
        with pytest.raises(subprocess.TimeoutExpired):
            client(host, db, said, within=1)
        assert db.sql("SELECT what FROM said") == [("before",)]
    assert client(host, db, said) == "before"
    assert db.stop() == 0


def test_each_alertmanager_tells_its_own(estate: Estate) -> None:
    ears = [estate.host("ear-1"), estate.host("ear-2")]
    with hearing(ears[0], 8080) as first, hearing(ears[1], 8080) as second:
        both = [
            Alertmanager(
                estate, estate.host(f"am-{number}"), [f"http://{ear.address}:8080/"], token=TOKEN
            ).start()
            for number, ear in enumerate(ears)
        ]
        for one in both:
            one.fire([alert("Sick", target="a"), alert("Sick", target="b")])
        for heard in (first, second):
            wait_until(lambda: len(heard) == 2, within=PATIENCE, what="both are told")
            assert {by for by, _ in heard} == {f"Bearer {TOKEN}"}
            told = [one["labels"]["target"] for _, body in heard for one in body["alerts"]]
            assert sorted(told) == ["a", "b"]
        both[0].kill9()
        both[0].start().fire([alert("Sick", target="c")])
        wait_until(lambda: len(first) >= 3, within=PATIENCE, what="it is told of the third")
        assert len(second) == 2


LEFT_ALONE = """
import os, sys
from pathlib import Path
from tests.acceptance.estate import Postgres, estate_in
folder, end, seconds = sys.argv[1:]
with estate_in(Path(folder)) as estate:
    db = Postgres(estate, estate.host("db"))
    sleep = f"sleep {seconds} & setsid sleep {seconds} & wait"
    orphan = db.host.start(["sh", "-c", sleep], Path(folder) / "log")
    hosts = [host.pid for host in (*estate.hosts.values(), estate.switch)]
    print(*hosts, db.pid, orphan.pid, flush=True)
    if end == "killed":
        os.kill(os.getpid(), 9)
    raise ZeroDivisionError
"""


@pytest.mark.parametrize("end", ["failed", "killed"])
def test_nothing_is_left_when_a_test_fails_or_is_killed(end: str) -> None:
    seconds = f"600.{os.getpid()}"
    with TemporaryDirectory(prefix="promheal-") as folder:
        done = subprocess.run(
            [sys.executable, "-c", LEFT_ALONE, folder, end, seconds],
            check=False,
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "TMPDIR": folder},
        )
        assert done.returncode == {"failed": 1, "killed": -9}[end], done
        pids = list(map(int, done.stdout.split()))
        assert len(pids) == 5
        wait_until(lambda: not any(map(alive, pids)), within=PATIENCE, what="all are gone")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert seconds.encode() not in path.read_bytes()
