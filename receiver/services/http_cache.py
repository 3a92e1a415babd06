"""Caches behind HTTP, such as those of Varnish, nginx and Squid: one request empties them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from receiver.clients.http_exchange import exchange, reach
from receiver.clients.url import http_url
from receiver.errors import ActionError
from receiver.policy.http_config import HTTPConfig


class Purge(HTTPConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that may be sent again."""

    url: Annotated[str, msgspec.Meta(extra={"type": "URL", "parse": http_url})]
    """Below one of `http.allow`."""
    method: Literal["PURGE", "DELETE", "POST"] = "PURGE"
    """What the cache understands."""


class HttpCache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cache that empties itself when it is asked to; it has when it answers 2xx."""

    http: Purge

    def clear(self, *, timeout: float) -> dict[str, Any]:
        method, url = self.http.method, self.http.url
        answer = exchange(method, url, timeout=timeout, config=self.http)
        if not 200 <= answer.status < 300:
            raise ActionError(
                f"{method} {url} answered {answer.words}, not 2xx", output=answer.body
            )
        return {"method": method, "url": url, "status": answer.status, "body": answer.body}

    def probe(self, *, timeout: float) -> Iterable[str]:
        """Only connect: there is no request that asks and empties nothing."""
        reach(self.http.url, self.http, timeout=timeout)
        return ()
