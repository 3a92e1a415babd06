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
from typing import Any, Final, TypeVar

from receiver.errors import JournalError
from receiver.journal import Journal, Transaction
from receiver.journal.rows import Rows

T = TypeVar("T")

log: Final = logging.getLogger("promheal.journal")

GROUP: Final = 256
"""Pieces of work in one transaction at most: a bound on how long the first one waits."""


class Work:
    """A piece of work on its way to the writer and back."""

    __slots__ = ("done", "error", "function", "result")

    def __init__(
        self,
        function: Callable[[Transaction], Any] | None,
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = done


class CannotStore(Exception):  # noqa: N818  what is the case
    """The disk or the server, and not the work: the whole group is told."""


class GroupJournal(Journal):
    """What is left for a database: how a transaction begins, ends and is undone."""

    def __init__(self, *, observe_commit: Callable[[float], None] | None = None) -> None:
        self._observe_commit = observe_commit
        self._queue: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def atomically(self, work: Callable[[Transaction], T]) -> T:
        waiting = threading.Lock()  # the cheapest thing that one thread can wait for
        waiting.acquire()
        piece = Work(work, lambda _result, _error: waiting.release())
        self._put(piece)
        waiting.acquire()
        if piece.error is not None:
            raise piece.error
        return piece.result  # type: ignore[no-any-return]  # what `work` returned, unchanged

    def submit(
        self,
        work: Callable[[Transaction], T],
        done: Callable[[T | None, BaseException | None], None],
    ) -> None:
        self._put(Work(work, done))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put(Work(None, lambda _result, _error: None))
        self._thread.join()

    # -- what a database does in its own way; all but CannotStore is the fault of the work

    @abstractmethod
    def _begin(self) -> Rows:
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

    def _put(self, piece: Work) -> None:
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
            closing = any(piece.function is None for piece in batch)
            self._store([piece for piece in batch if piece.function is not None])
        self._end()

    def _store(self, batch: list[Work]) -> None:
        if not batch:
            return
        start = perf_counter()
        try:
            if not self._together(batch):
                self._one_by_one(batch)
        except CannotStore as error:
            self.writable = False
            self._undo()
            for piece in batch:
                piece.error = piece.error or JournalError(str(error))
        else:
            self.writable = True
            if self._observe_commit is not None:
                self._observe_commit(perf_counter() - start)
        finally:
            for piece in batch:
                try:
                    piece.done(piece.result, piece.error)
                except Exception:
                    log.exception("telling what was stored failed")

    def _together(self, batch: list[Work]) -> bool:
        """Do all pieces in one transaction; False, and nothing is done, when one of them fails.

        Nearly always none does, and each statement has its price, so they are not kept apart at
        first.
        """
        transaction = self._begin()
        try:
            for piece in batch:
                assert piece.function is not None
                piece.result = piece.function(transaction)
                transaction.keep_counts()
        except CannotStore:
            raise
        except BaseException:  # noqa: BLE001  it is found again, and told, one by one
            self._undo()
            return False
        transaction.write_counts()
        self._tell("commit")
        return True

    def _one_by_one(self, batch: list[Work]) -> None:
        """Do each piece in a savepoint of its own, so that the one that fails fails alone."""
        transaction = self._begin()
        for piece in batch:
            assert piece.function is not None
            self._tell("savepoint piece")
            try:
                piece.result = piece.function(transaction)
            except CannotStore:
                raise
            except BaseException as error:  # noqa: BLE001  it is the caller's, and raised there
                piece.error = error
                transaction.forget_counts()
                self._tell("rollback to piece")
            else:
                transaction.keep_counts()
            self._tell("release piece")
        transaction.write_counts()
        self._tell("commit")
