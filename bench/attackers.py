"""Clients that hold a server up: `python -m bench.attackers KIND PORT NUMBER`.

A process of its own, so that what it costs is not seen as the server's. It says "ready" once all
are connected, renews those that the server closes, and goes on until its input ends.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
import time
from contextlib import suppress
from typing import Final

PAGE: Final = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD: Final = b"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def hello() -> bytes:
    """Return the first bytes of a TLS handshake."""
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(
            ssl.MemoryBIO(), sent, server_hostname="localhost"
        ).do_handshake()
    return sent.read()


BEGINNINGS: Final = {
    "headers": HEAD,
    "body": HEAD + b"Content-Length: 100000\r\n\r\n{",
    "tls": hello()[:100],
    "unread": PAGE,
}
_PIECES: Final = {"headers": b"X-More: of it\r\n", "body": b" ", "tls": b"\0", "unread": PAGE * 50}
_PAUSES: Final = {"headers": 1.0, "body": 1.0, "tls": 1.0, "unread": 0.02}  # seconds


def connect(kind: str, port: int) -> socket.socket:
    sock = socket.socket()
    if kind == "unread":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", port))
    sock.sendall(BEGINNINGS[kind])
    sock.setblocking(False)
    return sock


def _is_open(kind: str, sock: socket.socket) -> bool:
    """Send another piece; return whether the server still listens."""
    try:
        if kind != "unread" and not sock.recv(1000):
            return False
    except BlockingIOError:
        pass
    except OSError:
        return False
    try:
        sock.send(_PIECES[kind])
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def main(kind: str, port: int, number: int) -> None:
    socks = [connect(kind, port) for _ in range(number)]
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], _PAUSES[kind])[0]:
        for place, sock in enumerate(socks):
            if not _is_open(kind, sock):
                sock.close()
                with suppress(OSError):
                    socks[place] = connect(kind, port)


def closed_after(kind: str, port: int, patience: float) -> float | None:
    """Return the seconds after which a server gives a client up that sends no more."""
    began = time.monotonic()
    with connect(kind, port) as sock:
        sock.settimeout(patience)
        with suppress(ConnectionResetError):
            while True:
                try:
                    if not sock.recv(1000):
                        break
                except TimeoutError:
                    return None
    return time.monotonic() - began


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
