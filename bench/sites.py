"""Promheals of several processes, beside one of one: started for a measurement, ended after it."""

from __future__ import annotations

import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg

from bench import servers
from bench.servers import Server
from receiver.journal.postgres_server import SCHEMA
from tests.postgres import Postgres, postgres

PARTS = ("receivers", "workers", "postgres")
ENGINE = ", max_concurrent_runs: 256, resync: 1h"
"""No run waits for a slot, and no resync falls into a measurement."""
CONCURRENCY = 8
"""Of a worker."""
_LOCKED = """
    select exists (select 1 from pg_locks
    where locktype = 'advisory' and (classid, objid) = (1885891690, 1) and granted)"""
_DUE = """
    select count(*) from procrastinate_jobs
    where status in ('todo', 'doing') and (scheduled_at is null or scheduled_at <= now())"""


@dataclass(frozen=True)
class Side:
    """A promheal, of however many processes."""

    name: str
    receivers: Sequence[Server]
    workers: Sequence[Server] = ()
    database: Server | None = None

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU used so far, by part."""
        parts: dict[str, Sequence[Server]] = {
            "receivers": self.receivers,
            "workers": self.workers,
            "postgres": [self.database] if self.database else [],
        }
        return {part: sum(one.cpu() for one in every) for part, every in parts.items()}


class Watch:
    """Looks again and again at whether a writing transaction holds the one lock."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._looks: list[bool] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def share(self) -> float:
        return statistics.mean(self._looks)

    def _watch(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as asked:
            while not self._over.wait(0.01):
                row = asked.execute(_LOCKED).fetchone()
                self._looks.append(row is not None and row[0])


@dataclass
class Site:
    folder: Path
    server: Postgres
    url: str
    """Of the journal in PostgreSQL."""
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def database(self) -> Server:
        assert self.server.process is not None
        return Server("PostgreSQL", self.url, self.server.process.pid)

    def anew(self) -> Site:
        """The same with journals in which there is nothing."""
        folder = self.folder.with_name(self._name(self.folder.name))
        return Site(servers.configure(folder, ENGINE), self.server, self.server.create())

    @contextmanager
    def sqlite(self) -> Iterator[Side]:
        with servers.promheal(self.folder, name=self._name("sqlite")) as server:
            yield Side("SQLite", [server])

    @contextmanager
    def postgres(self, receivers: int = 1, workers: int = 1) -> Iterator[Side]:
        """Receivers that do nothing else, and workers for what is bound to no host."""
        with ExitStack() as stack:
            receiving = [stack.enter_context(self.receiver()) for _ in range(receivers)]
            working = [stack.enter_context(self.worker()) for _ in range(workers)]
            name = f"Postgres, {_many(receivers, 'receiver')}, {_many(workers, 'worker')}"
            yield Side(name, receiving, working, self.database)

    @contextmanager
    def receiver(self) -> Iterator[Server]:
        with self._promheal("serve", "--receive-only") as server:
            yield server

    @contextmanager
    def worker(self, host: str = "") -> Iterator[Server]:
        bound = ("--host", host) if host else ()
        with self._promheal("work", "--engine.concurrency", str(CONCURRENCY), *bound) as server:
            yield server

    def ask(self, side: Side, question: str) -> tuple[Any, ...]:
        """The first row of an answer from the journal of *side*."""
        if side.database is None:
            path = f"file:{self.folder}/promheal.db?mode=ro"
            with closing(sqlite3.connect(path, uri=True)) as connection:
                row: tuple[Any, ...] = connection.execute(question).fetchone()
        else:
            with psycopg.connect(self.url, options=f"-csearch_path={SCHEMA}") as asked:
                row = asked.execute(question.encode()).fetchone() or ()
        return row

    def watch(self, side: Side) -> AbstractContextManager[Watch | None]:
        return nullcontext() if side.database is None else Watch(self.url)

    def settle(self, side: Side) -> None:
        """Wait until nothing is left that is to be considered now."""
        if side.database is None:
            side.receivers[0].settle()
            return
        while self.ask(side, _DUE)[0]:
            time.sleep(0.2)

    @contextmanager
    def _promheal(self, command: str, *options: str) -> Iterator[Server]:
        with servers.promheal(
            self.folder,
            *("--storage.path", str(self.folder), *options),
            command=command,
            name=self._name(command),
            storage=self.url,
        ) as server:
            yield server

    def _name(self, what: str) -> str:
        return f"{what}-{next(self._numbers)}"


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A site in *folder*, with a PostgreSQL of its own that is as durable as it is by default."""
    with postgres(durable=True) as server:
        yield Site(servers.configure(folder, ENGINE), server, server.create())


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
