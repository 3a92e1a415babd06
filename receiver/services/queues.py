"""Kinds of queues, by the key that identifies them in services.yml."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.services.celery_queue import CeleryQueue
from receiver.services.command_queue import CommandQueue
from receiver.services.rabbitmq_queue import RabbitQueue
from receiver.services.redis_queue import RedisQueue

QUEUES: Final[dict[str, type[msgspec.Struct]]] = {
    "redis": RedisQueue,
    "rabbitmq": RabbitQueue,
    "celery": CeleryQueue,
    "command": CommandQueue,
}
