"""What strategies do in these tests: say that it began and that it ended.

As `spy.py FOLDER NAME [SECONDS]`: it takes that long, goes on while FOLDER/hold/NAME is there, and
fails when FOLDER/fail/NAME is. One line an event is appended to FOLDER/log; their order is the
order in which it happened.
"""

# ruff: noqa: PTH110
# To import pathlib takes longer than all that is done here.
from __future__ import annotations

import os
import sys
import time


def main() -> int:
    folder, name, *seconds = sys.argv[1:]
    about = f"{name} {os.environ['PROMHEAL_FINGERPRINT']} {os.getpid()} {os.getsid(0)}"
    known = os.environ.get("PROMHEAL_STEP_EXIT", "-")
    log = os.open(f"{folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, f"start {about} {time.time()} {known}\n".encode())
    time.sleep(float(seconds[0]) if seconds else 0.0)
    while os.path.exists(f"{folder}/hold/{name}"):
        time.sleep(0.05)
    os.write(log, f"end {about} {time.time()} {known}\n".encode())
    return int(os.path.exists(f"{folder}/fail/{name}"))


if __name__ == "__main__":
    sys.exit(main())
