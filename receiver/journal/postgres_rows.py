"""One transaction in PostgreSQL, with what processes must agree on: wakes, claims and workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar, Final

import psycopg
from psycopg import errors

from receiver.errors import FencedError
from receiver.journal import Admission, Transaction, Worker
from receiver.journal.group import CannotStore
from receiver.journal.jobs import CHANNEL, KNOCK, TASK, queue_of
from receiver.journal.queries import queries
from receiver.journal.rows import Rows, storable
from receiver.journal.steering_rows import Row
from receiver.policy.role import LEASE, UNBOUND
from receiver.policy.target import Key

FENCED: Final = "PH001"
"""What the function `fence` raises."""
_AWAY: Final = (
    errors.ConnectionException, errors.OperatorIntervention, errors.InsufficientResources,
    errors.LockNotAvailable, errors.SystemError, errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
)  # fmt: skip
"""The server's fault, and not that of a statement."""


class _Named(tuple[Any, ...]):
    """A row of a result, by position and by name."""

    __slots__ = ()
    names: tuple[str, ...]

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.names.index(key) if isinstance(key, str) else key)

    def keys(self) -> tuple[str, ...]:
        return self.names


def _rows(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], _Named]:
    return _row_of(tuple(column.name for column in cursor.description or ()))


@cache
def _row_of(names: tuple[str, ...]) -> type[_Named]:
    return type("Named", (_Named,), {"names": names, "__slots__": ()})


