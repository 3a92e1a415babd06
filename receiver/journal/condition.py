"""May the journal be used? If not: why, and what is there to do about it?"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class JournalState(StrEnum):
    SOUND = "sound"
    CHECKING = "checking"
    """It is read through: alerts are accepted, and nothing acts until that is over."""
    UNAVAILABLE = "unavailable"
    """It cannot be opened or reached now; that is tried again until it can."""
    REFUSED = "refused"
    """It is damaged, or not the one that was here: a person decides."""
    GONE = "gone"
    """It was removed, moved or replaced while it was in use."""


class JournalCondition(msgspec.Struct, frozen=True):
    """The state of a journal, with what is wrong and what to do about it; both empty when sound."""

    state: JournalState
    problem: str = ""
    remedy: str = ""

    @property
    def sound(self) -> bool:
        return self.state is JournalState.SOUND

    @property
    def stores(self) -> bool:
        """Whether alerts are accepted."""
        return self.state in {JournalState.SOUND, JournalState.CHECKING}

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


SOUND: Final = JournalCondition(JournalState.SOUND)
CHECKING: Final = JournalCondition(
    JournalState.CHECKING,
    "the journal is being checked; alerts are accepted, and nothing acts until it has passed",
)
