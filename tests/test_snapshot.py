"""What is kept of a moment: from a real Prometheus, this machine, a process and a file."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from receiver import snapshots
from receiver.actions import Context
from receiver.actions.parameters import render_params
from receiver.actions.snapshot import (
    LOG_BYTES,
    LOG_LINES,
    MOST_SERIES,
    TOP,
    SnapshotParams,
    TakeSnapshot,
)
from receiver.app import Promheal
from receiver.cli import run as cli_run
from receiver.clients.prometheus import Prometheus
from receiver.errors import ActionError, TemplateError
from receiver.policy import promql
from receiver.policy.target import Key
from receiver.process.table import ProcessFigures, top
from receiver.services import Health, Inventory, Service
from receiver.services.process import Process
from receiver.settings import PrometheusSettings
from tests import factories
from tests.chain import Exporter, Program, free_port, start_prometheus, wait_until
from tests.test_template import HOSTILE, variables
from tests.tools import REPOSITORY

EXPRESSION = 'load{service="checkout"} > 1'
SCHEMA = json.loads((REPOSITORY / "docs/schemas/snapshot.schema.json").read_text())


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Exporter() as exporter:
        exporter.set("load", 3.0, service="checkout")
        for number in range(MOST_SERIES + 10):
            exporter.set("many", number, number=str(number))
        exporter.set("odd", float("nan"))
        targets = {"app": [exporter.address]}
        with start_prometheus(tmp_path_factory.mktemp("prometheus"), targets=targets) as program:
            prometheus = Prometheus(PrometheusSettings(url=program.url))
            wait_until(lambda: len(prometheus.query("many")) > MOST_SERIES, what="scraped")
            yield program


@pytest.fixture
def prometheus(program: Program) -> Prometheus:
    return Prometheus(PrometheusSettings(url=program.url))


def context(folder: Path, **changes: Any) -> Context:
    now = time.time()
    alert = {
        "fingerprint": "0123456789abcdef",
        "labels": {"alertname": "HighCPU", "service": "checkout", "number": "59"},
        "annotations": {},
        "starts_at": now - 2,
        "expression": EXPRESSION,
    }
    values: dict[str, Any] = {"alert": alert, "now": now, "folder": folder, "value": 3.0}
    return factories.context(**(values | changes))


def taken(result: dict[str, Any]) -> dict[str, Any]:
    content = Path(result["path"]).read_bytes()
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["bytes"] == len(content)
    found = json.loads(gzip.decompress(content))
    jsonschema.validate(found, SCHEMA)
    assert isinstance(found, dict)
    return found


def test_all_parts_are_kept_in_one_file_that_only_we_can_read(
    tmp_path: Path, prometheus: Prometheus
) -> None:
    log = tmp_path / "checkout.log"
    log.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(20_000)))
    service = Service(
        name="checkout",
        manager=Process(pidfile=str(tmp_path / "none.pid"), start=("/bin/true",)),
        health=Health(url=f"http://127.0.0.1:{free_port()}/"),
        logs=str(log),
    )
    params = SnapshotParams(service="checkout", queries=("many", "odd", "nonsense("), window=60.0)
    folder = tmp_path / "data"
    result = TakeSnapshot().run(
        params,
        context(folder, prometheus=prometheus, inventory=Inventory({"checkout": service})),
    )
    assert result["path"] == str(folder / "snapshots/7-0.json.gz")
    assert stat.S_IMODE(Path(result["path"]).stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "snapshots").stat().st_mode) == 0o700
    found = taken(result)
    assert found["alert"]["labels"]["service"] == "checkout"
    assert found["value"] == 3.0

    own, many, odd = found["metrics"]
    assert own["query"] == EXPRESSION
    assert own["series"][0]["values"][-1] == 3
    assert own["end"] - own["start"] == pytest.approx(65, abs=6)
    assert len(many["series"]) == MOST_SERIES
    assert many["left_out"] == 10
    assert many["series"][0]["labels"]["number"] == "59"  # as the alert has it
    assert odd["series"][0]["values"][-1] is None

    assert found["service"]["name"] == "checkout"
    assert found["service"]["state"] == "stopped"
    assert "got no answer" in found["service"]["health"]
    assert found["logs"]["lines"][-1] == "line 19999 \ufffd"
    assert len(found["logs"]["lines"]) == LOG_LINES
    assert found["machine"]["memory_bytes"] > found["machine"]["available_bytes"] > 0
    assert list(found["missing"]) == ["metrics: nonsense("]
    assert "parse error" in found["missing"]["metrics: nonsense("]
    assert result["missing"] == found["missing"]


def test_what_cannot_be_had_is_noted_with_its_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    service = Service(
        name="checkout",
        manager=Process(pidfile=str(tmp_path / "none.pid"), start=("/bin/true",)),
        logs=str(tmp_path / "pipe"),
    )
    inventory = Inventory(
        {"checkout": service, "mute": msgspec.structs.replace(service, logs=None),
         "gone": msgspec.structs.replace(service, logs=str(tmp_path / "none.log"))}
    )  # fmt: skip
    nobody = Prometheus(PrometheusSettings(url=f"http://127.0.0.1:{free_port()}"))
    missing = {}
    for name in ("checkout", "mute", "gone"):
        made = context(tmp_path, prometheus=nobody, inventory=inventory)
        result = TakeSnapshot().run(SnapshotParams(service=name), made)
        missing[name] = taken(result)["missing"]
    assert missing["checkout"]["logs"].endswith("is no regular file")
    assert missing["mute"]["logs"] == "`logs` of checkout is not set in services.yml"
    assert missing["gone"]["logs"] == "No such file or directory"
    assert "Connection refused" in missing["gone"][f"metrics: {EXPRESSION}"]

    bare = context(tmp_path, alert={"labels": {}, "expression": None})
    found = taken(TakeSnapshot().run(SnapshotParams(), bare))
    assert set(found["missing"]) == {"expression", "metrics"}
    assert found["service"] is None
    late = taken(TakeSnapshot().run(SnapshotParams(), context(tmp_path, timeout=1e-9)))
    assert late["missing"]["machine"] == "there was no time left"
    assert late["machine"] is None


def test_an_unknown_service_and_a_folder_that_cannot_be_written_fail(tmp_path: Path) -> None:
    with pytest.raises(ActionError, match="no service 'nosuch' in services"):
        TakeSnapshot().run(SnapshotParams(service="nosuch"), context(tmp_path))
    assert not (tmp_path / "snapshots").exists()
    (tmp_path / "snapshots").write_text("in the way")
    with pytest.raises(ActionError, match="the snapshot was not written"):
        TakeSnapshot().run(SnapshotParams(), context(tmp_path))


def test_it_may_be_taken_again(tmp_path: Path) -> None:
    first = TakeSnapshot().run(SnapshotParams(), context(tmp_path))
    Path(first["path"] + ".new").write_text("half of one")
    second = TakeSnapshot().run(SnapshotParams(), context(tmp_path))
    assert second["path"] == first["path"]
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["7-0.json.gz"]
    assert TakeSnapshot().idempotent(SnapshotParams())
    assert not TakeSnapshot().undoable(SnapshotParams())
    assert not TakeSnapshot().heals


def test_a_small_log_is_whole_and_a_long_line_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    service = Service(
        name="a",
        manager=Process(pidfile=str(tmp_path / "none.pid"), start=("/bin/true",)),
        logs=str(log),
    )
    inventory = Inventory({"a": service})
    lines = {}
    for name, content in {"small": b"one\ntwo", "long": b"x" * (3 * LOG_BYTES)}.items():
        log.write_bytes(content)
        made = context(tmp_path, inventory=inventory)
        lines[name] = taken(TakeSnapshot().run(SnapshotParams(service="a"), made))["logs"]["lines"]
    assert lines == {"small": ["one", "two"], "long": ["x" * LOG_BYTES]}


def test_queries_are_checked_at_load_and_no_label_ends_their_strings() -> None:
    def problems(*queries: str) -> list[str]:
        return list(TakeSnapshot().problems(SnapshotParams(queries=queries), Inventory({})))

    assert problems('up{job="{{ labels.job }}"}') == []
    (problem,) = problems("up", "rate(")
    assert problem.startswith("queries[1]: no PromQL that can be asked")
    (problem,) = problems("{{ labels.query }")
    assert problem.startswith("queries[0]: ")
    (problem,) = TakeSnapshot().problems(SnapshotParams(service="a"), Inventory({}))
    assert problem.startswith("service: no 'a' in services.yml")

    params = SnapshotParams(queries=('up{job="{{ labels.value }}"} > 0',))
    for value in HOSTILE:
        try:
            rendered = render_params(params, variables(value=value))
        except TemplateError:
            continue
        assert isinstance(rendered, SnapshotParams)
        (query,) = rendered.queries
        assert query.startswith('up{job="')
        assert query.endswith('"} > 0')
        promql.parse(query)


def test_the_process_table_has_who_works_and_who_is_large_and_no_arguments() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass", "--password=s3cr3t"])
    big = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "x = b'x' * 2**28; print(flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def with_both(table: tuple[ProcessFigures, ...]) -> tuple[ProcessFigures, ...] | None:
        return table if {busy.pid, big.pid} <= {one.pid for one in table} else None

    try:
        assert big.stdout is not None
        big.stdout.readline()
        found = wait_until(lambda: with_both(top(TOP, over=0.3)))
    finally:
        for process in (busy, big):
            process.kill()
            process.communicate()
    table = {one.pid: one for one in found}
    assert table[busy.pid].cpu_percent > 5  # others work here too
    assert table[busy.pid].parent == os.getpid()
    assert table[busy.pid].user == os.getuid()
    assert table[big.pid].resident_bytes > 2**28
    assert len(found) <= 2 * TOP
    assert b"s3cr3t" not in msgspec.json.encode(found)


# ── beside the journal ──


def test_the_run_shows_where_it_is() -> None:
    result = {"path": "/data/snapshots/7-0.json.gz", "bytes": 4096, "sha256": "ab" * 32}
    step = {
        "index": 0, "phase": "run", "action": "snapshot", "state": "done", "startedAt": 1.0,
        "finishedAt": 2.0, "error": "", "result": result,
    }  # fmt: skip
    run = {
        "id": 7, "strategy": "s", "target": "t", "outcome": "inconclusive", "reason": "",
        "notifiedAt": 1.0, "actedAt": 1.0, "finishedAt": 2.0, "decisions": [], "steps": [step],
        "observations": [], "relapsedAt": None,
    }  # fmt: skip
    assert (
        f"snapshot: /data/snapshots/7-0.json.gz, 4096 bytes, sha256 {'ab' * 32}"
        in cli_run._text(run)
    )


def test_it_goes_with_its_run(config: Path, service: Promheal) -> None:
    folder = config / snapshots.FOLDER
    folder.mkdir()
    names = ["1-0.json.gz", "1-0.json.gz.new", "mine.json.gz", "2-0.json.gz"]
    for name in names:
        (folder / name).write_bytes(b"")
    world = service.journal
    service.intake.admit(factories.notification(factories.alert(starts_at=service.clock())))
    service.reconciler.consider(Key("latency", 'service="checkout"'))
    known = {run.id for run in world.read(lambda t: t.runs(limit=9))}
    assert 1 in known
    assert 2 not in known
    service.housekeeping.prune()
    assert sorted(path.name for path in folder.iterdir()) == [
        "1-0.json.gz",
        "1-0.json.gz.new",
        "mine.json.gz",
    ]


DIE = """\
import os, signal, sys
from pathlib import Path
from receiver import snapshots

fsync = os.fsync
at = int(sys.argv[2])
calls = 0

def die(descriptor):
    global calls
    calls += 1
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)

os.fsync = die
snapshots.keep(Path(sys.argv[1]), snapshots.Snapshot(
    run=7, step=0, strategy="new", target="t", taken_at=1.0, alert={}))
"""


@pytest.mark.parametrize("at", [1, 2])
def test_killed_while_it_is_written_there_is_a_whole_one_or_none(tmp_path: Path, at: int) -> None:
    old = snapshots.Snapshot(run=7, step=0, strategy="old", target="t", taken_at=1.0, alert={})
    path = snapshots.keep(tmp_path, old).path
    died = subprocess.run(
        [sys.executable, "-c", DIE, str(tmp_path), str(at)], check=False, timeout=60
    )
    assert died.returncode == -signal.SIGKILL
    assert snapshots.read(path).strategy == {1: "old", 2: "new"}[at]
    assert snapshots.read(snapshots.keep(tmp_path, old).path).strategy == "old"
