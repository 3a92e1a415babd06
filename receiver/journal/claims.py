"""What processes must agree on: who considers which key, who has a target in hand, who lives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from receiver.journal.jobs import CHANNEL, KNOCK, TASK, queue_of
from receiver.journal.workers import Worker, WorkerRows
from receiver.policy.role import LEASE, UNBOUND
from receiver.policy.target import Key


class ClaimRows(WorkerRows):
    # -- jobs: which key is considered, where and when

    def __init__(self) -> None:
        super().__init__()
        self._waking: dict[Key, bool] = {}  # by the piece of work that is running
        self._woken: dict[Key, bool] = {}  # by those of the transaction that have succeeded
        self._freed: set[str] = set()  # targets of which a job has ended

    def wake(self, keys: Iterable[Key], at: float | None = None, *, idle: bool = False) -> set[str]:
        """As in a file. A job that is there already is held, so that nobody begins it before us.

        What is woken now is written at the end of the transaction, and has jobs of its own beside
        those for later: so who accepts an alert never waits for who ends a job. At most one of
        each kind waits for a key.
        """
        if at is None:
            for key in keys:
                self._waking[key] = idle and self._waking.get(key, True)
            return set()
        wanted = sorted(set(keys))
        if not wanted:
            return set()
        queues = self._queues(wanted)
        self._execute(
            "defer_later", task=TASK, queues=queues, names=[_later(key) for key in wanted],
            times=[at] * len(wanted), **_columns(wanted),
        )  # fmt: skip
        return set(queues)

    def keep_woken(self) -> None:
        """The piece of work has succeeded: whom it wakes is woken by the group."""
        for key, idle in self._waking.items():
            self._woken[key] = idle and self._woken.get(key, True)
        self._waking.clear()

    def forget_woken(self) -> None:
        """The piece of work has failed."""
        self._waking.clear()

    def forget_all_woken(self) -> None:
        """The transaction has failed."""
        self._waking.clear()
        self._woken.clear()
        self._freed.clear()

    def put_woken(self) -> None:
        """Write the jobs of all that the group wakes, in one order whatever the group is."""
        idle = [key for key, only_idle in self._woken.items() if only_idle]
        there: set[str] = set()
        if idle:
            names = [name for key in idle for name in (_now(key), _later(key))]
            there = {row[0] for row in self._execute("jobs_to_do", names=names)}
        wanted = sorted(
            key
            for key, only_idle in self._woken.items()
            if not only_idle or not there & {_now(key), _later(key)}
        )
        self._woken.clear()
        if wanted:
            self._execute(
                "defer_now", task=TASK, queues=self._queues(wanted), channel=CHANNEL,
                payload=KNOCK, names=[_now(key) for key in wanted], **_columns(wanted),
            )  # fmt: skip

    def _queues(self, keys: Sequence[Key]) -> list[str]:
        routes = {(row[0], row[1]): row[2] for row in self._execute("routes", **_columns(keys))}
        return [queue_of(routes.get(key, UNBOUND)) for key in keys]

    def jobs_due(self) -> int:
        """Return how many keys are due and not being considered yet."""
        return int(self._one("jobs_due"))

    def end_job(self, job: int, key: Key, again: float | None) -> set[str]:
        """End a job, and defer the next one for its key; `knock` follows once that is committed.

        Returns the queue in which that was put, if it was. Without a time, nothing that was said
        before about a later time holds any more.
        """
        queues = set()
        if again is None:
            self._execute("forget_later", name=_later(key))
        else:
            queues = self.wake([key], again)
        self._execute("end_job", id=job)
        self._freed.add(key.target)
        return queues

    def knock(self) -> None:
        """Notify who is next in the line of the targets of which a job has ended.

        Who comes into the line before our commit can only be seen after it, and finds the target
        taken until then.
        """
        if self._freed:
            targets = sorted(self._freed)
            self._freed.clear()
            self._execute("knock", targets=targets, channel=CHANNEL, payload=KNOCK)

    # -- claims: who has a target in hand

    def claim(self, target: str, worker: str) -> int | None:
        """Claim a target, and return the epoch that writes carry; None while it is claimed.

        It waits for what the one who had it is writing, and then finds that in the journal.
        """
        row = self._execute("claim", target=target, worker=worker, lease=LEASE).fetchone()
        return None if row is None else int(row[0])

    def claimed_until(self, target: str) -> float | None:
        """Return when the lease on a target ends; None when nobody holds it."""
        row = self._execute("claimed_until", target=target).fetchone()
        return None if row is None else float(row[0])

    def check(self, target: str, epoch: int) -> None:
        """Raise FencedError, now or with the next answer, unless *epoch* is still the target's.

        It stays so until the end of the transaction.
        """
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


def _later(key: Key) -> str:
    """Return the queueing lock of a key's job for a time: at most one waits."""
    return "\n".join(key)


def _now(key: Key) -> str:
    """Return that of its job for now; no strategy has an empty name."""
    return f"\n{_later(key)}"


def _columns(keys: Sequence[Key]) -> dict[str, list[str]]:
    return {"strategies": [key[0] for key in keys], "targets": [key[1] for key in keys]}
