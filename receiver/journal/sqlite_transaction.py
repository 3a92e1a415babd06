"""One transaction in SQLite: its dialect, and which journal the file is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from receiver.errors import CannotStore
from receiver.journal.episodes import Admission
from receiver.journal.marker import Marker
from receiver.journal.queries import queries
from receiver.journal.statements import Row, json_text, storable
from receiver.journal.transaction import Transaction

_ROWS: Final = 100
"""Alerts in one statement; SQLite before 3.32 takes no more than 999 values."""


class SqliteTransaction(Transaction):
    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__()
        self.connection = connection
        self._path = path
        self._queries = queries("sqlite")
        self._of_rows: dict[tuple[str, int], str] = {}  # queries by their number of tuples

    def _execute(self, query: str, /, **values: Any) -> sqlite3.Cursor:
        return self._run_sql(self._queries[query], storable(values))

    def _changed(self, query: str, /, **values: Any) -> int:
        return self._execute(query, **values).rowcount

    def _admit_firing(
        self, admission: Admission, *, sender: str, vouched_by: str, now: float
    ) -> tuple[int, int]:
        repeated = opened = 0
        width = _ROWS * Admission.WIDTH
        for start in range(0, len(admission.firing), width):
            values = [now, sender, vouched_by, *admission.firing[start : start + width]]
            # What is said again is noted before anything new is opened.
            repeated += self._execute_many("admit_again", values)
            opened += self._execute_many("admit_new", values)
        return repeated, opened

    def _execute_many(self, name: str, values: Sequence[object]) -> int:
        """Execute a query with a tuple for each alert; return how many rows it changed."""
        rows = (len(values) - 3) // Admission.WIDTH
        if (name, rows) not in self._of_rows:
            tuples = ", ".join(["(?, ?, ?, ?, ?)"] * rows)
            self._of_rows[name, rows] = self._queries[name].replace("ROWS", tuples)
        return self._run_sql(self._of_rows[name, rows], values).rowcount

    def _run_sql(self, sql: str, values: Any) -> sqlite3.Cursor:
        try:
            return self.connection.execute(sql, values)
        except sqlite3.OperationalError as error:
            raise CannotStore(f"{self._path}: cannot store: {error}") from error

    def _table(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"rows": json_text(rows)}

    def _list(self, values: Sequence[int]) -> str:
        return json_text(values)

    def _ask(self, sql: str) -> sqlite3.Cursor:
        return self._run_sql(sql, ())

    def dump(self, table: str, batch: int) -> Iterator[list[Row]]:
        cursor = self._ask(f"select * from {table} order by 1")  # noqa: S608
        while rows := cursor.fetchmany(batch):
            yield rows

    def load(self, table: str, rows: list[Row]) -> None:
        names = rows[0].keys()
        values = ", ".join("?" * len(names))
        sql = f"insert into {table} ({', '.join(names)}) values ({values})"  # noqa: S608
        self.connection.executemany(sql, [tuple(row) for row in rows])

    # -- which journal it is, and how far it has come

    def checkpoint(self) -> Marker:
        row = self._execute("checkpoint").fetchone()
        return Marker(journal=row[0], checkpoint=row[1])

    def begin_anew(self) -> None:
        self._execute("begin_anew")
