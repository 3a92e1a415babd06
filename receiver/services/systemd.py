"""Services that systemd runs, through systemctl(1).

Its properties, and not its prose, are read: `systemctl show` prints KEY=VALUE lines that the
systemd project keeps stable. https://systemd.io/PORTABILITY_AND_STABILITY/
"""

from __future__ import annotations

import os
import re
import time
from enum import Enum
from typing import Annotated, Final

import msgspec

from receiver import process
from receiver.errors import ActionError
from receiver.services.manager import ServiceState, ServiceStatus, answers

UNIT_NAME: Final = (
    r"^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,246}\.(service|socket|target|timer|path|mount)$(?!\n)"
)
"""systemd.unit(5): no more than 255 characters, and here none that begins as an option does."""

_SYSTEMCTL: Final = "systemctl"
_PROPERTIES: Final = (
    "Id,LoadState,ActiveState,SubState,Result,MainPID,NRestarts,InvocationID,StatusText,Job"
)
_STATES: Final = {
    "active": ServiceState.RUNNING,
    "reloading": ServiceState.RUNNING,
    "refreshing": ServiceState.RUNNING,
    "activating": ServiceState.STARTING,
    "deactivating": ServiceState.STOPPED,
    "inactive": ServiceState.STOPPED,
    "maintenance": ServiceState.STOPPED,
    "failed": ServiceState.FAILED,
}
_POLL: Final = 0.2  # seconds; each is a process
_SETTLE: Final = 1.0
"""Seconds that one start of a unit must stay active."""
_LINES: Final = "20"
"""Lines of the journal that are shown when it does not start."""
_RESERVE: Final = 2.0
"""Seconds of the time-out that are left for asking why."""


class Systemd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    unit: Annotated[
        str,
        msgspec.Meta(
            pattern=UNIT_NAME,
            examples=["checkout.service"],
            extra={"type": "unit name", "amend": "{}.service"},
        ),
    ]
    """With its ending."""
    user: bool = False
    """Whether it is one of promheal's own user's manager, `systemctl --user`."""

    def status(self, *, timeout: float) -> ServiceStatus:
        (found,) = show([self.unit], user=self.user, timeout=timeout)
        refuse_missing(found, self.unit)
        return _status(found)

    def restart(self, *, timeout: float) -> ServiceStatus:
        deadline = time.monotonic() + timeout
        (before,) = show([self.unit], user=self.user, timeout=timeout)
        refuse_missing(before, self.unit)
        left = max(0.1, deadline - time.monotonic() - min(_RESERVE, timeout / 4))
        # Only asked for: systemctl itself would wait for as long as the unit's own limits are.
        systemctl(["restart", "--no-block", "--", self.unit], user=self.user, timeout=left)
        run, since, last = "", 0.0, "systemd did not say"
        last_call = deadline - min(_RESERVE, timeout / 4)
        for properties in answers(self._shown, last_call, every=_POLL):
            found = _status(properties)
            last = found.detail
            # Down, and no job of ours waits any more.
            if state_of(properties) is UnitState.DOWN:
                how = "failed" if found.state is ServiceState.FAILED else "ended"
                raise ActionError(
                    f"{self.unit} was restarted and {how}: {last}", output=self._tail()
                )
            now = properties.get("InvocationID", "")
            # While the job waits in systemd's queue the old one is still active.
            if found.state is not ServiceState.RUNNING or now == before.get("InvocationID"):
                run = ""
            elif now != run:
                # What ends at once is `active` for a moment (Type=simple), and with Restart= is
                # so again and again.
                run, since = now, time.monotonic()
            elif time.monotonic() - since >= _SETTLE:
                return found
        raise ActionError(
            f"{self.unit} was restarted and is not active in time: {last}", output=self._tail()
        )

    def _shown(self, *, timeout: float) -> dict[str, str]:
        (found,) = show([self.unit], user=self.user, timeout=timeout)
        return found

    def _tail(self) -> str:
        """Return the last lines of its journal, where there is one that we may read."""
        unit = "--user-unit" if self.user else "--unit"
        argv = ["journalctl", "--no-pager", "--lines", _LINES, unit, self.unit]
        try:
            return process.run(argv, timeout=_RESERVE, output_limit=8192).output
        except ActionError:
            return ""


