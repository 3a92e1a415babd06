"""Makes an SSLContext of `tls_server_config`, or says why it cannot.

The names are exporter-toolkit's, and so Go's. What Python cannot do like Go is rejected, never
ignored: unverified client certificates, TLS before 1.2, a list of curves.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from receiver.errors import ConfigError
from receiver.yaml.diagnostics import quoted, suggestion

NO_CERTIFICATE: Final = "NoClientCert"
IF_GIVEN: Final = "VerifyClientCertIfGiven"
REQUIRED: Final = "RequireAndVerifyClientCert"

_VERIFY: Final = {
    NO_CERTIFICATE: ssl.CERT_NONE,
    IF_GIVEN: ssl.CERT_OPTIONAL,
    REQUIRED: ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD_VERSIONS: Final = ("TLS10", "TLS11")
_ALWAYS: Final = frozenset(
    {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
)
"""The suites of TLS 1.3, which cannot be chosen, as in Go."""
_SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
"""OpenSSL's names for Go's."""
_CURVES: Final = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}


def _one_of(known: Mapping[str, object], text: str) -> str:
    if text not in known:
        raise ValueError(f"{quoted(text)} is unknown{suggestion(text, known)}")
    return text


def _client_auth(text: str) -> str:
    if text in _UNVERIFIED:
        raise ValueError(
            f"{text} takes certificates that nobody has verified, and these prove nothing; write "
            f"{REQUIRED} or {IF_GIVEN}, with client_ca_file"
        )
    return _one_of(_VERIFY, text or NO_CERTIFICATE)


def _version(text: str) -> str:
    if text in _OLD_VERSIONS:
        raise ValueError(f"{text} is not safe and not served; write TLS12 or TLS13")
    return _one_of(_VERSIONS, text)


def _suite(text: str) -> str:
    return _one_of(_SUITES | dict.fromkeys(_ALWAYS), text)


_Name = Annotated[str, msgspec.Meta(min_length=1)]


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """`tls_server_config`. Paths are as written in the file."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_auth_type: Annotated[str, msgspec.Meta(extra={"parse": _client_auth})] = NO_CERTIFICATE
    client_ca_file: str = ""
    client_allowed_sans: tuple[_Name, ...] = ()
    min_version: Annotated[str, msgspec.Meta(extra={"parse": _version})] = "TLS12"
    max_version: Annotated[str, msgspec.Meta(extra={"parse": _version})] = "TLS13"
    cipher_suites: tuple[Annotated[str, msgspec.Meta(extra={"parse": _suite})], ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[Literal["CurveP256", "CurveP384", "CurveP521", "X25519"], ...] = ()

    def __repr__(self) -> str:
        return f"<TLS with {self.client_auth_type}>"  # `key` may hold the private key itself

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(name for name in (self.cert_file, self.key_file, self.client_ca_file) if name)


class UnusableTls(ConfigError):  # noqa: N818  a verdict on one key
    """A key of `tls_server_config` cannot be used."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


def build(tls: Tls, folder: Path) -> ssl.SSLContext:
    """Return the context of *tls*, whose paths are relative to *folder*. Raises UnusableTls."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    # Without it an end without close_notify, as after our own deadline, would be an error.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.options |= ssl.OP_NO_RENEGOTIATION  # OpenSSL 1.1 lets clients repeat the handshake
    _choose_versions(context, tls)
    _choose_suites(context, tls)
    _choose_curve(context, tls)
    _load_certificate(context, tls, folder)
    _ask_for_certificates(context, tls, folder)
    return context


def _choose_versions(context: ssl.SSLContext, tls: Tls) -> None:
    least, most = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    if least > most:
        raise UnusableTls("max_version", f"{tls.max_version} is below min_version")
    context.minimum_version, context.maximum_version = least, most


def _choose_suites(context: ssl.SSLContext, tls: Tls) -> None:
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if not tls.cipher_suites:
        return
    chosen = [_SUITES[name] for name in tls.cipher_suites if name not in _ALWAYS]
    if not chosen:
        if context.maximum_version < ssl.TLSVersion.TLSv1_3:
            raise UnusableTls("cipher_suites", "all are of TLS 1.3, which max_version bars")
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    try:
        context.set_ciphers(":".join(chosen))
        lacking = set(chosen) - {suite["name"] for suite in context.get_ciphers()}
    except ssl.SSLError:
        lacking = set(chosen)
    if lacking:
        raise UnusableTls(
            "cipher_suites", f"not in {ssl.OPENSSL_VERSION}: {', '.join(sorted(lacking))}"
        )


def _choose_curve(context: ssl.SSLContext, tls: Tls) -> None:
    if len(tls.curve_preferences) > 1:
        raise UnusableTls(
            "curve_preferences",
            "Python takes one curve or all of OpenSSL's; write one, or remove the key",
        )
    for name in tls.curve_preferences:
        context.set_ecdh_curve(_CURVES[name])


def _load_certificate(context: ssl.SSLContext, tls: Tls, folder: Path) -> None:
    certificate = _pem(tls, "cert", folder)
    key = _pem(tls, "key", folder)
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        raise UnusableTls(_key(tls, "cert"), "holds no certificate in PEM")
    if b"PRIVATE KEY-----" not in key:
        raise UnusableTls(_key(tls, "key"), "holds no private key in PEM")

    def no_passphrase() -> str:
        raise UnusableTls(_key(tls, "key"), "the key has a passphrase; store it without one")

    with ExitStack() as stack:
        certificate_path = stack.enter_context(_in_memory(certificate))
        key_path = stack.enter_context(_in_memory(key))
        try:
            context.load_cert_chain(certificate_path, key_path, no_passphrase)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise UnusableTls(_key(tls, "key"), "is not the certificate's key") from None
            why = (error.reason or "no PEM").lower().replace("_", " ")
            raise UnusableTls(_key(tls, "cert"), f"cannot be used with its key: {why}") from None


def _ask_for_certificates(context: ssl.SSLContext, tls: Tls, folder: Path) -> None:
    context.verify_mode = _VERIFY[tls.client_auth_type]
    asks = tls.client_auth_type != NO_CERTIFICATE
    if tls.client_allowed_sans and tls.client_auth_type != REQUIRED:
        raise UnusableTls("client_allowed_sans", f"needs client_auth_type: {REQUIRED}")
    if not (tls.client_ca or tls.client_ca_file):
        if asks:
            raise UnusableTls(
                "client_auth_type",
                "needs client_ca_file: without it, whoever has a certificate of any public "
                "authority would be let in",
            )
        return
    if not asks:
        raise UnusableTls(_key(tls, "client_ca"), f"needs client_auth_type: {REQUIRED}")
    authority = _pem(tls, "client_ca", folder)
    # As in Go, every certificate in the file is trusted, an intermediate or a leaf too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=authority.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        raise UnusableTls(_key(tls, "client_ca"), "holds no certificate in PEM") from None


def _key(tls: Tls, name: str) -> str:
    """Return the key that the operator used: `cert_file` or `cert`."""
    return f"{name}_file" if getattr(tls, f"{name}_file") else name


def _pem(tls: Tls, name: str, folder: Path) -> bytes:
    text: str = getattr(tls, name)
    file: str = getattr(tls, f"{name}_file")
    if text and file:
        raise UnusableTls(name, f"there is {name}_file too; remove one of them")
    if text:
        return bytes(text, "utf-8")
    if not file:
        raise UnusableTls("", f"missing key '{name}_file'")
    try:
        return (folder / file).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UnusableTls(f"{name}_file", f"{folder / file} cannot be read: {why}") from None


@contextmanager
def _in_memory(pem: bytes) -> Iterator[str]:
    """Yield the path of a file in memory: load_cert_chain() only takes paths."""
    number = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(number, pem)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)
