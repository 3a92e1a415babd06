"""Who starts and stops a service, and what does it say? The port; managers.py has the kinds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, Protocol, TypeVar

import msgspec

from receiver.errors import ActionError

QUESTION: Final = 10.0
"""Seconds that one question may take where it can be asked again."""
WORTH: Final = 1.0
"""Seconds that a question must have had: one that a deadline cut short tells less than the last."""

_T_co = TypeVar("_T_co", covariant=True)


class ServiceState(StrEnum):
    RUNNING = "running"
    STARTING = "starting"
    STOPPED = "stopped"
    FAILED = "failed"


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    state: ServiceState
    detail: str = ""
    """What the manager said, for the operator."""
    pid: int | None = None


class Manager(Protocol):
    """Who starts and stops a service. One implementation a file of this package."""

    def status(self, *, timeout: float) -> ServiceStatus:
        """Ask. Raises ActionError when the manager cannot be asked within *timeout* seconds."""

    def restart(self, *, timeout: float) -> ServiceStatus:
        """Stop and start, and return when the manager says that it runs.

        Raises ActionError, with the reason, when that is not so within *timeout* seconds.
        """


class Question(Protocol[_T_co]):
    def __call__(self, *, timeout: float) -> _T_co:
        """Ask. Raises ActionError when that is not answered within *timeout* seconds."""


def answers(ask: Question[_T_co], deadline: float, *, every: float) -> Iterator[_T_co]:
    """Yield what *ask* is answered, each *every* seconds, until *deadline* on the monotonic clock.

    For waiting after something was changed: one answer that is late or a server that is just being
    restarted is no reason to give up. What is left unanswered at the end is raised as ActionError.
    """
    silence: ActionError | None = None
    answered = False
    while True:
        left = deadline - time.monotonic()
        try:
            found = ask(timeout=min(QUESTION, max(0.1, left)))
        except ActionError as error:
            if not answered or left >= WORTH:
                silence = error
        else:
            silence, answered = None, True
            yield found
        if time.monotonic() + every >= deadline:
            if silence is not None:
                raise silence
            return
        time.sleep(every)
