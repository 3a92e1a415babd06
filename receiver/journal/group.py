"""Group commit: all work that is queued while another is stored shares one transaction.

A writer thread stores the queue. Whoever can wait for the disk, and finds nobody writing, stores
what it has by itself: two changes of thread less, each of which costs milliseconds on a machine
whose cores are busy. Work that fails takes nothing else with it: the group is run again, each piece
in its own savepoint.
"""

from __future__ import annotations

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

from receiver.errors import CannotStore, JournalError
from receiver.journal import Journal
from receiver.journal.extent import EVERYTHING, Extent
from receiver.journal.stored import Stored, not_stored
from receiver.journal.transaction import Transaction

T = TypeVar("T")
Tx = TypeVar("Tx", bound=Transaction)
"""A transaction of one database."""

log: Final = logging.getLogger("promheal.journal")

GROUP: Final = 256
"""The most pieces of work in one transaction: a bound on how long the first one waits."""

Became = list[Stored[Any]] | None
"""What became of each piece of a group; None when one of them failed, and it was undone."""


class Work:
    """A piece of work in the writer's queue."""

    __slots__ = ("done", "extent", "function")

    def __init__(
        self,
        function: Callable[[Any], Any] | None,
        done: Callable[[Stored[Any]], None],
        extent: Extent = EVERYTHING,
    ) -> None:
        self.function = function
        self.done = done
        self.extent = extent


class GroupWriter(ABC, Generic[Tx]):
    """A database supplies how a transaction begins, ends and is undone."""

    trouble: str = ""
    """Why the last attempt to store something failed; nothing when it succeeded."""

    def __init__(
        self, *, observe_commit: Callable[[float], None] | None = None, name: str = "journal"
    ) -> None:
        self._observe_commit = observe_commit
        self._queue: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._closed = False
        self._proven = True
        """Whether the transaction proves that we can store: an empty one succeeds anyhow."""
        self._putting = threading.Lock()
        self._behind = 0
        """Pieces in the queue, or in the writer thread's hands; changed under `_putting`."""
        self._writing = threading.Lock()
        """Held by whoever stores: one at a time."""
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def atomically(self, work: Callable[[Tx], T], extent: Extent = EVERYTHING) -> T:
        self._require_open()
        # What is queued already goes first, or it might never come to its turn.
        if self._behind == 0 and self._writing.acquire(blocking=False):
            try:
                self._require_open()
                return self._store_alone(work, extent)
            finally:
                self._writing.release()
        waiting = threading.Lock()  # the cheapest thing that one thread can wait for
        waiting.acquire()
        found: list[Stored[T]] = []

        def done(stored: Stored[T]) -> None:
            found.append(stored)
            waiting.release()

        self._put(Work(work, done, extent))
        waiting.acquire()
        return found[0].value

    def submit(
        self,
        work: Callable[[Tx], T],
        done: Callable[[Stored[T]], None],
        extent: Extent = EVERYTHING,
    ) -> None:
        self._put(Work(work, done, extent))

    def close(self) -> None:
        with self._putting:
            if self._closed:
                return
            self._closed = True
            self._queue.put(Work(None, lambda _: None))
        self._thread.join()

    # -- hooks of a database; any error but CannotStore is the fault of the work

    @abstractmethod
    def _begin(self, batch: list[Work]) -> Tx:
        """Begin a transaction in which *batch* rests on what nobody changes. Raises CannotStore."""

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

    def _fails(self, error: BaseException) -> bool:  # noqa: ARG002  raises CannotStore by itself
        """Whether an error that the work raised is the database's."""
        return False

    def _require_open(self) -> None:
        """Raise JournalError while no work is taken."""
        if self._closed:
            raise JournalError("the journal is closed")

    def _put(self, piece: Work) -> None:
        self._require_open()
        with self._putting:
            if self._closed:  # it would be put behind the last piece, and never be run
                raise JournalError("the journal is closed")
            self._behind += 1
            self._queue.put(piece)

    def _store_alone(self, work: Callable[[Tx], T], extent: Extent) -> T:
        found: list[Stored[T]] = []
        self._store([Work(work, found.append, extent)])
        return found[0].value

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
            with self._writing:
                if work:
                    self._store(work)
                if closing:
                    self._end()
            with self._putting:
                self._behind -= len(work)

    def _store(self, batch: list[Work]) -> None:
        """Store a group, and call each piece's `done`. Raises nothing: the thread goes on.

        What is not known to be committed counts as not stored.
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

    def _together(self, batch: list[Work]) -> Became:
        """Run all pieces in one transaction; undo it and return None when one of them fails.

        That is rare, and savepoints cost a statement each, so the first attempt has none.
        """
        transaction = self._begin(batch)
        values = []
        try:
            for piece in batch:
                assert piece.function is not None
                values.append(piece.function(transaction))
                transaction.keep_counts()
        except CannotStore:
            raise
        except BaseException:  # noqa: BLE001  it comes again, and is told, one by one
            self._undo()
            return None
        self._commit(transaction)
        return [Stored(value) for value in values]

    def _one_by_one(self, batch: list[Work]) -> list[Stored[Any]]:
        """Run each piece in its own savepoint, so that the one that fails fails alone."""
        transaction = self._begin(batch)
        became: list[Stored[Any]] = []
        for piece in batch:
            assert piece.function is not None
            self._tell("savepoint piece")
            try:
                value = piece.function(transaction)
            except CannotStore:
                raise
            except BaseException as error:  # the caller's, and raised there
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


class GroupJournal(GroupWriter[Tx], Journal, Generic[Tx]):
    """A journal with one writer."""
