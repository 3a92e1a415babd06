"""The servers that are measured: started on free ports, in a folder of their own, ended by pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STRATEGIES = """\
strategies:
  recorded:            # the bench's alerts match nothing: they are recorded
    match: ['alertname="HighCPU"', 'severity=~"warning|critical"']
    target: [service]
    actions: [{action: log, message: "{{ labels.service }}"}]
  watched:             # and these are matched, decided and not acted on
    match: ['alertname="BenchWatched"']
    target: [instance]
    mode: observe
    actions: [{action: log, message: "{{ labels.instance }}"}]
  timed:               # and these start a process, which tells when it was started
    match: ['alertname="BenchTimed"']
    target: [instance]
    actions: [{action: command, argv: [/bin/date, "+%s%N"]}]
"""


@dataclass(frozen=True)
class Server:
    name: str
    url: str
    pid: int

    def pids(self) -> list[int]:
        """The process and its descendants."""
        found = [self.pid]
        for pid in found:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
        return found

    def memory(self) -> tuple[float, float]:
        """RSS and PSS in MiB, of all processes together."""
        totals = {"Rss": 0, "Pss": 0}
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in totals:
                    totals[name] += int(rest.split()[0])
        return totals["Rss"] / 1024, totals["Pss"] / 1024

    def cpu(self) -> float:
        """Seconds of CPU that all threads have used, to the nanosecond."""
        files = (
            file for pid in self.pids() for file in Path(f"/proc/{pid}/task").glob("*/schedstat")
        )
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def settle(self) -> None:
        """Wait until what an earlier load has left to be considered is done."""
        metric = "promheal_queue_length "
        while True:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
                lines = answer.read().decode().splitlines()
            if any(line == f"{metric}0.0" for line in lines):
                return
            time.sleep(0.2)


@contextmanager
def flask(folder: Path, app: str, threads: int) -> Iterator[Server]:
    port = _free_port()
    command = [
        sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1",
        "--threads", str(threads), "--keep-alive", "75", "--bind", f"127.0.0.1:{port}",
        "--log-level", "warning", "--no-control-socket", f"bench.baselines:{app}",
    ]  # fmt: skip
    environ = {**os.environ, "BENCH_DATABASE": str(folder / "baseline.db")}
    with _running(f"Flask, {app}", command, port, "/webhook", folder, environ) as server:
        yield server


@contextmanager
def promheal(folder: Path) -> Iterator[Server]:
    port = _free_port()
    # Each alert is another target, and none is ever well: no storm is to be seen in that.
    (folder / "promheal.yml").write_text("engine: {storm: {targets: 1000000}}\n")
    (folder / "services.yml").write_text("services: {}\n")
    (folder / "healing_strategies.yml").write_text(STRATEGIES)
    command = [
        sys.executable, "-m", "receiver", "serve", "--config.file", str(folder / "promheal.yml"),
        "--storage.url", f"sqlite:///{folder}/promheal.db",
        "--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warn",
    ]  # fmt: skip
    with _running("promheal", command, port, "/-/ready", folder, dict(os.environ)) as server:
        yield server


@contextmanager
def _running(
    name: str, command: list[str], port: int, path: str, folder: Path, environ: dict[str, str]
) -> Iterator[Server]:
    log = (folder / f"{name}.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environ)
    try:
        _wait(f"http://127.0.0.1:{port}{path}", process, Path(log.name))
        yield Server(name, f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError as error:
            if error.code == 405:  # a webhook that takes only POST is up as well
                return
            time.sleep(0.05)
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"{url} did not come up:\n{log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tool(name: str) -> tuple[str, dict[str, str]]:
    """The path of a Debian tool, and the environment that it needs from .tools."""
    tools = Path(__file__).parent.parent / ".tools/usr"
    found = shutil.which(name) or shutil.which(name, path=str(tools / "bin"))
    if found is None:
        sys.exit(f"{name} is missing: run `make bench`, which fetches it")
    libraries = next((tools / "lib").glob("*-linux-gnu"), tools / "lib")
    return found, {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
