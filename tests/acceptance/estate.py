"""Many machines on one: hosts with addresses of their own, on a network that can be cut.

A host has its own network, processes and host name: namespaces of the kernel, with one end of a
cable whose other end is in a switch. Files are shared, as over NFS; packets go through the switch
and nowhere else. All of it belongs to one user namespace, so no root is needed, nothing has a name
that another test could take, and the kernel removes it when the first process of each host ends.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, LiteralString, Self

import psycopg
import pytest

from tests.acceptance.server import PATIENCE, Answer, as_prometheus, routing
from tests.chain import wait_until
from tests.postgres import USR
from tests.tools import tool

NETWORK: Final = "192.0.2.{}"
"""No machine of this world has such an address (RFC 5737)."""
ROOT: Final = Path("/")
CONNECT: Final = 5.0
"""Seconds to reach somebody who is there."""


class Host:
    """One machine. Programs run in it, and the test can speak from it."""

    def __init__(
        self, stack: ExitStack, name: str, address: str, behind: Host | None = None
    ) -> None:
        """Put it up *behind* the switch; without one it is the switch, which is a network only."""
        self.name = name
        self.address = address
        self._lock = threading.Lock()
        self._door, theirs = socket.socketpair()
        stack.callback(self._door.close)
        envoy = [sys.executable, "-I", "-S", str(Path(__file__).with_name("envoy.py"))]
        if behind is None:
            self._has = ["--user", "--net"]
            argv = [tool("unshare"), "--user", "--map-root-user", "--net", "--", *envoy]
            last = []
        else:
            self._has = ["--user", "--net", "--pid", "--mount", "--uts"]
            apart = ["--net", "--pid", "--fork", "--mount-proc", "--uts", "--"]
            argv = [*behind.entrance, tool("unshare"), *apart, *envoy]
            last = [name]
        with theirs:
            self._keeper = subprocess.Popen(
                [*argv, str(theirs.fileno()), *last],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )
        stack.callback(self._leave)
        try:
            self.tcp().close()  # it answers, so the namespaces are made
        except OSError:
            self._keeper.kill()
            _, why = self._keeper.communicate()
            pytest.fail(
                "tests on many machines need namespaces (user, network, process), which this"
                f" machine refuses: {why.decode().strip()}. Run them as root, or allow them to"
                " users (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0).",
                pytrace=False,
            )
        self.pid = forked(self._keeper.pid) or self._keeper.pid
        """Its first process, as this machine knows it."""

    def _leave(self) -> None:
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._keeper.wait(PATIENCE)
        assert self._keeper.stderr is not None
        self._keeper.stderr.close()

    @property
    def namespace(self) -> str:
        """What a process in it finds at /proc/self/ns/net."""
        return str(Path(f"/proc/{self.pid}/ns/net").readlink())

    @property
    def entrance(self) -> list[str]:
        """What is put before a command line to run it in this host."""
        enter = ["--target", str(self.pid), *self._has, "--preserve-credentials"]
        return [tool("nsenter"), *enter, "--"]

    def alive(self, pid: int) -> bool:
        """Whether a process runs that has this number here."""
        return _state(pid, Path(f"/proc/{self.pid}/root")) not in {"", "Z", "X"}

    def start(
        self, argv: Sequence[str], log: Path, env: Mapping[str, str] = {}, cwd: Path = ROOT
    ) -> subprocess.Popen[bytes]:
        """Start a program in a process group of its own, below the `nsenter` that is returned.

        That one stays outside, waits for it, and ends as it does.
        """
        with log.open("ab") as out:
            return subprocess.Popen(
                [*self.entrance, tool("setsid"), "env", f"--chdir={cwd}", *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **env},
                start_new_session=True,
            )

    def run(
        self,
        argv: Sequence[str],
        *,
        text: str = "",
        env: Mapping[str, str] = {},
        cwd: Path = ROOT,
        within: float = PATIENCE,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, with *text* as its standard input."""
        return subprocess.run(
            [*self.entrance, "env", f"--chdir={cwd}", *argv],
            check=False,
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, **env},
            timeout=within,
        )

    def tcp(self) -> socket.socket:
        """A TCP socket of this host."""
        with self._lock:
            self._door.sendall(b".")
            said, made, _, _ = socket.recv_fds(self._door, 1, 1)
        if not said:
            raise ConnectionAbortedError(f"host {self.name} is gone")
        return socket.socket(fileno=made[0])

    def connect(self, to: tuple[str, int], timeout: float = CONNECT) -> socket.socket:
        made = self.tcp()
        try:
            made.settimeout(timeout)
            made.connect(to)
        except BaseException:
            made.close()
            raise
        return made

    def ask(
        self,
        to: str,
        path: str,
        body: bytes | None = None,
        *,
        method: str = "",
        token: str = "",
        timeout: float = PATIENCE,
    ) -> Answer:
        """Send one request from here to HOST:PORT. OSError when nobody answers."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        address, port = to.split(":")
        line = _Line(self, address, int(port), timeout)
        try:
            line.request(method or ("GET" if body is None else "POST"), path, body, headers)
            with line.getresponse() as answer:
                return Answer(answer.status, answer.read().decode())
        except http.client.HTTPException as error:
            raise ConnectionAbortedError(f"{to} broke off: {error!r}") from error
        finally:
            line.close()


class _Line(http.client.HTTPConnection):
    """A connection that begins in a host."""

    def __init__(self, host: Host, address: str, port: int, timeout: float) -> None:
        super().__init__(address, port, timeout=timeout)
        self._from = host
        self._within = timeout

    def connect(self) -> None:
        self.sock = self._from.connect((self.host, self.port), min(CONNECT, self._within))
        self.sock.settimeout(self._within)


class Estate:
    """A switch, hosts around it, and `desk`, the host at which the test sits."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.stack = stack
        self.hosts: dict[str, Host] = {}
        self._cuts = 0
        self.switch = Host(stack, "switch", "")
        self._ip(self.switch, "link add name switch type bridge", "link set switch up")
        self.desk = self.host("desk")

    def host(self, name: str) -> Host:
        """The host of that name, which is put up when first asked for."""
        if name not in self.hosts:
            number = len(self.hosts) + 1
            address = NETWORK.format(number)
            made = Host(self.stack, name, address, self.switch)
            self._ip(
                self.switch,
                f"link add name port{number} type veth peer name eth0 netns {made.pid}",
                f"link set port{number} master switch up",
            )
            self._ip(
                made, "link set lo up", f"address add {address}/24 dev eth0", "link set eth0 up"
            )
            self.hosts[name] = made
        return self.hosts[name]

    def _ip(self, host: Host, *lines: str) -> None:
        done = host.run([tool("ip"), "-batch", "-"], text="\n".join(lines))
        assert done.returncode == 0, done

    @contextmanager
    def cut(self, one: Host, other: Host) -> Iterator[None]:
        """The switch drops what they send each other; neither is told, as with a pulled cable."""
        self._cuts += 1
        table = f"bridge cut{self._cuts}"
        here, there = one.address, other.address
        self._nft(
            f"add table {table}",
            f"add chain {table} between {{ type filter hook forward priority 0; }}",
            *(
                f"add rule {table} between {rule} drop"
                for a, b in ((here, there), (there, here))
                for rule in (f"ip saddr {a} ip daddr {b}", f"arp saddr ip {a} arp daddr ip {b}")
            ),
        )
        try:
            yield
        finally:
            self._nft(f"delete table {table}")

    def _nft(self, *lines: str) -> None:
        done = self.switch.run([tool("nft"), "-f", "-"], text="\n".join(lines))
        assert done.returncode == 0, done


