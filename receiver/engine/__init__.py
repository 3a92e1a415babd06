"""Who calls `consider`, where and when: the carriers of work. They know nothing of healing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from receiver.policy.role import Next
from receiver.policy.target import Key

Consider = Callable[[Key], Next]
"""Looks at one strategy and target, acts if it may, and returns who is to look again, and when."""


class Engine(Protocol):
    def start(self, consider: Consider) -> None: ...

    def wake(self, key: Key, at: float | None = None) -> None:
        """Have *key* considered at *at*, or as soon as can be."""

    def wake_all(self, keys: Iterable[Key], *, idle: bool = False) -> None:
        """Have all of them considered; *idle*: an engine may leave out what has a time already."""

    def stop(self, timeout: float) -> bool:
        """Begin nothing new; True when all that ran has ended within *timeout* seconds."""

    @property
    def alive(self) -> bool:
        """Whether all its threads live, where it was started and not stopped."""

    @property
    def trouble(self) -> str:
        """Why nothing can be considered now, though it lives; or an empty text."""

    @property
    def length(self) -> int:
        """Keys that are ready and not yet being considered."""
