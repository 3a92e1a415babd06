"""The file that holds a service's settings: changed as a whole or not at all, and then read anew.

- One at a time: whoever changes a file holds a lock on its folder, which the kernel frees with the
  process. The folder, since the file itself is replaced.
- Whole: the new text is written beside the file, synced, and put in its place by rename(2), which
  is atomic; then the folder is synced. Killed at any moment, there is the old file or the new one.
  What a killed one had begun is removed by the next.
- As it was: mode, owner and extended attributes are kept, and every character but the value's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from receiver.errors import ActionError
from receiver.policy.texts import FilePath, KeyName
from receiver.services.formats import ABSENT, Format, Value, edit, format_named, look_up
from receiver.services.reload import Reload

MAX_BYTES: Final = 1_048_576
"""A settings file is small; another one is a mistake."""
_ENDINGS: Final = {
    ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".toml": "toml", ".env": "env",
}  # fmt: skip
_KEYS: Final = {"rate_limit": "rate_limit", "cache": "cache.enabled", "llm": "llm.provider"}
_ENV_KEYS: Final = {"rate_limit": "RATE_LIMIT", "cache": "CACHE_ENABLED", "llm": "LLM_PROVIDER"}
_POLL: Final = 0.02  # seconds


class SettingKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in the file a setting is; dots lead into mappings."""

    rate_limit: KeyName | None = None
    """Where [`rate_limit`](actions/rate_limit.md) is: `rate_limit`, or `RATE_LIMIT` in an env file,
    when left out."""
    cache: KeyName | None = None
    """Where [`enable_cache`](actions/enable_cache.md) is: `cache.enabled`, or `CACHE_ENABLED`."""
    llm: KeyName | None = None
    """Where [`fallback_llm`](actions/fallback_llm.md) is: `llm.provider`, or `LLM_PROVIDER`."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One key, before and after; JSON, for the journal."""

    key: str
    before: Value | None = None
    """None when it was not there."""
    there: bool
    after: Value
    sha256: str
    """Of the file, hexadecimal, before it was changed."""


class SettingsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    file: FilePath
    """The whole path of the [settings file](configuration.md#a-settings-file) of the service."""
    format: Literal["yaml", "json", "toml", "env"] | None = None
    """By the file's ending when left out."""
    keys: SettingKeys = SettingKeys()
    reload: Reload | None = None
    """None for a service that watches its file."""

    def __post_init__(self) -> None:
        if not Path(self.file).is_absolute():
            raise ValueError(f"file: write the whole path, not {self.file!r}")
        if self.format is None and self._ending is None:
            raise ValueError(
                f"format: {Path(self.file).name} does not tell it; write yaml, json, toml or env"
            )

    @property
    def _ending(self) -> str | None:
        name = Path(self.file).name
        return "env" if name.startswith(".env") else _ENDINGS.get(Path(name).suffix)

    @property
    def _form(self) -> Format:
        name = self.format or self._ending
        assert name is not None
        return format_named(name)

    def key(self, setting: str) -> str:
        """Return where *setting* is: rate_limit, cache or llm."""
        named: str | None = getattr(self.keys, setting)
        env = (self.format or self._ending) == "env"
        return named or (_ENV_KEYS if env else _KEYS)[setting]

    def read(self, setting: str) -> Value | None:
        """Return the value, or None where there is none. Raises ActionError."""
        found = self._look(self._read(self._real()), self.key(setting))
        return None if found is ABSENT else found

    def probe(self, *, timeout: float) -> Iterator[str]:  # noqa: ARG002  nothing here waits
        path = self._real()
        text = self._read(path)
        for setting in SettingKeys.__struct_fields__:
            self._look(text, self.key(setting))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            yield f"promheal's user may not write in {path.parent}, where {path.name} is replaced"
        owner = path.stat().st_uid
        if os.geteuid() not in {0, owner}:
            yield f"{path} belongs to user {owner}; only that one and root can replace it"

    def change(
        self, setting: str, value: Value, *, timeout: float, about_to: Callable[[Change], None]
    ) -> Change | None:
        """Set it; *about_to* is called before the file is touched. None when it is so already.

        Raises ActionError, and then the file is as it was.
        """
        key = self.key(setting)
        with self._alone(timeout) as path:
            text = self._read(path)
            now = self._look(text, key)
            if now == value and type(now) is type(value):
                return None
            new = self._edited(text, key, value)
            change = Change(
                key=key,
                before=None if now is ABSENT else now,
                there=now is not ABSENT,
                after=value,
                sha256=_hash(text),
            )
            about_to(change)
            self._write(path, new)
            return change

    def again(self, change: Change, *, timeout: float) -> None:
        """Make sure of a change that may have been cut short. Raises ActionError."""
        with self._alone(timeout) as path:
            text = self._read(path)
            now = self._look(text, change.key)
            if now == change.after:
                return
            if now != _before(change):
                raise ActionError(self._meanwhile(change, now))
            self._write(path, self._edited(text, change.key, change.after))

    def restore(self, change: Change, *, timeout: float) -> bool:
        """Set the value of before; False when it is still that one.

        Raises ActionError when somebody else has changed it meanwhile: then nothing is touched.
        """
        with self._alone(timeout) as path:
            text = self._read(path)
            now = self._look(text, change.key)
            before = _before(change)
            if now == before:
                return False
            if now != change.after:
                raise ActionError(self._meanwhile(change, now))
            self._write(path, self._restored(text, change, before))
            return True

    # -- the file

    def _real(self) -> Path:
        """Return the file itself, where the path is a link to it."""
        try:
            return Path(self.file).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise ActionError(f"the settings {self.file} cannot be read: {error}") from None

    @contextmanager
    def _alone(self, timeout: float) -> Iterator[Path]:
        """Give the file itself, while nobody else changes a file of its folder."""
        path = self._real()
        deadline = time.monotonic() + timeout
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while True:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise ActionError(
                            f"{path.parent} is locked by another change for {timeout:.0f} s"
                        ) from None
                    time.sleep(_POLL)
            yield path
        finally:
            os.close(folder)

    def _read(self, path: Path) -> str:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
                    raise ActionError(f"{path} is no plain file, or has several names")
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ActionError(f"the settings {path} cannot be read: {error.strerror}") from None
        if len(raw) > MAX_BYTES:
            raise ActionError(f"{path} is larger than {MAX_BYTES} bytes: no settings")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ActionError(f"{path} is not UTF-8 at byte {error.start}") from None

    def _look(self, text: str, key: str) -> Any:
        try:
            found = look_up(self._form.parse(_bare(text)), key.split("."))
        except (ValueError, RecursionError) as error:
            raise ActionError(f"{self.file}: {error}; nothing was touched") from None
        if found is not ABSENT and not isinstance(found, bool | int | float | str | None):
            raise ActionError(f"{self.file}: {key} is no plain value; nothing was touched")
        return found

    def _edited(self, text: str, key: str, value: Any) -> str:
        bare = _bare(text)
        try:
            edited = edit(self._form, bare, key.split("."), value)
        except (ValueError, RecursionError) as error:
            raise ActionError(f"{self.file}: {error}; nothing was touched") from None
        return text[: len(text) - len(bare)] + edited

    def _restored(self, text: str, change: Change, before: Any) -> str:
        """Return the text as it was before, with the mappings that were made for the key gone."""
        text = self._edited(text, change.key, before)
        path = change.key.split(".")
        while before is ABSENT and len(path) > 1 and _hash(text) != change.sha256:
            path.pop()
            if look_up(self._form.parse(_bare(text)), path):
                break  # somebody else has use for it
            text = self._edited(text, ".".join(path), ABSENT)
        return text

    def _write(self, path: Path, text: str) -> None:
        prefix = f".{path.name}.promheal-"
        try:
            for left in path.parent.glob(f"{prefix}*"):  # of one that was killed: we hold the lock
                left.unlink()
            facts = path.stat()
            descriptor, draft = tempfile.mkstemp(prefix=prefix, dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(text.encode())
                    os.fchown(file.fileno(), facts.st_uid, facts.st_gid)
                    os.fchmod(file.fileno(), stat.S_IMODE(facts.st_mode))
                    for name in os.listxattr(path):
                        with suppress(OSError):  # some belong to the kernel
                            os.setxattr(file.fileno(), name, os.getxattr(path, name))
                    file.flush()
                    os.fsync(file.fileno())
                Path(draft).replace(path)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise ActionError(
                f"the settings {path} cannot be replaced: {error.strerror}; promheal's user must "
                "own them, or be root, and may write in their folder"
            ) from None

    def _meanwhile(self, change: Change, now: Any) -> str:
        shown = "gone" if now is ABSENT else f"{now!r}"
        before = f"{change.before!r}" if change.there else "absent"
        return (
            f"{change.key} in {self.file} was changed by someone else, and is left as it is: it "
            f"was {before}, promheal wrote {change.after!r}, now it is {shown}"
        )


def _before(change: Change) -> Any:
    return change.before if change.there else ABSENT


def _bare(text: str) -> str:
    """Return a text without its byte order mark."""
    return text.removeprefix("\ufeff")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def as_saved(change: Change) -> Mapping[str, Any]:
    """Return a change as the journal keeps it."""
    return msgspec.structs.asdict(change)
