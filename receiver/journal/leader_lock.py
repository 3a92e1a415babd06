"""Which process acts on a file? The one with two locks, which the kernel frees when it dies.

One is on a file beside the database, which every version of promheal takes; the other is on the
database itself, where no `rm` takes it away.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import threading
from pathlib import Path
from typing import IO, Final

log: Final = logging.getLogger("promheal.journal")

_LOCKED: Final = 1 << 62
"""The byte of the database that is locked, far from those that SQLite locks."""

_Inode = tuple[int, int]


class LeaderLock:
    """Raises OSError when the lock file cannot be made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Absolute, whatever becomes of the current folder.
        self._place = path.absolute().with_name(path.name + ".lock")
        self._leads = False
        self._locking = threading.Lock()
        self._take(self._made())

    def acquire(self, database: int | None) -> bool:
        """Become, or stay, the process that acts; False while another one is.

        *database* is an open descriptor of the database; None where there is none.
        """
        with self._locking:
            if not self._is_there():
                self._file.close()
                self._take(self._made())
            if not _locks(self._file):
                return False
            if database is None:
                self._leads = True
                return True
            # Of this open file, and not of the process, as SQLite's own: they bear each other.
            mine = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED, 1, 0)
            try:
                fcntl.fcntl(database, fcntl.F_OFD_SETLK, mine)
            except BlockingIOError:
                fcntl.flock(self._file, fcntl.LOCK_UN)
                return False
            self._leads = True
            return True

    def keep(self) -> str:
        """Put back a lock file that was removed; return why that cannot be, or an empty text."""
        if not self._leads or self._is_there():
            return ""
        with self._locking:
            if self._is_there():
                return ""
            try:
                another = self._made()
            except OSError as error:  # that on the database holds all the same
                log.debug("%s cannot be made again: %s", self._place, error)
                return ""
            if not _locks(another):
                another.close()
                return f"{self.path}.lock was removed, and another process has locked a new one"
            self._file.close()
            self._take(another)
        log.warning("%s.lock was removed, and is there again", self.path)
        return ""

    def close(self) -> None:
        self._file.close()

    def _take(self, file: IO[str]) -> None:
        self._file = file
        self._inode = inode(os.fstat(file.fileno()))

    def _is_there(self) -> bool:
        try:
            return inode(self._place.stat()) == self._inode
        except OSError:
            return False

    def _made(self) -> IO[str]:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        return self._place.open("a")


def inode(found: os.stat_result) -> _Inode:
    return found.st_dev, found.st_ino


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
