"""No thread can be started: what is accepted is answered all the same, and acted on later."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Promheal, alert, strategy
from tests.chain import wait_until

CLIENTS = 60
LOG = {"action": "log", "message": "{{ labels.number }}"}
# For root no limit of processes holds, so Python itself says what the kernel would.
_SITE = """\
import os, threading

start = threading.Thread.start

def start_unless_exhausted(self):
    if os.path.exists({file!r}):
        raise RuntimeError("can't start new thread")
    start(self)

threading.Thread.start = start_unless_exhausted
"""


def _all_started(server: Promheal) -> bool:
    """Whether no thread has been added for a second: it is ready before it has them all."""
    tasks = Path(f"/proc/{server.worker()}/task")
    before = len(list(tasks.iterdir()))
    time.sleep(1)
    return len(list(tasks.iterdir())) == before


def test_who_is_committed_is_answered_and_what_cannot_begin_begins_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exhausted = tmp_path / "exhausted"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_SITE.format(file=str(exhausted)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    logged = strategy(LOG, match="Logged", target=["number"])

    storm = {"storm": {"targets": 1_000}}
    with Promheal(tmp_path / "server", {"logged": logged}, engine=storm) as server:
        wait_until(lambda: _all_started(server), what="the threads of the start are there")
        exhausted.touch()

        def send(number: int) -> Any:
            if number % 3 == 0:
                return server.deliver(b"no JSON").status
            cut_off = {"truncatedAlerts": 1} if number % 3 == 1 else {}
            return server.post(alert("Logged", number=str(number)), **cut_off).status

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(send, range(CLIENTS)))

        assert answers == [400, 202, 202] * (CLIENTS // 3)
        time.sleep(0.2)
        assert server.runs("logged") == [], "there is no thread to act in"
        assert server.ask("/-/ready").status == 503
        assert server.ask("/-/healthy").status == 200
        assert "can't start new thread" in server.tail()

        exhausted.unlink()
        accepted = CLIENTS // 3 * 2
        server.finished("logged", accepted)
        wait_until(lambda: server.ask("/-/ready").status == 200, what="ready")
