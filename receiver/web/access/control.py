"""Who asks, and may he? One judge for every request, whichever way it came in.

| role | may |
| --- | --- |
| webhook | POST /webhook |
| viewer | read everything |
| operator | everything |

Only the exact paths of the probes are open, and only the exact `POST /webhook` is the webhook's;
whatever else changes something is an operator's. So a path that is written in another way can only
need more, never less.

Without users, tokens or certificates everybody is an operator, called anonymous. Such a server
listens on loopback, and the one who can be made to ask it there is the browser of somebody on this
machine: what comes from another site, or by another name than ours, is refused.

401 is the same for everybody, whatever was wrong.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from receiver.web.access.bucket import Bucket
from receiver.web.access.csrf import is_here, is_our_page
from receiver.web.access.denied_requests import DeniedRequests
from receiver.web.access.login_throttle import network
from receiver.web.access.passwords import Answer, Passwords
from receiver.web.access.web_config import Role, WebConfig

WEBHOOK: Final = "/webhook"
OPEN: Final = frozenset({"/-/healthy", "/-/ready"})
"""What needs no credentials: whoever runs promheal must be able to see whether it lives."""
ANONYMOUS: Final = "anonymous"
NOBODY: Final = "nobody"
"""The role of whoever asked for what is open to all."""

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MAY: Final = {
    Role.WEBHOOK: frozenset({Role.WEBHOOK, Role.OPERATOR}),
    Role.VIEWER: frozenset({Role.VIEWER, Role.OPERATOR}),
    Role.OPERATOR: frozenset({Role.OPERATOR}),
}
"""Who may, by the role that is needed."""
_NAMES: Final = frozenset({"DNS", "IP Address", "email", "URI"})
"""What of a certificate's names counts, as Python calls them."""


class Granted(msgspec.Struct, frozen=True):
    name: str
    role: str


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    code: str
    message: str
    why: str
    """For the log."""
    name: str = ""
    """Who it was, where that is known."""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        said = {"error": {"code": self.code, "message": self.message}}
        return msgspec.json.encode(said) + b"\n"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about itself."""

    method: str
    path: str
    """Without prefix and query, decoded, as it is routed."""
    authorization: str = ""
    address: str = ""
    certificate: Mapping[str, Any] | None = None
    """Of the client, verified; as `ssl.SSLSocket.getpeercert` returns it."""
    host: str = ""
    origin: str = ""
    site: str = ""
    """Sec-Fetch-Site."""

    @property
    def is_notification(self) -> bool:
        return self.method == "POST" and self.path == WEBHOOK


class Access:
    """Judges requests by the configuration that *config* returns. Safe to use from many threads.

    *loopback*: only this machine can reach us. *external_url*: the other name that we have.
    *on_refused* is told the status of each notification that was refused.
    """

    def __init__(
        self,
        config: Callable[[], WebConfig] = WebConfig,
        *,
        loopback: bool = True,
        external_url: str = "",
        on_refused: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        passwords: Passwords | None = None,
    ) -> None:
        self._config = config
        self._loopback = loopback
        self._external = urlsplit(external_url.lower())
        self._on_refused = on_refused
        self._passwords = passwords or Passwords(clock)
        self._bucket = Bucket(clock)
        self._refusals = DeniedRequests(clock)

    @property
    def refused(self) -> Mapping[str, int]:
        """Refusals since the start, by status."""
        return self._refusals.counts

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What the operator adds to each answer."""
        return self._config().headers

    def judge(self, asked: Asked) -> Granted | Denied:
        """Say who it is, or why he may not. Counts and logs refusals; checks passwords."""
        verdict = self._judge(self._config(), asked)
        if isinstance(verdict, Denied):
            self._refusals.note(
                verdict.status, network(asked.address), why=verdict.why, name=verdict.name,
                method=asked.method, path=asked.path,
            )  # fmt: skip
            if asked.is_notification:
                self._on_refused(verdict.status)
        return verdict

    def _judge(self, config: WebConfig, asked: Asked) -> Granted | Denied:
        if not config.restricts:
            return self._foreign(asked) or Granted(ANONYMOUS, Role.OPERATOR)
        needed = _needed(asked)
        refusal = _bad_certificate(config, asked.certificate) or self._limit(config, needed)
        if refusal is not None:
            return refusal
        if needed is None:
            return Granted(ANONYMOUS, NOBODY)
        who = self._identify(config, asked)
        if isinstance(who, Denied):
            return who
        # A browser adds a password or a certificate that it knows to what other sites ask for.
        return _lacking(who, needed) or self._cross_site(asked) or who

    def _limit(self, config: WebConfig, needed: Role | None) -> Denied | None:
        """Return a refusal of one request too many; notifications and probes are none."""
        if needed in {None, Role.WEBHOOK} or self._bucket.take(config.rate_limit):
            return None
        return _RATE_LIMITED

    def _identify(self, config: WebConfig, asked: Asked) -> Granted | Denied:
        """Say who it is: by the header, if there is one and it means something, or by TLS."""
        if not (asked.authorization and config.asks_for_header):
            return _by_certificate(config, _sans(asked.certificate))
        scheme, _, credentials = asked.authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                return _by_token(config, credentials.strip())
            case "basic":
                return self._by_password(config, credentials.strip(), asked.address)
            case _:
                return _unauthorized(config, "unknown scheme")

    def _by_password(self, config: WebConfig, credentials: str, address: str) -> Granted | Denied:
        try:
            decoded = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError):
            return _unauthorized(config, "no base64")
        user, colon, password = decoded.partition(b":")
        if not colon or not config.users:
            return _unauthorized(config, "no password")
        name = user.decode("utf-8", "surrogateescape")
        answer = self._passwords.check(config.users, name, password, address)
        if answer is not Answer.RIGHT:
            # Only a name that we know: people type passwords into the wrong field.
            known = name if name in config.users else ""
            return _unauthorized(config, f"password {answer.value}", known)
        return Granted(name, config.roles.get(name, Role.VIEWER))

    def _foreign(self, asked: Asked) -> Denied | None:
        if self._loopback and not is_here(asked.host, self._external):
            return _FOREIGN_HOST
        return self._cross_site(asked)

    def _cross_site(self, asked: Asked) -> Denied | None:
        if asked.method in _READS or is_our_page(
            asked.site, asked.origin, asked.host, self._external
        ):
            return None
        return _CROSS_SITE


