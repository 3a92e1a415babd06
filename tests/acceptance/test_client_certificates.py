"""Attacks with client certificates on a real server: who is not who the certificate says?

Each certificate is made as an attacker would: by hand, with whatever authority he can get.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from receiver.web.access.reloading import LOOK_AGAIN
from tests.acceptance.server import Promheal
from tests.chain import wait_until

DAY: Final = timedelta(days=1)
OPERATOR: Final = "operator.example"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Signed(NamedTuple):
    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def signed(
    name: str,
    by: Signed | None = None,
    *,
    sans: Sequence[x509.GeneralName] = (),
    begins: timedelta = -DAY,
    ends: timedelta = DAY,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    authority: bool = False,
    key: Key | None = None,
) -> Signed:
    """A certificate, by itself if nobody signs it."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Signed(builder.sign(by.key if by else own, hashes.SHA256()), own)


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


class Attacked(NamedTuple):
    server: Promheal
    authority: Signed
    folder: Path

    def context(self, client: Signed | None, *chain: Signed) -> ssl.SSLContext:
        """That of a client who shows a certificate, and some others with it."""
        context = ssl.create_default_context(cafile=str(self.folder / "server-ca.crt"))
        if client is not None:
            file = self.folder / f"{time.monotonic_ns()}.pem"
            file.write_bytes(client.key_pem + client.pem + b"".join(one.pem for one in chain))
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # he is not choosy
            context.load_cert_chain(file)
        return context

    def connect(
        self, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
        return context.wrap_socket(raw, server_hostname="127.0.0.1", session=session)

    def asks(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> int:
        """How an operator's request is answered; 0 if there is no answer."""
        try:
            with self.connect(context, session) as sock:
                return ask(sock)
        except (ssl.SSLError, ConnectionError):
            return 0


def ask(sock: ssl.SSLSocket) -> int:
    """Reload, which an operator may; return the status, 0 if the connection ended."""
    try:
        sock.sendall(b"POST /-/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        answer.read()
    except (ssl.SSLError, ConnectionError, http.client.BadStatusLine):
        return 0
    return answer.status


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    ours, authority = signed("our CA", authority=True), signed("the CA", authority=True)
    server = signed(
        "server",
        ours,
        sans=[x509.IPAddress(ip_address("127.0.0.1"))],
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
    )
    (folder / "server-ca.crt").write_bytes(ours.pem)
    (folder / "server.crt").write_bytes(server.pem)
    (folder / "server.key").write_bytes(server.key_pem)
    (folder / "client-ca.crt").write_bytes(authority.pem)
    web: dict[str, Any] = {
        "tls_server_config": {
            "cert_file": "server.crt",
            "key_file": "server.key",
            "client_ca_file": "client-ca.crt",
            "client_auth_type": "RequireAndVerifyClientCert",
        },
        "client_certificates": [{"san": OPERATOR, "role": "operator"}],
    }
    client = signed("anyone", authority, sans=dns(OPERATOR))
    (folder / "client.pem").write_bytes(client.key_pem + client.pem)
    context = ssl.create_default_context(cafile=str(folder / "server-ca.crt"))
    context.load_cert_chain(folder / "client.pem")
    with Promheal(folder, {}, web=web, context=context) as server_:
        yield Attacked(server_, authority, folder)


def test_the_operator_s_own_certificate_opens(attacked: Attacked) -> None:
    """The other tests rest on it."""
    own = signed("anyone", attacked.authority, sans=dns(OPERATOR))
    assert attacked.asks(attacked.context(own)) == 200


NAME: Final = dns(OPERATOR)
REFUSED: dict[str, Callable[[Signed], Signed | None]] = {
    "none": lambda _: None,
    "of itself": lambda _: signed(OPERATOR, sans=NAME),
    "of another authority": lambda _: signed(
        OPERATOR, signed("other CA", authority=True), sans=NAME
    ),
    "of an authority that has the same name": lambda _: signed(
        OPERATOR, signed("the CA", authority=True), sans=NAME
    ),
    "expired": lambda ca: signed(OPERATOR, ca, sans=NAME, ends=-DAY / 2),
    "not yet valid": lambda ca: signed(OPERATOR, ca, sans=NAME, begins=DAY / 2),
    "for servers": lambda ca: signed(
        OPERATOR, ca, sans=NAME, usage=ExtendedKeyUsageOID.SERVER_AUTH
    ),
    "for signing code": lambda ca: signed(
        OPERATOR, ca, sans=NAME, usage=ExtendedKeyUsageOID.CODE_SIGNING
    ),
    "with a key that can be broken": lambda ca: signed(
        OPERATOR, ca, sans=NAME, key=rsa.generate_private_key(65537, 1024)
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_certificate_that_proves_nothing_ends_the_handshake(
    attacked: Attacked, what: str
) -> None:
    client = REFUSED[what](attacked.authority)
    assert attacked.asks(attacked.context(client)) == 0


def test_a_client_is_no_authority_for_other_names(attacked: Attacked) -> None:
    """It signs one with its own key, and shows both."""
    viewer = signed("viewer", attacked.authority, sans=dns("viewer.example"))
    forged = signed(OPERATOR, viewer, sans=NAME)
    assert attacked.asks(attacked.context(forged, viewer)) == 0


@pytest.mark.parametrize(
    "sans",
    [
        [],  # only the common name is the operator's
        dns("operator.example.evil.example"),
        dns("*.example"),
        dns("OPERATOR.EXAMPLE"),
        dns("operator.example."),
        dns("operator.example "),
        dns("operator.example\n"),
        dns("operator.example\0.evil.example"),
        dns("x, DNS:operator.example"),
        dns("x\nDNS:operator.example"),
        [x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x10operator.example")],
        [x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))],
        [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, OPERATOR)]))],
        dns(*(f"{number}.example" for number in range(500))),
    ],
    ids=lambda sans: str([getattr(one, "value", "") for one in sans])[:40] if sans else "none",
)
def test_a_name_that_only_looks_like_it_has_no_role(
    attacked: Attacked, sans: list[x509.GeneralName]
) -> None:
    client = signed(OPERATOR, attacked.authority, sans=sans)
    assert attacked.asks(attacked.context(client)) in {0, 403}


