"""What do we do otherwise than procrastinate? How a job ends, and that no wake-up is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

LISTEN_AGAIN: Final = 0.5
"""Seconds until it listens again when its listening has ended."""


class ProcrastinateJobs(JobManager):
    """The jobs of one worker.

    A notification that arrives while procrastinate fetches a job is lost when the fetch finds none
    (measured with 3.10), and the job would wait for the next poll; here it is fetched again.
    """

    def __init__(
        self, connector: PsycopgConnector, registered: Callable[[int], Awaitable[None]]
    ) -> None:
        """*registered* is given the worker's id in procrastinate, before any job begins."""
        super().__init__(connector)
        self.heard = 0
        """Notifications that have arrived."""
        self._registered = registered

    async def register_worker(self) -> int:
        number = await super().register_worker()
        await self._registered(number)
        return number

    async def listen_for_jobs(self, *, on_notification: Any, queues: Any = None) -> None:
        async def heard(**notification: Any) -> None:
            self.heard += 1
            await on_notification(**notification)

        while True:
            with suppress(ConnectorException):  # a server that goes away ends it
                await super().listen_for_jobs(on_notification=heard, queues=queues)
            await asyncio.sleep(LISTEN_AGAIN)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        while True:
            before = self.heard
            job = await super().fetch_job(queues, worker_id)
            if job is not None or self.heard == before:
                return job

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  as it is called
        """Leave it: the transaction that stores what comes next has ended the job."""