def _needed(asked: Asked) -> Role | None:
    """Return the role that is needed; None: nobody is asked."""
    if asked.path in OPEN and asked.method in {"GET", "HEAD"}:
        return None
    if asked.is_notification:
        return Role.WEBHOOK
    return Role.VIEWER if asked.method in _READS else Role.OPERATOR


def _lacking(who: Granted, needed: Role) -> Denied | None:
    if who.role in _MAY[needed]:
        return None
    return Denied(
        status=403,
        code="forbidden",
        message=f"{who.name} is {who.role}; this needs {needed}{_SENDERS.get(who.role, '')}",
        why=f"needs {needed}",
        name=who.name,
    )


_SENDERS: Final[Mapping[str, str]] = {Role.WEBHOOK: f"; notifications go to POST {WEBHOOK}"}
"""What who may do nothing else has probably meant."""


def _by_certificate(config: WebConfig, sans: frozenset[str]) -> Granted | Denied:
    for certificate in config.certificates:
        if certificate.san in sans:
            return Granted(certificate.name or certificate.san, certificate.role)
    if config.asks_for_header:
        return _unauthorized(config, "no credentials")
    if config.certificates:
        return _NO_ROLE
    return Granted(min(sans, default="certificate"), Role.VIEWER)


def _by_token(config: WebConfig, token: str) -> Granted | Denied:
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
    found = config.tokens.get(digest)
    if found is None or not hmac.compare_digest(found.sha256, digest):
        return _unauthorized(config, "unknown token")
    return Granted(found.name, found.role)


def _unauthorized(config: WebConfig, why: str, name: str = "") -> Denied:
    schemes = []
    if config.users:
        schemes.append('Basic realm="promheal", charset="UTF-8"')
    if config.tokens:
        schemes.append('Bearer realm="promheal"')
    return Denied(
        status=401,
        code="unauthorized",
        message="credentials are needed that the server knows; see --web.config.file",
        why=why,
        name=name,
        headers=tuple(("WWW-Authenticate", scheme) for scheme in schemes),
    )


_NO_ROLE: Final = Denied(
    status=403,
    code="forbidden",
    message="a client certificate is needed that has a role; see client_certificates in "
    "--web.config.file",
    why="no certificate with a role",
)
_CROSS_SITE: Final = Denied(
    status=403,
    code="cross_site",
    message="this request comes from the page of another site; ask from promheal's own page, or "
    "without a browser",
    why="cross-site",
)
_FOREIGN_HOST: Final = Denied(
    status=403,
    code="unknown_host",
    message="promheal has no access control here, so it answers only by the names of this machine, "
    "as 127.0.0.1 and localhost, and by that of --web.external-url; ask by one of them, or have "
    "--web.config.file ask who it is",
    why="unknown host",
)
_RATE_LIMITED: Final = Denied(
    status=429,
    code="rate_limited",
    message="too many requests; rate_limit in --web.config.file says how many",
    why="rate limit",
)


def _bad_certificate(config: WebConfig, certificate: Mapping[str, Any] | None) -> Denied | None:
    """Return a refusal of whom the handshake should not have let in.

    It does not know SANs, and a connection may be older than the configuration.
    """
    if config.tls is None or not config.needs_certificate:
        return None
    if certificate is None:
        return _NO_ROLE
    allowed = config.tls.client_allowed_sans
    if allowed and _sans(certificate).isdisjoint(allowed):
        return _NO_ROLE
    return None


def _sans(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the names of a certificate: DNS names, IP addresses, e-mails and URIs."""
    pairs = (certificate or {}).get("subjectAltName", ())
    return frozenset(name.strip() for kind, name in pairs if kind in _NAMES)
