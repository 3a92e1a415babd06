"""How a noun of the journal reaches its database: named queries, and the hooks of a dialect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import msgspec

from receiver.redaction import redact, redact_json

BIGGEST: Final = 2**63 - 1
"""Above every id."""

_WORDS: Final = frozenset({"reason", "detail", "error", "why", "problem", "raw"})
"""Parameters that repeat what others said."""
_WORDS_IN_JSON: Final = frozenset({"answers", "result"})

_encode = msgspec.json.Encoder().encode


class Row(Protocol):
    """Values by position and by name."""

    def __getitem__(self, key: int | str, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def keys(self) -> Sequence[str]: ...


class Cursor(Protocol):
    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Row | None: ...
    def fetchall(self) -> list[Row]: ...
    def __iter__(self) -> Iterator[Row]: ...


class Statements(ABC):
    """The base of every noun."""

    @abstractmethod
    def _execute(self, query: str, /, **values: Any) -> Cursor:
        """Execute a named query."""

    @abstractmethod
    def _changed(self, query: str, /, **values: Any) -> int:
        """Execute a named query, and return how many rows it has changed."""

    @abstractmethod
    def _ask(self, sql: str) -> Cursor:
        """Execute SQL that is not a named query."""

    @abstractmethod
    def _table(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Return rows of equal length as the parameters of one query."""

    @abstractmethod
    def _list(self, values: Sequence[int]) -> Any:
        """Return numbers as one parameter of a query."""

    def _one(self, query: str, /, **values: Any) -> Any:
        """Return the only value of a query that always has one."""
        row = self._execute(query, **values).fetchone()
        assert row is not None
        return row[0]


def json_text(value: object) -> str:
    return _encode(value).decode()


def storable(values: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a query with the secrets in others' words redacted."""
    for said, clean in ((_WORDS, redact), (_WORDS_IN_JSON, redact_json)):
        for name in said & values.keys():
            if isinstance(values[name], str):
                values[name] = clean(str(values[name]))
    return values
