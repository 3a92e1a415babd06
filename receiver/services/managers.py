"""Which managers are there? By the key that names them under `manager:` in services.yml."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.services.command import Command
from receiver.services.process import Process
from receiver.services.supervisor import Supervisor

MANAGERS: Final[dict[str, type[msgspec.Struct]]] = {
    "supervisor": Supervisor,
    "process": Process,
    "command": Command,
}
