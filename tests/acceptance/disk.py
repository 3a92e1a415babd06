"""A file system of its own for a journal, which a test fills, frees and breaks.

It is mounted in a mount namespace that ends with the test, so nothing of it can be left behind.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.chain import wait_until

MIB = 1024 * 1024


class Disk:
    """*folder* is where it is mounted, for whoever is started by *entrance*."""

    def __init__(self, holder: subprocess.Popen[bytes], folder: Path, kind: str, size: int) -> None:
        self.folder = folder
        self.kind = kind
        self.size = size
        self.image = folder.with_suffix(".image")
        enter = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
        if os.geteuid() != 0:
            enter += [f"--user=/proc/{holder.pid}/ns/user", "--preserve-credentials"]
        self.entrance = [*enter, "--"]
        self._seen = Path(f"/proc/{holder.pid}/root{folder}")

    def mount(self) -> None:
        if self.kind == "tmpfs":
            self._do("mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.folder))
            return
        if not self.image.exists():
            self.image.touch()
            os.truncate(self.image, self.size)
            # Nothing is kept for root, which these tests may be.
            self._do("mkfs.ext4", "-q", "-m", "0", "-O", "^resize_inode", str(self.image))
        self._do("mount", "-t", "ext4", "-o", "loop,errors=remount-ro", str(self.image),
                 str(self.folder))  # fmt: skip

    def unmount(self) -> bool:
        """Unmount it; False while something uses it."""
        try:
            self._do("umount", str(self.folder))
        except OSError:
            return False
        return True

    def remount(self, how: str) -> None:
        """Mount it again as `ro` or `rw`."""

        def remounted() -> bool:
            try:
                self._do("mount", "-o", f"remount,{how}", str(self.folder))
            except OSError as error:
                if "busy" not in str(error):
                    raise
                return False  # who was killed has its files open for a moment
            return True

        wait_until(remounted, what=f"it is mounted as {how}")

    def repair(self) -> None:
        """Do what an operator does with a file system that has gone read-only."""
        subprocess.run(["fsck.ext4", "-p", str(self.image)], capture_output=True, check=False)

    def break_(self) -> None:
        """Have it go read-only with its files open, as the kernel does at an error of the disk."""
        self._do("mount", "-o", "remount,abort", str(self.folder))
        with suppress(OSError):
            (self._seen / "noticed").touch()

    def fill(self, *, but: int = 0) -> None:
        """Leave no more than *but* bytes free."""
        filler = os.open(self._seen / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            piece = MIB
            while piece:
                try:
                    os.write(filler, bytes(piece))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2
            os.fsync(filler)
            if but:
                os.truncate(filler, max(0, os.fstat(filler).st_size - but))
        finally:
            os.close(filler)

    def free(self) -> None:
        (self._seen / "filler").unlink(missing_ok=True)

    def _do(self, *command: str) -> None:
        done = subprocess.run([*self.entrance, *command], capture_output=True, check=False)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.decode().strip()}")


@contextmanager
def disk(folder: Path, kind: str, size: int = 16 * MIB) -> Iterator[Disk]:
    """Mount a file system of *size* bytes on *folder*; skip the test where that cannot be done."""
    folder.mkdir(parents=True)
    for program in ("unshare", "nsenter", "mount", *(["mkfs.ext4"] if kind == "ext4" else [])):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    apart = ["--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        apart += ["--user", "--map-root-user"]
    with subprocess.Popen(["unshare", *apart, "sleep", "infinity"], stderr=subprocess.PIPE) as held:
        try:
            ours = Path("/proc/self/ns/mnt").readlink()
            own = Path(f"/proc/{held.pid}/ns/mnt")
            wait_until(
                lambda: held.poll() is not None or own.readlink() != ours,
                what="a mount namespace",
            )
            if held.poll() is not None:
                assert held.stderr is not None
                pytest.skip(f"no mount namespace: {held.stderr.read().decode().strip()}")
            found = Disk(held, folder, kind, size)
            try:
                found.mount()
            except OSError as error:
                pytest.skip(f"no {kind} can be mounted: {error}")
            yield found
        finally:
            held.kill()
