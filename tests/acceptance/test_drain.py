"""SIGTERM while five run and fifty are queued: none begins, none is cut off, none is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from tests.acceptance.server import PATIENCE, Spies, Undaunted, alert, strategy
from tests.chain import wait_until
from tests.figures import Record

RUNNING: Final = 5
QUEUED: Final = 50
SPY: Final = {"spy": "n[0-9]+"}


def test_sigterm_with_five_running_and_fifty_queued_loses_nothing(
    tmp_path: Path, record_property: Record
) -> None:
    spies = Spies(tmp_path / "spies")
    names = [f"n{number}" for number in range(RUNNING + QUEUED)]
    spies.hold(*names)
    server = Undaunted(
        tmp_path,
        {"x": strategy(spies.step("{{ labels.spy }}"), match="X", values=SPY)},
        engine={"max_concurrent_runs": RUNNING},
    )
    with server:
        server.post(*(alert("X", spy=name) for name in names))
        wait_until(lambda: len(spies.starts()) == RUNNING, within=PATIENCE, what="five run")
        server.until("x", lambda runs: len(runs) == len(names), "all are queued")
        server.terminate()
        refused = answered_while_it_ends(server)
        record_property("posts accepted after SIGTERM", sum(code == 202 for code in refused))
        assert len(spies.starts()) == RUNNING
        asked = time.monotonic()
        spies.release()
        assert server.ended() == 0
        record_property("seconds from the last action to the exit", time.monotonic() - asked)
        events = spies.events()
        assert len([e for e in events if e.event == "start"]) == RUNNING, "nobody began"
        record_property("running", len([e for e in events if e.event == "end"]))
        assert len([e for e in events if e.event == "end"]) == RUNNING, "and nobody was cut off"

        server.start()
        server.finished("x", len(names))
        starts = spies.starts()
        record_property("queued", QUEUED)
        record_property("lost", len(set(names) - set(starts)))
        record_property("started twice", len(starts) - len(set(starts)))
        assert sorted(starts) == sorted(names)


def answered_while_it_ends(server: Undaunted) -> list[int]:
    """Post for two seconds; 0 for whom nobody listened."""
    found: list[int] = []
    until = time.monotonic() + 2
    while time.monotonic() < until:
        try:
            found.append(server.post(alert("Late", n=str(len(found)))).status)
        except OSError:
            found.append(0)
        time.sleep(0.1)
    return found[1:]  # the first may have come before the signal
