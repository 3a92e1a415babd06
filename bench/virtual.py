"""What does virtual time cost? `make bench ARGS=virtual`: 10,000 episodes of 30 days, twice.

The strategies are those of configs/. Of the alerts, most are ended by the action, some end by
themselves and some do not end for ten minutes. Both runs must leave the same journal to the byte.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import resource
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from receiver.actions import Actions, discover
from receiver.config.files import load
from receiver.simulation.course import Course
from receiver.simulation.script import Heals, Script, ScriptedAlert
from receiver.simulation.world import VirtualWorld
from receiver.testing.file import MONDAY

DAYS: Final = 30
SERVICES: Final = 100
INTERVAL: Final = 15.0
_ALERTS: Final = {"HighMemory": "restart_service", "QueueStuck": "redistribute_tasks",
                  "HighLatency": "scale_workers", "HighCPU": "restart_if_critical"}  # fmt: skip


def script(episodes: int, seed: int) -> Script:
    """Return a month in which so many alerts begin, evenly over the services."""
    chance = random.Random(seed)
    number = max(1, episodes // SERVICES)
    space = DAYS * 86_400.0 / number
    alerts = []
    for service in range(SERVICES):
        name = list(_ALERTS)[service % len(_ALERTS)]
        changes: list[tuple[float, float | str | None]] = [(0.0, 0.0)]
        for episode in range(number):
            begins = (episode + chance.uniform(0.0, 0.5)) * space // INTERVAL * INTERVAL
            lasts = chance.choice([120.0, 300.0, 600.0, 600.0])
            changes += [(begins, 1.0), (begins + min(lasts, space / 3), 0.0)]
        heals = Heals(action=_ALERTS[name], after=chance.choice([20.0, 60.0]), lasts=space / 3)
        alerts.append(
            ScriptedAlert(
                labels={"alertname": name, "service": f"s{service}", "severity": "critical"},
                course=Course(changes),
                heals=(heals,) if service % 5 else (),
            )
        )
    return Script(interval=INTERVAL, alerts=tuple(alerts))


def month(actions: Actions, episodes: int, seed: int) -> tuple[float, Counter[str], str]:
    """Return the CPU seconds, how the runs ended, and a digest of the journal."""
    loaded = load(Path("configs/promheal.yml"), actions, {})
    before = time.process_time()
    world = VirtualWorld(loaded, script(episodes, seed), actions=actions, start=MONDAY, skips=True)
    world.run(world.start + DAYS * 86_400.0)
    spent = time.process_time() - before
    whole = hashlib.sha256()

    def read(t: object) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        for table in ("episode", "decision", "run", "step", "observation", "total"):
            for rows in t.dump(table, 1_000):  # type: ignore[attr-defined]
                for row in rows:
                    # When a total came up is by the database's clock, so that it is left out.
                    said = dict(zip(row.keys(), row, strict=True))
                    said.pop("since", None)
                    whole.update(repr(said).encode())
                    if table == "run":
                        outcomes[row["outcome"] or row["state"]] += 1
        return outcomes

    return spent, world.journal.read(read), whole.hexdigest()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench virtual")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    actions = discover()
    found = [month(actions, given.episodes, given.seed) for _ in range(2)]
    for spent, outcomes, digest in found:
        ended = ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items()))
        print(
            f"{given.episodes:,} episodes of {DAYS} days: {spent:.1f} CPU-s, "
            f"{1000 * spent / given.episodes:.2f} ms each; {ended}; journal {digest[:16]}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    same = "the same bytes" if found[0][1:] == found[1][1:] else "DIFFERENT bytes"
    print(f"both: {same}; {peak:.0f} MiB at most")
