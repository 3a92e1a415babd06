"""A real PostgreSQL that tests start for themselves, unpacked by `make develop`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from tests.brokers import eventually, free_ports
from tests.tools import REPOSITORY

USR = REPOSITORY / ".tools/usr"
_SETTINGS = (
    "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200",
    "shared_buffers=64MB", "jit=off",
)  # fmt: skip


class Postgres:
    """A server in a folder of its own; its superuser may do everything, without a password."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        durable: bool = True,
        superuser: str = "promheal",
    ) -> None:
        self.folder = folder
        self.superuser = superuser
        self.address = address
        self.durable = durable
        """Whether a commit is on the disk when it returns; without it tests are faster."""
        (self.port,) = free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        # initdb and postgres refuse to be root.
        self._as: dict[str, Any] = {}
        programs = USR
        if os.geteuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            programs = folder / "usr"  # where nobody can read it, wherever the checkout is
            for part in ("lib/postgresql", "share/postgresql"):
                shutil.copytree(
                    USR / part, programs / part, ignore=shutil.ignore_patterns("bitcode", "llvm*")
                )
            shutil.chown(folder, "nobody", "nogroup")
        versions = programs.glob("lib/postgresql/*/bin")
        self._bin = max(versions, key=lambda folder: int(folder.parent.name))
        libraries = {str(file.parent) for file in (USR / "lib").rglob("lib*.so*")}
        self._env = {
            "PATH": os.defpath, "LC_ALL": "C", "LD_LIBRARY_PATH": ":".join(sorted(libraries)),
        }  # fmt: skip
        self._call(
            "initdb", "--auth=trust", f"--username={superuser}", "--encoding=UTF8", "--no-sync"
        )

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://{self.superuser}@{self.address}:{self.port}/{name}"

    def start(self) -> None:
        fsync = "on" if self.durable else "off"
        options = [f"-c{each}" for each in (*_SETTINGS, f"port={self.port}", f"fsync={fsync}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.folder / "data", *options],
                stdout=log, stderr=log, cwd=self.folder, env=self._env, start_new_session=True,
                **self._as,
            )  # fmt: skip
        eventually(self._answers, f"PostgreSQL answers: {self._said()}")

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """End it; SIGQUIT ends at once, and it recovers at its next start."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def create(self, of: str = "template1") -> str:
        """The URL of a new database, with all that *of* has."""
        name = f"d{os.getpid()}_{next(self._numbers)}"
        template = of.rpartition("/")[2]
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"create database {name} template {template}".encode())
        return self.url(name)

    def client(self) -> dict[str, str]:
        """The environment in which psql, pg_dump and the like are found, and find this server."""
        return {
            **self._env, "PATH": f"{self._bin}:{os.defpath}",
            "PGHOST": self.address, "PGPORT": str(self.port), "PGUSER": self.superuser,
        }  # fmt: skip

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url(), connect_timeout=2).close()
            return True
        return False

    def _said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _call(self, program: str, *options: str) -> None:
        subprocess.run(
            [self._bin / program, "-D", self.folder / "data", *options],
            check=True, capture_output=True, cwd=self.folder, env=self._env, **self._as,
        )  # fmt: skip


@contextmanager
def postgres(*, durable: bool = False, superuser: str = "promheal") -> Iterator[Postgres]:
    # Not below pytest's folder, which only its user may enter.
    with tempfile.TemporaryDirectory(prefix="promheal-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder), durable=durable, superuser=superuser)
        server.start()
        try:
            yield server
        finally:
            server.stop()
