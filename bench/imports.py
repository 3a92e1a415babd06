"""What does `promheal serve` import, by size? And what does a configuration add?"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from bench.load import show

ADDED = {
    "`prometheus`, `alertmanager`, an http action": "requests",
    "settings in TOML": "tomlkit",
    "`notify`": "apprise",
    "a journal on PostgreSQL": "receiver.engine.postgres",
}
"""What a configuration may have, and the import that it is for."""
_MEASURED = """
import gc, importlib, importlib._bootstrap_external as loaders, json, sys
gc.disable()
rollup = open("/proc/self/smaps_rollup", "rb", buffering=0)

def held():
    rollup.seek(0)
    return next(int(line.split()[1]) for line in rollup.read().splitlines() if b"Pss_Anon" in line)

inner, own = [], {}

def measured(method):
    def wrapper(self, *arguments):
        before = held()
        inner.append(0)
        try:
            return method(self, *arguments)
        finally:
            grown = held() - before
            own[self.name] = own.get(self.name, 0) + grown - inner.pop()
            if inner:
                inner[-1] += grown
    return wrapper

for loader, name in (
    (loaders.SourceFileLoader, "exec_module"),
    (loaders.ExtensionFileLoader, "create_module"),
    (loaders.ExtensionFileLoader, "exec_module"),
):
    setattr(loader, name, measured(getattr(loader, name)))
start = held()
importlib.import_module(sys.argv[1])
before = held()
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps({"start": start, "added": held() - before, "own": own}))
"""
SERVER = "receiver.web.application"


def measure(*names: str) -> dict[str, Any]:
    """Import the first and then the others; return KiB of memory of its own.

    Of `start`, before; `added`, of all but the first; and `own`, of each module without what it
    imports.
    """
    argv = [sys.executable, "-c", _MEASURED, *names]
    found: dict[str, Any] = json.loads(subprocess.check_output(argv))
    return found


def group(module: str) -> str:
    top = module.partition(".")[0]
    if top == "receiver":
        return "promheal: " + ".".join(module.split(".")[1:2])
    return "Python's own library" if top in sys.stdlib_module_names else top


def by_group(rounds: int) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {}
    modules: dict[str, int] = {}
    for number in range(rounds):
        measured = measure(SERVER)
        found.setdefault("Python, before anything", []).append(measured["start"] / 1024)
        sums: dict[str, float] = {}
        for module, size in measured["own"].items():
            name = group(module)
            sums[name] = sums.get(name, 0) + size / 1024
            modules[name] = modules.get(name, 0) + (number == 0)
        for name, total in sums.items():
            found.setdefault(name, []).append(total)
    rows: list[dict[str, Any]] = [
        {
            "imported": name,
            "modules": modules.get(name, ""),
            "MiB": round(statistics.median(sizes), 1),
        }
        for name, sizes in found.items()
    ]
    large = sorted((row for row in rows if row["MiB"] >= 0.3), key=lambda row: -row["MiB"])
    small = [row for row in rows if row["MiB"] < 0.3]
    rest = sum(statistics.median(found[str(row["imported"])]) for row in small)
    return [
        *large,
        {"imported": f"{len(small)} others", "modules": "", "MiB": round(rest, 1)},
        {
            "imported": "all", "modules": sum(modules.values()),
            "MiB": round(sum(statistics.median(sizes) for sizes in found.values()), 1),
        },
    ]  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench imports", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is shown (5)")
    options = parser.parse_args(arguments)
    show("What `promheal serve` imports", by_group(options.rounds))
    rows = []
    for what, module in ADDED.items():
        sizes = [measure(SERVER, module)["added"] / 1024 for _ in range(options.rounds)]
        rows.append(
            {"with": what, "imported": module, "MiB more": round(statistics.median(sizes), 1)}
        )
    show("What a configuration adds", rows)
