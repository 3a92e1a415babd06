"""What do Celery's workers say? Remote control over Redis, as `celery inspect` does it.

A question is published to all workers, and Redis tells how many got it. Each puts its answer into
the list of a mailbox that was bound before. The envelopes are kombu's, the same since Celery 4:
kombu/pidbox.py and kombu/transport/redis.py.
"""

from __future__ import annotations

import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

from receiver.errors import ActionError
from receiver.services.resp import Redis

SEPARATOR: Final = "\x06\x16"
"""What kombu puts between the parts of a name."""

T = TypeVar("T")


class Headers(msgspec.Struct, frozen=True):
    id: str = ""
    task: str = ""


class Properties(msgspec.Struct, frozen=True):
    priority: int | None = None
    body_encoding: str | None = None


class Message(msgspec.Struct, frozen=True):
    """Kombu's envelope, as far as it concerns us."""

    properties: Properties = Properties()
    headers: Headers = Headers()
    body: str = ""


class Named(msgspec.Struct, frozen=True):
    id: str = ""


class Request(msgspec.Struct, frozen=True):
    """A task that a worker holds, as it describes it: below `request` when it is scheduled."""

    id: str = ""
    request: Named = Named()


@contextmanager
def mailbox(redis: Redis, database: int, control: str, prefix: str) -> Iterator[Mailbox]:
    """Give a mailbox of our own, and take it away again.

    *control* is the workers' control_exchange, *prefix* their global_keyprefix.
    """
    name = str(uuid.uuid4())
    replies = f"{name}.reply.{control}.pidbox"
    table = f"{prefix}_kombu.binding.reply.{control}.pidbox"
    binding = SEPARATOR.join((name, "", replies))
    redis("SADD", table, binding)
    try:
        yield Mailbox(
            redis, name, control, f"{prefix}/{database}.{control}.pidbox", prefix + replies
        )
    finally:
        redis("SREM", table, binding)
        redis("DEL", prefix + replies)


class Mailbox:
    """Asks all living workers."""

    def __init__(self, redis: Redis, name: str, control: str, channel: str, replies: str) -> None:
        self._redis = redis
        self._name = name
        self._control = control
        self._channel = channel
        self._replies = replies
        self.workers = 0
        """How many got the last question."""

    def __call__(
        self, method: str, type_: type[T], deadline: float, **arguments: Any
    ) -> Iterator[T]:
        """Yield what each worker answers. Raises ActionError unless all do, by *deadline*."""
        self.workers = self._redis("PUBLISH", self._channel, self._question(method, arguments))
        for answered in range(self.workers):
            # Some time is kept for the way back and for taking the mailbox away.
            patience = max(0.1, round(deadline - time.monotonic() - 0.5, 1))
            found = self._redis("BRPOP", self._replies, patience)
            if found is None:
                raise ActionError(
                    f"{self.workers} workers of Celery listen, but {self.workers - answered} did "
                    "not tell what they hold, so it cannot be told what the dead held; end those "
                    "that hang"
                )
            yield _answer(found[1], type_)

    def _question(self, method: str, arguments: dict[str, Any]) -> bytes:
        question = {
            "method": method,
            "arguments": arguments,
            "destination": None,
            "pattern": None,
            "matcher": None,
            "ticket": str(uuid.uuid4()),
            "reply_to": {
                "exchange": f"reply.{self._control}.pidbox",
                "routing_key": self._name,
            },
        }
        envelope = {
            "body": b64encode(msgspec.json.encode(question)).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 1, "expires": 0},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": f"{self._control}.pidbox", "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
        return msgspec.json.encode(envelope)


def _answer(envelope: bytes, type_: type[T]) -> T:
    """Return what a worker answered; it is below the worker's name."""
    body = b""
    try:
        message = msgspec.json.decode(envelope, type=Message)
        body = message.body.encode()
        if message.properties.body_encoding == "base64":
            body = b64decode(body)
        (answer,) = msgspec.json.decode(body, type=dict[str, type_]).values()  # type: ignore[valid-type]
    except ValueError:
        said = body[:300].decode("utf-8", "replace")
        raise ActionError(f"a worker of Celery does not tell what it holds: {said!r}") from None
    return answer
