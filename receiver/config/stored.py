"""A configuration as the journal keeps it: the texts of its files and the flags, no secrets."""

from __future__ import annotations

import zlib
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from receiver.actions import Actions
from receiver.config.files import LoadedConfig
from receiver.config.left_out import leave_out
from receiver.config.strategies import strategies_in
from receiver.errors import JournalError
from receiver.journal import ConfigLoad, Journal, Transaction
from receiver.policy.strategy import Strategies, Strategy

MAIN, STRATEGIES, SERVICES = 0, 1, 2
"""Places in `StoredConfig.files`."""
_WAITING: Final = 100
"""Loads that wait for a journal that cannot store; of more, the newest."""
_MOST: Final = 64 << 20
"""Bytes of what is unpacked, whatever a journal from elsewhere holds."""


class StoredFile(msgspec.Struct, frozen=True):
    name: str
    """Of promheal.yml its own name; of the others as promheal.yml names them."""
    text: str


class StoredConfig(msgspec.Struct, frozen=True, kw_only=True):
    files: tuple[StoredFile, StoredFile, StoredFile]
    """promheal.yml, the strategies and the services."""
    flags: dict[str, bool]
    """Those in force, by the environment too."""

    def paths(self, config_file: Path) -> tuple[Path, Path, Path]:
        """Return where its files belong, if promheal.yml is *config_file*."""
        _, strategies, services = self.files
        folder = config_file.parent
        return config_file, folder / strategies.name, folder / services.name


class UnrecordedLoads:
    """Loads that the journal does not have yet."""

    def __init__(self) -> None:
        self._waiting: list[tuple[ConfigLoad, bytes | None]] = []

    def accept(self, loaded: LoadedConfig, *, how: str, by: str = "", at: float) -> None:
        self._add(at, how, by, loaded.hash, "", pack(loaded))

    def refuse(self, error: str, *, how: str, by: str = "", at: float) -> None:
        self._add(at, how, by, None, error, None)

    def write(self, transaction: Transaction) -> int:
        """Note those that wait, and return how many that were: `written`, once it is durable."""
        waiting = tuple(self._waiting)
        for load, body in waiting:
            transaction.put_load(load, body)
        return len(waiting)

    def written(self, number: int) -> None:
        del self._waiting[:number]

    def note(self, journal: Journal) -> None:
        """Write those that wait, now or with the next one."""
        if not self._waiting:
            return
        with suppress(JournalError):
            self.written(journal.atomically(self.write))

    def _add(
        self, at: float, how: str, by: str, hashed: str | None, error: str, body: bytes | None
    ) -> None:
        load = ConfigLoad(
            at=at, how=how, by=by, hash=hashed, version=version("promheal"), error=error
        )
        self._waiting.append((load, body))
        del self._waiting[:-_WAITING]


def of(loaded: LoadedConfig) -> StoredConfig:
    """Return what is kept of *loaded*."""
    settings, (main, _, _) = loaded.settings, loaded.files
    names = (main.name, settings.strategies, settings.services)
    first, second, third = (
        StoredFile(name, leave_out(text)) for name, text in zip(names, loaded.texts, strict=True)
    )
    return StoredConfig(files=(first, second, third), flags=msgspec.structs.asdict(settings.flags))


def pack(loaded: LoadedConfig) -> bytes:
    return zlib.compress(msgspec.json.encode(of(loaded)))


def unpack(body: bytes) -> StoredConfig:
    """Raises JournalError for what no promheal has packed."""
    try:
        unpacked = zlib.decompressobj()
        return msgspec.json.decode(unpacked.decompress(body, _MOST), type=StoredConfig)
    except (zlib.error, msgspec.DecodeError) as error:
        raise JournalError(f"a configuration in the journal cannot be read: {error}") from None


@lru_cache(maxsize=4)
def strategies_of(body: bytes, actions: Actions) -> Strategies:
    """Return the strategies of a packed configuration, for decisions: its secrets are not there.

    Those that this promheal cannot read any more are left out. Raises JournalError.
    """
    return strategies_in(unpack(body).files[STRATEGIES].text, actions)


def strategy_of(body: bytes, name: str, actions: Actions) -> Strategy:
    """Return one of them. Raises JournalError."""
    found = strategies_of(body, actions).get(name)
    if found is None:
        raise JournalError("its strategy of then is not understood by this promheal")
    return found
