"""One connection to a host, which ends in time whatever the other side does."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final
from urllib.parse import SplitResult

PORTS: Final = {"http": 80, "https": 443}
"""The schemes that are spoken, with their ports."""


@contextmanager
def connected(
    url: SplitResult,
    deadline: float,
    overdue: threading.Event,
    *,
    tls: ssl.SSLContext | None = None,
    socket_path: str = "",
) -> Iterator[http.client.HTTPConnection]:
    """Give a connection to the host of a URL that ends at *deadline*, which sets *overdue*.

    *tls* is whom to trust, instead of those whom the system trusts. With a *socket_path*, this Unix
    socket is connected, whatever the host's name is.
    """
    assert url.hostname is not None
    host, port = url.hostname, url.port or PORTS[url.scheme]
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        tls = tls or ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, context=tls)
    else:
        tls = None
        connection = http.client.HTTPConnection(host, port)
    with reached(host, port, deadline, overdue, tls=tls, socket_path=socket_path) as sock:
        connection.sock = sock
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def reached(
    host: str,
    port: int,
    deadline: float,
    overdue: threading.Event,
    *,
    tls: ssl.SSLContext | None,
    socket_path: str = "",
) -> Iterator[socket.socket]:
    """Give a socket that ends at *deadline*, which sets *overdue*; with *tls*, below TLS.

    A socket's own time-out starts anew with each byte; one that is shut down ends every wait.
    """
    with ExitStack() as stack:
        if socket_path:
            sock = stack.enter_context(_unix_socket(socket_path, deadline))
        else:
            sock = stack.enter_context(_socket(host, port, deadline))
        twin = stack.enter_context(sock.dup())  # of the same connection, also once TLS took over

        def end() -> None:
            overdue.set()
            with suppress(OSError):
                twin.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
        timer.daemon = True
        timer.start()
        stack.callback(timer.join)  # or it could shut down who gets the descriptor next
        stack.callback(timer.cancel)
        if tls is not None:
            sock = stack.enter_context(tls.wrap_socket(sock, server_hostname=host))
        yield sock


def _unix_socket(path: str, deadline: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _socket(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to one of the addresses of *host*, sharing the time among them.

    How long the look-up takes is for resolv.conf to say.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    problem: OSError = TimeoutError()
    for position, (family, kind, protocol, _, address) in enumerate(found):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left / (len(found) - position))
            sock.connect(address)
            sock.settimeout(max(0.001, deadline - time.monotonic()))
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem
