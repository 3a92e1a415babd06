"""Reloads the web configuration when its files change; checked on use, at most once a second.

A new file is read completely before it replaces the old one. A broken one is ignored and logged
once: a typo locks nobody out and opens nothing.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from receiver.errors import ConfigError
from receiver.web.access.web_config import WebConfig
from receiver.web.access.web_config_file import LoadedWebConfig, load

log: Final = logging.getLogger("promheal.web")

LOOK_AGAIN: Final = 1.0
"""Seconds between two checks."""
TRY_AGAIN: Final = 10.0
"""Seconds until broken files are read again even if they look unchanged."""

_Look = tuple[tuple[int, int, int] | None, ...]


class ReloadingConfig:
    """The web configuration in force. Safe to use from many threads.

    *check* gets the old and the new one, and raises ConfigError if the new one cannot be applied.
    Raises InvalidConfig if the file is broken at the start.
    """

    def __init__(
        self,
        path: Path,
        check: Callable[[LoadedWebConfig, LoadedWebConfig], None] = lambda _old, _new: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._check = check
        self._clock = clock
        self._looking = threading.Lock()
        self._failure = ""
        self._looked_at = self._read_at = clock()
        self.loaded, self._seen = _read(path, (path,))

    def now(self) -> WebConfig:
        """Return the configuration in force."""
        self._look_if_due()
        return self.loaded.config

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for a new connection. Only if TLS was on at the start."""
        self._look_if_due()
        assert self.loaded.context is not None
        return self.loaded.context

    def _look_if_due(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_AGAIN or not self._looking.acquire(blocking=False):
            return
        try:
            self._looked_at = now
            seen = _look(self.loaded.files)
            if seen != self._seen or (self._failure and now - self._read_at >= TRY_AGAIN):
                self._seen, self._read_at = seen, now
                self._take()
        finally:
            self._looking.release()

    def _take(self) -> None:
        try:
            loaded, seen = _read(self._path, self.loaded.files)
            self._check(self.loaded, loaded)
        except ConfigError as error:
            if str(error) != self._failure:
                self._failure = str(error)
                log.error("the web configuration was not taken, the old one stays: %s", error)  # noqa: TRY400  a traceback would say nothing more
            return
        self.loaded, self._seen, self._failure = loaded, seen, ""
        log.info("the web configuration was taken", extra={"file": str(self._path)})


def _read(path: Path, files: tuple[Path, ...]) -> tuple[LoadedWebConfig, _Look]:
    """Return the configuration at *path*, and the state of its files before they were read.

    *files* are those that it probably names; if it names others, it is read again.
    """
    while True:
        seen = _look(files)
        loaded = load(path)
        if loaded.files == files:
            return loaded, seen
        files = loaded.files


def _look(files: Iterable[Path]) -> _Look:
    return tuple(_stat(path) for path in files)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
