"""Which process does a pidfile name?

A pid in a file is a claim: its process may have ended, and another one may have its number. So a
signal is sent through a pidfd, to the process that was checked and no other, and the check is:

- it had started before the file was written. One that is younger than its pidfile got the number
  later. (If it looks like our program all the same, the clock was set, or the file was copied:
  then nothing is touched and a person is asked.)
- the file's owner may name it: root and the receiver's own user may name any, other users only
  processes of their own. Otherwise whoever can write the file could have any process killed.
"""

from __future__ import annotations

import os
import select
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from receiver.errors import ActionError
from receiver.process.table import stat_fields

_CLOCK_SLACK: Final = 2.0
"""Seconds by which a start may seem later than it was: /proc/stat tells whole ones."""


@contextmanager
def named_by(pidfile: str, program: str) -> Iterator[PidfileProcess | None]:
    """Give the living process that *pidfile* names, or None when there is none.

    *program* is what it would look like. Raises ActionError when it cannot be told whether it is
    ours.
    """
    claim = _read_pidfile(pidfile)
    if claim is None:
        yield None
        return
    pid, claimed = claim
    with opened(pid) as descriptor:
        # From here on the number cannot pass to another process unnoticed: the descriptor
        # stands for the one that is checked.
        found = PidfileProcess(pid, descriptor) if descriptor is not None else None
        if found is None or found.ended(0.0) or not _is_ours(pidfile, program, pid, claimed):
            yield None
        else:
            yield found


def _is_ours(pidfile: str, program: str, pid: int, claimed: os.stat_result) -> bool:
    try:
        started_at = _started_at(pid)
        owner = Path(f"/proc/{pid}").stat().st_uid
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False  # it has just ended
    if claimed.st_uid not in {0, os.geteuid(), owner}:
        raise ActionError(
            f"{pidfile} belongs to user {claimed.st_uid} and names process {pid} of user "
            f"{owner}: it is not touched"
        )
    if started_at <= claimed.st_mtime + _CLOCK_SLACK:
        return True
    name = Path(program).name
    if name in {Path(os.fsdecode(word)).name for word in words[:2]}:
        raise ActionError(
            f"{pidfile} was written before its process {pid} started, which yet looks "
            f"like {program!r}: the clock was set, or it is another one; nothing was "
            "touched. Write the file anew if it is right, or remove it"
        )
    return False


class PidfileProcess:
    """A process, by a descriptor that stays its own when the number passes to another."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    @property
    def words(self) -> str:
        return f"process {self.pid}"

    def send(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise ActionError(
                f"process {self.pid} may not be signalled: it belongs to another user"
            ) from None

    def may_be_signalled(self) -> bool:
        try:
            signal.pidfd_send_signal(self._descriptor, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return True

    def kill(self) -> None:
        """Kill it, and its process group if it leads one: workers must not keep its ports."""
        with suppress(ProcessLookupError, PermissionError):
            leads = os.getpgid(self.pid) == self.pid != os.getpgrp()
            if leads and not self.ended(0.0):
                os.killpg(self.pid, signal.SIGKILL)
        self.send(signal.SIGKILL)

    def ended(self, timeout: float) -> bool:
        """Whether it ends within *timeout* seconds. A zombie has ended."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


@contextmanager
def opened(pid: int) -> Iterator[int | None]:
    """Give a descriptor of a process, or None when there is none with this number."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # no such process, or the number of a thread
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_pidfile(path: str) -> tuple[int, os.stat_result] | None:
    """Return the pid and whose file it is since when, or None when there is no file.

    Raises ActionError when it cannot be read, holds no pid, or everybody may write it.
    """
    try:
        # A pipe in its place must not hold us up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ActionError(f"the pidfile cannot be read: {error}") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ActionError(f"{path} is no file, so no pidfile")
        text = os.read(descriptor, 64)
    finally:
        os.close(descriptor)
    if facts.st_mode & stat.S_IWOTH:
        raise ActionError(f"{path} can be written by everybody, so it is not believed: chmod o-w")
    words = text.split()
    if not words:
        return None  # it is just being written, or was left empty
    if not words[0].isdigit() or len(words[0]) > 9:
        raise ActionError(f"{path} holds no pid, but {text[:32]!r}")
    pid = int(words[0])
    if pid in {0, 1, os.getpid(), os.getppid()}:
        raise ActionError(f"{path} names process {pid}, which is init or the receiver itself")
    return pid, facts


def _started_at(pid: int) -> float:
    """Return when a process started, seconds since the epoch. Raises OSError when it is over."""
    fields = stat_fields(pid)  # starttime is field 22, in ticks
    for line in Path("/proc/stat").read_bytes().splitlines():
        name, _, value = line.partition(b" ")
        if name == b"btime":
            return int(value) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    raise ActionError("/proc/stat does not tell when the system was booted")
