"""Reads `--web.config.file`, in exporter-toolkit's format.

A file that was written for Prometheus works unchanged: its users may read. Our own keys give roles:
`roles`, `bearer_tokens` and `client_certificates`.
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md

The file holds secrets, and people write passwords where hashes belong: no problem repeats a value
that could be one.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.web.access.config_redaction import redacted
from receiver.web.access.web_config import ClientCertificate, RequestLimit, Role, Token, WebConfig
from receiver.web.server import tls
from receiver.web.server.tls import Tls
from receiver.yaml.diagnostics import InvalidConfig, Report, suggestion
from receiver.yaml.keys import MappingKey, construct, read_keys, value_of
from receiver.yaml.nodes import Items, Node, Pairs, Scalar, parse, read_file
from receiver.yaml.scalars import BAD, Read, key_text, mark, read_bool, read_text
from receiver.yaml.values import Readers, mapping, optional, sequence

MOST_ROUNDS: Final = 18
"""bcrypt's cost, as a power of 2: some ten seconds."""

_HASH: Final = re.compile(
    r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII
)
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_NOTHING: Final = hashlib.sha256(b"").hexdigest()
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that exporter-toolkit allows, each with its allowed values; empty: any."""


class LoadedWebConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A web configuration with the files that it names."""

    config: WebConfig
    context: ssl.SSLContext | None = None
    """None: plain HTTP."""
    files: tuple[Path, ...] = ()
    """Every file that was read."""


def load(path: Path) -> LoadedWebConfig:
    """Read the file *path*, and the certificates that it names, relative to its folder.

    Raises InvalidConfig with every problem, each without the secrets on its line.
    """
    report = Report(str(path))
    try:
        found = read_file(path, report)
    except FileNotFoundError:
        report.add("no such file; `promheal config web` writes one")
        found = None
    if found is None:
        raise InvalidConfig(report.problems)
    report = Report(str(path), found[1])
    tree = parse(found[1], report)
    config, context = WebConfig(), None
    if tree is not None:
        config = _read(tree, report)
        context = _context(config, tree, path.parent, report)
    if report.broken:
        raise InvalidConfig(redacted(report.problems, tree))
    named = config.tls.files if config.tls else ()
    return LoadedWebConfig(
        config=config, context=context, files=(path, *(path.parent / name for name in named))
    )


def _context(config: WebConfig, tree: Node, folder: Path, report: Report) -> ssl.SSLContext | None:
    if config.tls is None:
        return None
    node = value_of(tree, "tls_server_config")
    assert node is not None
    try:
        return tls.build(config.tls, folder)
    except tls.UnusableTls as error:
        mark(value_of(node, error.key) or node, report, error.message)
        return None


def _secret(what: str, pattern: re.Pattern[str], remedy: str) -> Read:
    """Return the reader of a text that no problem shows."""

    def read(node: Node, report: Report) -> Any:
        if not isinstance(node, Scalar) or not pattern.fullmatch(node.value):
            return mark(node, report, f"expected {what}; {remedy}")
        return node.value

    return read


_read_hash: Final = _secret(
    "a bcrypt hash", _HASH, "make one from the password: htpasswd -nBC 10 '' | tr -d ':\\n'"
)
_read_digest: Final = _secret(
    "64 hexadecimal digits", _SHA256, 'write the token\'s SHA-256: printf %s "$TOKEN" | sha256sum'
)


def _read_password(node: Node, report: Report) -> Any:
    text = _read_hash(node, report)
    if text is BAD:
        return BAD
    rounds = int(text[4:6])
    if not 4 <= rounds <= MOST_ROUNDS:
        return mark(node, report, f"a bcrypt cost from 4 to {MOST_ROUNDS}, not {rounds}")
    return text


def _read_sha256(node: Node, report: Report) -> Any:
    text = _read_digest(node, report)
    if text is BAD:
        return BAD
    if text.lower() == _NOTHING:
        return mark(node, report, "this is the SHA-256 of nothing; hash the token itself")
    return text.lower()


def _collection(of: type[Node], what: str, read: Read) -> Read:
    """Return *read* for a collection of secrets: another value in its place is not shown."""

    def read_it(node: Node, report: Report) -> Any:
        if not isinstance(node, of):
            return mark(node, report, f"expected {what}")
        return read(node, report)

    return read_it


def _read_user(node: Node, report: Report) -> Any:
    name = read_text(node, report)
    if name is BAD:
        return BAD
    if not name or ":" in name:
        return mark(node, report, "a user's name is not empty and has no colon")
    return name


