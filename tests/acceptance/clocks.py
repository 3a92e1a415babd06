"""What do the clocks of a process say before and after a second in which one of them is set?

Prints seconds as JSON: first [boot clock, monotonic clock, wall clock, local time], the last three
without the boot clock's. When a line comes in, and the waits that began in between are over, it
prints the same again, and how long each of them took.
"""

from __future__ import annotations

import json
import queue
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime


def clocks() -> tuple[float, ...]:
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    local = datetime.now().timestamp()  # noqa: DTZ005  the C library is asked in another way
    return up, time.monotonic() - up, time.time() - up, local - up


def main() -> None:
    took = []

    def measure(wait: Callable[[], object]) -> None:
        began = time.monotonic()
        with suppress(queue.Empty):
            wait()
        took.append(time.monotonic() - began)

    waits: list[Callable[[], object]] = [
        lambda: time.sleep(1),
        lambda: threading.Event().wait(1),
        lambda: queue.SimpleQueue[None]().get(timeout=1),
        lambda: select.epoll().poll(1),
        lambda: select.poll().poll(1000),
    ]
    threads = [threading.Thread(target=measure, args=[wait]) for wait in waits]
    before = clocks()
    for thread in threads:
        thread.start()
    print(json.dumps(before), flush=True)  # noqa: T201
    input()
    for thread in threads:
        thread.join()
    print(json.dumps([clocks(), took]))  # noqa: T201


if __name__ == "__main__":
    main()
