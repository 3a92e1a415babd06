"""Workers that are instances of a template unit: `worker@1.service`, `worker@2.service`, …"""

from __future__ import annotations

from typing import Annotated

import msgspec

from receiver.services.systemd import active, refuse_missing, show, systemctl
from receiver.services.workers import Scaled

_TEMPLATE = r"^[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\-]{0,200}@\.service$(?!\n)"


class SystemdTemplate(Scaled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    template: Annotated[str, msgspec.Meta(pattern=_TEMPLATE)]
    """`worker@.service`; its instances are numbered from 1 to `max`."""
    user: bool = False

    def _unit(self, number: int) -> str:
        return self.template.replace("@.", f"@{number}.")

    def _active(self, timeout: float) -> list[int]:
        numbers = range(1, self.max + 1)
        found = show([self._unit(number) for number in numbers], user=self.user, timeout=timeout)
        refuse_missing(found[0], self._unit(1))
        return [number for number, each in zip(numbers, found, strict=True) if active(each)]

    def count(self, *, timeout: float) -> int:
        return len(self._active(timeout)) if self.max else 0

    def step(self, now: int, wanted: int, *, timeout: float) -> None:
        running = self._active(timeout)
        if wanted > now:
            free = [each for each in range(1, self.max + 1) if each not in running]
            verb, numbers = "start", free[: wanted - now]
        else:
            verb, numbers = "stop", running[wanted:]
        units = [self._unit(number) for number in numbers]
        systemctl([verb, "--no-block", "--", *units], user=self.user, timeout=timeout)

    def probe(self, *, timeout: float) -> list[str]:
        self._active(timeout)
        return []
