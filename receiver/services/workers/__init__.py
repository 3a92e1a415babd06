"""How many do a service's work? Counted, and made more or fewer, by the one who runs them.

One file a kind. A kind counts, and takes one step towards a number; that it is reached, within its
bounds and in time, is seen to here.

What is counted is who is *wanted*: who works and is to work on, and who is on the way to it. Who
happens to be ready is another number, and decides nothing but when a step is done: a pod that is
not ready for a moment is not one that somebody took away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import msgspec

from receiver.errors import ActionError
from receiver.services.manager import QUESTION, WORTH, answers

MOST: Final = 10_000
"""More workers than that are a slip of the pen."""
_POLL: Final = 0.1  # seconds
_SETTLE: Final = 1.0
"""Seconds for which the number must hold: a worker that cannot live is gone sooner."""
STEADY: Final = 2.0
"""Seconds for which a number must be the same to be believed, where nobody tells what is wanted."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """One look at them."""

    wanted: int
    """Who works and is to work on, and who is on the way to it."""
    ready: int
    """Who of these works."""
    leaving: int = 0
    """Who still works, or may, and is no longer wanted."""
    stale: bool = False
    """Whether `ready` and `leaving` are of before the last change of what is wanted."""
    unclear: str = ""
    """Why it cannot be told yet how many are wanted, of one of them; then `wanted` says nothing."""

    @property
    def lacking(self) -> int:
        """How many are wanted and do not work."""
        return max(0, self.wanted - self.ready)

    @property
    def words(self) -> str:
        words = [f"{self.wanted} are wanted and {self.ready} work"]
        if self.leaving:
            words.append(f"{self.leaving} still end")
        if self.stale:
            words.append("and the change was not yet seen by who starts them")
        return self.unclear or ", ".join(words)


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every kind."""

    min: _Count
    """No action goes below it."""
    max: _Count
    """No action goes above it."""

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, and max only {self.max}")

    def look(self, *, timeout: float) -> Counted:
        """Ask once. Raises ActionError when that is not answered within *timeout* seconds."""
        raise NotImplementedError

    def step(self, wanted: int, *, timeout: float) -> None:
        """Ask for at least one more, or one fewer, on the way to *wanted*."""
        raise NotImplementedError

    @property
    def patience(self) -> float:
        """Seconds within which a step shows, before it is taken again."""
        return 10.0

    def count(self, *, timeout: float) -> Counted:
        """Return how many are wanted, as soon as that is clear.

        Raises ActionError when it cannot be told within *timeout* seconds.
        """
        deadline = time.monotonic() + timeout
        found = self.look(timeout=_left(deadline))
        if found.unclear:
            for found in answers(self.look, deadline, every=_POLL):
                if not found.unclear:
                    break
        if found.unclear:
            raise ActionError(
                f"it cannot be told in time how many workers are wanted: {found.unclear}; "
                "nothing was touched"
            )
        return found

    def scale(self, wanted: int, *, lacking: int = 0, timeout: float) -> Counted:
        """Have *wanted* of them, and return what is there when that holds.

        *lacking* of them may go on not to work, as they did before. Raises ActionError, with what
        is there, when it is not so within *timeout* seconds. It may be called again.
        """
        deadline = time.monotonic() + timeout
        with _alone(self, timeout):
            scaling = _Scaling(self, wanted, lacking)
            while not scaling.done(deadline):
                if time.monotonic() + _POLL >= deadline:
                    raise scaling.late()
                time.sleep(_POLL)
            return scaling.found


class Inferred(Scaled, frozen=True, kw_only=True):
    """The base of those whose number nobody tells: as many are wanted as are there for a while.

    One that has just ended is started again within a second, and one that was told to end is there
    until it has: a single look says neither.
    """

    def count(self, *, timeout: float) -> Counted:
        """Return how many there are, as soon as that has not changed for two seconds."""
        deadline = time.monotonic() + timeout
        found, since = super().count(timeout=timeout), time.monotonic()
        while time.monotonic() - since < STEADY:
            if time.monotonic() + _POLL >= deadline:
                raise ActionError(
                    "it cannot be told in time how many workers are wanted: their number changes "
                    f"all the time, now there are {found.wanted}; nothing was touched"
                )
            time.sleep(_POLL)
            now = super().count(timeout=max(0.1, deadline - time.monotonic()))
            if now != found:
                found, since = now, time.monotonic()
        return found


class _Scaling:
    """The way to a number."""

    def __init__(self, workers: Scaled, wanted: int, lacking: int) -> None:
        self._workers = workers
        self._wanted = wanted
        self._lacking = lacking
        self._asked_at: float | None = None
        self._asked_of: Counted | None = None
        self._since: float | None = None
        self._last: Counted | None = None
        self._silence: ActionError | None = None
        """What the last question was answered with instead, after others were answered."""

    @property
    def found(self) -> Counted:
        assert self._last is not None
        return self._last

    def done(self, deadline: float) -> bool:
        """Look once, take a step if one is needed, and return whether the number holds."""
        left = deadline - time.monotonic()
        try:
            now = self._workers.look(timeout=_left(deadline))
            at = time.monotonic()
            reached = not now.unclear and now.wanted == self._wanted
            if not now.unclear and not reached and self._is_due(now, at):
                self._workers.step(self._wanted, timeout=_left(deadline))
                self._asked_at, self._asked_of = at, now
        except ActionError as error:
            # Before anything was asked for, it is the operator's to mend. Afterwards the way is
            # half gone, and an answer that is late is no reason to leave it.
            if self._asked_at is None:
                raise
            if left >= WORTH:
                self._silence = error
            self._since = None
            return False
        self._last, self._silence = now, None
        if not reached or now.stale or now.lacking > self._lacking or now.leaving:
            self._since = None
            return False
        self._since = at if self._since is None else self._since
        return at - self._since >= _SETTLE

    def _is_due(self, now: Counted, at: float) -> bool:
        """Whether the step before has shown, or has had its time."""
        if self._asked_at is None or self._asked_of is None:
            return True
        return now.wanted != self._asked_of.wanted or at - self._asked_at > self._workers.patience

    def late(self) -> ActionError:
        what = f"{self._wanted} workers were asked for, and when time is up "
        if self._silence is not None:
            return ActionError(
                f"{what}nobody says how many there are: {self._silence}",
                output=self._silence.output,
            )
        return ActionError(what + self.found.words)


def _left(deadline: float) -> float:
    return min(QUESTION, max(0.1, deadline - time.monotonic()))


_locks: dict[Scaled, threading.Lock] = {}
_guard = threading.Lock()


@contextmanager
def _alone(workers: Scaled, timeout: float) -> Iterator[None]:
    """Hold off other runs that scale the same: two strategies may name different targets."""
    with _guard:
        lock = _locks.setdefault(workers, threading.Lock())
    if not lock.acquire(timeout=timeout):
        raise ActionError("another run scales the same workers")
    try:
        yield
    finally:
        lock.release()
