"""Connections to PostgreSQL, with settings that let nobody wait for ever, and its schema."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from typing import Any, Final

import psycopg

from receiver.errors import AwayError, JournalError
from receiver.journal.jobs import engine_version, install
from receiver.journal.migrate import scripts
from receiver.journal.postgres_cursor import one_line
from receiver.policy.role import LEASE

log: Final = logging.getLogger("promheal.journal")

SCHEMA: Final = "promheal"
"""Where the journal's tables are, and the engine's."""
MIGRATION: Final = "select pg_advisory_xact_lock(1885891690, 3)"

PATIENCE: Final = 10
"""Seconds to wait for another writer; one that takes longer is stuck."""
CONNECT: Final[dict[str, Any]] = {
    "application_name": "promheal",
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4_000,  # ms; how long a server that does not answer is waited for
}
_SETTINGS: Final = (
    f"set search_path to {SCHEMA}; "
    f"set lock_timeout to '{PATIENCE}s'; "
    "set statement_timeout to '20s'; "
    # A promheal that is cut off in a transaction holds up the others no longer than this.
    "set idle_in_transaction_session_timeout to '5s'; "
    "set default_transaction_isolation to 'read committed'; "
    # Each query has an index. Plans are kept, and those of a new journal would read all of a table.
    "set enable_seqscan to off; "
    "set jit to off"
)


def _may_be_back(error: psycopg.Error) -> bool:
    """Whether nobody answered, or the server is not ready yet: a refusal will not change."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    said = str(error)
    return "FATAL" not in said or "starting up" in said or "shutting down" in said


def prepare(url: str) -> None:
    """Bring the schema up to date, and leave nothing open."""
    opened(url).close()


def shown(url: str) -> str:
    """Return *url* as it may be logged."""
    known = psycopg.conninfo.conninfo_to_dict(url)
    host, name = known.get("host", "localhost"), known.get("dbname", "")
    return f"postgresql://{host}:{known.get('port', 5432)}/{name}"


def opened(url: str) -> psycopg.Connection[Any]:
    """Connect to a database whose schema is up to date."""
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(connect(url))
            _migrate(connection, shown(url))
        except psycopg.Error as error:
            kind = AwayError if _may_be_back(error) else JournalError
            raise kind(f"{shown(url)}: {one_line(error)}") from error
        stack.pop_all()
    return connection


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, **CONNECT)


def configure(connection: psycopg.Connection[Any]) -> None:
    connection.execute(_SETTINGS.encode())


def _works_with(script: str, version: int) -> int:
    found = re.match(r"-- works with schema (\d+)\n", script)
    return version if found is None else int(found[1])


def _migrate(connection: psycopg.Connection[Any], name: str) -> None:
    """Apply the missing migrations, each in one transaction with its number.

    A newer schema that this version can still work with is left alone: during a rolling upgrade
    both versions run.
    """
    known = scripts("postgres")
    connection.execute("set client_min_messages to warning")
    with connection.transaction():
        connection.execute(MIGRATION)
        connection.execute(f"create schema if not exists {SCHEMA}".encode())
        connection.execute(f"set search_path to {SCHEMA}".encode())
        connection.execute(
            "create table if not exists migration ("
            "version integer primary key, "
            "works_with integer not null, "  # the oldest schema whose promheal can live with it
            "at timestamptz not null default now())"
        )
    while True:
        with connection.transaction():
            connection.execute(MIGRATION)
            row = connection.execute(
                "select coalesce(max(version), 0), coalesce(max(works_with), 0) from migration"
            ).fetchone()
            assert row is not None
            version, works_with = row
            if version >= len(known):
                break
            script = known[version]
            connection.execute(script.encode())
            connection.execute(
                "insert into migration (version, works_with) values (%s, %s)",
                (version + 1, _works_with(script, version + 1)),
            )
            log.info("the journal has schema %d now", version + 1)
    with connection.transaction():
        connection.execute(MIGRATION)
        others = connection.execute(
            "select 1 from worker where engine <> %s and seen > now() - make_interval(secs => %s)",
            (engine_version(), LEASE),
        )
        for script in install(connection, alone=others.fetchone() is None):
            log.info("the engine has %s now", script)
    if works_with > len(known):
        raise JournalError(
            f"{name} has schema {version}, this promheal knows {len(known)}: "
            "it was written by a newer version, which must be used"
        )
