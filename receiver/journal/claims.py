"""What processes must agree on: who considers which key, who has a target in hand, who lives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from receiver.journal.jobs import CHANNEL, KNOCK, TASK, queue_of
from receiver.journal.workers import Worker, WorkerRows
from receiver.policy.role import LEASE, UNBOUND
from receiver.policy.target import Key


class ClaimRows(WorkerRows):
    # -- jobs: which key is considered, where and when

    def wake(self, keys: Iterable[Key], at: float | None = None, *, idle: bool = False) -> set[str]:
        """As in a file. A job may be fetched early, but begins only after this transaction.

        Whoever begins it first claims its target, and for that waits for the writers before it.
        """
        wanted = {_name(key): key for key in keys}
        if not wanted:
            return set()
        there = {row["name"]: row for row in self._execute("jobs_to_do", names=list(wanted))}
        too_late = []
        for name, job in there.items():
            due = job["due"]
            if idle or due is None or (at is not None and due <= at):
                del wanted[name]
            else:
                too_late.append(job["id"])
        if too_late:
            self._execute("forget_jobs", ids=too_late)
        if not wanted:
            return set()
        strategies, targets = zip(*wanted.values(), strict=True)
        routes = {
            (row[0], row[1]): row[2]
            for row in self._execute("routes", strategies=list(strategies), targets=list(targets))
        }
        queues = [queue_of(routes.get(key, UNBOUND)) for key in wanted.values()]
        self._execute(
            "defer_jobs", task=TASK, queues=queues, strategies=list(strategies),
            targets=list(targets), names=list(wanted), times=[at] * len(wanted),
        )  # fmt: skip
        return set(queues)

    def jobs_due(self) -> int:
        """Return how many keys are due and not being considered yet."""
        return int(self._one("jobs_due"))

    def end_job(self, job: int, key: Key, again: float | None) -> set[str]:
        """End a job, defer the next one for its key, and notify who is next in its target's line.

        Returns the queue in which that was put, if it was.
        """
        queues = set() if again is None else self.wake([key], again)
        self._execute("end_job", id=job)
        self._execute("knock", target=key.target, channel=CHANNEL, payload=KNOCK)
        return queues

    # -- claims: who has a target in hand

    def claim(self, target: str, worker: str) -> int | None:
        """Claim a target, and return the epoch that writes carry; None while it is claimed."""
        row = self._execute("claim", target=target, worker=worker, lease=LEASE).fetchone()
        return None if row is None else int(row[0])

    def claimed_until(self, target: str) -> float | None:
        """Return when the lease on a target ends; None when nobody holds it."""
        row = self._execute("claimed_until", target=target).fetchone()
        return None if row is None else float(row[0])

    def check(self, target: str, epoch: int) -> None:
        """Raise FencedError, now or with the next answer, unless *epoch* is still the target's."""
        self._execute("fence", target=target, epoch=epoch)

    def hold(self, target: str, seconds: float) -> None:
        self._execute("hold", target=target, seconds=max(seconds, LEASE))

    def release(self, target: str, epoch: int) -> None:
        self._execute("release", target=target, epoch=epoch)

    # -- workers, and what they share

    def now(self) -> float:
        return float(self._one("now"))

    def secret(self, name: str) -> bytes:
        return bytes(self._one("secret", name=name))

    def beat(self, worker: Worker, engine: str, number: int, epochs: Sequence[int]) -> None:
        """Note that *worker* is alive and holds the claims of these epochs.

        *engine* is its version of procrastinate, *number* procrastinate's id for it.
        """
        self._execute(
            "beat", id=worker.id, host=worker.host, machine=worker.machine, pid=worker.pid,
            born=worker.born, number=number, names=list(worker.names), version=worker.version,
            engine=engine,
        )  # fmt: skip
        if epochs:
            self._execute("renew", epochs=list(epochs), lease=LEASE)

    def neighbours(self, worker: Worker) -> list[tuple[str, int, int]]:
        """Return other processes of its machine: id, pid and when they were started."""
        rows = self._execute("neighbours", machine=worker.machine, id=worker.id)
        return [(row[0], row[1], row[2]) for row in rows]

    def bury(self, worker: str) -> list[Key]:
        """Release everything that a dead process held; return the keys it was considering."""
        self._execute("release_all", worker=worker)
        left = [
            (row["id"], Key(row["strategy"], row["target"]))
            for row in self._execute("jobs_of", worker=worker)
        ]
        for job, key in left:
            self.end_job(job, key, 0.0)
        self.leave(worker)
        return [key for _, key in left]

    def leave(self, worker: str) -> None:
        self._execute("leave", id=worker)

    def has_worker(self, name: str) -> bool:
        return bool(self._one("has_worker", name=name, lease=LEASE))

    def workers(self) -> list[Worker]:
        return [
            Worker(
                id=row["id"],
                host=row["host"],
                names=tuple(row["names"]),
                version=row["version"],
                seen=row["seen"],
            )
            for row in self._execute("workers", lease=LEASE)
        ]


def _name(key: Key) -> str:
    """Return the queueing lock of a key: at most one job waits for it."""
    return "\n".join(key)
