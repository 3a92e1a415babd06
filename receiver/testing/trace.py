"""What happened in a test? The log of promheal, each line with its time in the test."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final, Self

from receiver.log import fields
from receiver.simulation.world import VirtualWorld
from receiver.testing.seen import shown_time

_LOGGER: Final = "promheal"
_UNSHOWN: Final = frozenset({"ts", "level", "logger", "msg"})


class Trace(logging.Handler):
    """Takes the log of this process while it is entered; *keep*: what it says is kept."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__(logging.INFO if keep else logging.CRITICAL + 1)
        self._world: VirtualWorld | None = None
        self._lines: list[str] = []

    def of(self, world: VirtualWorld) -> None:
        self._world = world

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def emit(self, record: logging.LogRecord) -> None:
        if self._world is None:
            return
        said = fields(record)
        more = [f"{name}={_shown(self._world, name, value)}" for name, value in said.items()
                if name not in _UNSHOWN and value not in ("", None)]  # fmt: skip
        time = shown_time(self._world, self._world.clock())
        self._lines.append(" ".join([f"{time:>8}", said["msg"], *more]))

    def __enter__(self) -> Self:
        logger = logging.getLogger(_LOGGER)
        self._before = logger.handlers[:], logger.propagate, logger.level
        logger.handlers[:], logger.propagate = [self], False
        logger.setLevel(self.level)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logger = logging.getLogger(_LOGGER)
        logger.handlers[:], logger.propagate, level = self._before
        logger.setLevel(level)


def _shown(world: VirtualWorld, name: str, value: object) -> str:
    if name == "until" and isinstance(value, float):
        return shown_time(world, value)
    shown = str(value)
    return repr(shown) if " " in shown else shown
