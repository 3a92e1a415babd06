"""What does a process cost that has nothing to do, and what one that listens when others have?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import psycopg

from bench.servers import Server
from bench.sites import Site

SETTLE = 4.0
"""Seconds until what a start brings up is done."""
HOSTS = 3
"""Workers of hosts, of which each is said to cost a third."""
LISTENERS = 60
NOTES = 200
ROUNDS = 3
_SEEN = """
    select (select xact_commit + xact_rollback from pg_stat_database
            where datname = current_database()),
           (select count(*) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid())"""


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """Of one process that has nothing to do."""

    connections: float
    """To PostgreSQL."""
    transactions: float
    """In a second."""
    wakeups: float
    """In a second, of its threads."""
    computing: float
    """The share of a core."""
    postgres: float
    """The share of a core that PostgreSQL needs for it."""
    mebibytes: float


class Processes(msgspec.Struct, frozen=True, kw_only=True):
    receiver: Idle
    worker: Idle
    """That decides."""
    host: Idle
    """A worker of a host."""
    listener: float
    """Seconds of PostgreSQL's CPU for each that listens, whenever anybody is notified."""


def measure(site: Site, seconds: float) -> Processes:
    with ExitStack() as stack, psycopg.connect(site.database.url, autocommit=True) as asking:
        looking = _Looking(site.database, asking)
        looking.at([], seconds)
        receiver = looking.at([stack.enter_context(site.receiver())], seconds)
        worker = looking.at([stack.enter_context(site.worker())], seconds)
        hosts = [stack.enter_context(site.worker(f"idle-{number}")) for number in range(HOSTS)]
        host = looking.at(hosts, seconds)
    return Processes(receiver=receiver, worker=worker, host=host, listener=_listener(site.database))


class _Looking:
    """At PostgreSQL, before and after some processes are there."""

    def __init__(self, database: Server, asking: psycopg.Connection[tuple[int, int]]) -> None:
        self._database = database
        self._asking = asking
        self._before = Idle(
            connections=0, transactions=0, wakeups=0, computing=0, postgres=0, mebibytes=0
        )

    def at(self, new: list[Server], seconds: float) -> Idle:
        """Return what each of the *new* processes costs."""
        time.sleep(SETTLE)
        mine = sum(one.cpu() for one in new), sum(one.wakeups() for one in new)
        theirs, start = self._database.cpu(), time.monotonic()
        transactions, _ = self._ask()
        time.sleep(seconds)
        passed = time.monotonic() - start
        now, connections = self._ask()
        found = Idle(
            connections=connections,
            transactions=(now - transactions - 1) / passed,  # less our first question
            wakeups=(sum(one.wakeups() for one in new) - mine[1]) / passed,
            computing=(sum(one.cpu() for one in new) - mine[0]) / passed,
            postgres=(self._database.cpu() - theirs) / passed,
            mebibytes=sum(one.memory()[1] for one in new),
        )
        before, self._before = self._before, found
        number = max(len(new), 1)
        return Idle(
            connections=(found.connections - before.connections) / number,
            transactions=(found.transactions - before.transactions) / number,
            wakeups=found.wakeups / number,
            computing=found.computing / number,
            postgres=max(0.0, found.postgres - before.postgres) / number,
            mebibytes=found.mebibytes / number,
        )

    def _ask(self) -> tuple[int, int]:
        row = self._asking.execute(_SEEN).fetchone()
        assert row is not None
        return row


def _listener(database: Server) -> float:
    """Notify a channel that nobody listens to, while none and while many listen to others."""
    return statistics.median(_listening(database))


def _listening(database: Server) -> Iterator[float]:
    with psycopg.connect(database.url, autocommit=True) as notifying:

        def cost() -> float:
            before = database.cpu()
            for _ in range(NOTES):
                notifying.execute("notify nobody")
                time.sleep(0.002)
            time.sleep(0.2)
            return (database.cpu() - before) / NOTES

        for _ in range(ROUNDS):
            without = cost()
            with ExitStack() as stack:
                for number in range(LISTENERS):
                    listener = psycopg.connect(database.url, autocommit=True)
                    stack.enter_context(listener)
                    listener.execute(f"listen somebody_{number}".encode())
                yield (cost() - without) / LISTENERS
