"""What is owed to the world outside: messages to people, and lines of the healing log.

Written in the transaction that makes it true, and deleted once it was delivered: so it is delivered
at least once, whatever ends promheal.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from receiver.journal.statements import Statements


class PendingMessage(msgspec.Struct, frozen=True):
    """Something about a run that people may have to be told."""

    id: int
    run: int
    what: Literal["asked", "ended"]
    """It waits for a person's approval, or it has an outcome."""


class OutboxRows(Statements):
    def put_message(self, run: int, what: Literal["asked", "ended"]) -> None:
        self._execute("put_message", run=run, what=what)

    def pending_messages(self, *, limit: int) -> list[PendingMessage]:
        """Oldest first."""
        return [PendingMessage(*row) for row in self._execute("pending_messages", limit=limit)]

    def messages_sent(self, ids: list[int]) -> None:
        """Note that these messages were sent, or that nobody wants them."""
        self._execute("messages_sent", ids=self._list(ids))

    def unlogged(self, *, limit: int) -> list[int]:
        """Finished runs that are not in the healing log yet, in the order of their end."""
        return [row[0] for row in self._execute("unlogged", limit=limit)]

    def logged(self, runs: list[int]) -> None:
        self._execute("logged", runs=self._list(runs))
