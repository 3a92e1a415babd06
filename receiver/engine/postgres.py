"""The carrier of work on many machines: procrastinate's queues, in the journal's own database.

A key that is to be considered is a job with its target as the lock, so that two keys of one target
are never considered at the same time, by whichever process. Jobs are put and ended in the journal's
transactions. Whoever begins one claims the target for a lease, as `receiver.engine.leases` says.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from typing import Final

import psycopg
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import ConnectorException

from receiver.clock import Clock
from receiver.engine import Consider, leases
from receiver.engine.leases import Leases
from receiver.engine.procrastinate_jobs import ProcrastinateJobs
from receiver.errors import FencedError, JournalError
from receiver.journal import OWN, of_alerts
from receiver.journal.jobs import CHANNEL, KNOCK, TASK, queue_of
from receiver.journal.postgres import PostgresJournal
from receiver.journal.postgres_server import CONNECT, SCHEMA
from receiver.journal.postgres_transaction import PostgresTransaction
from receiver.policy.role import LEASE, At, HandOver, ProcessRole, Rest
from receiver.policy.target import Key

log: Final = logging.getLogger("promheal.engine")
logging.getLogger("procrastinate").setLevel(logging.WARNING)  # it logs each job

RETRY: Final = 5.0
"""Seconds until a key is considered again after an error that was not the target's."""
AGAIN: Final = 0.5
"""Seconds until procrastinate's worker is restarted when it has ended."""
POLL: Final = 5.0
"""Seconds between two polls for jobs, in case a notification was lost."""


