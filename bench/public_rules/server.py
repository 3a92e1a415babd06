"""A real Prometheus over blocks that promtool made: every state has a time of its own."""

from __future__ import annotations

import http.client
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import local
from typing import Final, Self

ORIGIN: Final = 946_684_800.0
"""2000-01-01, when the first state begins."""
BLOCK_LINES: Final = 400_000
LOOKBACK: Final = 300.0
CLIENTS: Final = 6

UPSTREAMS: Final = Path(__file__).parents[2] / ".tools/upstreams"


class Filling:
    """Collects samples into files of a bounded size, and makes blocks of them."""

    def __init__(self, folder: Path, promtool: str) -> None:
        self._folder = folder
        self._promtool = promtool
        self._texts: list[str] = []
        self._lines = 0
        self._files = 0
        self._pool = ThreadPoolExecutor(2)
        self._jobs: list[Future[None]] = []
        self._next = ORIGIN
        folder.mkdir(parents=True, exist_ok=True)

    def room(self, back: float, ahead: float) -> float:
        """Return a moment with *back* seconds before it and *ahead* after it that are its own."""
        at = self._next + back + LOOKBACK + 60.0
        self._next = math.ceil((at + ahead) / 60.0) * 60.0
        return math.ceil(at / 60.0) * 60.0

    def add(self, text: str) -> None:
        if not text:
            return
        self._texts.append(text)
        self._lines += text.count("\n") + 1
        if self._lines > BLOCK_LINES:
            self._flush()

    @contextmanager
    def blocks(self) -> Iterator[Path]:
        """Yields the folder of all that was added, and removes it afterwards."""
        self._flush()
        for job in self._jobs:
            job.result()
        self._pool.shutdown()
        yield self._folder / "blocks"
        shutil.rmtree(self._folder)

    def _flush(self) -> None:
        if not self._texts:
            return
        self._files += 1
        path = self._folder / f"{self._files}.om"
        path.write_text("\n".join([*self._texts, "# EOF\n"]))
        self._texts, self._lines = [], 0
        # A block is not to overlap the next file's; Prometheus would merge them.
        self._next = math.ceil(self._next / 7200.0 + 1) * 7200.0
        self._jobs.append(self._pool.submit(self._make, path))

    def _make(self, path: Path) -> None:
        command = [
            self._promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet",
            "--max-block-duration=876000h", str(path), str(self._folder / "blocks"),
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"promtool: {ran.stderr.strip()[-500:]}")
        path.unlink()


@contextmanager
def serving(binary: str, blocks: Path) -> Iterator[str]:
    """Run Prometheus over *blocks*; yields its URL."""
    config = blocks.parent / "prometheus.yml"
    config.write_text("global: {}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        binary, f"--config.file={config}", f"--storage.tsdb.path={blocks}",
        "--storage.tsdb.retention.time=290y", "--storage.tsdb.min-block-duration=876000h",
        "--storage.tsdb.max-block-duration=876000h", "--query.max-concurrency=8",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    log = blocks.parent / "prometheus.log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                if process.poll() is not None:
                    sys.exit(f"{binary} ended: {log.read_text()[-800:]}")
                if _ready(port):
                    break
                time.sleep(0.1)
            else:
                sys.exit(f"{binary} is not ready after a minute")
            yield url
        finally:
            process.terminate()


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Asker:
    """Asks one Prometheus instant queries, over a connection for each thread."""

    def __init__(self, url: str) -> None:
        self._host = urllib.parse.urlsplit(url).netloc
        self._own = local()
        self._all: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._all:
            connection.close()

    def ask(self, query: str, at: float) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each sample. Raises ValueError with Prometheus' words."""
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection(self._host, timeout=60)
            self._all.append(connection)
        body = urllib.parse.urlencode({"query": query, "time": repr(at)})
        connection.request(
            "POST", "/api/v1/query", body, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        reply = json.loads(connection.getresponse().read())
        if reply["status"] != "success":
            raise ValueError(reply.get("error", "no reason"))
        if reply["data"]["resultType"] == "scalar":
            return [({}, float(reply["data"]["result"][1]))]
        return [
            (row["metric"], float(row["value"][1]) if "value" in row else math.nan)
            for row in reply["data"]["result"]
        ]


def program(name: str, given: str = "") -> str:
    """The path of a program: *given*, or on PATH."""
    found = shutil.which(given or name)
    if found is None:
        sys.exit(f"{given or name} is not found: run make develop, or name it")
    return found


def shipped() -> list[str]:
    """The oldest and the newest Prometheus that the tests know, or the one on PATH."""
    found = (UPSTREAMS / generation / "usr/bin/prometheus" for generation in ("old", "new"))
    return [str(path) for path in found if path.exists()] or ["prometheus"]


@cache
def version(binary: str) -> str:
    """`Prometheus 2.42.0`, without what Debian added."""
    ran = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    number = re.search(r"version ([\d.]+)", ran.stdout + ran.stderr)
    return f"Prometheus {number[1]}" if number else binary
