"""When does something need a person? A thread checks now and then, and logs what has changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final

from receiver.errors import JournalError
from receiver.reporting.needs.need import Need

log: Final = logging.getLogger("promheal.needs")

EVERY: Final = 30.0
"""Seconds between two checks."""


class Lookout:
    """Checks from `start` until `stop`."""

    def __init__(self, *, ask: Callable[[], None], needs: Callable[[], Iterable[Need]]) -> None:
        """*ask* probes the upstreams; *needs* may raise JournalError."""
        self._ask = ask
        self._needs = needs
        self._logged: dict[str, Need] = {}  # by id, as it was logged last
        self._wanted = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._watch, name="lookout", daemon=True)

    def start(self) -> None:
        """Check now, and from now on. Idempotent."""
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Check soon: something may have changed. Never waits."""
        self._wanted.set()

    def stop(self, timeout: float) -> None:
        """End; wait at most *timeout* seconds for a probe that is under way."""
        self._ending = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _watch(self) -> None:
        while not self._ending:
            self._wanted.clear()
            try:
                self._ask()
                self._log({need.id: need for need in self._needs()})
            except JournalError:
                pass  # which the journal logs itself
            except Exception:
                log.exception("checking what needs a person failed, retried")
            self._wanted.wait(EVERY)

    def _log(self, found: dict[str, Need]) -> None:
        for id_ in found.keys() - self._logged.keys():
            need = found[id_]
            log.warning(
                "needs a person: %s",
                need.title,
                extra={"need": id_, "severity": need.severity, "why": need.why, "do": need.command},
            )
        for id_ in self._logged.keys() - found.keys():
            log.info("no longer needs a person: %s", self._logged[id_].title, extra={"need": id_})
        self._logged = found
