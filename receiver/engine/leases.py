"""Who works on which target, and does that process still live? Claims, heartbeats, take-overs.

A process claims a target before it considers a key of it, and its writes carry the claim's epoch.
Its heartbeat extends its claims by a lease. What a process leaves behind is considered anew: at
once when another process of its machine sees that it has ended, else when its lease has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from math import inf
from secrets import token_hex
from time import monotonic
from typing import Final

from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job

from receiver.errors import JournalError
from receiver.journal import OWN, Worker
from receiver.journal.jobs import engine_version
from receiver.journal.postgres import PostgresJournal
from receiver.journal.postgres_transaction import PostgresTransaction
from receiver.policy.role import LEASE, ProcessRole
from receiver.policy.target import Key
from receiver.process.table import born, machine

log: Final = logging.getLogger("promheal.engine")

BEAT: Final = 5.0
"""Seconds between two heartbeats."""


class Leases:
    """The claims of this process, and those that others have left."""

    def __init__(self, *, journal: PostgresJournal, role: ProcessRole) -> None:
        self._journal = journal
        host = socket.gethostname()
        self.worker = Worker(
            id=f"{host}:{os.getpid()}:{token_hex(4)}",
            host=host,
            machine=machine(),
            pid=os.getpid(),
            born=born(os.getpid()),
            names=tuple(sorted(role.executes)),
            version=version("promheal"),
            seen=0.0,
        )
        self._number = 0  # procrastinate's for this process
        self._in_touch = inf  # since when the server has been answering, by the monotonic clock
        self._epochs: set[int] = set()  # of the claims in hand; guarded by _lock
        self._lock = threading.Lock()

    def claim(self, target: str) -> int | float:
        """Claim a target: returns the epoch, or as a float when the lease of who has it ends."""

        def claim(transaction: PostgresTransaction) -> int | float:
            epoch = transaction.claim(target, self.worker.id)
            if epoch is not None:
                return epoch
            return transaction.claimed_until(target) or 0.0

        return self._journal.atomically(claim, OWN)

    @contextmanager
    def held(self, target: str, epoch: int) -> Iterator[None]:
        """Keep a claim alive, and fence this thread's writes by it."""
        with self._lock:
            self._epochs.add(epoch)
        try:
            with self._journal.fenced(target, epoch):
                yield
        finally:
            with self._lock:
                self._epochs.discard(epoch)

    def registered(self, number: int) -> None:
        """Say by which number procrastinate knows this process; what it begins carries that."""
        self._number = number
        self.beat()

    def beat(self) -> None:
        """Say that this process lives, and extend its claims."""
        with self._lock:
            epochs = list(self._epochs)
        try:
            self._journal.aside(
                lambda t: t.beat(self.worker, engine_version(), self._number, epochs)
            )
        except JournalError as error:
            self._in_touch = inf
            log.warning("heartbeat failed: %s", error)
        else:
            self._in_touch = min(self._in_touch, monotonic())

    def bury(self) -> None:
        """End the claims of processes of this machine that have ended, without waiting a lease."""
        try:
            neighbours = self._journal.read(lambda t: t.neighbours(self.worker))
            for worker, pid, since in neighbours:
                if born(pid) != since:
                    left = self._journal.atomically(lambda t, w=worker: t.bury(w), OWN)  # type: ignore[misc]
                    for key in left:
                        log.warning("%s on %s was left by a process that has ended", *key)
        except JournalError as error:
            log.warning("cannot look for processes that have ended: %s", error)

    def leave(self) -> None:
        """Sign off. Raises JournalError."""
        self._journal.atomically(lambda t: t.leave(self.worker.id), OWN)

    async def take_over(self, app: App) -> None:
        """End the jobs of processes without a heartbeat, and have their keys considered anew.

        Not before the server has been answering for a lease: when it was away, the others need as
        long as this process to send a heartbeat again.
        """
        while True:
            await asyncio.sleep(LEASE / 2)
            if monotonic() - self._in_touch < LEASE:
                continue
            try:
                left = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=LEASE)
            except ConnectorException:
                continue
            for job in left:
                await asyncio.to_thread(self._take, job)

    def _take(self, job: Job) -> None:
        assert job.id is not None
        number = job.id
        key = Key(str(job.task_kwargs["strategy"]), str(job.task_kwargs["target"]))

        def take(transaction: PostgresTransaction) -> bool:
            if transaction.claimed_until(key.target) is not None:
                return False
            transaction.end_job(number, key, 0.0)
            return True

        try:
            taken = self._journal.atomically(take, OWN)
        except JournalError:
            return
        if taken:
            log.warning("%s on %s was left by a process without a heartbeat; considered anew", *key)
