"""A backup while alerts come in, kill -9, and a restore elsewhere: what is there, and who acts?"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from tests.acceptance.server import Promheal, Spies, Undaunted, alert, only_in_a_file, strategy
from tests.chain import wait_until
from tests.figures import Record, scaled

SECONDS: Final = scaled(5, 60)
EACH: Final = 1 / 20
"""Seconds from one alert to the next: 1,200 a minute."""
ONE: Final = [{"runs": 1, "per": "1h"}]


class Elsewhere(Promheal):
    """On the configuration that was in the backup."""

    def configure(self, strategies: Mapping[str, Any], **settings: Any) -> None:
        pass


def promheal(*arguments: str) -> None:
    called = [sys.executable, "-m", "receiver", *arguments]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Load:
    """Alerts that come in all the time, of which one in ten is acted on."""

    def __init__(self, server: Promheal) -> None:
        self.server = server
        self.accepted: list[str] = []
        self._done = threading.Event()
        self._sender = threading.Thread(target=self._send)
        self._begun = time.monotonic()
        self.rate = 0.0
        """Alerts a minute."""

    def _send(self) -> None:
        while not self._done.wait(max(0.0, len(self.accepted) * EACH - self.seconds)):
            number = len(self.accepted)
            one = alert("Other" if number % 10 else "Acts", number=str(number))
            assert self.server.post(one).status == 202
            self.accepted.append(one["fingerprint"])

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def until(self, seconds: float) -> None:
        wait_until(lambda: self.seconds > seconds, within=seconds + 60, what=f"{seconds:g} s")

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rate = len(self.accepted) / self.seconds * 60
        self._done.set()
        self._sender.join()


def restored(backup: Path, folder: Path) -> Elsewhere:
    found = Elsewhere(folder, {})
    storage = f"--storage.url={found.storage_url}"
    promheal("restore", str(backup), storage, "--reason=the disk died", f"--config.to={folder}")
    return found.start()


def wants_to_act(server: Promheal) -> None:
    """Have another alert wait for somebody to resume it."""
    one = alert("Acts", number="new")
    assert server.post(one).status == 202
    target = f'fingerprint="{one["fingerprint"]}"'

    def paused() -> bool:
        found = server.get("/api/decisions?strategy=acts&limit=500")["decisions"]
        return any((each["target"], each["reason"]) == (target, "paused") for each in found)

    wait_until(paused, what="it wants to act, and is paused")


def test_what_was_answered_before_a_backup_is_in_it_and_nothing_acts_before_a_person_says_so(
    tmp_path: Path, record_property: Record
) -> None:
    only_in_a_file("a journal in PostgreSQL is backed up by pg_dump")
    spies = Spies(tmp_path / "spies")
    spies.hold("held")
    keys: dict[str, Any] = {"grace_period": "1s", "budget": ONE}
    strategies = {
        "held": strategy(spies.step("held"), match="Held", **keys),
        "acts": strategy(spies.step("acts"), match="Acts", **keys),
    }
    backup = tmp_path / "promheal.backup"
    with Undaunted(tmp_path / "here", strategies) as server:
        held = alert("Held")
        server.post(held)
        spies.started("held")
        with Load(server) as load:
            load.until(SECONDS * 0.6)
            before = {held["fingerprint"], *load.accepted}
            storage = f"--storage.url={server.storage_url}"
            promheal("backup", str(backup), storage, f"--config.file={server.folder}/promheal.yml")
            load.until(SECONDS)
        server.kill9()
    assert len(load.accepted) > len(before), "alerts came in all the time"

    spies.release()
    acted = len(spies.starts())
    with restored(backup, tmp_path / "elsewhere") as elsewhere:
        lost = len(before - set(elsewhere.alerts()))
        assert elsewhere.runs("held")[0]["outcome"] == "unknown"
        wants_to_act(elsewhere)
        elsewhere.kill9()
        elsewhere.start()  # a restart is nobody's word
        time.sleep(1)
        too_soon = len(spies.starts()) - acted
        assert elsewhere.ask("/api/system/heal/resume", b'{"reason": "I looked"}').status == 200
        wait_until(lambda: len(spies.starts()) > acted, within=60, what="it acts again")

    record_property("alerts a minute beside a backup", load.rate)
    record_property("lost of what was answered before it", lost)
    record_property("acts after a restore that nobody had resumed", too_soon)
    assert load.rate > 1_000
    assert (lost, too_soon) == (0, 0)
