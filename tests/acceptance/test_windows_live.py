"""Rules that look back, on a real Prometheus: no good heal is called vain, no vain one too soon.

By default the rule looks back for 20 s and is scraped each second. With WINDOW=300 SCRAPE=5 it has
the size of most public rules: `make window-sweep`.
"""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from receiver.clients.prometheus import Prometheus
from receiver.settings import PrometheusSettings
from tests.acceptance.server import Undaunted, alert
from tests.chain import free_port, start_prometheus, wait_until

WINDOW = float(os.environ.get("WINDOW", "20"))
SCRAPE = float(os.environ.get("SCRAPE", "1"))
EACH = int(os.environ.get("EACH", "20"))
SETTLE = 3.0
PATIENCE = 3 * WINDOW + 120.0
"""Seconds for anything here."""


class Shops:
    """Services that err twice a second, tell Prometheus, and can be restarted.

    That ends the errors of those whose name begins with `good`; the others err on.
    """

    def __init__(self, names: list[str]) -> None:
        self.errors = dict.fromkeys(names, 0.0)
        self.well: set[str] = set()
        self.port = free_port()
        shops = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lines = [f'errors_total{{service="{n}"}} {v}\n' for n, v in shops.errors.items()]
                self._answer("".join(lines).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                name = json.loads(body)["service"]
                if name.startswith("good"):
                    shops.well.add(name)
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.02,)),
            threading.Thread(target=self._err),
        ]

    def _err(self) -> None:
        while not self._ending.wait(0.1):
            for name in self.errors.keys() - self.well:
                self.errors[name] += 0.2

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()


GOOD, VAIN = ([f"{kind}-{n}" for n in range(EACH)] for kind in ("good", "vain"))
RULES = f"""groups: [{{name: g, rules: [{{alert: Errors,
  expr: "sum by (service) (rate(errors_total[{WINDOW:g}s])) > 0.2"}}]}}]"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """How the runs ended, in full, by service: each was restarted once."""
    folder: Path = tmp_path_factory.mktemp("windows")
    with (
        Shops(GOOD + VAIN) as shops,
        start_prometheus(
            folder,
            targets={"shops": [f"127.0.0.1:{shops.port}"]},
            rules=RULES,
            interval=f"{SCRAPE:g}s",
        ) as program,
    ):
        prometheus = Prometheus(PrometheusSettings(url=program.url))
        firing = f"count(sum by (service) (rate(errors_total[{WINDOW:g}s])) > 1)"
        wait_until(
            lambda: any(one.value == 2 * EACH for one in prometheus.query(firing)),
            within=PATIENCE,
            what="all fire",
        )
        # As long as the rule looks back, so that it has all that it can remember to forget.
        time.sleep(WINDOW)
        strategy = {
            "match": ['alertname="Errors"'],
            "target": ["service"],
            "grace_period": "1h",
            "verify": {"within": "5s", "settle": f"{SETTLE:g}s"},
            "actions": [
                {
                    "action": "http",
                    "url": f"http://127.0.0.1:{shops.port}/restart",
                    "json": {"service": "{{ labels.service }}"},
                }
            ],
        }
        with Undaunted(
            folder / "promheal",
            {"errors": strategy},
            prometheus={"url": program.url},
            http={"allow": [f"http://127.0.0.1:{shops.port}/restart"]},
        ) as promheal:
            promheal.post(*(alert("Errors", service=name) for name in GOOD + VAIN))

            def all_over() -> list[dict[str, Any]] | None:
                runs = [run for run in promheal.runs() if run["actedAt"]]
                over = [run for run in runs if run["state"] == "finished"]
                return over if len(over) == 2 * EACH else None

            runs = wait_until(all_over, within=PATIENCE, what="each run has ended")
            full = [promheal.run(run["id"]) for run in runs]
            yield {run["target"].split('"')[1]: run for run in full}


@pytest.mark.heavy
def test_every_good_heal_of_a_rule_with_a_window_is_healed(
    ended: dict[str, dict[str, Any]],
) -> None:
    assert [ended[name]["outcome"] for name in GOOD] == ["healed"] * EACH


@pytest.mark.heavy
def test_every_vain_one_is_ineffective_and_none_before_its_rule_can_tell(
    ended: dict[str, dict[str, Any]],
) -> None:
    assert [ended[name]["outcome"] for name in VAIN] == ["ineffective"] * EACH
    for name in VAIN:
        run = ended[name]
        assert run["verify"]["reach"] >= run["verifyFrom"] + WINDOW
        # Samples are counted in windows of 30 s at least, which says their distance well enough.
        assert run["verify"]["reach"] <= run["verifyFrom"] + WINDOW + 2.5 * SCRAPE
        assert run["finishedAt"] >= run["verify"]["reach"] + SETTLE
        early = [one for one in run["observations"] if one["at"] < run["verify"]["reach"]]
        assert early
        assert all("data from before the action counts until" in one["detail"] for one in early)
