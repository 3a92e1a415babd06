"""Kinds of managers, by their key under `manager:` in services.yml."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.services.command import CommandManager
from receiver.services.docker import Docker
from receiver.services.kubernetes import Kubernetes
from receiver.services.process import Process
from receiver.services.supervisor import Supervisor
from receiver.services.systemd import Systemd

MANAGERS: Final[dict[str, type[msgspec.Struct]]] = {
    "supervisor": Supervisor,
    "systemd": Systemd,
    "process": Process,
    "docker": Docker,
    "kubernetes": Kubernetes,
    "command": CommandManager,
}
