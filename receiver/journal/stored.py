"""What became of a piece of work? Its value, which can be had only once it is durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Stored(Generic[T]):
    """The value of what is on the disk, or the error for which nothing of it is.

    Whoever reads `value` has the error raised; there is no way to look past it.
    """

    __slots__ = ("_value", "error")

    def __init__(self, value: T, error: BaseException | None = None) -> None:
        """Use it for what has been committed; `not_stored` for all else."""
        self._value = value
        self.error = error
        """Why nothing was stored; None when it was."""

    @property
    def value(self) -> T:
        """What the work returned. Raises the error when it was not stored."""
        if self.error is not None:
            raise self.error
        return self._value

    def then(self, follow: Callable[[T], U]) -> Stored[U]:
        """Return what *follow* makes of the value; it is not called for what was not stored.

        An error of *follow* is one for whoever reads that value: nobody waits for it in vain.
        """
        try:
            return Stored(follow(self.value))
        except Exception as error:  # noqa: BLE001  it is raised where the value is read
            return not_stored(error)


def not_stored(error: BaseException) -> Stored[Any]:
    return Stored(None, error)
