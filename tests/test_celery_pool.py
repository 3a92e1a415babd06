"""The pool of a real Celery worker, over a real Redis: grown and shrunk by remote control."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.errors import ActionError
from receiver.services.workers.celery import CeleryPool
from tests.brokers import Redis, eventually, running
from tests.test_workers import Step


@pytest.fixture
def pool(redis: Redis, tmp_path: Path) -> Iterator[CeleryPool]:
    (tmp_path / "app.py").write_text(
        f"from celery import Celery\napp = Celery('app', broker={redis.url(0)!r})\n"
    )
    argv = [sys.executable, "-m", "celery", "-A", "app", "worker", "-n", "w@test", "-c", "1"]
    found = CeleryPool(broker=redis.url(0), workers=("w@test",), min=1, max=4)

    def answers() -> bool:
        try:
            return found.count(timeout=5).wanted == 1
        except ActionError:
            return False

    with running(argv, tmp_path / "celery.log", cwd=tmp_path):
        eventually(answers, "the worker answers")
        yield found


def test_a_pool_grows_and_shrinks_and_goes_back(pool: CeleryPool) -> None:
    step = Step(pool)
    assert step.run(by=2) == {"service": "shop", "before": 1, "workers": 3}
    assert step.undo() == {"restored": True, "workers": 1}
    assert list(pool.probe(timeout=5)) == []


def test_a_process_of_it_that_has_just_died_is_counted(pool: CeleryPool) -> None:
    """The pool starts it again within a second: one more of two is three, and was two again."""
    assert Step(pool).run(to=2)["workers"] == 2
    with pool._app() as app:
        found = app.control.inspect(["w@test"], timeout=5, limit=1).stats()
    for victim in found["w@test"]["pool"]["processes"]:
        os.kill(victim, signal.SIGKILL)
    assert Step(pool).run(by=1) == {"service": "shop", "before": 2, "workers": 3}


def test_a_late_answer_is_waited_for(pool: CeleryPool) -> None:
    """The node hangs for longer than a look takes, and then goes on."""
    with pool._app() as app:
        found = app.control.inspect(["w@test"], timeout=5, limit=1).stats()
    node = found["w@test"]["pid"]
    os.kill(node, signal.SIGSTOP)
    timer = threading.Timer(4.0, os.kill, (node, signal.SIGCONT))
    timer.start()
    try:
        assert Step(pool).run(by=1) == {"service": "shop", "before": 1, "workers": 2}
    finally:
        timer.join()


def test_a_node_that_does_not_answer_is_named(redis: Redis) -> None:
    nobody = CeleryPool(broker=redis.url(0), workers=("gone@test",), min=1, max=4)
    with pytest.raises(ActionError, match="no answer from gone@test; do these nodes run"):
        nobody.count(timeout=1)


def test_a_broker_that_is_not_there_tells_no_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    gone = CeleryPool(
        broker="redis://:@127.0.0.1:9/0", password_file=str(tmp_path / "password"),
        workers=("w@test",), min=1, max=4,
    )  # fmt: skip
    with pytest.raises(ActionError, match="the broker cannot be asked: ") as error:
        gone.count(timeout=2)
    assert "hunter2" not in str(error.value)