def show(units: list[str], *, user: bool, timeout: float) -> list[dict[str, str]]:
    """Return the properties of each unit, in their order. Raises ActionError."""
    text = systemctl(["show", "--property", _PROPERTIES, "--", *units], user=user, timeout=timeout)
    found = [
        dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        for block in text.strip().split("\n\n")
    ]
    if len(found) != len(units) or any("ActiveState" not in each for each in found):
        raise ActionError("what systemctl says of it cannot be understood", output=text)
    return found


def refuse_missing(found: dict[str, str], unit: str) -> None:
    """Raise ActionError for a unit that is not there, or that somebody has masked."""
    match found.get("LoadState"):
        case "not-found":
            raise ActionError(
                f"systemd has no unit {unit!r}; `systemctl list-units --all` lists them"
            )
        case "masked":
            raise ActionError(f"{unit} is masked; `systemctl unmask {unit}` lets it start")
        case "error" | "bad-setting" as state:
            raise ActionError(
                f"the unit file of {unit} is wrong ({state}); `systemctl status` says how"
            )
        case _:
            pass


class UnitState(Enum):
    """What a unit is about to be."""

    UP = "up"
    COMING = "coming"
    BETWEEN = "between"
    """It ends; whether it starts again is seen only afterwards."""
    DOWN = "down"


def state_of(found: dict[str, str]) -> UnitState:
    """Return where a unit is, between systemd's states and the job that waits for it."""
    match _STATES.get(found["ActiveState"]):
        case ServiceState.RUNNING:
            return UnitState.UP
        case ServiceState.STARTING:
            return UnitState.COMING
        case _ if found["ActiveState"] == "deactivating" or found.get("Job", "0") not in {"", "0"}:
            return UnitState.BETWEEN
        case _:
            return UnitState.DOWN


def systemctl(arguments: list[str], *, user: bool, timeout: float) -> str:
    """Return what systemctl prints. Raises ActionError that says what to mend."""
    if timeout <= 0:
        raise ActionError("no time left to ask systemctl")
    scope = ["--user"] if user else []
    argv = [_SYSTEMCTL, "--no-pager", "--no-ask-password", *scope, *arguments]
    # Where the user's manager listens; systemd's own place for it, pam_systemd(8).
    env = {"XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}"} if user else {}
    finished = process.run(argv, timeout=timeout, env=env, output_limit=65_536)
    if finished.ok:
        return finished.output
    said = " ".join(finished.output.split())[:300]
    if finished.timed_out:
        raise ActionError(
            f"systemctl did not answer within {timeout:.1f} s", output=finished.output
        )
    if "not been booted with systemd" in said or "Failed to connect to bus" in said:
        raise ActionError(f"systemd does not run here, or its bus cannot be reached: {said}")
    if re.search(
        "interactive authentication required|access denied|permission denied", said, re.IGNORECASE
    ):
        raise ActionError(
            f"promheal's user may not do that: {said}; allow it by a polkit rule for "
            "org.freedesktop.systemd1.manage-units on this unit"
        )
    raise ActionError(f"systemctl refused ({finished.exit_code}): {said}")


def _status(found: dict[str, str]) -> ServiceStatus:
    pid = int(found.get("MainPID") or 0)
    words = [f"{found.get('Id', '')} is {found['ActiveState']} ({found.get('SubState', '')})"]
    if found.get("Result") not in {None, "", "success"}:
        words.append(f"result {found['Result']}")
    if found.get("NRestarts") not in {None, "", "0"}:
        words.append(f"systemd has restarted it {found['NRestarts']} times")
    if found.get("StatusText"):
        words.append(found["StatusText"])
    return ServiceStatus(
        state=_STATES.get(found["ActiveState"], ServiceState.FAILED),
        detail=", ".join(words)[:1000],
        pid=pid or None,
    )