def _read_headers(node: Node, report: Report) -> Any:
    found = mapping(read_text, read_text)(node, report)
    if found is BAD:
        return BAD
    assert isinstance(node, Pairs)
    for (key, value), (name, text) in zip(node.pairs, found.items(), strict=True):
        if name not in _HEADERS:
            mark(key, report, f"this header cannot be set{suggestion(name, _HEADERS)}")
        elif text and _HEADERS[name] and text not in _HEADERS[name]:
            mark(value, report, f"expected {' or '.join(_HEADERS[name])}")
        elif not _HEADER_VALUE.fullmatch(text):
            mark(value, report, "a header takes printable ASCII on one line")
    return tuple((name, text) for name, text in found.items() if text)


_READERS: Final = Readers()
_TLS_KEYS: Final = _READERS.keys(Tls)
_TOKEN: Final = _collection(
    Pairs,
    "a mapping with name, sha256 and role",
    lambda node, report: construct(
        Token,
        read_keys(node, report, _READERS.keys(Token, sha256=_read_sha256)) or {},
        node,
        report,
    ),
)


def _read_tls(node: Node, report: Report) -> Any:
    if isinstance(node, Pairs) and not node.pairs:
        return None
    values = read_keys(node, report, _TLS_KEYS)
    return BAD if values is None else construct(Tls, values, node, report)


def _read_http(node: Node, report: Report) -> Any:
    # HTTP/1.1 is served whatever `http2` says: its default is true, so files have it.
    keys = {
        "http2": MappingKey(read=read_bool, field="http2"),
        "headers": MappingKey(read=optional(_read_headers), field="headers"),
    }
    values = read_keys(node, report, keys)
    return BAD if values is None else values.get("headers") or ()


_KEYS: Final = {
    name: MappingKey(read=optional(read), field=field)
    for name, field, read in (
        ("tls_server_config", "tls", _read_tls),
        ("http_server_config", "headers", _read_http),
        ("rate_limit", "rate_limit", _READERS.of(RequestLimit)),
        (
            "basic_auth_users",
            "users",
            _collection(
                Pairs, "a mapping of users to bcrypt hashes", mapping(_read_user, _read_password)
            ),
        ),
        ("roles", "roles", _READERS.of(dict[str, Role])),
        (
            "bearer_tokens",
            "tokens",
            _collection(
                Items, "a list of tokens, each with name, sha256 and role", sequence(_TOKEN)
            ),
        ),
        ("client_certificates", "certificates", _READERS.of(tuple[ClientCertificate, ...])),
    )
}


def _read(tree: Node, report: Report) -> WebConfig:
    """Return what the document says, or of a broken one what could be read."""
    if isinstance(tree, Scalar) and tree.is_null:
        return WebConfig()
    if not isinstance(tree, Pairs):
        mark(tree, report, f"expected a mapping with {', '.join(_KEYS)}")
        return WebConfig()
    values = read_keys(tree, report, _KEYS) or {}
    good = {name: value for name, value in values.items() if value is not BAD and value is not None}
    tokens = good.pop("tokens", ())
    config = WebConfig(**good, tokens={token.sha256: token for token in tokens})
    if not report.broken:
        _check(config, tokens, tree, report)
    return config


def _check(config: WebConfig, tokens: tuple[Token, ...], tree: Pairs, report: Report) -> None:
    """Report what is wrong between keys."""
    for key, _ in _pairs(tree, "roles"):
        name = key_text(key, report) or ""
        if name not in config.users:
            mark(key, report, f"no user of basic_auth_users{suggestion(name, config.users)}")
    taken = set(config.users)
    for token, node in zip(tokens, _items(tree, "bearer_tokens"), strict=True):
        if token.name in taken:
            mark(value_of(node, "name") or node, report, "another user or token has this name")
        if config.tokens[token.sha256] is not token:
            mark(value_of(node, "sha256") or node, report, "another token has this SHA-256")
        taken.add(token.name)
    asks = config.tls is not None and config.tls.client_auth_type != tls.NO_CERTIFICATE
    sans: set[str] = set()
    for certificate, node in zip(
        config.certificates, _items(tree, "client_certificates"), strict=True
    ):
        if certificate.san in sans:
            mark(value_of(node, "san") or node, report, "this SAN has a role already")
        sans.add(certificate.san)
        if not asks:
            mark(
                node, report,
                f"no certificate is asked for: tls_server_config needs client_ca_file and "
                f"client_auth_type: {tls.REQUIRED} or {tls.IF_GIVEN}",
            )  # fmt: skip
    if config.rate_limit.interval and not config.rate_limit.burst:
        limit = value_of(tree, "rate_limit")
        assert limit is not None
        mark(limit, report, "without a burst nobody would be served; write one, as burst: 20")


def _pairs(tree: Node, name: str) -> list[tuple[Node, Node]]:
    node = value_of(tree, name)
    return node.pairs if isinstance(node, Pairs) else []


def _items(tree: Node, name: str) -> list[Node]:
    node = value_of(tree, name)
    return node.items if isinstance(node, Items) else []
