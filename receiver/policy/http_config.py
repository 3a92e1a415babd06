"""How is an upstream asked over HTTP: as whom, by which way, and who is trusted to be it?

Keys, defaults and rules are those of Prometheus' `http_config`, so that a part of its configuration
can be copied: https://prometheus.io/docs/prometheus/latest/configuration/configuration/, and
config/http_config.go of https://github.com/prometheus/common. What differs: redirects are followed
only when asked for, and there is no `oauth2`. `headers` is that of `remote_write`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from receiver.policy.http_headers import HTTPHeader, is_token, refuse_headers
from receiver.policy.texts import FilePath

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def _at_most_one(where: str, **keys: object) -> None:
    given = [name for name, value in keys.items() if value]
    if len(given) > 1:
        at = f"{where} " if where else ""
        raise ValueError(
            f"at most one of {at}{' & '.join(keys)} must be configured; remove {given[0]} or "
            f"{given[1]}"
        )


class TLSVersion(StrEnum):
    TLS10 = "TLS10"
    TLS11 = "TLS11"
    TLS12 = "TLS12"
    TLS13 = "TLS13"


class BasicAuth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    username: str = ""
    """At most one of it and `username_file`."""
    username_file: FilePath | None = None
    """A file that holds the user's name."""
    password: str = ""
    """At most one of it and `password_file`, which is better: the configuration is shown to those
    who review it."""
    password_file: FilePath | None = None
    """A file that holds the password."""

    def __post_init__(self) -> None:
        _at_most_one("basic_auth", username=self.username, username_file=self.username_file)
        _at_most_one("basic_auth", password=self.password, password_file=self.password_file)
        if ":" in self.username:
            raise ValueError("a user's name has no colon")
        if not (self.username or self.username_file or self.password or self.password_file):
            raise ValueError("basic_auth is empty; write `username` and `password_file`")


class Authorization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The header `Authorization`."""

    type: str = "Bearer"
    """Sets the header `Authorization`. At most one of `basic_auth` and `authorization`."""
    credentials: str = ""
    """At most one of it and `credentials_file`, which is better."""
    credentials_file: FilePath | None = None
    """A file that holds a token."""

    def __post_init__(self) -> None:
        _at_most_one(
            "authorization", credentials=self.credentials, credentials_file=self.credentials_file
        )
        if self.type.strip().lower() == "basic":
            raise ValueError(
                'authorization type cannot be set to "basic", use "basic_auth" instead'
            )
        if not is_token(self.type.strip()):
            raise ValueError("authorization type is one word; write for example Bearer")
        if not (self.credentials or self.credentials_file):
            raise ValueError("authorization is empty; write `credentials_file`")


class TLSConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ca: Annotated[str, msgspec.Meta(extra={"type": "PEM"})] = ""
    """The server's certificate must be signed by one of these; at most one of it and `ca_file`."""
    ca_file: FilePath | None = None
    """A file with them. Without either, those count that the system trusts: Debian's
    `ca-certificates`, or the file that `SSL_CERT_FILE` names."""
    cert_file: FilePath | None = None
    """Our certificate, where the server asks for one; with `key_file`."""
    key_file: FilePath | None = None
    """The key of `cert_file`, without a passphrase."""
    server_name: str = ""
    """The name that the server's certificate must have, if not the one in the URL."""
    insecure_skip_verify: bool = False
    """Trust any certificate: whoever is on the way can read and answer, and so prove a heal."""
    min_version: TLSVersion | None = None
    """The lowest version of TLS; `TLS12` when left out."""
    max_version: TLSVersion | None = None
    """The highest version of TLS."""

    def __post_init__(self) -> None:
        _at_most_one("tls_config", ca=self.ca, ca_file=self.ca_file)
        if self.cert_file and not self.key_file:
            raise ValueError("`cert_file` and `key_file` go together; write `key_file`")
        if self.key_file and not self.cert_file:
            raise ValueError("`cert_file` and `key_file` go together; write `cert_file`")
        if self.min_version and self.max_version and self.max_version < self.min_version:
            raise ValueError(
                "tls_config.max_version must be greater than or equal to tls_config.min_version "
                "if both are specified"
            )


def _proxy_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        fit = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fit = False
    if not fit or not text.isascii() or not text.isprintable() or " " in text:
        # The text is not repeated: it may hold a password.
        raise ValueError("expected the URL of a proxy; write for example http://proxy.example:3128")
    return text


_ProxyUrl = Annotated[
    str,
    msgspec.Meta(
        extra={"type": "URL", "parse": _proxy_url}, extra_json_schema={"pattern": "^http://"}
    ),
]


class HTTPConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How we ask, for every upstream alike."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    tls_config: TLSConfig = TLSConfig()
    http_headers: Annotated[
        dict[str, HTTPHeader],
        msgspec.Meta(extra={"type": "mapping of names to `values`, `secrets` and `files`"}),
    ] = {}
    """Headers that are sent along. `values` and `secrets` are lists of texts, of which the latter
    are shown nowhere, `files` is a list of paths."""
    headers: dict[str, str] = {}
    """The same with one value each, as in Prometheus' `remote_write`."""
    proxy_url: _ProxyUrl | None = None
    """`http://HOST:PORT`, with `USER:PASSWORD@` if need be; TLS is tunnelled through it."""
    no_proxy: str = ""
    """Comma-separated addresses, networks (CIDR) and domains that are asked without `proxy_url`.
    `*`: all; `.example` is what is below a domain, `example` that and the domain itself."""
    proxy_from_environment: bool = False
    """Take the proxy from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, which are ignored otherwise.
    Not with `proxy_url` or `no_proxy`."""
    follow_redirects: bool = False
    """Prometheus' default is true. Another host gets no credentials."""

    def __hash__(self) -> int:
        return hash(msgspec.json.encode(self))

    def __post_init__(self) -> None:
        self.refuse_contradictions()
        refuse_headers(self.http_headers, self.headers)

    def refuse_contradictions(self) -> None:
        """Raise ValueError for keys that exclude each other, and for headers that may not be set.

        A subclass whose `headers` are others judges these itself.
        """
        refuse_headers(self.http_headers)
        _at_most_one("", basic_auth=self.basic_auth, authorization=self.authorization)
        if self.proxy_from_environment and self.proxy_url:
            raise ValueError(
                "if proxy_from_environment is configured, proxy_url must not be configured"
            )
        if self.proxy_from_environment and self.no_proxy:
            raise ValueError(
                "if proxy_from_environment is configured, no_proxy must not be configured"
            )
        if self.no_proxy and not self.proxy_url:
            raise ValueError("if no_proxy is configured, proxy_url must also be configured")

    @property
    def tls(self) -> TLSConfig:
        """TLS as it is in force, with what older keys say."""
        return self.tls_config

    @property
    def login(self) -> BasicAuth | Authorization | None:
        """Who we are, also by older keys."""
        return self.basic_auth or self.authorization

    def below(self, folder: PurePath) -> Self:
        """Return it with the paths of its files relative to *folder*, as Prometheus has them."""
        changes: dict[str, Any] = {
            "tls_config": _below(self.tls_config, folder, "ca_file", "cert_file", "key_file"),
            "http_headers": {
                name: msgspec.structs.replace(
                    header, files=tuple(str(folder / file) for file in header.files)
                )
                for name, header in self.http_headers.items()
            },
        }
        if self.basic_auth is not None:
            changes["basic_auth"] = _below(
                self.basic_auth, folder, "username_file", "password_file"
            )
        if self.authorization is not None:
            changes["authorization"] = _below(self.authorization, folder, "credentials_file")
        return msgspec.structs.replace(self, **changes)

    @property
    def secret_files(self) -> Iterator[str]:
        """The files whose whole content is a secret."""
        if self.basic_auth is not None and self.basic_auth.password_file:
            yield self.basic_auth.password_file
        if self.authorization is not None and self.authorization.credentials_file:
            yield self.authorization.credentials_file
        for header in self.http_headers.values():
            yield from header.files

    @property
    def secrets(self) -> Iterator[str]:
        """The secrets that stand in the configuration itself."""
        if self.basic_auth is not None:
            yield self.basic_auth.password
        if self.authorization is not None:
            yield self.authorization.credentials
        for header in self.http_headers.values():
            yield from header.secrets
        if self.proxy_url is not None:
            yield urlsplit(self.proxy_url).password or ""


PLAIN: Final = HTTPConfig()
"""Ask with nothing of all that."""


class ServerHTTPConfig(HTTPConfig, frozen=True, kw_only=True):
    """How Prometheus and Alertmanager are asked."""

    bearer_token_file: Annotated[
        FilePath | None, msgspec.Meta(extra={"instead": "authorization: {credentials_file: …}"})
    ] = None
    """Deprecated, for `authorization.credentials_file`."""
    ca_file: FilePath | None = None
    """Short for `tls_config.ca_file`."""

    def refuse_contradictions(self) -> None:
        super().refuse_contradictions()
        _at_most_one(
            "",
            basic_auth=self.basic_auth,
            authorization=self.authorization,
            bearer_token_file=self.bearer_token_file,
        )
        _at_most_one(
            "tls_config", ca=self.tls_config.ca, ca_file=self.tls_config.ca_file or self.ca_file
        )

    @property
    def tls(self) -> TLSConfig:
        return with_ca_file(self.tls_config, self.ca_file)

    @property
    def login(self) -> BasicAuth | Authorization | None:
        return super().login or bearer(self.bearer_token_file)

    def below(self, folder: PurePath) -> Self:
        return _below(super().below(folder), folder, "ca_file")

    @property
    def secret_files(self) -> Iterator[str]:
        yield from super().secret_files
        if self.bearer_token_file:
            yield self.bearer_token_file


def with_ca_file(tls: TLSConfig, ca_file: str | None) -> TLSConfig:
    """Return *tls* with the key of today beside it, which the newer one wins over."""
    if ca_file is None or tls.ca or tls.ca_file:
        return tls
    return msgspec.structs.replace(tls, ca_file=ca_file)


def bearer(file: str | None) -> Authorization | None:
    return None if file is None else Authorization(credentials_file=file)


def _below(struct: _Struct, folder: PurePath, *fields: str) -> _Struct:
    paths = {name: getattr(struct, name) for name in fields}
    return msgspec.structs.replace(
        struct, **{name: path and str(folder / path) for name, path in paths.items()}
    )
