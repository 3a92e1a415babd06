"""A real Prometheus, a real Alertmanager and something for them to watch, for tests.

Each is a context manager that is ready when it is entered, and gone when it is left. What they
wrote is in the folder they were given, and shown when they do not come up.
"""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.guarded import Guard
from tests.tools import tool

START = 20.0
"""Seconds that a program has to become ready."""


def wait_until(true: Callable[[], Any], *, within: float = 15.0, what: str = "") -> Any:
    """The first answer of *true* that is true; the test fails when none is in time."""
    deadline = time.monotonic() + within
    while not (found := true()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within} s: {what or true}", pytrace=False)
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Exporter:
    """Serves gauges for Prometheus to scrape. Down, it does not listen at all."""

    def __init__(self) -> None:
        self.gauges: dict[str, float] = {}
        self.port = free_port()
        self._server: http.server.ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def set(self, name: str, value: float | None, /, **labels: str) -> None:
        """Set a gauge; None takes its series away."""
        pairs = ",".join(f'{label}="{_escape(text)}"' for label, text in sorted(labels.items()))
        series = f"{name}{{{pairs}}}"
        if value is None:
            self.gauges.pop(series, None)
        else:
            self.gauges[series] = value

    def up(self) -> None:
        assert self._server is None
        exporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lines = [f"{series} {value}\n" for series, value in list(exporter.gauges.items())]
                body = "".join(lines).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def down(self) -> None:
        if self._server is None:
            return
        assert self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


def _escape(text: str) -> str:
    """As the exposition format has it."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class Program:
    """A program that was started and answers on `url`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def reload(self) -> None:
        """Read the configuration and the rules again."""
        request = urllib.request.Request(f"{self.url}/-/reload", method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextmanager
def start_prometheus(
    folder: Path,
    *,
    targets: Mapping[str, list[str]] = {},
    rules: str = "",
    alertmanagers: tuple[str, ...] = (),
    external_labels: Mapping[str, str] = {},
    alert_relabel_configs: Sequence[Mapping[str, Any]] = (),
    interval: str = "1s",
    resend: str = "1m",
    port: int | None = None,
    guard: Guard | None = None,
) -> Iterator[Program]:
    """Prometheus, scraping the addresses of each job and evaluating *rules* every *interval*.

    With a *guard* it, and the Alertmanagers, are behind that.

    What fires is told to Alertmanager again after *resend*; the first time may come before
    Prometheus knows where Alertmanager is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(rules or "groups: []\n")
    config = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
            "external_labels": dict(external_labels),
        },
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": addresses}]}
            for job, addresses in targets.items()
        ],
        "alerting": {
            "alert_relabel_configs": list(alert_relabel_configs),
            "alertmanagers": [
                {
                    "static_configs": [{"targets": [address]}],
                    **({"scheme": "https", **guard.http_config} if guard else {}),
                }
                for address in alertmanagers
            ],
        },
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = port or free_port()
    with running(
        [
            tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-lifecycle",
            f"--rules.alert.resend-delay={resend}",
            *_guarded(guard),
        ],
        _url(port, guard),
        folder / "prometheus.log",
        guard,
    ) as program:
        yield program


@contextmanager
def start_alertmanager(
    folder: Path,
    *,
    webhook: str = "",
    config: Mapping[str, Any] | None = None,
    guard: Guard | None = None,
) -> Iterator[Program]:
    """Alertmanager, sending everything to *webhook* at once, each alert in a group of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    receiver: dict[str, Any] = {"name": "promheal"}
    if webhook:
        receiver["webhook_configs"] = [{"url": webhook, "send_resolved": True, "max_alerts": 0}]
    route = {
        "receiver": "promheal",
        "group_by": ["..."],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "4h",
    }
    (folder / "alertmanager.yml").write_text(
        json.dumps(config or {"route": route, "receivers": [receiver]})
    )
    port = free_port()
    with running(
        [
            tool("prometheus-alertmanager"),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            *_guarded(guard),
        ],
        _url(port, guard),
        folder / "alertmanager.log",
        guard,
    ) as program:
        yield program


def _guarded(guard: Guard | None) -> list[str]:
    return [] if guard is None else [f"--web.config.file={guard.web_config}"]


def _url(port: int, guard: Guard | None) -> str:
    return f"http://127.0.0.1:{port}" if guard is None else f"https://localhost:{port}"


@contextmanager
def running(argv: list[str], url: str, log: Path, guard: Guard | None = None) -> Iterator[Program]:
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
    program = Program(process, url, log)
    try:
        deadline = time.monotonic() + START
        while not _answers(f"{url}/-/ready", guard):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{argv[0]} does not come up:\n{log.read_text()}", pytrace=False)
            time.sleep(0.05)
        yield program
    finally:
        program.stop()


def _answers(url: str, guard: Guard | None) -> bool:
    try:
        if guard is not None:
            guard.open(url)
            return True
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False
