"""The bench of many machines, in short: what it says must have happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.tools import REPOSITORY

pytestmark = pytest.mark.slow


def test_sqlite_and_postgres_are_measured_beside_each_other(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--seconds", "1", "--actions", "5", "--runs", "20", "--idle", "5"]
    file = tmp_path / "report.json"

    done = subprocess.run(
        [sys.executable, "-m", "bench", "scale", *options, "--json", str(file)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr + done.stdout
    report = msgspec.json.decode(file.read_bytes())
    at_rest = {row["process"]: row for row in report["rest"]}
    assert at_rest["SQLite, serve"]["cpu_percent"] < 2
    assert all(row["cpu_percent"] < 3 for row in report["rest"]), "nothing spins"
    assert 0 < at_rest["Postgres, server"]["transactions_per_second"] < 20
    alone, *sides = report["latency"]
    assert [row["count"] for row in report["latency"]] == [5] * 4
    assert all(0.3 * alone["p50_ms"] < row["p50_ms"] < 5_000 for row in sides), "each starts one"
    assert len(report["acceptance"]) == 6
    assert all(row["posts_per_second"] > 20 for row in report["acceptance"])
    sqlite, *workers = report["work"]
    assert sqlite["ratio"] == 1
    assert len(workers) == 3
    assert all(row["runs_per_second"] > 1 for row in workers)
    assert all(row["lock_percent"] > 0 for row in workers), "what they wait for"
