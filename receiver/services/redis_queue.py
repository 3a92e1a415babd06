"""Queues of the reliable kind in Redis: a waiting list, and a working list for each worker.

A worker takes a task with BLMOVE (or BRPOPLPUSH) from the waiting list to its own, and removes it
there when it is done. What it held when it died stays in its working list, and goes back from here.
https://redis.io/docs/latest/commands/lmove/#pattern-reliable-queue
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec

from receiver.errors import ActionError
from receiver.policy.texts import KeyName, Pattern
from receiver.services.resp import Login, Redis, RedisUrl, asked

_BATCH: Final = 100  # tasks; Redis serves nobody else while it moves them
_WORKER: Final = "{worker}"

_MOVE: Final = """
if redis.call('EXISTS', KEYS[3]) == 1 then
  return -1
end
local moved = 0
while moved < tonumber(ARGV[3]) and redis.call('LMOVE', KEYS[1], KEYS[2], ARGV[1], ARGV[2]) do
  moved = moved + 1
end
return moved
"""
"""Look whether the worker lives and move its tasks, with nothing in between."""


class RedisQueue(Login, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lists of one database.

    A worker lives while its key `alive` exists. Whether it does is asked in the same moment in
    which its tasks are moved, so a worker that sets the key before it takes a task, and keeps it up
    until it has none, is never touched.
    """

    redis: RedisUrl
    """`redis://HOST:PORT/DATABASE`, or `rediss://` for TLS. Without user and password."""
    waiting: Annotated[KeyName, msgspec.Meta(min_length=1)]
    """The list that workers take from."""
    working: Pattern
    """The lists of what workers hold; its one `*` stands for the worker's name."""
    alive: KeyName
    """What a living worker keeps, with a time to live; `{worker}` is what `*` was."""
    take: Literal["right", "left"] = "right"
    """The end of `waiting` that workers take from; they push at the other end of their own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[^*?\[\]\\]*\*[^*?\[\]\\]*", self.working):
            raise ValueError(
                f"`working: {self.working!r}` must have one *, the worker's name, and none of "
                "? [ ] \\; as in jobs:working:*"
            )
        if self.alive.count(_WORKER) != 1:
            raise ValueError(
                f"`alive: {self.alive!r}` must have {_WORKER} once, so that each worker has a key "
                f"of its own; as in jobs:alive:{_WORKER}"
            )
        if self._worker(self.waiting.encode()) is not None:
            raise ValueError(f"`working: {self.working!r}` matches the waiting list too")

    def redistribute(self, *, timeout: float) -> dict[str, Any]:
        """Move what dead workers hold; what they took first is taken first again."""
        moved: dict[str, int] = {}
        living = 0
        try:
            with asked(self.redis, self, time.monotonic() + timeout) as redis:
                for keys in redis.scan(self.working, "TYPE", "list"):
                    for key in keys:
                        living += self._empty(redis, key, moved)
                waiting = redis("LLEN", self.waiting)
        except ActionError as error:
            raise ActionError(
                f"{error}; {sum(moved.values())} tasks were moved, and a repetition goes on"
            ) from None
        return {
            "redis": self.redis,
            "moved": sum(moved.values()),
            "from": dict(list(moved.items())[:_BATCH]),
            "living": living,
            "waiting": waiting,
        }

    def probe(self, *, timeout: float) -> Iterable[str]:
        """Give back what a worker holds that nobody is: all rights are needed for that."""
        with asked(self.redis, self, time.monotonic() + timeout) as redis:
            redis("SCAN", 0, "MATCH", self.working, "COUNT", 1, "TYPE", "list")
            self._move(redis, self.working.replace("*", f"promheal-{uuid.uuid4()}").encode())
            redis("LLEN", self.waiting)
        return ()

    def _empty(self, redis: Redis, key: bytes, moved: dict[str, int]) -> bool:
        """Give back what is in a working list; return whether its worker lives."""
        name = key.decode("utf-8", "replace")
        while (count := self._move(redis, key)) > 0:
            moved[name] = moved.get(name, 0) + count
        return count < 0

    def _move(self, redis: Redis, key: bytes) -> int:
        """Give back one batch; return how many tasks, or -1 when the worker lives."""
        worker = self._worker(key)
        if worker is None:
            return 0
        before, after = self.alive.encode().split(_WORKER.encode())
        alive = before + worker + after
        # BRPOPLPUSH takes at the right and puts at the left, so the newest is at the left, and the
        # one that is moved last is taken first.
        ends = ("LEFT", "RIGHT") if self.take == "right" else ("RIGHT", "LEFT")
        count: int = redis("EVAL", _MOVE, 3, key, self.waiting, alive, *ends, _BATCH)
        return count

    def _worker(self, key: bytes) -> bytes | None:
        """Return what `*` stands for in the name of a working list; of another key, None."""
        before, after = self.working.encode().split(b"*")
        if len(key) < len(before) + len(after):
            return None
        if not key.startswith(before) or not key.endswith(after):
            return None
        return key[len(before) : len(key) - len(after)]
