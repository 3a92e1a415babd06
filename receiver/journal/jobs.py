"""procrastinate's part of the database: its schema, and how its queues are called.

promheal installs and upgrades it, and otherwise calls its SQL functions, which carry a version.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psycopg
from procrastinate.schema import SchemaManager

from receiver.policy.role import UNBOUND

TASK: Final = "consider"
CENTRAL: Final = "central"
"""The queue of processes that decide."""
CHANNEL: Final = "procrastinate_queue_v1#"
"""What its workers listen to, before the name of a queue."""
KNOCK: Final = '{"type": "job_inserted", "job_id": 0}'
"""A payload that makes the workers of a queue look for jobs."""

_MAX_QUEUE: Final = 35
"""Bytes: a channel of NOTIFY has no more than 63."""


def queue_of(runs_on: str) -> str:
    if runs_on == UNBOUND:
        return CENTRAL
    if len(runs_on.encode()) > _MAX_QUEUE:
        runs_on = hashlib.sha256(runs_on.encode()).hexdigest()[:_MAX_QUEUE]
    return f"on:{runs_on}"


def engine_version() -> str:
    return version("procrastinate")


def install(connection: psycopg.Connection[Any], *, alone: bool) -> list[str]:
    """Bring its schema up to date, in the caller's transaction; return what was applied.

    Its migrations named `post` remove what workers of the previous version need: they wait until we
    are *alone*, with no worker of another version.
    """
    scripts = sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    there = connection.execute("select to_regclass('procrastinate_jobs')").fetchone()
    assert there is not None
    if there[0] is None:
        connection.execute(SchemaManager.get_schema().encode())
        _record(connection, [script.name for script in scripts])
        return ["procrastinate's schema"]
    known = {row[0] for row in connection.execute("select name from engine_migration")}
    missing = [
        script
        for script in scripts
        if script.name not in known and (alone or "_post_" not in script.name)
    ]
    for script in missing:
        connection.execute(script.read_bytes())
    names = [script.name for script in missing]
    _record(connection, names)
    return names


def _record(connection: psycopg.Connection[Any], names: list[str]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into engine_migration (name) values (%s)", [(name,) for name in names]
        )
