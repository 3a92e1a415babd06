"""Workers that are the processes of Celery's pools, by remote control through the broker.

https://docs.celeryq.dev/en/stable/userguide/workers.html#remote-control. Needs promheal[celery].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from receiver.errors import ActionError
from receiver.policy.texts import FilePath, Name
from receiver.redaction import known
from receiver.services.workers import Counted, Inferred

if TYPE_CHECKING:  # an extra, and 200 ms to import
    from celery import Celery

_REPLY: Final = 10.0
"""Seconds that nodes have to answer: one that takes a task right now may be late."""
_CONNECT: Final = 2.0
"""Seconds that the broker has for each packet."""


class CeleryPool(Inferred, frozen=True, kw_only=True, forbid_unknown_fields=True):
    broker: Annotated[
        str, msgspec.Meta(pattern="^(rediss?|amqps?)://", examples=["redis://127.0.0.1:6379/0"])
    ]
    """Its URL without a password."""
    password_file: FilePath | None = None
    """Path of a file that holds the broker's password; read at each use."""
    workers: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
    """The names of the nodes whose pools these are, as `celery inspect ping` shows them."""

    def look(self, *, timeout: float) -> Counted:
        there = sum(self._pools(timeout).values())
        return Counted(wanted=there, ready=there)

    def step(self, wanted: int, *, timeout: float) -> None:
        pools = self._pools(timeout)
        # The smallest pool grows, the largest shrinks: they stay alike.
        if wanted > sum(pools.values()):
            name, verb = min(pools, key=lambda each: pools[each]), "pool_grow"
        else:
            name, verb = max(pools, key=lambda each: pools[each]), "pool_shrink"
        replies = self._told(verb, name, timeout)
        # While all its processes work none can go; the step is taken again until one can.
        if "error" in replies and "busy" not in str(replies["error"]):
            raise ActionError(f"{name} refused {verb}: {replies['error']}")

    def probe(self, *, timeout: float) -> list[str]:
        self._pools(timeout)
        return []

    def _pools(self, timeout: float) -> dict[str, int]:
        """Return the size of each node's pool."""
        with _explained(), self._app() as app:
            # It returns as soon as all have answered.
            found = app.control.inspect(
                list(self.workers), timeout=min(_REPLY, timeout), limit=len(self.workers)
            ).stats()
        missing = [name for name in self.workers if name not in (found or {})]
        if missing:
            raise ActionError(f"no answer from {', '.join(missing)}; do these nodes run?")
        return {name: _size(found[name]["pool"]) for name in self.workers}

    def _told(self, verb: str, name: str, timeout: float) -> dict[str, Any]:
        with _explained(), self._app() as app:
            replies = app.control.broadcast(
                verb, arguments={"n": 1}, destination=[name], reply=True, limit=1,
                timeout=min(_REPLY, timeout),
            )  # fmt: skip
        if not replies:
            raise ActionError(f"no answer from {name} to {verb}")
        answer: dict[str, Any] = replies[0][name]
        return answer

    def _app(self) -> Celery:
        try:
            from celery import Celery  # noqa: PLC0415  an extra
        except ImportError:
            raise ActionError("Celery is not installed: pip install 'promheal[celery]'") from None
        url = self.broker
        if self.password_file is not None:
            try:
                secret = Path(self.password_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ActionError(f"password_file {self.password_file!r}: {error}") from None
            parts = urlsplit(url)
            user, _, host = parts.netloc.rpartition("@")
            url = parts._replace(netloc=f"{user}:{quote(known(secret), safe='')}@{host}").geturl()
        app = Celery(broker=url, set_as_current=False)
        app.conf.broker_connection_timeout = _CONNECT
        app.conf.broker_connection_retry = False
        app.conf.broker_transport_options = {
            "socket_timeout": _CONNECT, "socket_connect_timeout": _CONNECT, "max_retries": 1,
        }  # fmt: skip
        return app


def _size(pool: dict[str, Any]) -> int:
    """Return how many a pool has: `max-concurrency` stays what it was at the start (Celery 5)."""
    processes = pool.get("processes")
    return len(processes) if isinstance(processes, list) else int(pool["max-concurrency"])


@contextmanager
def _explained() -> Iterator[None]:
    """Translate what goes wrong with a broker into ActionError; passwords stay out of it."""
    try:
        yield
    except ActionError:
        raise
    except Exception as error:  # noqa: BLE001  each transport has its own
        raise ActionError(f"the broker cannot be asked: {type(error).__name__}") from None
