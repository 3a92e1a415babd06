"""Redacts secrets by their value.

A secret is registered where it is read: `known(text)` for one from a file or a variable, `learn`
for the text of a configuration file, `learn_variables` for an environment. `redact` replaces it
wherever text leaves the process or is stored: log lines, answers and pages, the output of commands,
texts of others in the journal, the healing log, snapshots and messages. It finds a value as it is,
percent-encoded, in base64 (so in Basic credentials), and as JSON, HTML and Python escape it; and
the password of every URL, registered or not.
"""

from __future__ import annotations

import html
import json
import re
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote

SHOWN: Final = "REDACTED"
"""Replaces a secret. Needs no escaping in a URL, HTML, JSON or a log line."""
SHORTEST: Final = 6
"""Characters from which on a value is redacted: a shorter one would be found inside other words."""
MOST: Final = 1_000
"""The newest values that are remembered: rotating tokens would otherwise fill the memory."""

_WORD: Final = (
    r"(?:passw(?:or)?d|passphrase|secret|token|(?:api|access|secret|private|account)[_-]?key"
    r"|credential|authorization|cookie)s?"
)
_SECRET_NAME: Final = re.compile(
    rf"(?:.*[^a-z])?{_WORD}|.*passw(?:or)?d|.+_(?:key|pwd)|key|auth|sig|signature", re.IGNORECASE
)
"""The name of a variable, or of a query parameter, that holds a secret."""
_SECRET_KEY: Final = re.compile(
    rf"(?:.*[^a-z])?{_WORD}|.*passw(?:or)?d|.+[_-](?:pass|pwd)", re.IGNORECASE
)
"""The name of a key of a configuration, or of a header, that holds a secret."""
_NAMED: Final = rf"""(?<![a-z0-9])(?:[\w.-]*[_.-])?{_WORD}["']?"""
_SET: Final = r"""(?:\s*(:)\s*(?:[|>][+-]?\s+)?|\s*[=,]\s*|[ ]+)"""
_QUOTED: Final = r""""((?:[^"\\\n]|\\.)*)"|'((?:[^'\n]|'')*)'"""
_FIELD: Final = re.compile(
    rf"""{_NAMED}{_SET}(?:{_QUOTED}|([^\s,"'#\[\]{{}}&][^\n]*))""", re.IGNORECASE
)
"""A name and its value in YAML, JSON, an argument or a query: `password: x`, `--token=x`."""
_INLINE: Final = re.compile(
    rf"""{_NAMED}{_SET}(?:{_QUOTED}|([^\s,;"'#\[\]{{}}&][^\s,;"'\]}}&]*))""", re.IGNORECASE
)
"""The same up to the next separator: there may be more of them in the line."""
_OPTION: Final = re.compile(
    rf"""^[ \t]*-[ \t]+["']?--?(?:[\w.-]*[_.-])?{_WORD}["']?[ \t]*()\n"""
    rf"""[ \t]*-[ \t]+(?:{_QUOTED}|([^\s"'#][^\n]*))""",
    re.IGNORECASE | re.MULTILINE,
)
"""An option and its value as two items of a list, a line each."""
_LISTED: Final = re.compile(r"secrets[\"']?\s*:\s*(\[[^\]]*\]|(?:\n\s*-\s[^\n]*)+)")
"""The values of a header in an `http_config`."""
_ITEM: Final = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^']|'')*)'|([^\s,\[\]\"'][^,\]\n]*)")
_SCHEME: Final = re.compile(r"(?:bearer|basic|token|apikey)\s+(\S+)", re.IGNORECASE)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
_NO_PORT: Final = re.compile(r"[^/:@]*:(?!\d+/)")
_LOGIN: Final = re.compile(rf"(?<=://)([^\s/?#\"'<>:@]*):(?!{SHOWN}@)[^\s/?#\"'<>@]+@")
_QUERY: Final = re.compile(
    rf"([?&;](?:[\w.-]*[_.-])?(?:{_WORD}|auth|sig|signature)=)(?!{SHOWN})[^&\s\"'<>#;]+",
    re.IGNORECASE,
)


class Redactor:
    """Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, tuple[str, ...]] = {}  # oldest first
        self._forms: tuple[str, ...] = ()

    def known(self, value: str) -> str:
        """Register *value* as a secret, and return it."""
        bare = value.strip()
        scheme = _SCHEME.fullmatch(bare)
        if scheme:
            bare = scheme[1]
        with self._lock:
            if len(bare) < SHORTEST or bare in (SHOWN, *self._values):
                return value
            self._values[bare] = tuple(_forms(bare))
            while len(self._values) > MOST:
                del self._values[next(iter(self._values))]
            forms = {form for each in self._values.values() for form in each}
            self._forms = tuple(sorted(forms, key=len, reverse=True))
        return value

    def forms(self) -> tuple[str, ...]:
        """All forms of all secrets; another tuple after each change."""
        return self._forms

    def forget(self) -> None:
        """Forget every secret, for tests."""
        with self._lock:
            self._values.clear()
            self._forms = ()

    def learn(self, text: str) -> None:
        """Register the secrets in *text*, such as a configuration file, valid YAML or not."""
        for found in chain.from_iterable(p.finditer(text) for p in (_FIELD, _INLINE, _OPTION)):
            for value in _values(*found.groups()):
                if "{{" not in value:
                    self.known(value)
        for found in _LISTED.finditer(text):
            for item in _ITEM.finditer(found[1]):
                self.known((item[1] or item[2] or item[3]).removeprefix("- "))
        for found in _URL.finditer(text):
            self.learn_url(found[0])

    def learn_url(self, url: str, *, entirely: bool = False) -> None:
        """Register the password of a URL, or its user if there is none, and secrets in its query.

        *entirely*: the URL is a secret itself, such as a webhook's, and so are its longer parts.
        """
        rest = url.partition("://")[2]
        login = rest.rpartition("@")[0]
        if "@" not in rest.partition("/")[0] and not _NO_PORT.match(login):
            login = ""  # the @ is part of the path
        if login:
            user, colon, password = login.partition(":")
            value = password if colon else user
            self.known(value)
            self.known(unquote(value))
        for name, value in parse_qsl(rest.partition("?")[2].partition("#")[0]):
            if entirely or _SECRET_NAME.fullmatch(name):
                self.known(value)
        if entirely:
            self.known(url)
            host, _, path = rest.partition("?")[0].partition("/")
            host = host.rpartition("@")[2]
            if "." not in host and ":" not in host and host != "localhost":
                self.known(host)  # slack://TokenA/TokenB/TokenC
            for part in path.split("/"):
                if len(part) >= 8:  # `hooks` and `api` are not secrets
                    self.known(part)
                    self.known(unquote(part))

    def learn_variables(self, variables: Mapping[str, str]) -> None:
        """Register variables with the name of a secret, and the passwords of all URLs."""
        for name, value in variables.items():
            if _SECRET_NAME.fullmatch(name):
                self.known(value)
            if "://" in value:
                self.learn_url(value)

    def redact(self, text: str) -> str:
        """Return *text* with `REDACTED` for every secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, SHOWN)
        if "://" in text:
            text = _LOGIN.sub(rf"\1:{SHOWN}@", text)
        return _QUERY.sub(rf"\1{SHOWN}", text) if "=" in text else text

    def redact_json(self, text: str) -> str:
        """Return a JSON document with its strings redacted; numbers are not secrets."""
        if self.redact(text) == text:
            return text
        try:
            clean = self.redact_all(json.loads(text))
        except (ValueError, RecursionError):
            return self.redact(text)
        return json.dumps(clean, ensure_ascii=False, separators=(",", ":"))

    def redact_all(self, value: Any) -> Any:
        """Return a JSON value with its strings redacted; keys are kept."""
        match value:
            case str():
                return self.redact(value)
            case dict():
                return {name: self.redact_all(each) for name, each in value.items()}
            case list() | tuple():
                return [self.redact_all(each) for each in value]
            case _:
                return value


