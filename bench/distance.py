"""What if PostgreSQL were further away? A relay that keeps each message for a while."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from urllib.parse import urlsplit, urlunsplit


@contextmanager
def far(url: str, seconds: float) -> Iterator[str]:
    """The URL of the same database, with round trips that are longer by *seconds*."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    there = parts.hostname, parts.port
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_relay, args=(server, there, seconds), daemon=True).start()
        here = f"{parts.username}@127.0.0.1:{server.getsockname()[1]}"
        yield urlunsplit(parts._replace(netloc=here))


def _relay(server: socket.socket, there: tuple[str, int], seconds: float) -> None:
    with suppress(OSError):  # it has been closed
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection(there)
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _pump(client, upstream, seconds)
            _pump(upstream, client, 0.0)


def _pump(source: socket.socket, sink: socket.socket, seconds: float) -> None:
    """Hand on what comes, *seconds* after it came."""
    kept: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def take() -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            kept.put((time.monotonic() + seconds, data))

    def give() -> None:
        with suppress(OSError), sink:
            while True:
                due, data = kept.get()
                if not data:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                sink.sendall(data)

    for each in (take, give):
        threading.Thread(target=each, daemon=True).start()
