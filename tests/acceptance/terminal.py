"""A person at a terminal, with curl and jq alone; and a ward of services that are ill, for them.

What promheal is said to be is what jq prints of what curl got.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from tests.acceptance.server import PATIENCE, alert, notification
from tests.chain import start_prometheus, wait_until
from tests.tools import tool


class Said(NamedTuple):
    """What a server answered to curl."""

    status: int
    body: str

    def jq(self, program: str) -> str:
        """What jq makes of the body: texts as they are, all else as JSON on one line."""
        return _output([tool("jq"), "-rc", program], self.body).rstrip("\n")


class Terminal:
    """Before one promheal, whose address is *url*."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Said:
        return self._curl(path)

    def post(self, path: str, **fields: Any) -> Said:
        """Send an object; `for_` is sent as `for`."""
        return self.send(path, {name.rstrip("_"): value for name, value in fields.items()})

    def send(self, path: str, body: Mapping[str, Any]) -> Said:
        kind = "Content-Type: application/json"
        return self._curl(path, "-H", kind, "--data-binary", "@-", body=json.dumps(body))

    def delete(self, path: str) -> Said:
        return self._curl(path, "-X", "DELETE")

    def fire(self, *alerts: Mapping[str, Any]) -> None:
        """Tell of alerts as Alertmanager does; they are accepted."""
        assert self.send("/webhook", notification(*alerts)).status == 202

    def status(self, program: str) -> str:
        return self.get("/api/status").jq(program)

    def until(self, program: str, *, path: str = "/api/status", within: float = PATIENCE) -> str:
        """Wait until jq prints something of *path* that is neither false nor null; return it."""
        found: str = wait_until(
            lambda: said if (said := self.get(path).jq(program)) not in _NO else "",
            within=within,
            what=f"{path}: {program}",
        )
        return found

    def _curl(self, path: str, *arguments: str, body: str = "") -> Said:
        argv = [tool("curl"), "-q", "-sS", "--max-time", f"{PATIENCE:g}"]
        argv += ["-w", "\n%{http_code}", *arguments, self.url + path]
        text, _, status = _output(argv, body).rpartition("\n")
        return Said(int(status), text)


_NO = {"", "false", "null"}


def _output(argv: list[str], given: str) -> str:
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}\n{given}"
    return done.stdout


class Ward:
    """Each service is ill while there is a file of its name in `ill`, and Prometheus sees it."""

    def __init__(self, folder: Path, prometheus: str, name: str) -> None:
        self.ill = folder / "ill"
        self.prometheus = prometheus
        self.name = name
        """Of the alert."""

    def infect(self, *services: str) -> list[dict[str, Any]]:
        """Make services ill, and return their alerts once Prometheus knows."""
        for service in services:
            (self.ill / service).touch()
        seen = Terminal(self.prometheus)
        query = f"/api/v1/query?query={quote_plus('count(sick > 0)')}"
        number = len(list(self.ill.iterdir()))
        seen.until(f'.data.result[0].value[1] == "{number}"', path=query)
        return [alert(self.name, service=one) for one in services]

    def cure(self) -> dict[str, Any]:
        """The step that does it; once more does no harm."""
        cure = ["sh", "-c", f'rm -f "{self.ill}/$PROMHEAL_SERVICE"']
        service = {"PROMHEAL_SERVICE": "{{ labels.service }}"}
        return {"action": "command", "argv": cure, "env": service, "timeout": "1m"}


@contextmanager
def ward_in(folder: Path, name: str = "Sick") -> Iterator[Ward]:
    ill, known = folder / "ill", set[str]()
    ill.mkdir(parents=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            now = {path.name for path in ill.iterdir()}
            known.update(now)
            lines = [f'sick{{service="{one}"}} {int(one in now)}\n' for one in sorted(known)]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write("".join(lines).encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as exporter:
        thread = threading.Thread(target=exporter.serve_forever, args=(0.02,))
        thread.start()
        try:
            targets = {"ward": [f"127.0.0.1:{exporter.server_port}"]}
            rules = f"groups: [{{name: ward, rules: [{{alert: {name}, expr: sick > 0}}]}}]\n"
            with start_prometheus(
                folder / "prometheus", targets=targets, rules=rules
            ) as prometheus:
                yield Ward(folder, prometheus.url, name)
        finally:
            exporter.shutdown()
            thread.join()
