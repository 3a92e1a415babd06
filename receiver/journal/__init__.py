"""What was received, decided and done, durably and in order.

`atomically(work)` runs *work* on a `Transaction`, and returns when its writes are on the disk. What
a decision rests on is read in the transaction that records it.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

from receiver.clock import wall
from receiver.errors import ConfigError
from receiver.journal.condition import SOUND
from receiver.journal.condition import JournalCondition as JournalCondition
from receiver.journal.condition import JournalState as JournalState
from receiver.journal.configurations import ConfigBody as ConfigBody
from receiver.journal.configurations import ConfigLoad as ConfigLoad
from receiver.journal.decisions import DecisionInputs as DecisionInputs
from receiver.journal.decisions import DecisionRecord as DecisionRecord
from receiver.journal.episodes import Admission as Admission
from receiver.journal.episodes import Admitted as Admitted
from receiver.journal.episodes import Episode as Episode
from receiver.journal.episodes import Want as Want
from receiver.journal.extent import ALL_ALERTS as ALL_ALERTS
from receiver.journal.extent import EVERYTHING as EVERYTHING
from receiver.journal.extent import OWN as OWN
from receiver.journal.extent import Extent as Extent
from receiver.journal.extent import of_alerts as of_alerts
from receiver.journal.history import Affected as Affected
from receiver.journal.history import History as History
from receiver.journal.operators import ActivePause as ActivePause
from receiver.journal.operators import Audit as Audit
from receiver.journal.outbox import PendingMessage as PendingMessage
from receiver.journal.retention import Anchor as Anchor
from receiver.journal.stored import Stored as Stored
from receiver.journal.stored import not_stored as not_stored
from receiver.journal.totals import Stats as Stats
from receiver.journal.transaction import Transaction as Transaction
from receiver.journal.workers import Worker as Worker

T = TypeVar("T")

_POSTGRES: Final = {"postgresql", "postgres"}


class Journal(ABC):
    """Raises JournalError when it cannot store or read; then nothing of the work was stored."""

    @property
    @abstractmethod
    def trouble(self) -> str:
        """Why the last attempt to store something failed; nothing when it succeeded."""

    @property
    def writable(self) -> bool:
        """Whether the last attempt to store something succeeded."""
        return not self.trouble

    @property
    def condition(self) -> JournalCondition:
        """Whether it may be used; if not, why, and what there is to do about it."""
        return SOUND

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it can still come to store anything."""

    @abstractmethod
    def atomically(self, work: Callable[[Transaction], T], extent: Extent = EVERYTHING) -> T:
        """Run *work*, and return its result once everything it wrote is durable.

        *work* touches nothing but its transaction: when another piece of its group fails, it is
        undone and run once more. *extent* is what no other may write meanwhile.
        """

    @abstractmethod
    def submit(
        self,
        work: Callable[[Transaction], T],
        done: Callable[[Stored[T]], None],
        extent: Extent = EVERYTHING,
    ) -> None:
        """Like `atomically`, without waiting: *done* is called with what became of it.

        *done* is called in the journal's own thread, so it must be quick.
        """

    @abstractmethod
    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run *work*, which only reads, beside the writers."""

    @abstractmethod
    def acquire(self) -> bool:
        """Become, or stay, the process that acts, or where the journal is shared, the leader.

        False while another one is.
        """

    def taken(self) -> bool:
        """Whether another process acts, on a journal where only one does."""
        return False

    # -- where several processes act beside each other

    @property
    def shared(self) -> bool:
        """Whether several processes act on it beside each other."""
        return False

    def news(self, timeout: float) -> bool:
        """Wait until another process has written something to send; False after *timeout* s."""
        raise NotImplementedError(f"no other process writes here, in {timeout} s or ever")

    def now(self) -> float:
        """Return the time that all who share it go by, seconds since the epoch."""
        return wall()

    def secret(self, name: str) -> bytes:  # noqa: ARG002  there is nobody to share it with
        """Return random bytes that all who share it have in common."""
        return secrets.token_bytes(32)

    @abstractmethod
    def close(self) -> None: ...


def open_journal(
    url: str,
    *,
    observe_commit: Callable[[float], None] | None = None,
    patient: bool = False,
) -> Journal:
    """Open the journal at *url*, and bring its schema up to date.

    *url* is sqlite:///data/promheal.db (relative), sqlite:////var/lib/promheal.db (absolute) or
    postgresql://USER@HOST/DATABASE, as libpq reads it. *observe_commit* is told the seconds that
    each commit took. Raises JournalError when it cannot be opened, is damaged, or is not the
    journal that was there. *patient*: then a file's `condition` says so instead, and it becomes
    well by itself when that has been mended; nor is a file's check waited for.
    """
    if url.partition("://")[0] in _POSTGRES:
        found: Journal = _postgres("postgres").PostgresJournal(url, observe_commit=observe_commit)
        return found
    path = file_of(url)
    from receiver.journal.sqlite import SqliteJournal  # noqa: PLC0415

    return SqliteJournal(path, observe_commit=observe_commit, patient=patient)


def file_of(url: str) -> Path:
    """Return the path of a journal in a file. Raises ConfigError for any other URL."""
    scheme, separator, path = url.partition("://")
    if scheme != "sqlite" or not separator or not path.startswith("/") or path == "/":
        raise ConfigError(
            f"--storage.url {url!r}: write sqlite:///PATH or postgresql://USER@HOST/DATABASE"
        )
    return Path(path[1:])


def prepare_journal(url: str) -> bool:
    """Bring the schema at *url* up to date, and return whether the journal is a shared one.

    For a process that forks afterwards: it leaves nothing open, and PostgreSQL's client starts no
    thread here. What OpenSSL holds while a thread ends (its join does not wait for that) would be
    held for ever in the child. A file that cannot be used now is left to whoever opens it.
    """
    if url.partition("://")[0] in _POSTGRES:
        _postgres("postgres_server").prepare(url)
        return True
    path = file_of(url)
    from receiver.journal.sqlite_file import prepare  # noqa: PLC0415

    prepare(path)
    return False


def _postgres(module: str) -> ModuleType:
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module(f"receiver.journal.{module}")
    except ImportError as error:
        raise ConfigError(
            f"--storage.url postgresql:// needs what is not installed ({error}): "
            "pip install 'promheal[postgres]'"
        ) from None
