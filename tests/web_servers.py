"""HTTP servers and proxies of the tests, over TLS where they are given a context."""

from __future__ import annotations

import http.server
import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import trustme


class Asked(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Web:
    """Answers each request by `answers`, else with 200, and remembers it in `asked`."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """By the path: status, headers and body."""
        self._server = _Server(self, context)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.port = self._server.server_port
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.server.web.connections += 1
        super().setup()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.web.asked.append(Asked(self.command, self.path, dict(self.headers), body))
        status, headers, answer = self.server.web.answers.get(self.path, (200, {}, b"fine"))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            if self.command != "HEAD":
                self.wfile.write(answer)

    def do_CONNECT(self) -> None:
        self.server.web.asked.append(Asked(self.command, self.path, dict(self.headers), b""))
        status, headers, _ = self.server.web.answers.get("CONNECT", (200, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if status == 200:
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port)), 5) as there:
                _carry(self.connection, there)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PURGE = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, web: Web, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.web = web
        self._context = context

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        if self._context is not None:
            # In the thread of the connection: one that says nothing holds up nobody else.
            connection = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, *_: object) -> None:
        """Clients hang up, as they should."""


def _carry(one: socket.socket, other: socket.socket) -> None:
    pairs = {one: other, other: one}
    while True:
        for ready in select.select([one, other], [], [], 5)[0]:
            if not (data := ready.recv(65_536)):
                return
            pairs[ready].sendall(data)


class Raw:
    """A server that does with each connection what it is given."""

    def __init__(self, does: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._does = does
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._each, args=(connection,), daemon=True).start()

    def _each(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self._does(connection)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def server_context(
    authority: trustme.CA, *names: str, clients: trustme.CA | None = None
) -> ssl.SSLContext:
    """A certificate for *names*, `localhost` by default; with *clients* they must show one too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names or ("localhost",)).configure_cert(context)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    return context


def write_pem(path: Path, *blobs: trustme.Blob) -> str:
    path.write_bytes(b"".join(blob.bytes() for blob in blobs))
    return str(path)
