"""A worker of a reliable queue in Redis, that hangs on a task it takes while the key `hang` exists.

    python queue_worker.py PORT

It takes from `jobs` into a list of its own, keeps `jobs:alive:NAME` while it lives, counts in
`done` what it has done, and notes it in `log`.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import redis


def main() -> None:
    client = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
    name = f"{os.getpid()}-{time.time_ns()}"

    def keep() -> None:
        beat = redis.Redis(port=int(sys.argv[1]))
        while True:
            beat.set(f"jobs:alive:{name}", 1, px=800)
            time.sleep(0.2)

    client.set(f"jobs:alive:{name}", 1, px=800)
    threading.Thread(target=keep, daemon=True).start()
    own = f"jobs:working:{name}"
    while True:
        job = client.blmove("jobs", own, 1, "RIGHT", "LEFT")
        if not isinstance(job, str):
            continue
        if client.exists("hang"):
            client.incr("hanging")
            time.sleep(600)
        with client.pipeline() as done:
            done.rpush("log", job)
            done.incr("done")
            done.lrem(own, 1, job)
            done.execute()
        time.sleep(0.05)


main()
