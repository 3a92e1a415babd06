"""Authentication and authorization of every request, whichever way it came in.

| role | may |
| --- | --- |
| webhook | POST /webhook |
| viewer | read everything |
| operator | everything |

Only the exact paths of the probes are open, and only the exact `POST /webhook` is enough for the
role webhook; every other change needs an operator. So a path written in another way can only need
more, never less.

Without users, tokens or certificates everybody is an operator, called anonymous. Such a server
listens on loopback, where the danger is the browser of somebody on this machine: requests from the
page of another site, or by another host name than ours, are denied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from msgspec import structs

from receiver.web.access.bucket import Bucket
from receiver.web.access.csrf import is_here, is_our_page
from receiver.web.access.denied_requests import DeniedRequests
from receiver.web.access.identity import Authenticator, certificate_denied, has_expired
from receiver.web.access.login_throttle import network
from receiver.web.access.passwords import Passwords
from receiver.web.access.verdict import (
    CROSS_SITE,
    FOREIGN_HOST,
    RATE_LIMITED,
    WEBHOOK,
    AuthRequest,
    Denied,
    Granted,
)
from receiver.web.access.web_config import Role, WebConfig

OPEN: Final = frozenset({"/-/healthy", "/-/ready"})
"""Paths that need no credentials, so that an orchestrator can probe them."""
ANONYMOUS: Final = "anonymous"
NOBODY: Final = "nobody"
"""The role on a path that needs no credentials."""

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MAY: Final = {
    Role.WEBHOOK: frozenset({Role.WEBHOOK, Role.OPERATOR}),
    Role.VIEWER: frozenset({Role.VIEWER, Role.OPERATOR}),
    Role.OPERATOR: frozenset({Role.OPERATOR}),
}
"""The roles that may, by the role that is needed."""
_HINTS: Final[Mapping[str, str]] = {Role.WEBHOOK: f"; notifications go to POST {WEBHOOK}"}
"""What a client of this role has probably meant."""


class AccessControl:
    """Judges requests by the configuration that *config* returns. Safe to use from many threads.

    *loopback*: only this machine can reach us. *external_url*: the other name that we have.
    *on_refused* is called with the status of each notification that was denied. *now* returns
    seconds since the epoch; without it, only the handshake sees whether a certificate has expired.
    """

    def __init__(
        self,
        config: Callable[[], WebConfig] = WebConfig,
        *,
        loopback: bool = True,
        external_url: str = "",
        on_refused: Callable[[int], None] = lambda _: None,
        now: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        passwords: Passwords | None = None,
    ) -> None:
        self._config = config
        self._loopback = loopback
        self._external = urlsplit(external_url.lower())
        self._on_refused = on_refused
        self._now = now
        self._authenticator = Authenticator(passwords or Passwords(clock))
        self._bucket = Bucket(clock)
        self._denied = DeniedRequests(clock)

    @property
    def refused(self) -> Mapping[str, int]:
        """Denied requests since the start, by status."""
        return self._denied.counts

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What the operator adds to each answer."""
        return self._config().headers

    def judge(self, request: AuthRequest) -> Granted | Denied:
        """Return who is asking, or why access is denied. Counts and logs what is denied."""
        verdict = self._judge(self._config(), request)
        if isinstance(verdict, Denied):
            self._denied.note(
                verdict.status, network(request.address), why=verdict.why, name=verdict.name,
                method=request.method, path=request.path,
            )  # fmt: skip
            if request.is_notification:
                self._on_refused(verdict.status)
        return verdict

    def _judge(self, config: WebConfig, request: AuthRequest) -> Granted | Denied:
        if not config.restricts:
            return self._foreign(request) or Granted(ANONYMOUS, Role.OPERATOR)
        if request.certificate and self._now and has_expired(request.certificate, self._now()):
            request = structs.replace(request, certificate=None)
        needed = _needed(request)
        denied = certificate_denied(config, request.certificate) or self._limit(config, needed)
        if denied is not None:
            return denied
        if needed is None:
            return Granted(ANONYMOUS, NOBODY)
        who = self._authenticator.identify(config, request)
        if isinstance(who, Denied):
            return who
        # A browser adds passwords and certificates that it knows to requests of other sites.
        return _forbidden(who, needed) or self._cross_site(request) or who

    def _limit(self, config: WebConfig, needed: Role | None) -> Denied | None:
        """Apply `rate_limit`; notifications and probes are exempt."""
        if needed in {None, Role.WEBHOOK} or self._bucket.take(config.rate_limit):
            return None
        return RATE_LIMITED

    def _foreign(self, request: AuthRequest) -> Denied | None:
        if self._loopback and not is_here(request.host, self._external):
            return FOREIGN_HOST
        return self._cross_site(request)

    def _cross_site(self, request: AuthRequest) -> Denied | None:
        if request.method in _READS or is_our_page(
            request.site, request.origin, request.host, self._external
        ):
            return None
        return CROSS_SITE


def _needed(request: AuthRequest) -> Role | None:
    """Return the role that is needed; None if no credentials are."""
    if request.path in OPEN and request.method in {"GET", "HEAD"}:
        return None
    if request.is_notification:
        return Role.WEBHOOK
    return Role.VIEWER if request.method in _READS else Role.OPERATOR


def _forbidden(who: Granted, needed: Role) -> Denied | None:
    if who.role in _MAY[needed]:
        return None
    return Denied(
        status=403,
        code="forbidden",
        message=f"{who.name} is {who.role}; this needs {needed}{_HINTS.get(who.role, '')}",
        why=f"needs {needed}",
        name=who.name,
    )
