"""Containers of a real Podman, in the states that only Podman has, and in those that pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from receiver.errors import ActionError
from receiver.services import ServiceState
from receiver.services.docker import Docker
from tests.brokers import eventually
from tests.hostile import values
from tests.podman import Podman, podman

STAYS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
IGNORES_TERM = "trap '' TERM; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman(tmp_path_factory.mktemp("podman")) as found:
        yield found


def seen(manager: Docker, until: str) -> set[str]:
    """The states that it goes through until one, as Podman calls them."""
    found: set[str] = set()

    def there() -> bool:
        detail = manager.status(timeout=5).detail
        found.add(detail.partition(" is ")[2].partition(",")[0])
        return until in found

    eventually(there, f"it is {until}")
    return found


def test_a_restart_is_done_when_another_process_runs(engine: Podman) -> None:
    web = engine.make("web", STAYS)
    before = web.status(timeout=5)
    after = web.restart(timeout=30)
    assert (before.state, after.state) == (ServiceState.RUNNING, ServiceState.RUNNING)
    assert after.pid not in {None, before.pid}


def test_a_hostile_name_is_no_container(engine: Podman, tmp_path: Path) -> None:
    """What is no name is refused when the file is read; what could be one, the engine lacks."""
    kept = engine.make("kept", STAYS)
    before = kept.status(timeout=5).pid
    for value in (*values(str(tmp_path / "canary")), "kept\n", "kept/json", "kept?x=", "../kept"):
        try:
            found = msgspec.convert({"container": value, "socket": engine.socket}, Docker)
        except msgspec.ValidationError:
            continue
        with pytest.raises(ActionError, match="the engine has no container"):
            found.restart(timeout=5)
    assert kept.status(timeout=5).pid == before
    assert not (tmp_path / "canary").exists()


def test_one_without_a_health_check_must_stay_up(engine: Podman) -> None:
    """Podman's answer has an empty `Health` for it, which was taken for a check that passed."""
    short = engine.make("short", "sleep 0.5; exit 3")
    with pytest.raises(ActionError, match=r"was restarted, but short is exited, exit code 3"):
        short.restart(timeout=30)


def test_one_that_its_policy_starts_again_and_again_does_not_run(engine: Podman) -> None:
    """At each look it runs, and each time it is another process."""
    flap = engine.make("flap", "sleep 0.5; exit 3", "--restart=always")
    with pytest.raises(ActionError, match=r"flap is not ready in time"):
        flap.restart(timeout=6)
    engine.call("rm", "--force", "--time=0", "flap")


def test_stopping_and_stopped_are_no_failures(engine: Podman) -> None:
    slow = engine.make("slow", IGNORES_TERM)
    stop = threading.Thread(target=engine.call, args=("stop", "--time=2", "slow"))
    stop.start()
    states: set[ServiceState] = set()
    names: set[str] = set()
    while "exited" not in names:
        found = slow.status(timeout=5)
        names.add(found.detail.partition(" is ")[2].partition(",")[0])
        states.add(found.state)
    stop.join()
    assert "stopping" in names
    assert states <= {ServiceState.RUNNING, ServiceState.STOPPED}, names


def test_one_that_is_being_stopped_is_restarted(engine: Podman) -> None:
    busy = engine.make("busy", IGNORES_TERM)
    before = busy.status(timeout=5).pid

    def stop() -> None:
        with suppress(AssertionError):  # it was started again under its hands
            engine.call("stop", "--time=2", "busy")

    thread = threading.Thread(target=stop)
    thread.start()
    seen(busy, "stopping")
    found = busy.restart(timeout=30)
    thread.join()
    assert found.state is ServiceState.RUNNING
    assert found.pid != before


def test_a_health_check_is_waited_for(engine: Podman) -> None:
    check = ("--health-cmd=cat /tmp/ok", "--health-interval=disable", "--health-retries=1")
    well = engine.make("well", "rm -f /tmp/ok; " + STAYS, *check)
    engine.call("healthcheck", "run", "well", check=False)
    assert well.status(timeout=5).state is ServiceState.FAILED
    done: list[float] = []

    def heal() -> None:
        time.sleep(3)
        engine.call("exec", "well", "touch", "/tmp/ok")
        done.append(time.monotonic())
        engine.call("healthcheck", "run", "well")

    thread = threading.Thread(target=heal)
    thread.start()
    found = well.restart(timeout=40)
    thread.join()
    assert found.state is ServiceState.RUNNING
    assert "health healthy" in found.detail
    assert time.monotonic() >= done[0]


def test_one_that_is_not_there_is_told(engine: Podman) -> None:
    with pytest.raises(ActionError, match=r"the engine has no container 'none'"):
        Docker(container="none", socket=engine.socket).restart(timeout=5)
