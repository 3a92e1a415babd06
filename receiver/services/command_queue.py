"""Queues that a command of the operator's own knows how to put in order."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from receiver import process
from receiver.errors import ActionError
from receiver.policy.texts import Argv
from receiver.services.command import ending


class Redistribute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The commands of a queue. They run without a shell and with a clean environment."""

    redistribute: Annotated[Argv, msgspec.Meta(min_length=1)]
    """Gives back what dead workers hold, and ends with 0. It is run again after a crash. No shell,
    and a clean environment."""


class CommandQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue of which only its command is known."""

    command: Redistribute

    def redistribute(self, *, timeout: float) -> dict[str, Any]:
        argv = self.command.redistribute
        finished = process.run(argv, timeout=timeout)
        if not finished.ok:
            raise ActionError(f"{argv[0]!r} {ending(finished)}", output=finished.output)
        return {"argv": list(argv), "seconds": finished.seconds, "output": finished.output}

    def probe(self, *, timeout: float) -> Iterable[str]:  # noqa: ARG002  nothing is waited for
        program = self.command.redistribute[0]
        if shutil.which(program, path=process.ENVIRONMENT["PATH"]) is None:
            yield f"there is no program {program!r}; write its whole path"
