"""The threads that answer: no connection waits for one of them while another could be started."""

from __future__ import annotations

import logging
import threading
from typing import Any, cast

import pytest

from receiver.web.server.connection import Connection
from receiver.web.server.threads import FIRST, Threads
from tests.chain import wait_until

pytestmark = pytest.mark.alone


def test_one_that_has_just_answered_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection comes when a thread has nothing to do any more, and has not said so yet."""
    over, answered = threading.Event(), 0

    def answer(conn: Connection) -> None:
        nonlocal answered
        answered += 1
        cast("threading.Event", conn).wait()

    def put(conn: threading.Event) -> None:
        threads.put(cast("Connection", conn))

    class Gate(threading.Semaphore):
        reached, opened = threading.Event(), threading.Event()

        def release(self, n: int = 1) -> None:
            self.reached.set()
            self.opened.wait()
            super().release(n)

    class Late(threading.Thread):
        def start(self) -> None:
            late.append(self)

    late: list[Late] = []
    threads = Threads(FIRST + 2, answer, logging.getLogger())
    threads.start()
    first = threading.Event()
    try:
        for conn in (first, *[over] * (FIRST - 1)):
            put(conn)
        wait_until(lambda: answered == FIRST, what="all answer")
        cast("Any", threads)._idle = Gate(0)
        first.set()
        assert Gate.reached.wait(10)
        with monkeypatch.context() as patch:
            patch.setattr(threading, "Thread", Late)
            put(over)
        Gate.opened.set()
        wait_until(lambda: answered == FIRST + 1, what="it is answered")
        super(Late, late[0]).start()
        wait_until(late[0].is_alive, what="the late one waits")

        put(over)
        put(over)
        wait_until(lambda: answered == FIRST + 3, within=5, what="each has a thread")
    finally:
        first.set()
        Gate.opened.set()
        over.set()