@contextmanager
def estate_in(folder: Path) -> Iterator[Estate]:
    with ExitStack() as stack:
        yield Estate(stack, folder)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []


def forked(pid: int) -> int:
    """The first process that one has started, or 0."""
    return next(iter(_children(pid)), 0)


def _state(pid: int, root: Path = ROOT) -> str:
    """Its state as ps shows it, or nothing when it is gone."""
    try:
        stat = (root / f"proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


# ── what runs in it ──


class Program:
    """A program of a host, that can be killed at any moment and started again."""

    def __init__(self, estate: Estate, host: Host, port: int) -> None:
        self.estate = estate
        self.host = host
        self.port = port
        self.folder = estate.folder / host.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / f"{type(self).__name__.lower()}.log"
        self.process: subprocess.Popen[bytes] | None = None
        estate.stack.callback(self.kill9)

    @property
    def address(self) -> str:
        return f"{self.host.address}:{self.port}"

    @property
    def pid(self) -> int:
        """As this machine knows it; 0 when it has ended."""
        nsenter = self.process
        assert nsenter is not None
        wait_until(lambda: forked(nsenter.pid) or nsenter.poll() is not None, what="it is forked")
        return forked(nsenter.pid)

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environ(self) -> Mapping[str, str]:
        return {}

    def ready(self) -> bool:
        raise NotImplementedError

    def launch(self) -> None:
        """Start it, and do not wait."""
        assert self.process is None
        self.process = self.host.start(self.command(), self.log, self.environ(), self.folder)

    def start(self) -> Self:
        """Start it, and return when it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        def up() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                pytest.fail(f"{self.host.name} does not come up:\n{self.tail()}", pytrace=False)
            try:
                return self.ready()
            except OSError:
                return False

        wait_until(up, within=PATIENCE, what=f"{self.host.name} is ready")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-8_000:]

    def kill9(self) -> None:
        """End it at one stroke, in the middle of whatever it does, if it runs."""
        if self.process is None:
            return
        if pid := self.pid:
            self._kill(pid)
        self.process.wait()
        self.process = None

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Have it stand still with all that it does itself; what it has started goes on."""
        assert self.process is not None
        nsenter = self.process.pid
        os.killpg(self.pid, signal.SIGSTOP)
        # nsenter does as its child, and would do so after the thaw if that came first.
        wait_until(lambda: _state(nsenter) == "T", what=f"{self.host.name} is frozen")

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)
        os.killpg(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def ended(self, within: float = PATIENCE) -> int:
        """Wait for its end and return its exit code."""
        assert self.process is not None
        code = self.process.wait(within)
        self.process = None
        return code

    def stop(self) -> int:
        self.terminate()
        return self.ended()


class Postgres(Program):
    """A PostgreSQL with one database, that writes through to the disk and asks for a password.

    It refuses to run as root, so it runs as somebody else, in a user namespace of its own. The test
    itself asks it through a Unix socket, which no cut concerns.
    """

    NAME: Final = "promheal"
    """Of the user and of the database."""

    def __init__(self, estate: Estate, host: Host) -> None:
        super().__init__(estate, host, 5432)
        password = secrets.token_hex(8)
        self.url = f"postgresql://{self.NAME}@{self.address}/{self.NAME}"
        self.environ_of_clients = {"PGPASSWORD": password}
        # The path of a Unix socket may have 107 characters.
        self._sockets = estate.stack.enter_context(TemporaryDirectory(prefix="promheal-pg-"))
        (self.folder / "password").write_text(password)
        made = host.run(
            [
                *(*self._program("initdb"), "--pgdata=data", f"--username={self.NAME}"),
                *("--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=password"),
                *("--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            env=self.environ(),
            cwd=self.folder,
        )
        assert made.returncode == 0, made
        with (self.folder / "data/pg_hba.conf").open("a") as hba:
            hba.write(f"host all all {NETWORK.format(0)}/24 scram-sha-256\n")
        self.start()
        self.sql(f"CREATE DATABASE {self.NAME}", database="postgres")

    def _program(self, name: str) -> list[str]:
        (folder,) = USR.glob("lib/postgresql/*/bin")
        somebody = ["--user", "--map-user=1000", "--map-group=1000", "--"]
        return [tool("unshare"), *somebody, str(folder / name)]

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": self.host.address,
            "unix_socket_directories": self._sockets,
            "max_connections": "200",
            "jit": "off",
        }
        given = [f"--{name}={value}" for name, value in settings.items()]
        return [*self._program("postgres"), "-D", "data", *given]

    def environ(self) -> Mapping[str, str]:
        libraries = {str(file.parent) for file in (USR / "lib").rglob("lib*.so*")}
        return {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}

    def ready(self) -> bool:
        try:
            return self.sql("SELECT 1", database="postgres") == [(1,)]
        except psycopg.OperationalError:
            return False

    def sql(self, sql: LiteralString, *, database: str = NAME) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=self._sockets,
            user=self.NAME,
            dbname=database,
            autocommit=True,
            options="-c search_path=promheal,public",
        ) as connection:
            answer = connection.execute(sql)
            return answer.fetchall() if answer.description else []

    def _kill(self, pid: int) -> None:
        children = _children(pid)  # each is a process group of its own
        super()._kill(pid)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        wait_until(lambda: not any(map(_state, children)), what="Postgres has ended")

    def terminate(self) -> None:
        """End it as `systemctl stop` does: whoever is connected is cut off."""
        os.kill(self.pid, signal.SIGINT)


class Alertmanager(Program):
    """One that knows of no other, and tells each webhook of each alert at once."""

    def __init__(
        self, estate: Estate, host: Host, webhooks: Sequence[str], *, token: str, **route: Any
    ) -> None:
        super().__init__(estate, host, 9093)
        config = routing(*webhooks, token=token, **route)
        (self.folder / "alertmanager.yml").write_text(json.dumps(config))  # JSON is YAML

    def command(self) -> Sequence[str]:
        return [
            tool("prometheus-alertmanager"),
            "--config.file=alertmanager.yml",
            "--storage.path=data",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]

    def ready(self) -> bool:
        return self.host.ask(self.address, "/-/ready").status == 200

    def fire(self, alerts: Iterable[Mapping[str, Any]], *, ended: bool = False) -> None:
        """Tell it of alerts from the desk, as Prometheus does."""
        body = as_prometheus(alerts, ended=ended)
        asked = self.estate.desk.ask(self.address, "/api/v2/alerts", body)
        assert asked.status == 200, asked


class Prometheus(Program):
    """It scrapes the addresses of each job with a token, and evaluates rules, every second."""

    def __init__(
        self,
        estate: Estate,
        host: Host,
        targets: Mapping[str, Sequence[str]],
        *,
        rules: str,
        token: str,
    ) -> None:
        super().__init__(estate, host, 9090)
        (self.folder / "rules.yml").write_text(rules)
        config = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": job,
                    "authorization": {"credentials": token},
                    "static_configs": [{"targets": list(addresses)}],
                }
                for job, addresses in targets.items()
            ],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config))

    def command(self) -> Sequence[str]:
        return [
            tool("prometheus"),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address={self.address}",
        ]

    def ready(self) -> bool:
        return self.estate.desk.ask(self.address, "/-/ready").status == 200

    def firing(self) -> set[str]:
        """The names of the alerts that its rules fire."""
        answer = self.estate.desk.ask(self.address, "/api/v1/alerts").json()
        found = answer["data"]["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}
