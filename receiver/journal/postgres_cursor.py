"""How PostgreSQL answers: rows by position and by name, and whose fault an error is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import psycopg
from psycopg import errors

from receiver.errors import CannotStore, FencedError
from receiver.journal.statements import Row

FENCED: Final = "PH001"
"""What the function `fence` raises."""
_AWAY: Final = (
    errors.ConnectionException, errors.OperatorIntervention, errors.InsufficientResources,
    errors.LockNotAvailable, errors.SystemError, errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
)  # fmt: skip
"""The server's fault, and not that of a statement."""


class QueryResult:
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
) -> QueryResult:
    """Execute a query. Raises CannotStore when it is not the query's fault that it fails."""
    cursor: psycopg.Cursor[Row] = psycopg.Cursor(connection, row_factory=_rows)
    with explained(connection):
        cursor.execute(query.encode(), values)
    return QueryResult(cursor)


@contextmanager
def explained(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Turn the server's faults into CannotStore, and that of the fence into FencedError."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate == FENCED:
            raise FencedError(f"{one_line(error)}; nothing was stored") from error
        if connection.closed or isinstance(error, _AWAY):
            raise CannotStore(f"cannot store: {one_line(error)}") from error
        raise


def one_line(error: BaseException) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__


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
