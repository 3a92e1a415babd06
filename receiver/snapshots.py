"""What did things look like when a step ran? One compressed JSON for each `snapshot` step.

The files are `RUN-STEP.json.gz` in a folder of their own beside the journal, readable by promheal's
user alone: log lines and labels may hold anything.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from receiver.clients.prometheus import Range
from receiver.process.table import ProcessFigures
from receiver.redaction import redact_json

FOLDER: Final = "snapshots"
_NAME: Final = re.compile(r"(\d+)-\d+\.json\.gz(\.new)?")


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """What one query returned over the window."""

    query: str
    start: float
    """Seconds since the epoch."""
    end: float
    step: float
    """Seconds from one point to the next."""
    series: tuple[Range, ...]
    """Those that share most labels with the alert come first."""
    left_out: int = 0
    """Series beyond the limit, which are not kept."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that promheal runs on."""

    cpus: int
    load: tuple[float, ...]
    """The average of 1, 5 and 15 minutes."""
    memory_bytes: int
    available_bytes: int
    """MemAvailable, the kernel's estimate of what can be had without swapping."""
    processes: tuple[ProcessFigures, ...]
    """Those that use most CPU or memory, by CPU use."""


class ServiceWord(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the service."""

    name: str
    state: str
    """`running`, `starting`, `stopped` or `failed`, as its manager says."""
    detail: str
    pid: int | None
    health: str = ""
    """What its health URL answered, or why there was no answer; empty without a URL."""


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the service's log."""

    path: str
    modified_at: float
    """Seconds since the epoch, by the wall clock."""
    size: int
    lines: tuple[str, ...]
    """The last ones; bytes that are not UTF-8 are replaced."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a step found, as far as it could be had."""

    version: int = 1
    """Of this format."""
    run: int
    step: int
    """From 0."""
    strategy: str
    target: str
    taken_at: float
    """Seconds since the epoch, by promheal's clock."""
    alert: dict[str, Any]
    """Fingerprint, labels, annotations, start and expression."""
    value: float | None = None
    """What the expression returned at the decision."""
    decisions: tuple[dict[str, Any], ...] = ()
    """Decisions about the run so far: verdict, reason, and `answers` of every guard."""
    metrics: tuple[Metric, ...] = ()
    machine: Machine | None = None
    service: ServiceWord | None = None
    logs: Logs | None = None
    missing: dict[str, str] = {}
    """Why a part is missing, by its name."""


class Kept(NamedTuple):
    """A file as it was written."""

    path: Path
    sha256: str
    size: int


def keep(folder: Path, snapshot: Snapshot) -> Kept:
    """Write the file below *folder*, whole or not at all. Raises OSError."""
    path = path_of(folder, snapshot.run, snapshot.step)
    below = path.parent
    below.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = redact_json(msgspec.json.encode(snapshot).decode())
    content = gzip.compress(text.encode(), mtime=0)
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()  # left by a promheal that was killed
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    directory = os.open(below, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return Kept(path, hashlib.sha256(content).hexdigest(), len(content))


def path_of(folder: Path, run: int, step: int) -> Path:
    """Return the path of a step's snapshot below *folder*; it need not exist."""
    return folder / FOLDER / f"{run}-{step}.json.gz"


def read(path: Path) -> Snapshot:
    """Return what a file holds. Raises OSError or msgspec.ValidationError."""
    return msgspec.json.decode(gzip.decompress(path.read_bytes()), type=Snapshot)


def prune(folder: Path, is_known: Callable[[int], bool]) -> int:
    """Delete snapshots of runs that are no longer in the journal; return how many."""
    gone = 0
    try:
        found = list((folder / FOLDER).iterdir())
    except FileNotFoundError:
        return 0
    for path in found:
        name = _NAME.fullmatch(path.name)
        if name is not None and not is_known(int(name[1])):
            with suppress(FileNotFoundError):
                path.unlink()
                gone += 1
    return gone
