"""Fixtures of the unit tests: a configuration in a folder, a service made of it, a Redis."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from receiver import redaction
from receiver.app import Options, Promheal, build
from receiver.errors import JournalError
from receiver.journal import Journal, open_journal
from receiver.policy.role import EVERYWHERE, ProcessRole
from tests.acceptance.server import journals_in_postgres
from tests.brokers import Redis, redis_server
from tests.postgres import Postgres, postgres
from tests.tools import upstreams

STRATEGIES = """\
strategies:
  latency:
    match: ['alertname="HighLatency"']
    target: [service]
    grace_period: 5m
    actions:
      - action: log
        message: "slow: {{ labels.service }}"
"""

# In the background of a shell SIGINT is ignored, and so it would be by all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--storage",
        choices=["sqlite", "postgres"],
        default="sqlite",
        help="where the acceptance tests have their journals",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each of several workers begin with its part of what is slow.

    Each gets a run of neighbours at first, and takes from others when it has none: a slow test at
    the end of a run is waited for by all.
    """
    parts = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if parts == 1:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    size = len(others) / parts
    items[:] = [
        item
        for part in range(parts)
        for item in (*slow[part::parts], *others[round(part * size) : round((part + 1) * size)])
    ]


def pytest_report_header() -> str:
    try:
        return f"upstreams: {upstreams()}"
    except (pytest.fail.Exception, pytest.skip.Exception) as error:
        return f"upstreams: {error}"


@pytest.fixture(scope="session", autouse=True)
def _journals(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.config.getoption("--storage") == "sqlite":
        yield
        return
    with journals_in_postgres():
        yield


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(f"sqlite:///{tmp_path}/journal.db")
    yield opened
    opened.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A folder with a configuration that heals by a log line, and proves nothing."""
    (tmp_path / "promheal.yml").write_text("engine: {max_concurrent_runs: 2}\n")
    (tmp_path / "services.yml").write_text("services: {}\n")
    (tmp_path / "healing_strategies.yml").write_text(STRATEGIES)
    return tmp_path


@pytest.fixture
def make_service(config: Path) -> Iterator[Callable[..., Promheal]]:
    made: list[Promheal] = []

    def make(*, dry_run: bool = False, role: ProcessRole = EVERYWHERE) -> Promheal:
        service = build(
            Options(
                config_file=config / "promheal.yml",
                storage_url=f"sqlite:///{config}/journal.db",
                dry_run=dry_run,
                role=role,
            )
        )
        made.append(service)
        return service

    yield make
    for service in made:
        with suppress(JournalError):
            service.close(timeout=5)


@pytest.fixture
def service(make_service: Callable[..., Promheal]) -> Promheal:
    """Built, and not started."""
    return make_service()


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(one_redis: Redis) -> Redis:
    """A real one, and empty."""
    one_redis.client.flushall()
    return one_redis


@pytest.fixture(scope="session")
def one_postgres() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _migrated(one_postgres: Postgres) -> str:
    url = one_postgres.create()
    open_journal(url).close()
    return url


@pytest.fixture
def database(one_postgres: Postgres, _migrated: str) -> str:
    """The URL of a new database of a real PostgreSQL, with an empty journal."""
    return one_postgres.create(_migrated)


@pytest.fixture
def empty_database(one_postgres: Postgres) -> str:
    """The URL of a new database that no promheal has seen."""
    return one_postgres.create()


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests() -> None:
    redaction.forget()
