"""The launcher of a real server is killed at random: nothing is lost, doubled, or lives on."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.server import Promheal, alert, alive
from tests.chain import wait_until
from tests.figures import Record, scaled

# Else the second kill within a minute would be the last one for that minute.
_SITE = "from receiver.process import launching; launching.PAUSE = 0.0\n"


def children(pid: int) -> list[int]:
    """Those that run the launcher's program: it, or what it has forked."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return [one for one in found if _launcher(one)]


def _launcher(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"/launcher.py\0")
    return False


def holding(folder: Path) -> list[int]:
    """The processes that an action has started in a folder."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if one.readlink() == folder:
                found.append(int(one.parent.name))
    return found


def command(folder: Path, script: str, match: str) -> dict[str, object]:
    step = {
        "action": "command",
        "argv": ["sh", "-c", script, "sh", "{{ labels.number }}"],
        "cwd": str(folder),
        "timeout": "60s",
    }
    return {
        "match": [f'alertname="{match}"'],
        "target": ["number"],
        "values": {"number": "[0-9]+"},
        "grace_period": "1h",
        "budget": [],
        "when_blind": "act",
        "actions": [step],
    }


def test_a_launcher_killed_at_random_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    (site := tmp_path / "site").mkdir()
    (site / "sitecustomize.py").write_text(_SITE)
    monkeypatch.setenv("PYTHONPATH", str(site))
    (work := tmp_path / "work").mkdir()
    (hold := tmp_path / "hold").mkdir()
    kills, posts = 0, 0
    with Promheal(
        tmp_path / "server",
        {
            "short": command(work, 'echo "$1" >> begun; sleep 0.05; echo "$1" >> ended', "Short"),
            "long": command(hold, "setsid sleep 1000 & sleep 1000", "Long"),
        },
        engine={"max_concurrent_runs": 8, "storm": {"targets": 9_999}},
    ) as server:
        while kills < scaled(4, 100):
            server.post(*(alert("Short", number=str(posts + at)) for at in range(4)))
            posts += 4
            time.sleep(random.uniform(0.0, 0.15))
            for pid in children(server.worker()):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        runs = server.finished("short", posts)
        failures = server.metric("launcher_failures_total")

        server.post(alert("Long", number="999999"))
        wait_until(lambda: len(holding(hold)) == 3, what="a program and its child run")

        def waiting() -> list[int]:
            return [child for pid in children(server.worker()) for child in children(pid)]

        wait_until(waiting, what="a supervisor waits for an order")
        all_of_it = {*children(server.worker()), *waiting(), *holding(hold)}
        server.kill9()
        wait_until(lambda: not any(map(alive, all_of_it)), what="all is over")

    record_property("kills of the launcher", kills)
    steps = [step for run in runs for step in run["steps"]]
    assert [step for step in steps if step["state"] != "done"] == []
    wanted = sorted(map(str, range(posts)))
    assert sorted((work / "begun").read_text().split()) == wanted
    assert sorted((work / "ended").read_text().split()) == wanted
    assert failures > 0
