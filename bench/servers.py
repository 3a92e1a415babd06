"""The servers that are measured: started on free ports, in a folder of their own, ended by pid."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HOST = "web-1"
SERVICES = """\
services:
  bench: {runs_on: web-1, manager: {command: {restart: [/bin/true]}}}
  clock: {runs_on: web-1, manager: {command: {restart: [FOLDER/clock]}}}
"""
CLOCK = """\
#!/bin/sh
exec /bin/date +%s%N >"$0.told"
"""
_WAKED = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)
TOOLS = Path(__file__).parent.parent / ".tools/usr"
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
  cheap:               # and these do as little as a run with two steps can
    match: ['alertname="BenchCheap"']
    target: [instance]
    actions: [{action: log, message: first}, {action: log, message: second}]
  bound:               # and these the same on a host; what fires on after its heal is no relapse,
                       # or the breaker would open after five lives
    match: ['alertname="BenchBound"']
    target: [instance]
    verify: {relapse: 0s}
    actions: [{action: restart_service, service: bench}, {action: restart_service, service: bench}]
  bound_timed:
    match: ['alertname="BenchBoundTimed"']
    target: [instance]
    actions: [{action: restart_service, service: clock}]
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
            for thread in Path(f"/proc/{pid}/task").glob("*"):
                with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                    found += map(int, (thread / "children").read_text().split())
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
        """Seconds of CPU, to the nanosecond but for processes below it that have ended."""
        used = 0.0
        for pid in self.pids():
            with suppress(OSError):
                used += time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), of any process
        _, _, stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")
        ended = sum(int(ticks) for ticks in stat.split()[13:15])
        return used + ended / os.sysconf("SC_CLK_TCK")

    def wakeups(self) -> int:
        """How often a thread that lives has been waked."""
        found = 0
        for pid in self.pids():
            for file in Path(f"/proc/{pid}/task").glob("*/status"):
                with suppress(FileNotFoundError, ProcessLookupError):
                    found += int(_WAKED.findall(file.read_text())[0])
        return found

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
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1",
        "--threads", str(threads), "--keep-alive", "75", "--bind", f"127.0.0.1:{port}",
        "--log-level", "warning", "--no-control-socket", f"bench.baselines:{app}",
    ]  # fmt: skip
    environ = {**os.environ, "BENCH_DATABASE": str(folder / "baseline.db")}
    with running(f"Flask, {app}", command, port, "/webhook", folder, environ) as server:
        yield server


def configure(folder: Path, engine: str = "") -> Path:
    """Write the three files into *folder*; *engine* is more for the engine's settings."""
    folder.mkdir(exist_ok=True)
    # Each alert is another target, and none is ever well: no storm is to be seen in that.
    settings = f"engine: {{storm: {{targets: 1000000}}{engine}}}\n"
    (folder / "promheal.yml").write_text(settings)
    (folder / "services.yml").write_text(SERVICES.replace("FOLDER", str(folder)))
    (folder / "clock").write_text(CLOCK)
    (folder / "clock").chmod(0o755)
    (folder / "healing_strategies.yml").write_text(STRATEGIES)
    return folder


@contextmanager
def promheal(
    folder: Path,
    *options: str,
    command: str = "serve",
    name: str = "promheal",
    storage: str | None = None,
    until: str = "/-/ready",
    checkout: Path | None = None,
    environ: Mapping[str, str] | None = None,
    script: Path | None = None,
) -> Iterator[Server]:
    """Run a promheal with the files in *folder*; its journal is there too unless *storage* says.

    It is up when *until* answers. *checkout*: another clone, after its `make develop`. *environ* is
    more for its environment. *script*: a program that changes something and then calls the command
    line.
    """
    port = free_port()
    python = sys.executable if checkout is None else str(checkout / ".venv/bin/python")
    program = ["-m", "receiver"] if script is None else [str(script)]
    argv = [
        python, *program, command, "--config.file", str(folder / "promheal.yml"),
        "--storage.url", storage or f"sqlite:///{folder}/promheal.db",
        "--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warn", *options,
    ]  # fmt: skip
    whole = {**os.environ, **(environ or {})}
    with running(name, argv, port, until, folder, whole, cwd=checkout) as server:
        yield server


@contextmanager
def running(
    name: str,
    command: list[str],
    port: int,
    path: str,
    folder: Path,
    environ: dict[str, str],
    *,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run a server within the block. It is up when *path* answers; empty: when it listens."""
    log = (folder / f"{name}.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=cwd)
    try:
        _wait(port, path, process, Path(log.name))
        yield Server(name, f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def _wait(port: int, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90  # on a busy machine
    url = f"http://127.0.0.1:{port}{path}"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if path:
                urllib.request.urlopen(url, timeout=1).close()
            else:
                socket.create_connection(("127.0.0.1", port), 1).close()
        except urllib.error.HTTPError as error:
            if error.code == 405:  # a webhook that takes only POST is up as well
                return
            time.sleep(0.05)
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"{url} did not come up:\n{log.read_text()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tool(name: str) -> tuple[str, dict[str, str]]:
    """The path of a Debian tool, and the environment that it needs from .tools."""
    found = shutil.which(name) or shutil.which(name, path=str(TOOLS / "bin"))
    if found is None:
        sys.exit(f"{name} is missing: run `make bench`, which fetches it")
    return found, {**os.environ, **libraries()}


def libraries() -> dict[str, str]:
    folder = next((TOOLS / "lib").glob("*-linux-gnu"), TOOLS / "lib")
    return {"LD_LIBRARY_PATH": str(folder)}
