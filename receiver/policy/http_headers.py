"""Which headers may a configuration set? As config/headers.go of prometheus/common has it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_RESERVED: Final = frozenset(
    {
        *("accept-encoding", "authorization", "connection", "content-encoding", "content-length"),
        *("content-type", "host", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("transfer-encoding", "user-agent", "www-authenticate"),
    }
)
"""Headers that change the connection, or that other keys set."""


class HTTPHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values of one header, each sent."""

    values: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    """Values that are shown nowhere."""
    files: tuple[str, ...] = ()
    """Paths of files with one value each."""

    def __post_init__(self) -> None:
        if not (self.values or self.secrets or self.files):
            raise ValueError("a header has `values`, `secrets` or `files`")


def is_token(text: str) -> bool:
    """Whether *text* may be the name of a header, or of a scheme of authorization."""
    return _TOKEN.fullmatch(text) is not None


def refuse_headers(*kinds: Iterable[str] | dict[str, str]) -> None:
    """Raise ValueError for headers that may not be set, and for one that is set twice."""
    seen: set[str] = set()
    for headers in kinds:
        for name in headers:
            if not is_token(name):
                raise ValueError(
                    f"{name[:60]!r} is no name of a header; write for example X-Scope-OrgID"
                )
            if name.lower() in _RESERVED:
                raise ValueError(
                    f"setting header {name!r} is not allowed; `basic_auth` and `authorization` say "
                    "who asks"
                )
            if name.lower() in seen:
                raise ValueError(f"header {name!r} is defined in multiple sections; write it once")
            seen.add(name.lower())
            value = headers.get(name) if isinstance(headers, dict) else None
            if isinstance(value, str) and _CONTROL.search(value):
                raise ValueError(f"the value of header {name!r} holds a control character")
