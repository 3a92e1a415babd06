"""How long does a page take on the server, with many runs in the journal? python -m bench.page"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from receiver.app import build
from receiver.bootstrap import Options
from receiver.web.flask_app import create_app
from tests.conftest import STRATEGIES
from tests.test_page import many_runs

RUNS = 10_000
ROUNDS = 20


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "promheal.yml").write_text("{}\n")
        (folder / "services.yml").write_text("services: {}\n")
        (folder / "healing_strategies.yml").write_text(STRATEGIES)
        options = Options(
            config_file=folder / "promheal.yml", storage_url=f"sqlite:///{folder}/journal.db"
        )
        service = build(options)
        client = create_app(service).test_client()
        for number in (0, RUNS):
            many_runs(service, number)
            for path in ("/", "/runs", "/strategies/latency"):
                took = []
                for _ in range(ROUNDS):
                    begin = time.perf_counter()
                    client.get(path)
                    took.append((time.perf_counter() - begin) * 1000)
                median, most = statistics.median(took), max(took)
                print(f"{number:6} runs  {path:22} median {median:5.1f} ms, most {most:5.1f} ms")
        service.journal.close()


if __name__ == "__main__":
    main()
