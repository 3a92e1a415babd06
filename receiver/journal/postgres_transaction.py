"""One transaction in PostgreSQL: its dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

import psycopg

from receiver.journal.alert_locks import locks_of_alerts
from receiver.journal.claims import ClaimRows
from receiver.journal.episodes import Admission
from receiver.journal.postgres_cursor import QueryResult, execute, explained
from receiver.journal.queries import queries
from receiver.journal.statements import Row, storable
from receiver.journal.transaction import Transaction

_CHANGED: Final = frozenset({"run_by_id", "unfinished_run"})
"""What is read to be changed by who has the target in hand, and by people."""

_TO_SEND: Final = frozenset({"put_unlogged", "put_message"})
_SUMMED: Final = {"total": "totals"}
"""Tables of which a view has what a journal in a file has."""


class PostgresTransaction(ClaimRows, Transaction):
    pruned: ClassVar[tuple[str, ...]] = ("workers", "claims")

    def __init__(self, connection: psycopg.Connection[Any], *, writes: bool = False) -> None:
        """*writes*: a run that it reads stays as it is until the end of the transaction."""
        super().__init__()
        self.connection = connection
        self._writes = writes
        self._news = False  # what has been written is to be sent by whoever keeps house
        self.pipeline: psycopg.Pipeline | None = None
        """While there is one, an answer is waited for when it is looked at, and not before."""
        self._queries = queries("postgres")

    def _execute(self, query: str, /, **values: Any) -> QueryResult:
        clean = {name: _without_nul(value) for name, value in storable(values).items()}
        sql = self._queries[query]
        self._news = self._news or query in _TO_SEND
        if self._writes and query in _CHANGED:
            sql += " for no key update"
        return execute(self.connection, sql, clean)

    def _admit_firing(
        self, admission: Admission, *, sender: str, vouched_by: str, now: float
    ) -> tuple[int, int]:
        if not admission.firing:
            return 0, 0
        fingerprints, starts, labels, annotations, links = (
            admission.firing[column :: Admission.WIDTH] for column in range(Admission.WIDTH)
        )
        found = self._execute(
            "admit_firing", fingerprints=_clean(fingerprints), starts=starts, labels=labels,
            annotations=annotations, links=_clean(links), sender=sender, vouched_by=vouched_by,
            now=now,
        ).fetchone()  # fmt: skip
        assert found is not None
        return found[0], found[1]

    def give_up(self, *, before: float, episode: int | None = None) -> int:
        """As in a file. One is locked like an alert that is said to have ended.

        Whoever says just now that it fires waits, and so sees that it is given up, or we see that.
        """
        found = None if episode is None else self.episode(episode)
        if found is not None and found.last_seen < before:
            for lock in locks_of_alerts([(found.alert.fingerprint,)]):
                self._ask(lock)
        return super().give_up(before=before, episode=episode)

    def _changed(self, query: str, /, **values: Any) -> int:
        cursor = self._execute(query, **values)
        if self.pipeline is not None:
            with explained(self.connection):
                self.pipeline.sync()
        return cursor.rowcount

    def write_counts(self) -> None:
        self.put_woken()
        super().write_counts()

    def keep_counts(self) -> None:
        self.keep_woken()
        super().keep_counts()

    def forget_counts(self) -> None:
        self.forget_woken()
        super().forget_counts()

    def tell(self) -> None:
        """Notify whom it concerns, after the commit; who keeps house, if anything is to be sent."""
        self.knock()
        if self._news:
            self._news = False
            self._execute("tell_news")

    def forget_group(self) -> None:
        self._news = False
        self.forget_all_woken()
        super().forget_group()

    def number(self, table: str) -> int:
        return super().number(_SUMMED.get(table, table))

    def _table(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {
            f"column_{index}": _clean(column)
            for index, column in enumerate(zip(*rows, strict=True))
        }

    def _list(self, values: Sequence[int]) -> list[int]:
        return list(values)

    def _ask(self, sql: str) -> QueryResult:
        return execute(self.connection, sql)

    def dump(self, table: str, batch: int) -> Iterator[list[Row]]:
        table = _SUMMED.get(table, table)
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

    def end_stuck(self, seconds: float) -> list[int]:
        """End connections that have been silent in a transaction; return their backends."""
        return [row[0] for row in self._execute("end_stuck", seconds=seconds)]

    def reset_sequence(self, table: str) -> None:
        sequence = self._execute("sequence", table=table).fetchone()
        if sequence is not None:
            self._ask(f"select setval('{sequence[0]}', max(id)) from {table} having max(id) > 0")  # noqa: S608


def _clean(column: Sequence[Any]) -> list[Any]:
    return [_without_nul(value) for value in column]


def _without_nul(value: Any) -> Any:
    """Return a text as PostgreSQL can have it: without U+0000."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value
