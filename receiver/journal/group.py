"""Group commit: one writer thread, and all work that waits when it is free shares one transaction.

A piece of work that fails takes nothing with it: then all are done once more, each in a savepoint
of its own.
"""

from __future__ import annotations

import logging
import queue
import threading
from abc import abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

from receiver.errors import JournalError
from receiver.journal import Journal
from receiver.journal.stored import Stored, not_stored
from receiver.journal.transaction import Transaction

T = TypeVar("T")
Tx = TypeVar("Tx", bound=Transaction)
"""A transaction of one database."""

log: Final = logging.getLogger("promheal.journal")

GROUP: Final = 256
"""Pieces of work in one transaction at most: a bound on how long the first one waits."""


class Work:
    """A piece of work on its way to the writer."""

    __slots__ = ("done", "function")

    def __init__(
        self,
        function: Callable[[Any], Any] | None,
        done: Callable[[Stored[Any]], None],
    ) -> None:
        self.function = function
        self.done = done


class CannotStore(Exception):  # noqa: N818  what is the case
    """The disk or the server, and not the work: the whole group is told."""


class GroupJournal(Journal, Generic[Tx]):
    """What is left for a database: how a transaction begins, ends and is undone."""

    def __init__(self, *, observe_commit: Callable[[float], None] | None = None) -> None:
        self._observe_commit = observe_commit
        self._queue: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._closed = False
        self._proven = True
        """The transaction shows that something can be stored: one of nothing succeeds anyhow."""
        self._putting = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def atomically(self, work: Callable[[Tx], T]) -> T:
        waiting = threading.Lock()  # the cheapest thing that one thread can wait for
        waiting.acquire()
        found: list[Stored[T]] = []

        def done(stored: Stored[T]) -> None:
            found.append(stored)
            waiting.release()

        self._put(Work(work, done))
        waiting.acquire()
        return found[0].value

    def submit(self, work: Callable[[Tx], T], done: Callable[[Stored[T]], None]) -> None:
        self._put(Work(work, done))

    def close(self) -> None:
        with self._putting:
            if self._closed:
                return
            self._closed = True
            self._queue.put(Work(None, lambda _: None))
        self._thread.join()

    # -- what a database does in its own way; all but CannotStore is the fault of the work

    @abstractmethod
    def _begin(self) -> Tx:
        """Begin a transaction that no other writer is beside. Raises CannotStore."""

    @abstractmethod
    def _tell(self, command: str) -> None:
        """Execute a command of the transaction. Raises CannotStore."""

    @abstractmethod
    def _undo(self) -> None:
        """End the transaction, if there is one, with nothing done. Raises nothing."""

    @abstractmethod
    def _end(self) -> None:
        """Close what the writer thread uses: it ends."""

    @abstractmethod
    def _written(self) -> bool:
        """Whether the transaction has written anything; asked before its commit."""

    def _fails(self, error: BaseException) -> bool:  # noqa: ARG002  one that says so by itself
        """Whether an error of the work shows that the database fails."""
        return False

    def _put(self, piece: Work) -> None:
        with self._putting:  # or it would be put behind the last piece, and never be looked at
            if self._closed:
                raise JournalError("the journal is closed")
            self._queue.put(piece)

    def _write(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while len(batch) < GROUP:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            closing = batch[-1].function is None
            work = [piece for piece in batch if piece.function is not None]
            if work:
                self._store(work)
        self._end()

    def _store(self, batch: list[Work]) -> None:
        """Store a group, and tell each what became of it. Raises nothing: the thread goes on.

        What is not known to be committed is told as not stored, whatever it was.
        """
        start = perf_counter()
        try:
            became = self._together(batch) or self._one_by_one(batch)
        except CannotStore as error:
            became = self._failed(batch, str(error))
        except BaseException as error:
            log.exception("a group of %d was not stored", len(batch))
            became = self._failed(batch, f"cannot store: {type(error).__name__}: {error}")
        else:
            if self._proven:
                self.trouble = ""
            if self._observe_commit is not None:
                self._observe_commit(perf_counter() - start)
        for piece, stored in zip(batch, became, strict=True):
            try:
                piece.done(stored)
            except Exception:
                log.exception("telling what was stored failed")

    def _failed(self, batch: list[Work], trouble: str) -> list[Stored[Any]]:
        self.trouble = trouble
        self._undo()
        return [not_stored(JournalError(trouble)) for _ in batch]

    def _together(self, batch: list[Work]) -> list[Stored[Any]] | None:
        """Do all pieces in one transaction; None, and nothing is done, when one of them fails.

        Nearly always none does, and each statement has its price, so they are not kept apart at
        first.
        """
        transaction = self._begin()
        values = []
        try:
            for piece in batch:
                assert piece.function is not None
                values.append(piece.function(transaction))
                transaction.keep_counts()
        except CannotStore:
            raise
        except BaseException:  # noqa: BLE001  it is found again, and told, one by one
            self._undo()
            return None
        self._commit(transaction)
        return [Stored(value) for value in values]

    def _one_by_one(self, batch: list[Work]) -> list[Stored[Any]]:
        """Do each piece in a savepoint of its own, so that the one that fails fails alone."""
        transaction = self._begin()
        became: list[Stored[Any]] = []
        for piece in batch:
            assert piece.function is not None
            self._tell("savepoint piece")
            try:
                value = piece.function(transaction)
            except CannotStore:
                raise
            except BaseException as error:  # it is the caller's, and raised there
                if self._fails(error):
                    raise CannotStore(f"cannot store: {error}") from error
                became.append(not_stored(error))
                transaction.forget_counts()
                self._tell("rollback to piece")
            else:
                became.append(Stored(value))
                transaction.keep_counts()
            self._tell("release piece")
        self._commit(transaction)
        return became

    def _commit(self, transaction: Tx) -> None:
        transaction.write_counts()
        self._proven = not self.trouble or self._written()
        self._tell("commit")
