"""Caches in Redis: the keys that a pattern matches."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable
from typing import Any, Final

from receiver.errors import ActionError
from receiver.policy.texts import Pattern
from receiver.services.resp import Login, RedisUrl, asked

_WILD: Final = re.compile(r"(?:\*|\?|\[[^\]]*\])+")


class RedisCache(Login, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of one database. They are found by SCAN and removed by UNLINK, some at a time.

    A key that is written meanwhile may stay or go. Redis Cluster is not supported: a node answers
    for its own keys only.
    """

    redis: RedisUrl
    """`redis://HOST:PORT/DATABASE`, or `rediss://` for TLS. Without user and password."""
    match: Pattern
    """As of [SCAN](https://redis.io/docs/latest/commands/scan/): `*`, `?` and `[abc]` are wild,
    after a backslash they are not."""
    everything: bool = False
    """Must be true when `match` is nothing but wild, so that every key goes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.match:
            raise ValueError("`match` is empty, and no key is; write for example checkout:*")
        if bool(_WILD.fullmatch(self.match)) != self.everything:
            if self.everything:
                raise ValueError("`everything` is true, but `match` says more; remove one")
            raise ValueError(
                f"`match: {self.match!r}` is every key of the database; if that is meant, add "
                "`everything: true`"
            )

    def clear(self, *, timeout: float) -> dict[str, Any]:
        removed = 0
        try:
            with asked(self.redis, self, time.monotonic() + timeout) as redis:
                for keys in redis.scan(self.match):
                    removed += redis("UNLINK", *keys)
        except ActionError as error:
            raise ActionError(
                f"{error}; {removed} keys were removed, and a repetition goes on"
            ) from None
        return {"redis": self.redis, "match": self.match, "keys": removed}

    def probe(self, *, timeout: float) -> Iterable[str]:
        """Look for keys, and remove one that nobody has: both rights are needed."""
        with asked(self.redis, self, time.monotonic() + timeout) as redis:
            redis("SCAN", 0, "MATCH", self.match, "COUNT", 1)
            redis("UNLINK", _WILD.sub(f"promheal-{uuid.uuid4()}", self.match))
        return ()