class PostgresTransaction(Rows):
    pruned: ClassVar[tuple[str, ...]] = ("workers", "claims")

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__()
        self.connection = connection
        self.pipeline: psycopg.Pipeline | None = None
        """While there is one, an answer is waited for when it is looked at, and not before."""
        self._queries = queries("postgres")

    def _execute(self, query: str, /, **values: Any) -> Answer:
        clean = {name: _without_nul(value) for name, value in storable(values).items()}
        return execute(self.connection, self._queries[query], clean)

    def _admit_firing(
        self, admission: Admission, *, sender: str, vouched_by: str, now: float
    ) -> tuple[int, int]:
        if not admission.firing:
            return 0, 0
        fingerprints, starts, labels, annotations, links = (
            admission.firing[column :: Admission.WIDTH] for column in range(Admission.WIDTH)
        )
        # What is said again is noted before anything new is opened.
        repeated, opened = (
            self._changed(
                query, fingerprints=_clean(fingerprints), starts=starts, labels=labels,
                annotations=annotations, links=_clean(links), sender=sender,
                vouched_by=vouched_by, now=now,
            )
            for query in ("admit_again", "admit_new")
        )  # fmt: skip
        return repeated, opened

    def _changed(self, query: str, /, **values: Any) -> int:
        cursor = self._execute(query, **values)
        if self.pipeline is not None:
            with explained(self.connection):
                self.pipeline.sync()
        return cursor.rowcount

    def _table(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {
            f"column_{index}": _clean(column)
            for index, column in enumerate(zip(*rows, strict=True))
        }

    def _list(self, values: Sequence[int]) -> list[int]:
        return list(values)

    def _ask(self, sql: str) -> Answer:
        return execute(self.connection, sql)

    def dump(self, table: str, batch: int) -> Iterator[list[Row]]:
        self._ask(f"declare dump cursor for select * from {table} order by 1")  # noqa: S608
        while rows := self._ask(f"fetch {batch} from dump").fetchall():
            yield rows
        self._ask("close dump")

    def load(self, table: str, rows: list[Row]) -> None:
        names = rows[0].keys()
        values = ", ".join(["%s"] * len(names))
        sql = f"insert into {table} ({', '.join(names)}) values ({values})"  # noqa: S608
        with self.connection.cursor() as cursor:
            cursor.executemany(sql.encode(), [_clean(list(row)) for row in rows])

    def loaded(self, table: str) -> None:
        sequence = self._execute("sequence", table=table).fetchone()
        if sequence is not None:
            self._ask(f"select setval('{sequence[0]}', max(id)) from {table} having max(id) > 0")  # noqa: S608

    # -- who is considered, where and when

    def wake(self, keys: Iterable[Key], at: float | None = None, *, idle: bool = False) -> set[str]:
        """As the port says. Seen as pending, a job is begun only after this transaction.

        Whoever begins one claims its target first, and for that waits for the writers before it.
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
        """Return how many keys are to be considered now, and are not yet."""
        return int(self._one("jobs_due"))

    def end_job(self, job: int, key: Key, again: float | None) -> set[str]:
        """End a job, say when its key is considered again, and let in who is next in its line.

        Returns the queue in which that was put, if it was.
        """
        queues = set() if again is None else self.wake([key], again)
        self._execute("end_job", id=job)
        self._execute("knock", target=key.target, channel=CHANNEL, payload=KNOCK)
        return queues

    # -- who has it in hand

    def claim(self, target: str, worker: str) -> int | None:
        """Take a target in hand, and return the epoch that writes carry; None while it is taken."""
        row = self._execute("claim", target=target, worker=worker, lease=LEASE).fetchone()
        return None if row is None else int(row[0])

    def claimed_until(self, target: str) -> float | None:
        """Return when the lease of who has a target in hand ends; None when nobody has."""
        row = self._execute("claimed_until", target=target).fetchone()
        return None if row is None else float(row[0])

    def check(self, target: str, epoch: int) -> None:
        """Raise FencedError, now or with the next answer, unless *epoch* is still the target's."""
        self._execute("fence", target=target, epoch=epoch)

    def hold(self, target: str, seconds: float) -> None:
        self._execute("hold", target=target, seconds=max(seconds, LEASE))

    def release(self, target: str, epoch: int) -> None:
        self._execute("release", target=target, epoch=epoch)

    # -- who is there, and what they have in common

    def now(self) -> float:
        return float(self._one("now"))

    def secret(self, name: str) -> bytes:
        return bytes(self._one("secret", name=name))

    def beat(self, worker: Worker, engine: str, number: int, epochs: Sequence[int]) -> None:
        """Say that *worker* lives, and has the targets of these epochs in hand.

        *engine* is its version of procrastinate, and *number* what that calls it.
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
        """End what a process had in hand that is known to be dead; return what it considered."""
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


class Answer:
    """What a query finds: in a pipeline it may still be on its way."""

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def status(self) -> str:
        """What the server says that it has done, as `COMMIT`."""
        return self._cursor.statusmessage or ""

    def fetchone(self) -> Row | None:
        with explained(self._cursor.connection):
            return self._cursor.fetchone()

    def fetchall(self) -> list[Row]:
        with explained(self._cursor.connection):
            return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Row]:
        return iter(self.fetchall())


def execute(
    connection: psycopg.Connection[Any], query: str, values: dict[str, Any] | None = None
) -> Answer:
    """Execute a query. Raises CannotStore when it is not the query's fault that it fails."""
    cursor: psycopg.Cursor[Row] = psycopg.Cursor(connection, row_factory=_rows)
    with explained(connection):
        cursor.execute(query.encode(), values)
    return Answer(cursor)


@contextmanager
def explained(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Turn the server's faults into CannotStore, and that of the fence into FencedError."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate == FENCED:
            raise FencedError(f"{told(error)}; nothing was stored") from error
        if connection.closed or isinstance(error, _AWAY):
            raise CannotStore(f"cannot store: {told(error)}") from error
        raise


def shared(transaction: Transaction) -> PostgresTransaction:
    """Return a transaction of a journal that is shared as what it is."""
    assert isinstance(transaction, PostgresTransaction)
    return transaction


def _name(key: Key) -> str:
    """Return what a key's one pending job is known by."""
    return "\n".join(key)


def told(error: BaseException) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _clean(column: Sequence[Any]) -> list[Any]:
    return [_without_nul(value) for value in column]


def _without_nul(value: Any) -> Any:
    """Return a text as PostgreSQL can have it: without U+0000."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value
