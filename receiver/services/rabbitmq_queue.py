"""Queues of RabbitMQ, through the HTTP API of its management plug-in.

RabbitMQ itself gives back what a worker held when its connection closes, and a process that dies
closes it. What stays is held by one that hangs, or whose host is gone. So nothing is moved here:
the connections of stuck workers are closed, and RabbitMQ returns what they held, each message once
and in its old place where it can. https://www.rabbitmq.com/docs/management#http-api
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec

from receiver.clients.http_exchange import Reply, fetch, http_url
from receiver.errors import ActionError
from receiver.policy.duration import Duration, format_duration
from receiver.policy.texts import FilePath, Name
from receiver.redaction import known

_POLL: Final = 0.2  # seconds between two looks whether a connection is gone
_MAX_ANSWER: Final = 16 * 1024 * 1024  # bytes; a longer one is cut off, and then no JSON
_MAX_SHOWN: Final = 50  # connections in a result


class RabbitBroker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue, and when one of its workers is stuck."""

    url: Annotated[str, msgspec.Meta(extra={"type": "URL", "parse": http_url})]
    """Of the management plug-in."""
    queue: Annotated[Name, msgspec.Meta(min_length=1)]
    """Whose workers are looked at."""
    vhost: Name = "/"
    """Where it is."""
    username: str
    """A user with the tag `administrator`: no other may close the connections of others."""
    password_file: FilePath
    """A file that holds the password; read at each use."""
    stuck_after: Annotated[Duration, msgspec.Meta(gt=0)]
    """A worker that holds messages, and neither took nor confirmed one for so long, is stuck."""


class RabbitQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue whose workers confirm what they have done."""

    rabbitmq: RabbitBroker

    def redistribute(self, *, timeout: float) -> dict[str, Any]:
        broker = self.rabbitmq
        management = _Management(broker, time.monotonic() + timeout)
        closed: dict[str, int] = {}
        try:
            stuck = management.stuck()
            for connection in stuck:
                management.close(connection)
                closed[connection] = stuck[connection]
            management.wait_gone(closed)
        except ActionError as error:
            raise ActionError(
                f"{error}; {len(closed)} connections were closed, and a repetition goes on"
            ) from None
        return {
            "queue": broker.queue,
            "vhost": broker.vhost,
            "moved": sum(closed.values()),
            "closed": dict(list(closed.items())[:_MAX_SHOWN]),
        }

    def probe(self, *, timeout: float) -> Iterable[str]:
        management = _Management(self.rabbitmq, time.monotonic() + timeout)
        management.stuck()
        if not management.administrates():
            yield (
                f"RabbitMQ's user {self.rabbitmq.username!r} may close its own connections only; "
                "give it the tag administrator with `rabbitmqctl set_user_tags`"
            )


class _Channel(msgspec.Struct):
    name: str
    connection_name: str


class _Consumer(msgspec.Struct):
    channel_details: _Channel


class _Queue(msgspec.Struct):
    consumer_details: list[_Consumer] = []


class _User(msgspec.Struct):
    tags: list[str] | str = ""
    """Before RabbitMQ 3.9 a text with commas."""


class _Load(msgspec.Struct):
    """What a channel does."""

    messages_unacknowledged: int = 0
    idle_since: str = ""
    """When its last frame came, in UTC; without it, it is not idle."""


class _Management:
    """The HTTP API, asked until a deadline."""

    def __init__(self, broker: RabbitBroker, deadline: float) -> None:
        self._broker = broker
        self._deadline = deadline
        try:
            password = Path(broker.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ActionError(f"password_file {broker.password_file!r}: {error}") from None
        login = b64encode(f"{broker.username}:{known(password)}".encode()).decode()
        self._headers = {"Authorization": f"Basic {login}"}

    def administrates(self) -> bool:
        """Whether our user may close the connections of others."""
        tags = self._read(self._ask("GET", "whoami"), _User).tags
        return "administrator" in (tags.split(",") if isinstance(tags, str) else tags)

    def stuck(self) -> dict[str, int]:
        """Return the connections of stuck workers, each with how many messages it holds."""
        broker = self._broker
        answer = self._ask("GET", "queues", broker.vhost, broker.queue)
        if answer.status == 404:
            raise ActionError(
                f"RabbitMQ at {broker.url} has no queue {broker.queue!r} in vhost {broker.vhost!r}"
            )
        consumers = self._read(answer, _Queue).consumer_details
        channels = {each.channel_details.name: each.channel_details for each in consumers}
        found: dict[str, int] = {}
        for channel in channels.values():
            answer = self._ask("GET", "channels", channel.name)
            if answer.status == 404:
                continue  # it closed meanwhile
            load = self._read(answer, _Load)
            if load.messages_unacknowledged and self._idle(load, answer) >= broker.stuck_after:
                held = found.get(channel.connection_name, 0)
                found[channel.connection_name] = held + load.messages_unacknowledged
        return found

    def close(self, connection: str) -> None:
        """Ask RabbitMQ to close it; one that is gone is fine."""
        answer = self._ask("DELETE", "connections", connection)
        if answer.status != 404:
            self._read(answer, None)

    def wait_gone(self, connections: dict[str, int]) -> None:
        """Return when RabbitMQ knows none of them any more, and so has what they held."""
        for connection in connections:
            while (answer := self._ask("GET", "connections", connection)).status != 404:
                self._read(answer, None)
                if time.monotonic() + _POLL >= self._deadline:
                    raise ActionError(f"RabbitMQ did not close {connection!r} in time")
                time.sleep(_POLL)

    def _idle(self, load: _Load, answer: Reply) -> float:
        """Return for how many seconds a channel has been idle, all by RabbitMQ's clock."""
        if not load.idle_since:
            return 0.0
        try:
            since = datetime.fromisoformat(load.idle_since)
            now = parsedate_to_datetime(answer.date)
        except (ValueError, TypeError):
            raise ActionError(
                f"RabbitMQ at {self._broker.url} tells times that cannot be read: "
                f"{load.idle_since[:60]!r}, {answer.date[:60]!r}"
            ) from None
        return (now - (since if since.tzinfo else since.replace(tzinfo=UTC))).total_seconds()

    def _ask(self, method: str, *path: str) -> Reply:
        where = "/".join(quote(part, safe="") for part in path)
        url = f"{self._broker.url.rstrip('/')}/api/{where}"
        reason = {"X-Reason": f"stuck for {format_duration(self._broker.stuck_after)} (promheal)"}
        left = max(0.0, self._deadline - time.monotonic())
        return fetch(method, url, timeout=left, headers=self._headers | reason, most=_MAX_ANSWER)

    def _read(self, answer: Reply, type_: Any) -> Any:
        if not 200 <= answer.status < 300:
            hint = {
                401: "; check `username` and `password_file`",
                403: "; the user must see and may close others' connections: the tag administrator",
            }.get(answer.status, "")
            raise ActionError(f"RabbitMQ at {self._broker.url} answered {answer.status}{hint}")
        if type_ is None:
            return None
        try:
            return msgspec.json.decode(answer.body, type=type_)
        except msgspec.DecodeError as error:
            raise ActionError(
                f"what answers as RabbitMQ at {self._broker.url} is none: {error}"
            ) from None
