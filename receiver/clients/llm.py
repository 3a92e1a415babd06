"""Which API keys of LLM providers work? Each is tried with a request that costs nothing.

`GET {base_url}/models` with the key in its header. Only the status is read: what a server says in
its answer may repeat the key, so nothing of it is kept, and every reason for a failure is in our
own words or in those of the system.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

import msgspec

from receiver.clients.http import HTTPClient, NoReplyError
from receiver.clock import Clock
from receiver.redaction import known
from receiver.settings import LlmProvider, LlmSettings

ANTHROPIC_VERSION: Final = "2023-06-01"
"""Anthropic wants one named: https://platform.claude.com/docs/en/api/versioning."""

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")  # POSIX; a key that was pasted here is none
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_REASONS: Final = {401: "refused", 403: "refused", 429: "rate limited"}


class KeyState(StrEnum):
    UNKNOWN = "unknown"
    """It was not tried yet."""
    ACTIVE = "active"
    FAILED = "failed"


class KeyHealth(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """Of the variable that holds the key."""
    state: KeyState = KeyState.UNKNOWN
    detail: str = ""
    """Why it failed."""
    checked_at: float | None = None
    """When it was tried last, seconds since the epoch."""


class ProviderHealth(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    keys: tuple[KeyHealth, ...]


class KeySummary(msgspec.Struct, frozen=True, kw_only=True):
    total: int = 0
    active: int = 0
    failed: int = 0

    @property
    def all_failed(self) -> bool:
        """Whether there are keys, and each was tried and failed."""
        return 0 < self.total == self.failed


class LlmKeys:
    """The keys of one configuration. Safe to use from many threads.

    The variables are read once: a reload makes a new one, which may `carry` what this one knows. A
    key is counted once for each provider that names its variable.
    """

    def __init__(self, settings: LlmSettings, environ: Mapping[str, str], clock: Clock) -> None:
        self._timeout = settings.timeout
        self._clock = clock
        self._providers = dict(settings.providers)
        self._secrets = {
            (provider, variable): known(environ.get(variable, ""))
            for provider, options in settings.providers.items()
            for variable in options.keys
        }
        self._lock = threading.Lock()
        self._health = {place: KeyHealth(name=self._shown(*place)) for place in self._secrets}

    def probe(self, provider: str) -> None:
        """Try each key of *provider*, one after the other, each within the time-out.

        A provider that is not known has no keys: a reload may have taken it away.
        """
        for place, secret in self._secrets.items():
            if place[0] != provider:
                continue
            name = self._shown(*place)
            problem = _unfit(name, place[1], secret) or _tried(
                self._providers[provider], secret, self._timeout
            )
            found = KeyHealth(
                name=name,
                state=KeyState.FAILED if problem else KeyState.ACTIVE,
                detail=problem,
                checked_at=self._clock(),
            )
            with self._lock:
                self._health[place] = found

    def carry(self, previous: LlmKeys) -> None:
        """Take over what *previous* knows of keys that are the same, and are asked for alike."""
        known = previous._known()
        with self._lock:
            for place, secret in self._secrets.items():
                if previous._secrets.get(place) == secret and _alike(
                    previous._providers[place[0]], self._providers[place[0]]
                ):
                    self._health[place] = known[place]

    def providers(self) -> tuple[ProviderHealth, ...]:
        known = self._known()
        return tuple(
            ProviderHealth(
                name=provider,
                keys=tuple(health for place, health in known.items() if place[0] == provider),
            )
            for provider in self._providers
        )

    def summary(self) -> KeySummary:
        states = [health.state for health in self._known().values()]
        return KeySummary(
            total=len(states),
            active=states.count(KeyState.ACTIVE),
            failed=states.count(KeyState.FAILED),
        )

    def usable(self, provider: str) -> bool:
        """Whether a key of *provider* worked when it was tried last."""
        return any(
            health.state is KeyState.ACTIVE
            for place, health in self._known().items()
            if place[0] == provider
        )

    def passes(self, provider: str) -> bool:
        """Try the keys of *provider* now, and return whether one works.

        A provider that is not known has no keys that could fail: a local one.
        """
        if provider not in self._providers:
            return True
        self.probe(provider)
        return self.usable(provider)

    def _known(self) -> dict[tuple[str, str], KeyHealth]:
        with self._lock:
            return dict(self._health)

    def _shown(self, provider: str, variable: str) -> str:
        """Return the name of a variable, or its place when a key stands where the name belongs."""
        if _VARIABLE.fullmatch(variable):
            return variable
        return f"keys[{self._providers[provider].keys.index(variable)}]"


def _alike(one: LlmProvider, other: LlmProvider) -> bool:
    """Whether both ask the same of a key."""
    return msgspec.structs.replace(one, keys=other.keys) == other


def _unfit(name: str, variable: str, secret: str) -> str:
    """Return why a key cannot be sent, or an empty text."""
    if name != variable:
        return (
            f"{name} is no name of a variable; write the name of the one that holds the key, for"
            " example OPENAI_API_KEY"
        )
    if not secret.strip():
        return f"{name} is not set"
    try:
        secret.encode("latin-1")
    except UnicodeEncodeError:
        return f"{name} holds no key"
    return "" if secret.isprintable() else f"{name} holds no key"


def _tried(provider: LlmProvider, secret: str, timeout: float) -> str:
    """Return why a key does not work, or an empty text."""
    if not _can_be_asked(provider.base_url):
        return "base_url cannot be asked; write for example https://api.example.com/v1"
    if not _HEADER.fullmatch(provider.header):
        return "header is no name of a header; write for example Authorization or x-api-key"
    try:
        reply = HTTPClient(provider).request(
            "GET",
            f"{provider.base_url.rstrip('/')}/models",
            timeout=timeout,
            most=0,
            headers=_headers(provider.header, secret),
        )
    except NoReplyError as error:
        if error.unsent:
            return str(error)
        return f"no answer within {timeout:g}s" if error.late else _cause(error.cause)
    status = reply.status
    if 300 <= status < 400:
        return f"a redirect, which is not followed ({status})"
    return "" if 200 <= status < 300 else f"{_REASONS.get(status, 'unexpected answer')} ({status})"


def _headers(header: str, secret: str) -> dict[str, str]:
    headers = {"User-Agent": "promheal", "Accept": "application/json", "Connection": "close"}
    match header.lower():
        case "authorization":
            headers[header] = f"Bearer {secret}"
        case "x-api-key":
            headers[header] = secret
            headers["anthropic-version"] = ANTHROPIC_VERSION
        case _:
            headers[header] = secret
    return headers


def _cause(error: BaseException) -> str:
    """Return the reason in words that cannot be the other side's."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"
        case http.client.RemoteDisconnected():
            return "hung up without an answer"
        case OSError():
            return error.strerror or type(error).__name__
        case UnicodeError():
            return "base_url has no host that can be looked up"
        case _:
            return "the answer is not HTTP"


def _can_be_asked(base_url: str) -> bool:
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        return False
    plain = base_url.isascii() and base_url.isprintable() and " " not in base_url
    more = parts.username is not None or parts.query or parts.fragment
    return bool(plain and parts.hostname and port != 0 and not more)