def test_a_certificate_that_expires_opens_no_more_not_even_an_open_connection(
    attacked: Attacked,
) -> None:
    soon = signed("anyone", attacked.authority, sans=NAME, ends=timedelta(seconds=3))
    ends = soon.certificate.not_valid_after_utc.timestamp()
    context = attacked.context(soon)
    with attacked.connect(context) as sock:
        assert ask(sock) == 200
        session = sock.session
        assert session is not None
        while time.time() <= ends:
            time.sleep(ends + 0.05 - time.time())
        assert ask(sock) == 403
    assert attacked.asks(context, session) in {0, 403}, "nor does its session"


def test_a_connection_is_not_renegotiated(attacked: Attacked) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    asked = [
        *("openssl", "s_client", "-connect", f"127.0.0.1:{attacked.server.port}", "-tls1_2"),
        *(
            "-cert",
            str(attacked.folder / "client.pem"),
            "-key",
            str(attacked.folder / "client.pem"),
        ),
    ]
    process = subprocess.Popen(
        asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    process.stdin.write(b"R\n")
    process.stdin.flush()
    said, _ = process.communicate(timeout=20)
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said


def test_an_authority_that_is_taken_away_opens_no_more(attacked: Attacked) -> None:
    """Neither by a new connection, nor by the session of an old one, nor by an open one."""
    file = attacked.folder / "client-ca.crt"
    before = file.read_bytes()
    old = attacked.context(signed("anyone", attacked.authority, sans=NAME))
    successor = signed("the next CA", authority=True)
    new = attacked.context(signed("anyone", successor, sans=NAME))
    with attacked.connect(old) as sock, attacked.connect(old) as idle:
        assert (ask(sock), ask(idle)) == (200, 200)
        session = sock.session
        file.write_bytes(successor.pem)
        try:
            wait_until(lambda: attacked.asks(new) == 200, within=LOOK_AGAIN + 5)
            assert attacked.asks(old) == 0
            assert attacked.asks(old, session) == 0
            assert ask(sock) == 0
            idle.settimeout(15)
            assert idle.recv(1) == b"", "those that ask nothing are closed"
        finally:
            file.write_bytes(before)
            wait_until(lambda: attacked.asks(old) == 200, within=LOOK_AGAIN + 5)
