"""A real HTTP server that takes what Apprise's `json://` sends, for tests."""

from __future__ import annotations

import http.server
import json
import threading
import time
from typing import Any, Self


class Listener:
    """Keeps the bodies it was sent; answers as the test says."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        """The answers to give, first one first; 200 when there is none left."""
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        """Seconds between the bytes of an answer that does not end in time."""
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.paths.append(self.path)
                listener.told.append(json.loads(body))
                self.send_response(listener.statuses.pop(0) if listener.statuses else 200)
                for name, value in listener.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "600")
                self.end_headers()
                try:
                    for _ in range(600):
                        self.wfile.write(b"x")
                        time.sleep(listener.delay)
                except OSError:
                    pass  # whoever asked had to go

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """As Apprise has it."""
        return f"json://127.0.0.1:{self._server.server_address[1]}/told"

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Title and body of each."""
        return [(one["title"], one["message"]) for one in self.told]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
