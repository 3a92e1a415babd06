"""Queues of Celery whose broker is Redis.

Kombu keeps what workers hold in a hash `unacked` of the broker, and when each began to hold it in
a sorted set `unacked_index`; neither says which worker it was. So all living workers are asked what
they hold, as `celery inspect` asks them: a message of theirs stays, one that none of them knows
goes back to its queue. Redis tells how many workers got the question; unless all answer, nothing
moves.

How kombu keeps messages stands in its kombu/transport/redis.py. With RabbitMQ as the broker,
Celery's queues are like any other: see rabbitmq_queue.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec

from receiver.errors import ActionError
from receiver.policy.texts import Duration, Name
from receiver.services.celery_mailbox import SEPARATOR, Message, Request, mailbox
from receiver.services.resp import Login, Redis, RedisUrl, asked, database_of

_PRIORITIES: Final = (9, 6, 3, 0)  # kombu's priority_steps, which are lists of their own
_BACK: Final = 60.0
"""Seconds after Redis' start within which its workers have come back. Until then one that lives may
not listen yet; kombu tries again each 32 s at the latest."""
_MAX_MESSAGE: Final = 16 * 1024 * 1024  # bytes

_RESTORE: Final = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[3])
return 1
"""
"""Give a message back, unless it was confirmed or given to another worker since we looked."""


class CeleryBroker(Login, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Celery's `broker_url`, and whose messages it is about.

    Each worker must answer remote control, as they do unless `worker_enable_remote_control` is
    off: one that does not is taken for dead.
    """

    broker: RedisUrl
    """`broker_url` of the workers, without user and password."""
    queues: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)] = ("celery",)
    """Tasks of others are left alone."""
    held_for: Annotated[Duration, msgspec.Meta(ge=1)] = 300.0
    """What is held for less is left alone. Longer than a worker's warm shutdown, in which it works
    on but answers no more."""
    prefix: str = ""
    """`global_keyprefix` in `broker_transport_options`."""
    control: Name = "celery"
    """`control_exchange` of the workers."""


class CeleryQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What dead workers hold goes back to where it was taken from, the oldest first."""

    celery: CeleryBroker

    def redistribute(self, *, timeout: float) -> dict[str, Any]:
        broker = self.celery
        deadline = time.monotonic() + timeout
        moved: dict[str, int] = {}
        try:
            with asked(broker.broker, broker, deadline) as redis:
                restoring = _Restoring(broker, redis, deadline)
                if held := restoring.held():
                    restoring.ask_workers()
                for tag, score in held:
                    if queue := restoring.restore(tag, score):
                        moved[queue] = moved.get(queue, 0) + 1
        except ActionError as error:
            raise ActionError(
                f"{error}; {sum(moved.values())} tasks were moved, and a repetition goes on"
            ) from None
        return {
            "broker": broker.broker,
            "moved": sum(moved.values()),
            "to": moved,
            "workers": restoring.workers,
            "living": restoring.living,
            "left": restoring.left,
        }

    def probe(self, *, timeout: float) -> Iterable[str]:
        """Ask the workers, and give back a message that nobody holds: all rights are needed."""
        deadline = time.monotonic() + timeout
        with asked(self.celery.broker, self.celery, deadline) as redis:
            restoring = _Restoring(self.celery, redis, deadline)
            restoring.held()
            restoring.ask_workers()
            key = self.celery.prefix + self.celery.queues[0]
            restoring.give_back(b"promheal", b"0", key, b"")
        if not restoring.workers:
            yield "no worker of Celery listens; start one, or correct `broker` and `control`"


class _Restoring:
    """One look at a broker and its workers."""

    def __init__(self, broker: CeleryBroker, redis: Redis, deadline: float) -> None:
        self._broker = broker
        self._redis = redis
        self._deadline = deadline
        self._known: set[str] = set()
        self._limited: set[str] = set()
        self._lost_sight = 0.0
        """Redis' start, while workers that hold something from before may still be on their way."""
        self._unacked = f"{broker.prefix}unacked"
        self._index = f"{broker.prefix}unacked_index"
        self.workers = 0
        self.living = 0
        """Messages that living workers hold."""
        self.left = 0
        """Messages of which it cannot be told whose they are, or where they belong."""

    def held(self) -> list[tuple[bytes, bytes]]:
        """Return tag and time of what is held for long, the newest first.

        What is moved last is taken first, since workers take from the right.
        """
        now = int(self._redis("TIME")[0])
        until = now - self._broker.held_for
        began = self._redis.started_at()
        self._lost_sight = began if now - began < _BACK else 0.0
        pairs = self._redis("ZREVRANGEBYSCORE", self._index, until, "-inf", "WITHSCORES")
        return list(zip(pairs[::2], pairs[1::2], strict=True))

    def ask_workers(self) -> None:
        """Learn what living workers hold; a task moves from the first list to the last."""
        broker = self._broker
        with mailbox(self._redis, database_of(broker.broker), broker.control, broker.prefix) as ask:
            for method in ("scheduled", "reserved", "active"):
                for held in ask(method, list[Request], self._deadline):
                    self._known |= {each.id or each.request.id for each in held}
            # A worker does not tell of what it holds back for its rate limit.
            for tasks in ask("registered", list[str], self._deadline, taskinfoitems=["rate_limit"]):
                self._limited |= {
                    name.partition(" [")[0] for name in tasks if "rate_limit=" in name
                }
            self.workers = ask.workers

    def restore(self, tag: bytes, score: bytes) -> str:
        """Give a message back to its queue, which is returned; nothing when it stays."""
        size = self._redis("HSTRLEN", self._unacked, tag)
        if not size:
            return ""
        if size > _MAX_MESSAGE:
            self.left += 1
            return ""
        try:
            whole, exchange, routing_key = msgspec.json.decode(
                self._redis("HGET", self._unacked, tag) or b"", type=tuple[dict[str, Any], str, str]
            )
            message = msgspec.convert(whole, Message)
        except msgspec.DecodeError:
            self.left += 1
            return ""
        queue = self._queue(exchange, routing_key)
        if message.headers.id in self._known:
            self.living += 1
            return ""
        unsure = message.headers.task in self._limited or float(score) < self._lost_sight
        if not message.headers.id or unsure or not queue:
            self.left += 1
            return ""
        whole["headers"]["redelivered"] = True
        whole["properties"].setdefault("delivery_info", {})["redelivered"] = True
        priority = message.properties.priority or 0
        step = next((step for step in _PRIORITIES if step <= priority), 0)
        key = self._broker.prefix + (f"{queue}{SEPARATOR}{step}" if step else queue)
        return queue if self.give_back(tag, score, key, msgspec.json.encode(whole)) else ""

    def give_back(self, tag: bytes, score: bytes, key: str, message: bytes) -> bool:
        """Whether the message was still held as it was when we looked, and now waits."""
        keys = (self._index, self._unacked, key)
        return bool(self._redis("EVAL", _RESTORE, 3, *keys, tag, score, message))

    def _queue(self, exchange: str, routing_key: str) -> str:
        """Return the one of our queues that a message came from, if that can be told."""
        if not exchange:
            queues = {routing_key}
        else:
            bindings = self._redis("SMEMBERS", f"{self._broker.prefix}_kombu.binding.{exchange}")
            parts = [binding.decode("utf-8", "replace").split(SEPARATOR) for binding in bindings]
            queues = {part[-1] for part in parts if part[0] == routing_key}
        found = queues & set(self._broker.queues)
        return found.pop() if len(queues) == len(found) == 1 else ""
