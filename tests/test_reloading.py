"""A web configuration that changes under a running server."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import ssl
import threading
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from receiver.errors import ConfigError
from receiver.web.access.reloading import LOOK_AGAIN, TRY_AGAIN, ReloadingConfig
from receiver.web.access.web_config_file import LoadedWebConfig

PLAIN = "hunter2"
"""A password where a hash belongs."""


@pytest.fixture(scope="session")
def certificates() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert("localhost", "127.0.0.1")


@pytest.fixture
def folder(tmp_path: Path, certificates: tuple[trustme.CA, trustme.LeafCert]) -> Path:
    """With the certificates that exporter-toolkit's examples name."""
    authority, server = certificates
    authority.cert_pem.write_to_path(tmp_path / "client-ca.crt")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    server.private_key_pem.write_to_path(tmp_path / "server.key")
    return tmp_path


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def token(name: str, role: str = "viewer") -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"bearer_tokens: [{{name: {name}, role: {role}, sha256: {digest}}}]\n"


def names(watched: ReloadingConfig) -> set[str]:
    return {found.name for found in watched.now().tokens.values()}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_change_is_taken_within_a_second(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "web.yml"
    path.write_text(token("before"))
    watched = ReloadingConfig(path, clock=clock)
    path.write_text(token("after"))
    clock.now += LOOK_AGAIN / 2
    assert names(watched) == {"before"}
    clock.now += LOOK_AGAIN / 2
    assert names(watched) == {"after"}
    monkeypatch.setattr("receiver.web.access.reloading.load", pytest.fail)
    clock.now += 10 * LOOK_AGAIN
    assert names(watched) == {"after"}, "and nothing is read again while nothing changes"


def test_a_broken_file_keeps_the_old_one_and_is_logged_once(
    folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "web.yml"
    path.write_text(token("before"))
    watched = ReloadingConfig(path, clock=clock)
    path.write_text(f"basic_auth_users: {{alice: {PLAIN}}}\n")
    for _ in range(30):
        clock.now += LOOK_AGAIN
        assert names(watched) == {"before"}
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "the old one stays" in errors[0]
    assert "web.yml:1:27: expected a bcrypt hash" in errors[0]
    assert PLAIN not in errors[0]
    path.unlink()
    clock.now += LOOK_AGAIN
    assert names(watched) == {"before"}
    path.write_text(token("after"))
    clock.now += LOOK_AGAIN
    assert names(watched) == {"after"}


def test_a_file_that_may_not_replace_the_old_one_does_not(folder: Path, clock: Clock) -> None:
    def check(old: LoadedWebConfig, new: LoadedWebConfig) -> None:
        if old.config.restricts and not new.config.restricts:
            raise ConfigError("it would open the door")

    path = folder / "web.yml"
    path.write_text(token("before"))
    watched = ReloadingConfig(path, check, clock=clock)
    path.write_text("{}\n")
    clock.now += LOOK_AGAIN
    assert names(watched) == {"before"}


def presented(context: ssl.SSLContext) -> bytes:
    """The certificate that a server with *context* shows."""
    ours, theirs = socket.socketpair()
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    def serve() -> None:
        with closing(context.wrap_socket(theirs, server_side=True)) as wrapped:
            wrapped.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with closing(client.wrap_socket(ours)) as wrapped:
        found = wrapped.getpeercert(binary_form=True)
        wrapped.send(b".")
    thread.join()
    assert found is not None
    return found


def test_a_renewed_certificate_is_served_and_the_context_is_kept_until_then(
    folder: Path, clock: Clock, certificates: tuple[trustme.CA, trustme.LeafCert]
) -> None:
    path = folder / "web.yml"
    path.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    watched = ReloadingConfig(path, clock=clock)
    first = watched.context()
    clock.now += LOOK_AGAIN
    assert watched.context() is first
    old = presented(first)
    new = certificates[0].issue_cert("localhost")
    new.cert_chain_pems[0].write_to_path(folder / "server.crt")
    clock.now += LOOK_AGAIN
    assert watched.context() is first, "the key is still the old certificate's"
    new.private_key_pem.write_to_path(folder / "server.key")
    clock.now += LOOK_AGAIN
    assert watched.context() is not first
    assert presented(watched.context()) != old
    assert presented(watched.context()) == ssl.PEM_cert_to_DER_cert(
        new.cert_chain_pems[0].bytes().decode()
    )


def test_what_could_not_be_read_for_a_moment_is_tried_again(folder: Path, clock: Clock) -> None:
    """A file beside it may be what was missing, and nothing in what is watched shows that."""
    path = folder / "web.yml"
    path.write_text(token("before"))
    watched = ReloadingConfig(path, clock=clock)
    path.write_text(
        token("after") + "tls_server_config: {cert_file: late.crt, key_file: server.key}\n"
    )
    clock.now += LOOK_AGAIN
    assert names(watched) == {"before"}
    os.link(folder / "server.crt", folder / "late.crt")
    clock.now += TRY_AGAIN
    assert names(watched) == {"after"}
