"""What access control sees of a request, and what it says: granted, or denied with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

WEBHOOK: Final = "/webhook"


class AuthRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request matters for access."""

    method: str
    path: str
    """Without prefix and query, decoded, as it is routed."""
    authorization: str = ""
    address: str = ""
    certificate: Mapping[str, Any] | None = None
    """The client's, verified; as `ssl.SSLSocket.getpeercert` returns it."""
    host: str = ""
    origin: str = ""
    site: str = ""
    """Sec-Fetch-Site."""

    @property
    def is_notification(self) -> bool:
        return self.method == "POST" and self.path == WEBHOOK


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
    """The user, where known."""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        said = {"error": {"code": self.code, "message": self.message}}
        return msgspec.json.encode(said) + b"\n"


NO_ROLE: Final = Denied(
    status=403,
    code="forbidden",
    message="a client certificate is needed that has a role; see client_certificates in "
    "--web.config.file",
    why="no certificate with a role",
)
CROSS_SITE: Final = Denied(
    status=403,
    code="cross_site",
    message="this request comes from the page of another site; ask from promheal's own page, or "
    "without a browser",
    why="cross-site",
)
FOREIGN_HOST: Final = Denied(
    status=403,
    code="unknown_host",
    message="promheal has no access control here, so it answers only by the names of this machine, "
    "as 127.0.0.1 and localhost, and by that of --web.external-url; ask by one of them, or have "
    "--web.config.file ask who it is",
    why="unknown host",
)
RATE_LIMITED: Final = Denied(
    status=429,
    code="rate_limited",
    message="too many requests; rate_limit in --web.config.file says how many",
    why="rate limit",
)
