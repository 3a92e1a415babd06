"""Workers that are instances of a template unit: `worker@1.service`, `worker@2.service`, …"""

from __future__ import annotations

from typing import Annotated

import msgspec

from receiver.services.systemd import UnitState, refuse_missing, show, state_of, systemctl
from receiver.services.workers import Counted, Scaled

_TEMPLATE = r"^[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\-]{0,200}@\.service$(?!\n)"


class SystemdTemplate(Scaled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    template: Annotated[
        str,
        msgspec.Meta(
            pattern=_TEMPLATE,
            examples=["worker@.service"],
            extra={"type": "unit name", "amend": "{}@.service"},
        ),
    ]
    """`worker@.service`; its instances are numbered from 1 to `max`."""
    user: bool = False
    """Whether it is a unit of promheal's own user's manager, `systemctl --user`."""

    def _unit(self, number: int) -> str:
        return self.template.replace("@.", f"@{number}.")

    def _instances(self, timeout: float) -> list[tuple[str, UnitState]]:
        """Return each unit from 1 to `max`, and what it is about to be."""
        if not self.max:
            return []
        units = [self._unit(number) for number in range(1, self.max + 1)]
        found = show(units, user=self.user, timeout=timeout)
        refuse_missing(found[0], units[0])
        return [(unit, state_of(each)) for unit, each in zip(units, found, strict=True)]

    def look(self, *, timeout: float) -> Counted:
        instances = self._instances(timeout)
        states = [state for _, state in instances]
        between = [unit for unit, state in instances if state is UnitState.BETWEEN]
        return Counted(
            wanted=states.count(UnitState.UP) + states.count(UnitState.COMING),
            ready=states.count(UnitState.UP),
            # One that ends may be started again when it has, by its Restart= or a job.
            unclear=f"{between[0]} is just being stopped or restarted" if between else "",
        )

    def step(self, wanted: int, *, timeout: float) -> None:
        instances = self._instances(timeout)
        # Those that work come first, so that they are stopped last.
        up = [unit for unit, state in instances if state is UnitState.UP]
        up += [unit for unit, state in instances if state is UnitState.COMING]
        down = [unit for unit, state in instances if state is UnitState.DOWN]
        if wanted > len(up):
            verb, units = "start", down[: wanted - len(up)]
        else:
            verb, units = "stop", up[wanted:]
        if units:
            systemctl([verb, "--no-block", "--", *units], user=self.user, timeout=timeout)

    def probe(self, *, timeout: float) -> list[str]:
        self._instances(timeout)
        return []
