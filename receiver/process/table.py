"""Which processes run, and which use most of the machine? From /proc, without arguments."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from receiver.clock import boot

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One process."""

    pid: int
    parent: int
    name: str
    """The program's, up to 15 bytes; a process may change it."""
    user: int
    """The number of the user that it runs as."""
    state: str
    """A letter as in proc_pid_stat(5): R runs, S sleeps, D waits for a disk, Z is a zombie."""
    threads: int
    cpu_percent: float
    """Share of one core, during the sample."""
    cpu_seconds: float
    """Since it was started."""
    resident_bytes: int


class _Stat(NamedTuple):
    name: str
    fields: list[bytes]
    """From the third of proc_pid_stat(5) on."""
    user: int

    @property
    def ticks(self) -> int:
        return int(self.fields[11]) + int(self.fields[12])

    @property
    def born(self) -> bytes:
        return self.fields[19]


def top(most: int, *, over: float) -> tuple[ProcessFigures, ...]:
    """Return those *most* that use most CPU in the next *over* seconds, and that hold most memory.

    In the order of their CPU use. Raises OSError without /proc.
    """
    began, before = time.monotonic(), dict(_all())
    time.sleep(over)
    passed = max(time.monotonic() - began, 0.001)
    found = []
    for pid, stat in _all():
        earlier = before.get(pid)
        known = earlier is not None and earlier.born == stat.born
        used = stat.ticks - (earlier.ticks if earlier is not None and known else 0)
        found.append(
            ProcessFigures(
                pid=pid,
                parent=int(stat.fields[1]),
                name=stat.name,
                user=stat.user,
                state=stat.fields[0].decode(),
                threads=int(stat.fields[17]),
                cpu_percent=round(100 * used / _TICK / passed, 1),
                cpu_seconds=round(stat.ticks / _TICK, 2),
                resident_bytes=int(stat.fields[21]) * _PAGE,
            )
        )
    found.sort(key=lambda one: (one.cpu_percent, one.cpu_seconds), reverse=True)
    largest = sorted(found, key=lambda one: one.resident_bytes, reverse=True)[:most]
    wanted = {one.pid for one in (*found[:most], *largest)}
    return tuple(one for one in found if one.pid in wanted)


def machine() -> str:
    """Return what identifies this boot of the machine, or this container on it."""
    return f"{boot()}/{Path('/proc/self/ns/pid').stat().st_ino}"


def born(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot; 0 when it has ended."""
    try:
        fields = stat_fields(pid)
    except OSError:
        return 0
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[19])


def stat_fields(pid: int) -> list[bytes]:
    """Return the fields of proc_pid_stat(5) from the third on: the name may hold anything.

    Raises OSError when the process is over.
    """
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


class Listener(NamedTuple):
    """Who takes connections at a port."""

    pid: int
    name: str


def listener(port: int) -> Listener | None:
    """Return who listens at *port* of TCP; None when that is nobody, or a process of another user.

    Of several that share it, the one that has started the others.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    found = {pid: stat for pid, stat in _all() if _holds(pid, sockets)}
    first = [pid for pid, stat in found.items() if int(stat.fields[1]) not in found]
    return Listener(min(first), _title(min(first)) or found[min(first)].name) if first else None


def _title(pid: int) -> str:
    """Return what a process calls itself, or its program, of Python the script.

    Other arguments are not shown: they may hold secrets.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (OSError, UnicodeDecodeError):
        return ""
    program = _last(words[0])
    if program.startswith("python") and words[1:] and words[1].startswith("/"):
        program = _last(words[1])
    return program[:60] if program.isprintable() else ""


def _last(path: str) -> str:
    return path.rpartition("/")[2] if path.startswith("/") else path


def _listening(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen there: proc_pid_net(5)."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue  # a machine without IPv6
        for line in lines:
            _, local, _, state, *rest = line.split()
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                yield rest[5]


def _holds(pid: int, sockets: Collection[str]) -> bool:
    """Whether a process has one of them open, as far as we may look."""
    try:
        return any(str(one.readlink()) in sockets for one in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _all() -> Iterator[tuple[int, _Stat]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name may hold spaces and parentheses.
            head, _, rest = (folder / "stat").read_bytes().rpartition(b")")
            user = folder.stat().st_uid
        except OSError:
            continue  # it has ended meanwhile
        program = head.partition(b"(")[2].decode("utf-8", "replace")
        yield int(folder.name), _Stat(program, rest.split(), user)
