"""Have atheris look, guided by coverage, for what a reader of foreign bytes does not expect.

`python -m bench.fuzz payload 60`: one of tests/fuzzing.py, for a minute. atheris is no dependency,
for it has no wheel for every Python: `pip install atheris`.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

READERS = ["receiver.policy", "receiver.template", "receiver.yaml"]


def main(name: str, seconds: str) -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=READERS):
        targets = importlib.import_module("tests.fuzzing").TARGETS
    look, seeds = targets[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds}", "-max_len=4096", "-verbosity=0", corpus]
        atheris.Setup([sys.argv[0], *options], look)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
