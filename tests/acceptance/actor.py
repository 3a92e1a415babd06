"""What strategies do on many machines: a deed that must not be done twice.

As `actor.py FOLDER DEED SECONDS`: before anything else it appends a line to FOLDER/DEED that it
begins; then it takes that long, goes on while FOLDER/hold/DEED is there, and appends that it ends.
Each line is `WHAT RUN PID NAMESPACE TIME`. Managers of services are told no run; it is 0 then.
"""

# ruff: noqa: PTH110, PTH115
# To import pathlib takes longer than all that is done here.
from __future__ import annotations

import os
import sys
import time


def main() -> None:
    folder, deed, seconds = sys.argv[1:]
    run = os.environ.get("PROMHEAL_RUN_ID", "0")
    about = f"{run} {os.getpid()} {os.readlink('/proc/self/ns/net')}"
    log = os.open(f"{folder}/{deed}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, f"begin {about} {time.time()}\n".encode())
    time.sleep(float(seconds))
    while os.path.exists(f"{folder}/hold/{deed}"):
        time.sleep(0.05)
    os.write(log, f"end {about} {time.time()}\n".encode())


if __name__ == "__main__":
    main()
