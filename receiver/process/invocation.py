"""What is to be run? An argv with its environment and directory, checked."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from receiver.errors import ActionError


class Invocation:
    """Raises ActionError where no process could be given it."""

    def __init__(self, *, argv: tuple[str, ...], env: Mapping[str, str], cwd: str) -> None:
        if not argv or not argv[0]:
            raise ActionError("the command is empty; its first word must be a program")
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.name = repr(argv[0])
        for name in env:
            if not name or "=" in name:
                raise ActionError(
                    f"cannot start {self.name}: {name!r} cannot name a variable of an "
                    "environment; take letters, digits and _"
                )
        self._fields = [cwd, str(len(argv)), *argv, *(f"{name}={env[name]}" for name in env)]
        for field in self._fields:
            try:
                sound = b"\0" not in os.fsencode(field)
            except UnicodeEncodeError:
                sound = False
            if not sound:
                raise ActionError(
                    f"cannot start {self.name}: no process can be given {_shortened(field)}, for "
                    "its NUL or lone surrogate; correct the argument, variable or directory"
                )

    def encode(self, *, leftovers: str, timeout: float, output: int) -> bytes:
        """Return it as `receiver.process.supervise.Order` says."""
        body = b"\0".join(map(os.fsencode, [leftovers, str(timeout), str(output), *self._fields]))
        return b"%d\n%s" % (len(body), body)

    def refusal(self, step: str, number: int) -> str:
        """Return why the supervisor could not start it, and what to do."""
        reason = os.strerror(number)
        path = "/" in self.argv[0]
        if step == "fork":
            return f"cannot start {self.name}: {reason}{_limit(number)}"
        if step == "cwd":
            return (
                f"cannot start {self.name} in the directory {self.cwd!r}: {reason}; "
                "create it or correct `cwd`"
            )
        if step != "exec":
            return f"cannot start {self.name}: {step}: {reason}"
        match number:
            case errno.ENOENT if not path:
                remedy = f"install it in one of {self.env.get('PATH', '')} or write its full path"
            case errno.ENOENT | errno.ENOTDIR:
                remedy = "correct its path, or that of the interpreter on its first line"
            case errno.EACCES | errno.EPERM:
                remedy = "make it executable (chmod +x) for the user who runs the receiver"
            case errno.ENOEXEC:
                remedy = "a script needs a first line such as #!/bin/sh"
            case errno.E2BIG:
                remedy = "pass less in its arguments and environment, or a file"
            case _:
                remedy = "start it by hand to see more"
        return f"cannot start {self.name}: {reason}; {remedy}"

    def unsupervised(self, error: OSError) -> str:
        """Return why no supervisor could be started for it, and what to do."""
        return (
            f"cannot start {self.name}: its supervisor does not start: {error.strerror or error}"
            f"{_limit(error.errno)}"
        )


def _limit(number: int | None) -> str:
    """Return the remedy, where the kernel refuses another process."""
    match number:
        case errno.EAGAIN:
            return (
                "; raise the limit of processes: TasksMax= of the unit, pids.max of the container, "
                "or `ulimit -u` of the user"
            )
        case errno.ENOMEM:
            return "; free memory, or raise the limit: MemoryMax= of the unit, or the container's"
        case errno.EMFILE:
            return "; raise the limit of open files: LimitNOFILE= of the unit, or `ulimit -n`"
        case _:
            return ""


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
