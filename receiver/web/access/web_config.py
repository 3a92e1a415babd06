"""Users, tokens, certificates and TLS: what `--web.config.file` says, as values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from receiver.policy.duration import Duration
from receiver.web.server import tls
from receiver.web.server.tls import Tls


class Role(StrEnum):
    WEBHOOK = "webhook"
    """POST /webhook, and nothing else."""
    VIEWER = "viewer"
    """Reads everything."""
    OPERATOR = "operator"
    """Everything."""


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    name: _Name
    """In the log and the journal."""
    sha256: str
    """Of the token, hexadecimal."""
    role: Role

    def __repr__(self) -> str:
        return f"<token {self.name!r}: {self.role}>"


class ClientCertificate(msgspec.Struct, frozen=True, kw_only=True):
    san: _Name
    """A subject alternative name of the certificate: DNS name, IP address, e-mail or URI."""
    role: Role
    name: str = ""
    """In the log and the journal; the SAN by default."""


class RequestLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A token bucket: *burst* requests at once, and one more each *interval* seconds."""

    interval: Duration = 0.0
    burst: Annotated[int, msgspec.Meta(ge=0)] = 0


class WebConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    tls: Tls | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Added to each answer."""
    rate_limit: RequestLimit = RequestLimit()
    users: dict[str, str] = {}
    """bcrypt hashes."""
    roles: dict[str, Role] = {}
    """Of users; viewer for one that is not listed."""
    tokens: dict[str, Token] = {}
    """By their SHA-256."""
    certificates: tuple[ClientCertificate, ...] = ()

    def __repr__(self) -> str:
        return f"<web configuration: {len(self.users)} users, {len(self.tokens)} tokens>"

    @property
    def needs_certificate(self) -> bool:
        """Whether every client must have a verified certificate."""
        return self.tls is not None and self.tls.client_auth_type == tls.REQUIRED

    @property
    def asks_for_header(self) -> bool:
        """Whether there are users or tokens."""
        return bool(self.users or self.tokens)

    @property
    def names(self) -> frozenset[str] | None:
        """The names that a client can have; None if any certificate is accepted."""
        if self.needs_certificate and not (self.asks_for_header or self.certificates):
            return None
        tokens = (token.name for token in self.tokens.values())
        sans = (each.name or each.san for each in self.certificates)
        return frozenset((*self.users, *tokens, *sans))

    @property
    def restricts(self) -> bool:
        """Whether clients must authenticate at all."""
        return self.asks_for_header or bool(self.certificates) or self.needs_certificate