def is_secret_name(name: str) -> bool:
    """Whether a key of this name holds a secret: `password`, and not `password_file`."""
    return _SECRET_KEY.fullmatch(name) is not None


def _values(
    colon: str | None, double: str | None, single: str | None, bare: str | None
) -> Iterator[str]:
    """Yield what a value can mean, since the kind of file is not known."""
    if double is not None:
        yield double
        yield re.sub(r"\\(.)", r"\1", double)
    elif single is not None:
        yield single
        yield single.replace("''", "'")
    elif bare is not None:
        line = re.split(r"\s#", bare)[0].strip()
        if colon:
            yield line
            yield re.split(r",\s|[}\]]", line)[0]
        else:
            yield re.split(r"[\s,;&}\]\"']", line)[0]


def _forms(value: str) -> Iterator[str]:
    """Yield the forms that a value can take in a text; in base64, at any offset."""
    yield value
    raw = value.encode("utf-8", "surrogateescape")
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw), _requoted(raw)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
    plain = json.dumps(value, ensure_ascii=False)[1:-1]
    yield from (plain, json.dumps(value)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1])
    yield from (html.escape(value), html.escape(value).replace("&#x27;", "&#39;"))
    yield html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    yield repr(value)[1:-1]
    yield from _in_base64(raw)


def _requoted(value: bytes) -> str:
    """Quote as HTTP clients quote a URL: characters that are allowed in one are kept."""
    return quote(value, safe="!#$%&'()*+,/:;=?@[]~")


def _in_base64(value: bytes) -> Iterator[str]:
    for before in range(3):
        encoded = b64encode(b"\0" * before + value).decode()
        first = -(-8 * before // 6)
        last = 8 * (before + len(value)) // 6
        whole = encoded[first:last]
        if len(whole) >= SHORTEST:
            yield whole
            yield whole.replace("+", "-").replace("/", "_")


_KNOWN: Final = Redactor()
known: Final = _KNOWN.known
learn: Final = _KNOWN.learn
learn_url: Final = _KNOWN.learn_url
learn_variables: Final = _KNOWN.learn_variables
redact: Final = _KNOWN.redact
forms: Final = _KNOWN.forms
forget: Final = _KNOWN.forget
redact_all: Final = _KNOWN.redact_all
redact_json: Final = _KNOWN.redact_json
