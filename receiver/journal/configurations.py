"""Which configurations were loaded, when and by whom, and what stood in each."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.journal.statements import BIGGEST, Row, Statements

_MAX_ERROR: Final = 4_000
"""Characters of a refusal that are kept."""


class ConfigLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration was loaded, or refused."""

    id: int = 0
    """0 before it is stored."""
    at: float
    """When, the first of `times`; no other load of this process has the same."""
    last_at: float = 0.0
    times: int = 1
    """So often in a row, with nothing else between."""
    how: str
    """`start`, `SIGHUP` or `/-/reload`."""
    by: str = ""
    """The user or token that asked for it; empty where nobody is known."""
    hash: str | None
    """SHA-256 of the files and the flags; None when they were refused."""
    version: str
    """Of the promheal that loaded it."""
    error: str = ""
    """Why it was refused."""


class ConfigBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a hash stands for."""

    hash: str
    first_at: float
    last_at: float
    version: str
    body: bytes
    """As `receiver.config.stored` packs it."""


class ConfigurationRows(Statements):
    def put_load(self, load: ConfigLoad, body: bytes | None) -> None:
        """Note a load, with *body* behind its hash. Noting the same one again changes nothing."""
        last = self._execute("last_load").fetchone()
        if last is not None and last["last_at"] == load.at:
            return
        if body is not None:
            # What was in force until now, and what is from now on.
            self._execute("leave_configuration", now=load.at)
            self._execute(
                "put_configuration", hash=load.hash, now=load.at, version=load.version, body=body
            )
        same = ("how", "by", "hash", "version", "error")
        if last is not None and all(last[name] == getattr(load, name) for name in same):
            self._execute("repeat_load", id=last["id"], now=load.at)
            return
        self._execute(
            "put_load", now=load.at, how=load.how, by=load.by, hash=load.hash,
            version=load.version, error=load.error[:_MAX_ERROR],
        )  # fmt: skip

    def loads(self, *, limit: int, before: int | None = None) -> list[ConfigLoad]:
        """Newest first."""
        rows = self._execute("loads", limit=limit, before=BIGGEST if before is None else before)
        return [_load(row) for row in rows]

    def load_in_force(self) -> ConfigLoad | None:
        """The newest load that was not refused."""
        row = self._execute("load_in_force").fetchone()
        return None if row is None else _load(row)

    def load_after(self, at: float, hashed: str) -> ConfigLoad | None:
        """The first load of another configuration than *hashed* after a time."""
        row = self._execute("load_after", at=at, hash=hashed).fetchone()
        return None if row is None else _load(row)

    def configurations(self, prefix: str, *, limit: int = 2) -> list[ConfigBody]:
        """Those whose hash begins with *prefix*, which is hexadecimal."""
        rows = self._execute("configurations", low=prefix, high=prefix + "g", limit=limit)
        return [ConfigBody(**dict(row)) for row in rows]


def _load(row: Row) -> ConfigLoad:
    return ConfigLoad(**dict(row))
