"""Who notices what needs a person, when nobody asks? A thread that looks, and logs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final

from receiver.errors import JournalError
from receiver.reporting.needs.need import Need

log: Final = logging.getLogger("promheal.needs")

EVERY: Final = 30.0
"""Seconds between two looks."""


class Lookout:
    """Looks from `start` until `stop`."""

    def __init__(self, *, ask: Callable[[], None], needs: Callable[[], Iterable[Need]]) -> None:
        """*ask* asks those who are asked before each act; *needs* raises JournalError."""
        self._ask = ask
        self._needs = needs
        self._told: dict[str, Need] = {}  # by id, as it was logged last
        self._wanted = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._watch, name="lookout", daemon=True)

    def start(self) -> None:
        """Look now, and from now on. Once more does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Something may be otherwise now. Never waits."""
        self._wanted.set()

    def stop(self, timeout: float) -> None:
        """End, waiting no longer than *timeout* seconds for who is being asked."""
        self._ending = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _watch(self) -> None:
        while not self._ending:
            self._wanted.clear()
            try:
                self._ask()
                self._tell({need.id: need for need in self._needs()})
            except JournalError:
                pass  # which its own log tells
            except Exception:
                log.exception("what needs a person is not known; it is looked at again")
            self._wanted.wait(EVERY)

    def _tell(self, found: dict[str, Need]) -> None:
        for id_ in found.keys() - self._told.keys():
            need = found[id_]
            log.warning(
                "needs a person: %s",
                need.title,
                extra={"need": id_, "severity": need.severity, "why": need.why, "do": need.command},
            )
        for id_ in self._told.keys() - found.keys():
            log.info("needs nobody any more: %s", self._told[id_].title, extra={"need": id_})
        self._told = found
