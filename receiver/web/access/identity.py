"""Who is asking? By password, bearer token or client certificate, in that order.

401 is the same for everybody, whatever was wrong.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ssl
from collections.abc import Mapping
from typing import Any, Final

from receiver.web.access.passwords import PasswordCheck, Passwords
from receiver.web.access.verdict import NO_ROLE, AuthRequest, Denied, Granted
from receiver.web.access.web_config import Role, WebConfig

_ADDRESS: Final = "IP Address"
_NAMES: Final = frozenset({"DNS", _ADDRESS, "email", "URI"})
"""The kinds of subject alternative names that count, as Python calls them."""


class Authenticator:
    """Safe to use from many threads."""

    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords

    def identify(self, config: WebConfig, request: AuthRequest) -> Granted | Denied:
        """Return who is asking. May take as long as `Passwords.check`.

        The Authorization header counts where there are users or tokens, the certificate otherwise.
        """
        if not (request.authorization and config.asks_for_header):
            return _by_certificate(config, _sans(request.certificate))
        scheme, _, credentials = request.authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                return _by_token(config, credentials.strip())
            case "basic":
                return self._by_password(config, credentials.strip(), request.address)
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
        verdict = self._passwords.check(config.users, name, password, address)
        if verdict is not PasswordCheck.RIGHT:
            # Log only a name that we know: people type passwords into the wrong field.
            known = name if name in config.users else ""
            return _unauthorized(config, f"password {verdict.value}", known)
        return Granted(name, config.roles.get(name, Role.VIEWER))


def certificate_denied(config: WebConfig, certificate: Mapping[str, Any] | None) -> Denied | None:
    """Deny a client whose certificate the configuration does not allow.

    The handshake does not check SANs, and a connection may be older than the configuration.
    """
    if config.tls is None or not config.needs_certificate:
        return None
    if certificate is None:
        return NO_ROLE
    allowed = config.tls.client_allowed_sans
    if allowed and _sans(certificate).isdisjoint(allowed):
        return NO_ROLE
    return None


def has_expired(certificate: Mapping[str, Any], now: float) -> bool:
    """Return whether *certificate* has expired: a connection, or a TLS session, may outlive it."""
    return now > ssl.cert_time_to_seconds(certificate["notAfter"])


def _by_certificate(config: WebConfig, sans: frozenset[str]) -> Granted | Denied:
    for certificate in config.certificates:
        if certificate.san in sans:
            return Granted(certificate.name or certificate.san, certificate.role)
    if config.asks_for_header:
        return _unauthorized(config, "no credentials")
    if config.certificates:
        return NO_ROLE
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


def _sans(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the names of a certificate: DNS names, IP addresses, e-mails and URIs."""
    pairs = (certificate or {}).get("subjectAltName", ())
    # OpenSSL ends IPv6 addresses with a line feed. In a name, white space is part of it.
    return frozenset(
        name.strip() if kind == _ADDRESS else name for kind, name in pairs if kind in _NAMES
    )
