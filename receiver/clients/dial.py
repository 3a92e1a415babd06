"""One connection to a host, which ends in time whatever the other side does.

A socket's own time-out starts anew with each byte, so one that drips holds its caller for ever. The
sockets here have a deadline instead: every wait is for what is left until then.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from typing import Any, Final

PORTS: Final = {"http": 80, "https": 443}
"""The schemes that are spoken, with their ports."""


class _Deadline(socket.socket):
    """What both kinds of sockets have: each wait ends at the deadline, with a TimeoutError."""

    deadline = math.inf
    """On the monotonic clock; of a connection that is kept, that of the exchange under way."""

    def _wait_no_longer(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(None if math.isinf(left) else left)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._wait_no_longer()
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._wait_no_longer()
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self._wait_no_longer()  # the system's own time-out is for all of it
        super().sendall(*args, **kwargs)


class PlainSocket(_Deadline):
    """A connection over TCP, or a Unix socket."""


class TLSSocket(_Deadline, ssl.SSLSocket):
    """A connection over TLS."""


Socket = PlainSocket | TLSSocket


def dial(host: str, port: int, deadline: float, *, socket_path: str = "") -> PlainSocket:
    """Return a connection that ends at *deadline*, on the monotonic clock.

    With a *socket_path* this Unix socket is connected, whatever the host's name is. Raises OSError,
    TimeoutError among them, and UnicodeError for a name that cannot be looked up.
    """
    if not socket_path:
        return _dial_tcp(host, port, deadline)
    sock = PlainSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    return _connected(sock, socket_path, deadline, deadline - time.monotonic())


def wrap_tls(sock: PlainSocket, context: ssl.SSLContext, server_name: str) -> TLSSocket:
    """Return *sock* with TLS over it; *sock* itself is used no more. Raises OSError."""
    deadline = sock.deadline
    context.sslsocket_class = TLSSocket
    try:
        sock.settimeout(max(0.001, deadline - time.monotonic()))  # for the whole handshake
        wrapped = context.wrap_socket(sock, server_hostname=server_name)
    except BaseException:
        sock.close()
        raise
    assert isinstance(wrapped, TLSSocket)
    wrapped.deadline = deadline
    return wrapped


def _dial_tcp(host: str, port: int, deadline: float) -> PlainSocket:
    """Connect to one of the addresses of *host*, sharing the time among them.

    How long the look-up takes is for resolv.conf to say.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    problem: OSError = TimeoutError("timed out")
    for position, (family, kind, protocol, _, address) in enumerate(found):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        try:
            sock = PlainSocket(family, kind, protocol)
            _connected(sock, address, deadline, left / (len(found) - position))
        except OSError as error:
            problem = error
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise problem


def _connected(sock: PlainSocket, address: Any, deadline: float, patience: float) -> PlainSocket:
    try:
        sock.settimeout(max(0.001, patience))
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    sock.deadline = deadline
    return sock
