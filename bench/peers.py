"""Others that start a program for an alert: Debian's `webhook`, and the floor of Python.

`webhook` (github.com/adnanh/webhook, in Go) writes nothing down and asks nobody. It parses the
JSON, holds a rule against it, and starts the program.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers import Server, free_port, running, tool

HOOK = {
    "id": "webhook",
    "execute-command": "/bin/date",
    "pass-arguments-to-command": [{"source": "string", "name": "+%s%N"}],
    "include-command-output-in-response": True,
    "trigger-rule": {
        "match": {
            "type": "value",
            "value": "BenchTimed",
            "parameter": {"source": "payload", "name": "alerts.0.labels.alertname"},
        }
    },
    "trigger-rule-mismatch-http-response-code": 200,
}


@contextmanager
def webhook(folder: Path) -> Iterator[Server]:
    """Run Debian's `webhook`; it answers when the program has ended, with what that printed."""
    program, environ = tool("webhook")
    hooks, port = folder / "hooks.json", free_port()
    hooks.write_text(json.dumps([HOOK]))
    command = [
        program, "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port), "-urlprefix", "",
    ]  # fmt: skip
    with running("webhook", command, port, "/webhook", folder, environ) as server:
        yield server


@contextmanager
def floor(folder: Path) -> Iterator[tuple[Server, Path]]:
    """Run the floor of Python; its actions leave their words in the file that comes with it."""
    port, told = free_port(), folder / "floor.told"
    command = [
        sys.executable, "-m", "bench.floor", str(port), str(folder / "floor.db"), str(told),
    ]  # fmt: skip
    environ = dict(os.environ)
    with running("Python's floor", command, port, "", folder, environ) as server:
        yield server, told
