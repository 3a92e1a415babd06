"""How are lines appended to a file that other processes may append to and rename?

Whole or not at all, under a lock, never through a link, and durably.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

TAIL: Final = 1024 * 1024
"""Bytes at the end of the file that are read."""
_TRIES: Final = 50
_PAUSE: Final = 0.02  # seconds

_FLAGS: Final = (
    os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # a directory, a FIFO or a link
)  # fmt: skip


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open the file, made if it is not there, while no other promheal writes or renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        file = _open(path)
        try:
            if _hold(file, path):
                yield file
                return
        finally:
            os.close(file)
        time.sleep(_PAUSE)
    raise OSError(errno.EWOULDBLOCK, "another process holds it", str(path))


def _open(path: Path) -> int:
    try:
        return os.open(path, _FLAGS, 0o640)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "a symbolic link is not followed", str(path)) from None
        raise


def _hold(file: int, path: Path) -> bool:
    """Lock the file until it is closed; False if another process holds it, or has renamed it."""
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(status, path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False


def tail(file: int) -> bytes:
    return os.pread(file, TAIL, max(0, os.fstat(file).st_size - TAIL))


def write(file: int, data: bytes, size: int) -> None:
    """Append *data* to a file of *size* bytes, on the disk: all of it, or nothing."""
    try:
        written = os.write(file, data)
        os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise
    if written < len(data):
        os.ftruncate(file, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def rotate(path: Path, keep: int) -> None:
    """Make room: `.4` becomes `.5`, the file `.1`; what is older than *keep* files is removed."""
    for number in range(keep - 1, 0, -1):
        with suppress(FileNotFoundError):
            _older(path, number).rename(_older(path, number + 1))
    path.rename(_older(path, 1))
    with suppress(FileNotFoundError):
        for number in count(keep + 1):
            _older(path, number).unlink()


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def sync(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
