"""Workers that commands of their own count and scale."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from receiver import process
from receiver.errors import ActionError
from receiver.policy.texts import Argv
from receiver.services.workers import Counted, Scaled

PLACE: Final = "{count}"
"""Stands for the number in the argv of `to`; the only thing that is put there is digits."""


class WorkerCommands(Scaled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ask: Annotated[Argv, msgspec.Meta(min_length=1)]
    """Prints how many are wanted, and nothing else: those that work, and those that start."""
    to: Annotated[Argv, msgspec.Meta(min_length=2)]
    """Starts or stops so many that there are `{count}`, an argument that becomes the number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if PLACE not in self.to[1:]:
            raise ValueError(f"to: write {PLACE} as one of its arguments, for the number")

    def look(self, *, timeout: float) -> Counted:
        text = _run(self.ask, timeout).strip()
        if not text.isdecimal() or len(text) > 6:
            raise ActionError(f"{self.ask[0]!r} printed no number", output=text[:2000])
        return Counted(wanted=int(text), ready=int(text))

    def step(self, wanted: int, *, timeout: float) -> None:
        _run(tuple(str(wanted) if word == PLACE else word for word in self.to), timeout)

    def probe(self, *, timeout: float) -> list[str]:
        self.look(timeout=timeout)
        return []


def _run(argv: tuple[str, ...], timeout: float) -> str:
    finished = process.run(argv, timeout=timeout, output_limit=4096, leftovers="leave")
    if not finished.ok:
        ending = "did not end in time" if finished.timed_out else f"ended with {finished.exit_code}"
        raise ActionError(f"{argv[0]!r} {ending}", output=finished.output)
    return finished.output
