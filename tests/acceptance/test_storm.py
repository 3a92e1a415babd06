"""Ten thousand alerts at once, and one alert a hundred thousand times; by default fewer."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import quantiles
from typing import Final

import pytest

from tests.acceptance.server import (
    PATIENCE,
    Promheal,
    Sender,
    Spies,
    Undaunted,
    alert,
    most_at_once,
    notification,
    only_in_a_file,
    strategy,
)
from tests.chain import wait_until
from tests.figures import Record, scaled

pytestmark = pytest.mark.alone

SENDERS: Final = 10
AT_ONCE: Final = 8
"""The default of max_concurrent_runs."""
STORM: Final = scaled(1_000, 10_000)
GROUP: Final = 50
"""Alerts in one notification, as Alertmanager groups what comes in a storm."""
DUPLICATES: Final = scaled(500, 100_000)


def sent(server: Promheal, bodies: list[bytes]) -> tuple[Counter[int], list[float]]:
    """Post all of them, some at a time; how they were answered, and after how many seconds."""

    def send(share: int) -> list[tuple[int, float]]:
        sender, found = Sender(server), []
        try:
            for body in bodies[share::SENDERS]:
                start = time.monotonic()
                code = sender.post(body)
                found.append((code, time.monotonic() - start))
            return found
        finally:
            sender.close()

    with ThreadPoolExecutor(SENDERS) as pool:
        answers = [one for share in pool.map(send, range(SENDERS)) for one in share]
    return Counter(code for code, _ in answers), [taken for _, taken in answers]


def peak(pid: int) -> float:
    """The most memory that a process ever held, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def test_a_storm_is_accepted_at_once(tmp_path: Path, record_property: Record) -> None:
    spies = Spies(tmp_path / "spies")
    strategies = {"storm": strategy(spies.step("storm", seconds=0.05), match="Storm")}
    alerts = [alert("Storm", number=str(number)) for number in range(STORM)]
    bodies = [
        json.dumps(notification(*alerts[first : first + GROUP])).encode()
        for first in range(0, STORM, GROUP)
    ]
    with Undaunted(tmp_path, strategies) as server:
        start = time.monotonic()
        answers, taken = sent(server, bodies)
        seconds = time.monotonic() - start
        record_property("alerts", STORM)
        record_property("seconds until all are accepted", seconds)
        record_property("p99 of an answer, s", quantiles(taken, n=100, method="inclusive")[98])
        assert answers == {202: len(bodies)}
        assert set(server.alerts()) == {one["fingerprint"] for one in alerts}
        wait_until(lambda: len(spies.starts()) >= 200, within=PATIENCE, what="200 are acted on")
        record_property("RSS of the worker, MiB", peak(server.worker()))
        at_once = most_at_once(spies.events())
        record_property("actions at once", at_once)
        assert 1 < at_once <= AT_ONCE


def rows(journal: Path) -> int:
    """How many rows are in all tables of a journal."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as file:
        names = file.execute("select name from sqlite_schema where type = 'table'").fetchall()
        return sum(
            file.execute(f'select count(*) from "{name}"').fetchone()[0] for (name,) in names
        )


def test_a_flood_of_one_alert_is_one_episode_one_action_and_no_row_more(
    tmp_path: Path, record_property: Record
) -> None:
    only_in_a_file("it counts the rows of the file")
    spies = Spies(tmp_path / "spies")
    with Undaunted(tmp_path, {"spike": strategy(spies.step("spike"), match="Spike")}) as server:
        body = json.dumps(notification(alert("Spike"))).encode()
        assert server.deliver(body).json()["opened"] == 1
        server.finished("spike")
        assert server.deliver(body).json()["repeated"] == 1
        before = rows(server.journal)
        answers, _ = sent(server, [body] * DUPLICATES)
        assert answers == {202: DUPLICATES}
        added = rows(server.journal) - before
        record_property("duplicates", DUPLICATES)
        record_property("episodes", len(server.alerts()))
        record_property("actions", len(spies.starts()))
        record_property("rows added", added)
        assert len(server.alerts()) == 1
        assert spies.starts() == ["spike"]
        assert server.metric("alerts_deduplicated_total", reason="repeat") == DUPLICATES + 1
        assert added <= 1, "a run that waits for its grace period at most"
