"""Whole tables, from one journal into another; *table* is one of `receiver.journal.copying`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from receiver.journal.statements import Row, Statements


class WholeTables(Statements):
    def number(self, table: str) -> int:
        """Return how many rows a table has."""
        found = self._ask(f"select count(*) from {table}").fetchone()  # noqa: S608
        assert found is not None
        return int(found[0])

    @abstractmethod
    def dump(self, table: str, batch: int) -> Iterator[list[Row]]:
        """Yield all rows of a table, so many at once."""

    @abstractmethod
    def load(self, table: str, rows: list[Row]) -> None:
        """Write rows of the same table of another journal."""

    def reset_sequence(self, table: str) -> None:
        """Set the id sequence past the highest id that was copied."""
