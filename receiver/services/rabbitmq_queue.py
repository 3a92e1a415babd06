"""Queues of RabbitMQ, through the HTTP API of its management plug-in.

RabbitMQ itself gives back what a worker held when its connection closes, and a process that dies
closes it. What stays is held by one that hangs, or whose host is gone. So nothing is moved here:
the connections of stuck workers are closed, and RabbitMQ returns what they held, each message once
and in its old place where it can. https://www.rabbitmq.com/docs/management#http-api
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec

from receiver.clients.http_exchange import HTTPReply, fetch
from receiver.clients.url import http_url
from receiver.errors import ActionError
from receiver.policy.duration import Duration, format_duration
from receiver.policy.http_config import Authorization, BasicAuth, HTTPConfig
from receiver.policy.texts import FilePath, Name

_POLL: Final = 0.2  # seconds between two looks whether a connection is gone
_MAX_ANSWER: Final = 16 * 1024 * 1024  # bytes; a longer one is cut off, and then no JSON
_MAX_SHOWN: Final = 50  # connections in a result
_OLDER: Final = msgspec.Meta(extra={"instead": "basic_auth: {username: …, password_file: …}"})


class RabbitBroker(HTTPConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue, and when one of its workers is stuck."""

    url: Annotated[str, msgspec.Meta(extra={"type": "URL", "parse": http_url})]
    """Of the management plug-in."""
    queue: Annotated[Name, msgspec.Meta(min_length=1)]
    """Whose workers are looked at."""
    vhost: Name = "/"
    """Where it is."""
    username: Annotated[str, _OLDER] = ""
    """Deprecated, for `basic_auth.username`: a user with the tag `administrator`, for no other may
    close the connections of others."""
    password_file: Annotated[FilePath, _OLDER] = ""
    """Deprecated, for `basic_auth.password_file`."""
    stuck_after: Annotated[Duration, msgspec.Meta(gt=0)]
    """A worker that holds messages, and neither took nor confirmed one for so long, is stuck."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.username) != bool(self.password_file):
            raise ValueError("`username` and `password_file` go together")
        if self.username and super().login is not None:
            raise ValueError(
                "`username` and `password_file` are older words; write `basic_auth` alone"
            )
        if self.login is None:
            raise ValueError("write `basic_auth: {username: …, password_file: …}`")

    @property
    def login(self) -> BasicAuth | Authorization | None:
        if self.username:
            return BasicAuth(username=self.username, password_file=self.password_file)
        return super().login

    @property
    def user(self) -> str:
        """Who asks, for people."""
        login = self.login
        return login.username if isinstance(login, BasicAuth) else "of `authorization`"


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
                f"RabbitMQ's user {self.rabbitmq.user!r} may close its own connections only; "
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

    def _idle(self, load: _Load, answer: HTTPReply) -> float:
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

    def _ask(self, method: str, *path: str) -> HTTPReply:
        where = "/".join(quote(part, safe="") for part in path)
        url = f"{self._broker.url.rstrip('/')}/api/{where}"
        reason = {"X-Reason": f"stuck for {format_duration(self._broker.stuck_after)} (promheal)"}
        left = max(0.0, self._deadline - time.monotonic())
        return fetch(
            method, url, timeout=left, headers=reason, most=_MAX_ANSWER, config=self._broker
        )

    def _read(self, answer: HTTPReply, type_: Any) -> Any:
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
