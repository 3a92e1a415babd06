"""A real Podman: its engine on a socket, apart, with containers made of a busybox and no image."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from receiver.services.docker import Docker
from tests.apart import apart
from tests.brokers import eventually
from tests.tools import tool

_APPLETS = ("sh", "sleep", "cat", "touch", "false")
# What no machine for building forbids: no network, no limits of its own and no control groups.
_PLAIN = (
    "--network=none", "--cgroups=disabled", "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
)  # fmt: skip


class Podman:
    """An engine, and what its command line does to its containers."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.socket = str(folder / "podman.sock")
        self._root = folder / "root"
        self._env = env
        (self._root / "bin").mkdir(parents=True)
        for name in ("dev", "etc", "proc", "sys", "tmp", "run"):
            (self._root / name).mkdir()
        shutil.copy(tool("busybox"), self._root / "bin" / "busybox")
        for name in _APPLETS:
            (self._root / "bin" / name).symlink_to("busybox")

    def call(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [tool("podman"), "--url", f"unix://{self.socket}", *arguments],
            env=self._env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ready(self) -> bool:
        return os.path.exists(self.socket) and bool(self.call("version", check=False))  # noqa: PTH110

    def make(self, name: str, script: str, *options: str) -> Docker:
        """Start a container that runs *script*; return promheal's manager of it."""
        self.call(
            "create", "--name", name, *_PLAIN, *options, "--rootfs", str(self._root),
            "/bin/sh", "-c", script,
        )  # fmt: skip
        self.call("start", name)
        return Docker(container=name, socket=self.socket, stop_timeout=2)


@contextmanager
def podman(folder: Path) -> Iterator[Podman]:
    """An engine whose files are below *folder*; it and all containers end with the block."""
    (folder / "containers.conf").write_text(
        "[engine]\n"
        f'conmon_path = ["{tool("conmon")}"]\n'
        'runtime = "crun"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        f'[engine.runtimes]\ncrun = ["{tool("crun")}"]\n'
        '[containers]\nlog_driver = "k8s-file"\n'
    )
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "DISABLE_HC_SYSTEMD": "true",  # no timers: a test runs the health check
    }
    found = Podman(folder, env)
    # Podman refuses a folder of its run whose name is longer than 50 characters.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as run:
        argv = [
            *(tool("podman"), "--root", f"{folder}/storage", "--runroot", run),
            *("--tmpdir", f"{folder}/tmp", "--storage-driver", "vfs"),
            *("system", "service", "--time=0", f"unix://{found.socket}"),
        ]
        with apart(argv, folder / "log", env):
            eventually(found.ready, f"Podman answers, see {folder}/log")
            yield found
