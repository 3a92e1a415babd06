"""Kinds of workers, by the value of `scale` under `workers:` in services.yml."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.services.workers.celery import CeleryPool
from receiver.services.workers.command import WorkerCommands
from receiver.services.workers.gunicorn import Gunicorn
from receiver.services.workers.kubernetes import Replicas
from receiver.services.workers.supervisor import SupervisorGroup
from receiver.services.workers.systemd import SystemdTemplate

WORKERS: Final[dict[str, type[msgspec.Struct]]] = {
    "gunicorn": Gunicorn,
    "supervisor": SupervisorGroup,
    "systemd": SystemdTemplate,
    "kubernetes": Replicas,
    "celery": CeleryPool,
    "command": WorkerCommands,
}
