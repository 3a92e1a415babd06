"""With a real PostgreSQL: what deploy/ and the how-to make there is enough, and no more."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from receiver.errors import JournalError
from receiver.journal import open_journal
from receiver.policy.dormancy import Dormancy
from tests.brokers import eventually
from tests.postgres import Postgres, postgres
from tests.tools import REPOSITORY

SQL = (REPOSITORY / "deploy/compose/scale/promheal.sql").read_text()
HOW_TO = (REPOSITORY / "docs/how-to/scale-out.md").read_text()
PASSWORD = 'it\'s \\ a "secret"'


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One whose superuser is another, and which asks promheal for its password."""
    with postgres(superuser="postgres") as server:
        access = server.folder / "data/pg_hba.conf"
        access.write_text(f"host all promheal all scram-sha-256\n{access.read_text()}")
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        yield server


def run(server: Postgres, *argv: str, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        argv, env={**server.client(), **environment}, cwd=cwd or server.folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def prepared(server: Postgres, folder: Path) -> str:
    """Run the SQL as the image of PostgreSQL does; return the URL for promheal."""
    (folder / "password").write_text(f"{PASSWORD}\n")
    script = folder / "promheal.sql"
    script.write_text(re.sub("cat [^`]+", f"cat {folder}/password", SQL))
    run(
        server,
        *("psql", "--set=ON_ERROR_STOP=1", "--no-password", "--no-psqlrc"),
        *("--username=postgres", "--dbname=postgres", f"--file={script}"),
    )
    return f"postgresql://promheal@{server.address}:{server.port}/promheal"


@pytest.fixture
def url(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """promheal's, with its password in a service file that everybody may read."""
    made = prepared(server, tmp_path)
    service = tmp_path / "pg_service.conf"
    service.write_text(f"[promheal]\npassword={PASSWORD}\n")
    service.chmod(0o644)
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setenv("PGSERVICE", "promheal")
    eventually(lambda: _asks(server, monkeypatch), "PostgreSQL has read pg_hba.conf again")
    return made


def _asks(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> bool:
    with monkeypatch.context() as without:
        without.delenv("PGSERVICE")
        try:
            psycopg.connect(f"postgresql://promheal@{server.address}:{server.port}/promheal")
        except psycopg.OperationalError as error:
            return "no password supplied" in str(error)
    return False


def nobody_else_is_let_in(server: Postgres, url: str) -> bool:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("create role stranger login")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(url.replace("promheal@", "stranger@"))
    return True


def test_the_role_is_enough_for_promheal_and_for_nothing_else(server: Postgres, url: str) -> None:
    with closing(open_journal(url)) as journal:
        assert journal.acquire()
        assert journal.read(lambda t: t.dormancy().failures) == 0
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls "
            "from pg_roles where rolname = current_user"
        ).fetchone()
        assert row == (False,) * 5
        owners = connection.execute("select distinct schemaname from pg_tables "
                                    "where tableowner = current_user").fetchall()  # fmt: skip
        assert owners == [("promheal",)]
    assert nobody_else_is_let_in(server, url)


def test_a_password_file_that_others_may_read_is_refused_and_a_service_file_is_not(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_journal(url).close()
    monkeypatch.delenv("PGSERVICE")
    passwords = tmp_path / "pgpass"
    escaped = re.sub(r"([\\:])", r"\\\1", PASSWORD)
    passwords.write_text(f"*:*:promheal:promheal:{escaped}\n")
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    passwords.chmod(0o640)
    with pytest.raises(JournalError, match="no password supplied"):
        open_journal(url)
    passwords.chmod(0o600)
    open_journal(url).close()


def commands(heading: str) -> list[str]:
    """The blocks of commands below a heading of the how-to."""
    section = re.split(r"^#+ ", HOW_TO.partition(f"\n{heading}\n")[2], flags=re.MULTILINE)[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def carried_out(block: str, server: Postgres, folder: Path) -> None:
    """Run commands of the how-to against *server*, as its superuser where they say sudo."""
    text = block.replace("sudo -u postgres ", "").replace(
        "db.example.org:5432", f"{server.address}:{server.port}"
    )
    libpq = {name: os.environ[name] for name in ("PGSERVICEFILE", "PGSERVICE")}
    for line in text.replace("\\\n", " ").splitlines():
        # The superuser has no password here, and the service file is for promheal.
        more = libpq if "postgresql://promheal@" in line else {}
        run(server, "/bin/sh", "-ec", line, cwd=folder, **more)


def test_a_backup_that_is_put_back_is_the_journal_of_then(
    server: Postgres, url: str, tmp_path: Path
) -> None:
    def fail(times: int) -> None:
        with closing(open_journal(url)) as journal:
            journal.atomically(lambda t: t.put_dormancy(Dormancy(failures=times)))

    save, restore = commands("## Backup and restore")
    fail(3)
    carried_out(save, server, tmp_path)
    fail(7)
    carried_out(restore, server, tmp_path)
    with closing(open_journal(url)) as journal:
        assert journal.read(lambda t: t.dormancy().failures) == 3
    assert nobody_else_is_let_in(server, url)


def test_the_commands_of_the_how_to_make_what_the_sql_makes(
    server: Postgres, tmp_path: Path
) -> None:
    (block,) = commands("### 1. Create a role and its database")
    run(server, "/bin/sh", "-ec", block.replace("--pwprompt ", "").replace("sudo -u postgres ", ""))
    made = rights(server)
    run(server, "dropdb", "promheal")
    run(server, "dropuser", "promheal")
    prepared(server, tmp_path)
    assert made == rights(server) != []


def rights(server: Postgres) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url()) as connection:
        return connection.execute(
            "select pg_get_userbyid(datdba), datacl::text, rolsuper, rolcreatedb, rolcreaterole, "
            "rolcanlogin from pg_database, pg_roles where datname = 'promheal' "
            "and rolname = 'promheal'"
        ).fetchall()
