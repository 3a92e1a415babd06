"""Puts the files of a stored configuration back in their places, and keeps what was there."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from receiver.config.left_out import Filled, Missing, fill_in, leave_out
from receiver.config.stored import StoredConfig
from receiver.errors import ConfigError, RefusedError

REMEDY = (
    "write the old files elsewhere with --output DIR, and put them back where these are made from"
)


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it was, with the secrets of the file that is there now."""

    path: Path
    text: str
    present: str | None
    """What is there now; None for no file."""
    kept: tuple[str, ...]
    missing: tuple[Missing, ...]

    @property
    def changes(self) -> bool:
        return self.text != self.present


def returns(stored: StoredConfig, config_file: Path) -> tuple[Return, ...]:
    """Return what is to be put back, promheal.yml being *config_file*. Raises ConfigError."""
    found = []
    for path, file in zip(stored.paths(config_file), stored.files, strict=True):
        present = _read(path)
        if present is not None and leave_out(present) == file.text:
            filled = Filled(present, (), ())  # a comment may have had a secret in it
        else:
            filled = fill_in(file.text, present or "")
        found.append(
            Return(
                path=path,
                text=filled.text,
                present=present,
                kept=filled.kept,
                missing=filled.missing,
            )
        )
    return tuple(found)


def refuse_missing(files: Sequence[Return]) -> None:
    """Raise RefusedError, with all of them, for secrets that cannot be put back."""
    lines = [
        f"{file.path.name}:{one.line}: {one.place}: {one.why}"
        for file in files
        for one in file.missing
    ]
    if lines:
        raise RefusedError(
            "secrets are not kept, and these cannot be taken from the present files:\n  "
            + "\n  ".join(lines)
            + "\nwrite the old files elsewhere with --output DIR, and fill in REDACTED by hand",
            status=409,
        )


def refuse_unwritable(files: Sequence[Return]) -> None:
    """Raise ConfigError for a file that something else makes, or that may not be written."""
    for file in files:
        if not file.changes:
            continue
        if file.path.is_symlink():
            raise ConfigError(f"{file.path} is a link, so something else makes it; {REMEDY}")
        if not os.access(file.path.parent, os.W_OK):
            raise ConfigError(f"{file.path.parent} may not be written to; {REMEDY}")
        if file.present is not None and not os.access(file.path, os.W_OK):
            raise ConfigError(f"{file.path} may not be written to; {REMEDY}")


def put_back(files: Sequence[Return], stamp: str) -> Mapping[Path, Path | None]:
    """Replace the files that change; return where what was there is now, with *stamp* in its name.

    All of them or none. Raises ConfigError.
    """
    changed = [file for file in files if file.changes]
    drafts = {file.path: file.path.with_name(f".{file.path.name}.{stamp}") for file in changed}
    aside: dict[Path, Path | None] = {}
    try:
        for file in changed:
            _draft(drafts[file.path], file)
        for file in changed:
            aside[file.path] = None if file.present is None else _keep(file.path, stamp)
            drafts[file.path].replace(file.path)
            _sync(file.path.parent)
    except OSError as error:
        for path, kept in aside.items():
            if kept is not None:
                kept.replace(path)
            elif not drafts[path].exists():
                path.unlink(missing_ok=True)
        raise ConfigError(f"nothing was changed: {error}; {REMEDY}") from None
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return aside


def write_out(files: Sequence[Return], folder: Path) -> list[Path]:
    """Write all of them to *folder*, only for its owner to read. Raises ConfigError, RefusedError.

    No file is overwritten.
    """
    paths = [folder / file.path.name for file in files]
    for path in paths:
        if path.exists():
            raise RefusedError(f"{path} exists; nothing was written", status=409)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, file in zip(paths, files, strict=True):
            _write(path, file.text)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error}") from None
    return paths


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _draft(path: Path, file: Return) -> None:
    """Write what will take the place of a file, with its owner and its mode."""
    _write(path, file.text)
    if file.present is not None:
        facts = file.path.stat()
        os.chown(path, facts.st_uid, facts.st_gid)
        path.chmod(stat.S_IMODE(facts.st_mode))


def _write(path: Path, text: str) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _keep(path: Path, stamp: str) -> Path:
    """Keep a second copy of a file; the first stays until it is replaced."""
    target = path.with_name(f"{path.name}.before-rollback-{stamp}")
    if target.exists():
        raise FileExistsError(f"{target} exists; move it away")
    shutil.copy2(path, target)
    return target


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