class PostgresEngine:
    def __init__(
        self,
        *,
        journal: PostgresJournal,
        role: ProcessRole,
        threads: Callable[[], int],
        clock: Clock,
        observe_wait: Callable[[float], None] | None = None,
    ) -> None:
        self._journal = journal
        self._threads = threads
        self._clock = clock
        self._observe_wait = observe_wait
        self._leases = Leases(journal=journal, role=role)
        self.worker = self._leases.worker
        self._queues = sorted(queue_of(name) for name in role.executes)
        self._consider: Consider | None = None
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._app: App | None = None
        self._knocking: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="engine", daemon=True
        )
        self._pulse = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def start(self, consider: Consider) -> None:
        self._consider = consider
        self._leases.beat()
        self._leases.bury()
        self._thread.start()
        self._pulse.start()

    def wake(self, key: Key, at: float | None = None) -> None:
        self._put([key], at)

    def wake_all(self, keys: Iterable[Key], *, idle: bool = False) -> None:
        self._put(list(keys), None, idle=idle)

    def _put(self, wanted: list[Key], at: float | None, *, idle: bool = False) -> None:
        extent = OWN if at is not None else of_alerts(())
        try:
            queues = self._journal.atomically(lambda t: t.wake(wanted, at, idle=idle), extent)
        except JournalError as error:
            log.warning("wake-up failed, retried at next resync: %s", error)
        else:
            self._set_timers(queues, at)

    def stop(self, timeout: float) -> bool:
        again = self._stopping.is_set()
        self._stopping.set()
        if self._consider is None:
            return True
        loop, running = self._loop, self._running
        if loop is not None and running is not None and not again:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(running.cancel)
        self._thread.join(timeout)
        with suppress(JournalError):
            self._leases.leave()
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        if self._consider is None or self._stopping.is_set():
            return True
        return self._thread.is_alive() and self._pulse.is_alive()

    @property
    def trouble(self) -> str:
        idle = self._consider is None or self._stopping.is_set()
        return "" if idle or self._app is not None else "the engine does not reach its jobs"

    @property
    def length(self) -> int:
        try:
            return self._journal.read(lambda t: t.jobs_due())
        except JournalError:
            return 0  # an outage is reported elsewhere

    # -- procrastinate

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            self._running = asyncio.create_task(self._work())
            try:
                await self._running
            except asyncio.CancelledError:
                pass  # by `stop`
            except (ConnectorException, psycopg.Error, OSError) as error:
                log.warning("worker ended, restarted: %s", " ".join(str(error).split()))
            except Exception:
                log.exception("worker ended, restarted")
            if not self._stopping.is_set():
                await asyncio.sleep(AGAIN)

    async def _work(self) -> None:
        """Run procrastinate's worker until it is stopped, or PostgreSQL goes away."""
        connector = PsycopgConnector(
            conninfo=self._journal.url,
            kwargs={**CONNECT, "options": f"-c search_path={SCHEMA}"},
            min_size=1,
            max_size=3,
            timeout=5.0,
        )
        app = App(connector=connector)
        app.job_manager = jobs = ProcrastinateJobs(connector, self._registered)
        app.task(name=TASK, pass_context=True)(self._carry)
        async with app.open_async():
            self._app = app
            beside = [
                asyncio.create_task(self._leases.take_over(app)),
                asyncio.create_task(self._until_heard(jobs)),
            ]
            try:
                await app.run_worker_async(
                    queues=self._queues,
                    name=self.worker.id,
                    concurrency=self._threads(),
                    install_signal_handlers=False,
                    fetch_job_polling_interval=POLL,
                    update_heartbeat_interval=leases.BEAT,
                    stalled_worker_timeout=LEASE,
                    delete_jobs="always",
                )
            finally:
                self._app = None
                for task in beside:
                    task.cancel()

    async def _registered(self, number: int) -> None:
        await asyncio.to_thread(self._leases.registered, number)

    async def _carry(self, context: JobContext, strategy: str, target: str) -> None:
        """Consider a key in a thread of its own: a daemon, so that nobody waits for it at exit."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        job = context.job.id
        assert job is not None
        fetched = perf_counter()

        def consider() -> None:
            if self._observe_wait is not None:
                self._observe_wait(perf_counter() - fetched)
            while not self._considered(job, Key(strategy, target)):
                if self._stopping.wait(RETRY):
                    break  # it is taken over when its lease has ended
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ended.set_result, None)

        while not self._began(consider, job):
            if self._stopping.is_set():
                return  # as above
            await asyncio.sleep(RETRY)
        await ended

    def _began(self, consider: Callable[[], None], job: int) -> bool:
        try:
            threading.Thread(target=consider, name=f"engine-{job}", daemon=True).start()
        except RuntimeError as error:
            log.warning("%s; a job waits, and it is tried again", error)
            return False
        return True

    def _considered(self, job: int, key: Key) -> bool:
        """Consider a key; False when the journal could not take what came of it."""
        try:
            self._consider_job(job, key)
        except JournalError as error:
            log.warning("result of considering %s on %s not stored, retried: %s", *key, error)
            return False
        except FencedError as error:
            log.warning("%s", error)
        return True

    def _consider_job(self, job: int, key: Key) -> None:
        claimed = self._leases.claim(key.target)
        if isinstance(claimed, float):  # a lease that has not ended
            queues = self._journal.atomically(lambda t: t.end_job(job, key, claimed), OWN)
            self._set_timers(queues, claimed)
            return
        with self._leases.held(key.target, claimed):
            again = self._look(key)
            queues = self._journal.atomically(lambda t: _end(t, job, key, again, claimed), OWN)
        self._set_timers(queues, again)

    def _look(self, key: Key) -> float | None:
        """Consider *key*; return when it is considered again, by whoever its queue leads to."""
        assert self._consider is not None
        try:
            match self._consider(key):
                case At(time):
                    return time
                case HandOver():
                    return self._clock()
                case Rest():
                    return None
        except FencedError:
            raise
        except JournalError as error:  # the server is away, which everything reports
            log.warning("considering %s on %s is put off: %s", *key, error)
        except Exception:
            log.exception("considering %s on %s failed; again in %g s", *key, RETRY)
        return self._clock() + RETRY

    # -- timers: procrastinate itself finds what has become due only by polling

    def _set_timers(self, queues: set[str], at: float | None) -> None:
        loop = self._loop
        if at is None or loop is None or not queues:
            return
        delay = max(0.0, at - self._clock())
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(loop.call_later, delay, self._knock, queues)

    def _knock(self, queues: Iterable[str]) -> None:
        if self._loop is not None:
            knocking = self._loop.create_task(self._knocked(queues))
            self._knocking.add(knocking)  # the loop holds tasks only weakly
            knocking.add_done_callback(self._knocking.discard)

    async def _knocked(self, queues: Iterable[str]) -> None:
        app = self._app
        if app is not None:
            with suppress(ConnectorException):  # what is lost is found by polling
                await app.connector.execute_query_all_async(
                    "select pg_notify(name, %(payload)s) from unnest(%(names)s::text[]) as name",
                    names=[CHANNEL + queue for queue in queues],
                    payload=KNOCK,
                )

    async def _until_heard(self, jobs: ProcrastinateJobs) -> None:
        """Notify ourselves, to find what came between the first fetch and the first LISTEN."""
        while not jobs.heard:
            await asyncio.sleep(0.1)
            await self._knocked(self._queues)

    def _beat(self) -> None:
        while not self._stopping.wait(leases.BEAT):
            self._leases.beat()
            self._leases.bury()
        while self._thread.is_alive():  # or it would be taken over while it ends
            self._leases.beat()
            self._thread.join(leases.BEAT)


def _end(
    transaction: PostgresTransaction, job: int, key: Key, again: float | None, epoch: int
) -> set[str]:
    """End a job that was claimed; return the queue in which its key is put again, if it is."""
    transaction.release(key.target, epoch)
    return transaction.end_job(job, key, again)
