"""Whom do we trust, and how do we show who we are? A `tls_config` as OpenSSL wants it.

Without a `ca` the system's certificates count, as `update-ca-certificates` or SSL_CERT_FILE has
them. The files are looked at for each connection, and read again once one of them was changed.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from typing import Final

from receiver.clients.http_credentials import CredentialsError
from receiver.policy.http_config import TLSConfig, TLSVersion

_MOST: Final = 64
"""Contexts that are kept: to read the system's certificates takes some 20 ms."""
_VERSIONS: Final = {
    TLSVersion.TLS10: ssl.TLSVersion.TLSv1,
    TLSVersion.TLS11: ssl.TLSVersion.TLSv1_1,
    TLSVersion.TLS12: ssl.TLSVersion.TLSv1_2,
    TLSVersion.TLS13: ssl.TLSVersion.TLSv1_3,
}
_Stamp = tuple[int, int, int]


class _Contexts:
    """Those in use. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[TLSConfig, tuple[tuple[_Stamp, ...], ssl.SSLContext]] = {}

    def of(self, config: TLSConfig) -> ssl.SSLContext:
        stamps = tuple(_stamp(key, file) for key, file in _files(config))
        with self._lock:
            found = self._made.get(config)
            if found is None or found[0] != stamps:
                found = self._made[config] = (stamps, _build(config))
                while len(self._made) > _MOST:
                    del self._made[next(iter(self._made))]
            return found[1]


def _files(config: TLSConfig) -> Iterator[tuple[str, str]]:
    """Yield the files that count, and the keys that name them."""
    if config.ca_file:
        yield "ca_file", config.ca_file
    elif not config.ca:
        system = ssl.get_default_verify_paths()
        for path in (system.cafile, system.capath):
            if path is not None:
                yield "the system's certificates", path
    if config.cert_file and config.key_file:
        yield "cert_file", config.cert_file
        yield "key_file", config.key_file


def _stamp(key: str, file: str) -> _Stamp:
    """Return what changes when a file is written or another takes its place."""
    try:
        found = os.stat(file)  # noqa: PTH116  a name that follows links, as those of Kubernetes' secrets
    except OSError as error:
        raise CredentialsError(f"{key} {file}: {error.strerror}") from None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _build(config: TLSConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=config.ca_file or None, cadata=config.ca or None
        )
    except (ssl.SSLError, ValueError):
        where = f"ca_file {config.ca_file}" if config.ca_file else "tls_config.ca"
        raise CredentialsError(f"{where} holds no certificate in PEM") from None
    except OSError as error:
        raise CredentialsError(f"ca_file {config.ca_file}: {error.strerror}") from None
    # Python 3.13 refuses authorities that Prometheus and everybody else take, for what RFC 5280
    # wants of them; and as in Go any certificate of `ca` is trusted, one in the middle too.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if config.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.min_version is not None:
        context.minimum_version = _VERSIONS[config.min_version]
    if config.max_version is not None:
        context.maximum_version = _VERSIONS[config.max_version]
    if config.cert_file and config.key_file:
        _show(context, config.cert_file, config.key_file)
    return context


def _show(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    def password() -> bytes:
        raise CredentialsError(f"key_file {key_file} is encrypted; it must have no passphrase")

    try:
        context.load_cert_chain(cert_file, key_file, password)
    except ssl.SSLError as error:
        why = (error.reason or "they are no PEM").lower().replace("_", " ")
        raise CredentialsError(f"cert_file {cert_file}, key_file {key_file}: {why}") from None
    except OSError as error:
        raise CredentialsError(
            f"cert_file {cert_file}, key_file {key_file}: {error.strerror}"
        ) from None


_CONTEXTS: Final = _Contexts()
tls_context: Final = _CONTEXTS.of
