"""Caches in files: what a pattern matches below a root.

Every directory, from `/` on, is opened by its name in the one before it, and never through a
symbolic link: whoever can write below the root can lead nobody out of it, whenever he tries.
A name that is replaced between our look and our unlink is still a name below the root.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from receiver.errors import ActionError
from receiver.policy.texts import FilePath, Pattern

_MAX_DEPTH: Final = 64  # directories below the root; each holds a file descriptor
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SYSTEM: Final = re.compile(
    r"/(?:bin|boot|dev|etc|home(?:/[^/]+)?|lib\w*|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)?"
)
"""What can be nobody's cache. https://refspecs.linuxfoundation.org/FHS_3.0/"""


class Files(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Regular files and symbolic links below a root, on its file system."""

    root: FilePath
    """Absolute, without symbolic links, and neither a directory of the system nor a home."""
    glob: Pattern
    """Below it. `*`, `?` and `[abc]` stand for characters of a name, `**` for any number of
    directories; `**` alone is every file."""

    def __post_init__(self) -> None:
        _refuse_root(self.root)
        parts = self.glob.split("/")
        if "\0" in self.glob or any(part in {"", ".", ".."} for part in parts):
            raise ValueError(
                f"`glob: {self.glob!r}` must be names below the root, with / between them, as in "
                "**/*.html; ** alone is every file"
            )


class FileCache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files that a service keeps. Its directories stay."""

    files: Files

    def clear(self, *, timeout: float) -> dict[str, Any]:
        cleaning = _Cleaning(self.files, timeout)
        with _opened(self.files.root) as root:
            cleaning.clean(root)
        if cleaning.problem:
            raise ActionError(
                f"{cleaning.problem}; {cleaning.files} files were removed, and a repetition goes on"
            )
        return {
            "root": self.files.root,
            "glob": self.files.glob,
            "files": cleaning.files,
            "bytes": cleaning.bytes,
        }

    def probe(self, *, timeout: float) -> Iterable[str]:  # noqa: ARG002  nothing is waited for
        with _opened(self.files.root) as root:
            if not os.access(".", os.R_OK | os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
                yield (
                    f"root {self.files.root!r}: promheal's user may not read it or remove from it; "
                    "give a group of that user these rights"
                )


def _refuse_root(root: str) -> None:
    """Raise ValueError for what can be nobody's cache."""
    sound = os.path.normpath(root) == root and root[:1] == "/" != root[1:2] and "\0" not in root
    if not sound:
        raise ValueError(f"`root: {root!r}` must be an absolute path without //, . and ..")
    home = PurePosixPath(pwd.getpwuid(os.getuid()).pw_dir)
    if _SYSTEM.fullmatch(root) or home.is_relative_to(root):
        raise ValueError(
            f"`root: {root!r}` is the system's or somebody's home; name the cache's own directory"
        )


@contextmanager
def _opened(root: str) -> Iterator[int]:
    """Give a descriptor of the root. Raises ActionError when a link is on the way."""
    descriptor = os.open("/", _FLAGS)
    try:
        for name in PurePosixPath(root).parts[1:]:
            try:
                below = os.open(name, _FLAGS, dir_fd=descriptor)
            except OSError as error:
                raise ActionError(
                    f"root {root!r}: {name!r} cannot be opened as a directory, or is a symbolic "
                    f"link, which is not followed: {error.strerror}"
                ) from None
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


class _Cleaning:
    """One walk, and what came of it."""

    def __init__(self, files: Files, timeout: float) -> None:
        self._pattern = files.glob.split("/")
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._device = -1
        self.files = 0
        self.bytes = 0
        self.problem = ""
        """What was in the way first."""

    def clean(self, root: int) -> None:
        self._device = os.fstat(root).st_dev
        self._clean(root, self._open({0}), 0)

    def _open(self, places: set[int]) -> set[int]:
        """Return *places* in the pattern with those behind each `**`, which may be nothing."""
        found = set(places)
        for place in sorted(places):
            while place < len(self._pattern) and self._pattern[place] == "**":
                place += 1  # noqa: PLW2901
                found.add(place)
        return found

    def _after(self, name: str, places: set[int]) -> set[int]:
        """Return where in the pattern one is behind *name*."""
        following = set()
        for place in places:
            if place == len(self._pattern):
                continue
            if self._pattern[place] == "**":
                following.add(place)
            elif fnmatchcase(name, self._pattern[place]):
                following.add(place + 1)
        return self._open(following)

    def _clean(self, directory: int, places: set[int], depth: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                if time.monotonic() >= self._deadline:
                    self._note(f"it was not done within {self._timeout:g} s")
                    return
                following = self._after(entry.name, places)
                if not following:
                    continue
                try:
                    found = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
                    if found.st_dev != self._device:
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        self._descend(directory, entry.name, following, depth + 1)
                    elif len(self._pattern) in following:
                        self._remove(directory, entry.name, found)
                except FileNotFoundError:
                    continue  # somebody was faster
                except OSError as error:
                    self._note(f"{entry.name!r}: {error.strerror}")

    def _descend(self, directory: int, name: str, places: set[int], depth: int) -> None:
        if depth > _MAX_DEPTH:
            self._note(f"{name!r} is more than {_MAX_DEPTH} directories below the root")
            return
        below = os.open(name, _FLAGS, dir_fd=directory)
        try:
            if os.fstat(below).st_dev == self._device:
                self._clean(below, places, depth)
        finally:
            os.close(below)

    def _remove(self, directory: int, name: str, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
            os.unlink(name, dir_fd=directory)
            self.files += 1
            self.bytes += found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _note(self, problem: str) -> None:
        self.problem = self.problem or problem
