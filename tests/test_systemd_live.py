"""A real systemd: a user manager of its own, with units in every state that is ordinary."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import receiver.services.systemd
from receiver.errors import ActionError
from receiver.services import ServiceState
from receiver.services.systemd import Systemd
from receiver.services.workers.systemd import SystemdTemplate
from tests.apart import apart
from tests.brokers import eventually
from tests.hostile import SHARPEST
from tests.test_workers import Step
from tests.tools import REPOSITORY, tool

_PLACES = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")


class Manager:
    """systemd --user, and systemctl for it."""

    def __init__(self, folder: Path, words: list[str], env: dict[str, str]) -> None:
        self.folder = folder
        self._words = words
        self._env = env
        script = folder / "systemctl"
        # The program that promheal calls, in the mounts where the manager listens.
        script.write_text(f'#!/bin/sh\nexec {" ".join([*words, tool("systemctl")])} "$@"\n')
        script.chmod(0o755)
        self.systemctl = str(script)

    def ask(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._words, tool("systemctl"), "--user", *arguments],
            env=self._env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    def ready(self) -> bool:
        return self.ask("is-active", "basic.target") == "active"

    def write(self, name: str, **lines: str) -> None:
        """Make or change a unit; `__` in a key is for one that comes twice."""
        text = "".join(f"{key.partition('__')[0]}={value}\n" for key, value in lines.items())
        (self.folder / "units" / name).write_text(f"[Service]\n{text}")
        self.ask("daemon-reload")

    def start(self, *names: str) -> None:
        self.ask("start", "--no-block", *names)

    def state(self, name: str) -> str:
        return self.ask("show", "--property=ActiveState", "--value", name)

    def reaches(self, name: str, state: str) -> None:
        eventually(lambda: self.state(name) == state, f"{name} is {state}")


def _systemd() -> tuple[str, dict[str, str]]:
    """The program, and where its libraries are."""
    tools = REPOSITORY / ".tools"
    for place in (*_PLACES, *(f"{tools}{place}" for place in _PLACES)):
        if Path(place).exists():
            libraries = [str(path) for path in tools.glob("**/lib/*/") if path.is_dir()]
            libraries += [str(path) for path in tools.glob("usr/lib/*/systemd")]
            own = place.startswith(str(tools))
            return place, {"LD_LIBRARY_PATH": ":".join(libraries)} if own else {}
    pytest.fail("systemd is not installed: run make develop", pytrace=False)


@pytest.fixture(scope="module")
def one_manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    folder = tmp_path_factory.mktemp("systemd")
    (folder / "units").mkdir()
    (folder / "units" / "basic.target").write_text("[Unit]\n")
    program, libraries = _systemd()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": "/run/user/0",
        "SYSTEMD_UNIT_PATH": f"{folder}/units",
        **libraries,
    }
    argv = [program, "--user", "--unit=basic.target"]
    with apart(argv, folder / "log", env) as words:
        found = Manager(folder, words, env)
        eventually(found.ready, f"systemd's user manager is up, see {folder}/log")
        yield found


@pytest.fixture
def manager(one_manager: Manager, monkeypatch: pytest.MonkeyPatch) -> Manager:
    monkeypatch.setattr(receiver.services.systemd, "_SYSTEMCTL", one_manager.systemctl)
    return one_manager


def unit(name: str) -> Systemd:
    return Systemd(unit=name, user=True)


# -- a unit


def test_a_restart_is_done_when_another_process_runs(manager: Manager) -> None:
    manager.write("web.service", ExecStart="/bin/sleep 600")
    web = unit("web.service")
    manager.start("web.service")
    manager.reaches("web.service", "active")
    before = web.status(timeout=10)
    after = web.restart(timeout=30)
    assert (before.state, after.state) == (ServiceState.RUNNING, ServiceState.RUNNING)
    assert after.pid not in {None, before.pid}
    assert after.pid == web.status(timeout=10).pid


def test_a_hostile_name_is_no_unit_and_no_option(manager: Manager, tmp_path: Path) -> None:
    """Most are refused when the file is read; here all are tried, past that."""
    manager.write("kept.service", ExecStart="/bin/sleep 600")
    manager.start("kept.service")
    manager.reaches("kept.service", "active")
    before = unit("kept.service").status(timeout=10).pid
    for value in ("kept.service ", *SHARPEST):
        with pytest.raises(ActionError):
            unit(value.replace("{f}", str(tmp_path / "canary"))).restart(timeout=10)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"unit": "--version"}, Systemd)
    assert unit("kept.service").status(timeout=10).pid == before
    assert not (tmp_path / "canary").exists()


def test_one_that_ends_at_once_says_how(manager: Manager) -> None:
    manager.write("bad.service", ExecStart="/bin/sh -c 'sleep 0.5; exit 3'")
    with pytest.raises(ActionError, match=r"was restarted and failed: .*result exit-code"):
        unit("bad.service").restart(timeout=30)
    assert unit("bad.service").status(timeout=10).state is ServiceState.FAILED


def test_one_that_ends_well_has_ended_too(manager: Manager) -> None:
    manager.write("done.service", ExecStart="/bin/sleep 0.3")
    began = time.monotonic()
    with pytest.raises(ActionError, match=r"was restarted and ended: .*is inactive \(dead\)"):
        unit("done.service").restart(timeout=30)
    assert time.monotonic() - began < 10


def test_one_that_is_started_again_and_again_does_not_run(manager: Manager) -> None:
    """Each time it is active for longer than a look takes."""
    manager.write(
        "flap.service", ExecStart="/bin/sh -c 'sleep 0.6; exit 3'", Restart="always",
        RestartSec="0",
    )  # fmt: skip
    path = manager.folder / "units" / "flap.service"
    path.write_text("[Unit]\nStartLimitIntervalSec=0\n" + path.read_text())
    manager.ask("daemon-reload")
    with pytest.raises(ActionError, match=r"is not active in time: .*systemd has restarted it"):
        unit("flap.service").restart(timeout=8)
    manager.ask("stop", "flap.service")


def test_one_that_is_starting_is_waited_for(manager: Manager) -> None:
    manager.write("slow.service", ExecStartPre="/bin/sleep 2", ExecStart="/bin/sleep 600")
    manager.start("slow.service")
    manager.reaches("slow.service", "activating")
    assert unit("slow.service").status(timeout=10).state is ServiceState.STARTING
    began = time.monotonic()
    assert unit("slow.service").restart(timeout=30).state is ServiceState.RUNNING
    assert time.monotonic() - began > 2
    with pytest.raises(ActionError, match=r"not active in time: .*activating \(start-pre\)"):
        unit("slow.service").restart(timeout=2)


def test_one_that_reloads_runs_and_can_be_restarted(manager: Manager) -> None:
    manager.write("load.service", ExecStart="/bin/sleep 600", ExecReload="/bin/sleep 2")
    manager.start("load.service")
    manager.reaches("load.service", "active")
    manager.ask("reload", "--no-block", "load.service")
    manager.reaches("load.service", "reloading")
    before = unit("load.service").status(timeout=10)
    assert before.state is ServiceState.RUNNING
    assert unit("load.service").restart(timeout=30).pid != before.pid


def test_one_that_is_slow_to_stop_is_not_taken_for_the_new_one(manager: Manager) -> None:
    manager.write("end.service", ExecStart="/bin/sleep 600", ExecStop="/bin/sleep 2")
    manager.start("end.service")
    manager.reaches("end.service", "active")
    before = unit("end.service").status(timeout=10)
    manager.ask("stop", "--no-block", "end.service")
    manager.reaches("end.service", "deactivating")
    after = unit("end.service").restart(timeout=30)
    assert after.state is ServiceState.RUNNING
    assert after.pid != before.pid


def test_what_cannot_be_started_says_why(manager: Manager) -> None:
    with pytest.raises(ActionError, match=r"systemd has no unit 'none.service'"):
        unit("none.service").restart(timeout=10)
    manager.write("masked.service", ExecStart="/bin/true")
    (manager.folder / "units" / "masked.service").unlink()
    (manager.folder / "units" / "masked.service").symlink_to("/dev/null")
    manager.ask("daemon-reload")
    with pytest.raises(ActionError, match=r"masked.service is masked"):
        unit("masked.service").restart(timeout=10)
    manager.write("wrong.service", Type="simple")
    with pytest.raises(ActionError, match=r"unit file of wrong.service is wrong"):
        unit("wrong.service").restart(timeout=10)


# -- instances of a template


@pytest.fixture
def mail(manager: Manager) -> Iterator[SystemdTemplate]:
    manager.write("mail@.service", ExecStart="/bin/sleep 600")
    yield SystemdTemplate(template="mail@.service", user=True, min=0, max=5)
    manager.ask("stop", *(f"mail@{number}.service" for number in range(1, 6)))
    manager.ask("reset-failed")


def up(manager: Manager, *numbers: int) -> None:
    for number in numbers:
        manager.start(f"mail@{number}.service")
        manager.reaches(f"mail@{number}.service", "active")


def test_instances_are_started_and_stopped_and_given_back(
    manager: Manager, mail: SystemdTemplate
) -> None:
    up(manager, 1, 3)
    step = Step(mail)
    assert step.run(by=2) == {"service": "shop", "before": 2, "workers": 4}
    assert step.undo() == {"restored": True, "workers": 2}
    assert mail.count(timeout=10).ready == 2
    assert list(mail.probe(timeout=10)) == []


def test_one_that_is_starting_is_counted(manager: Manager, mail: SystemdTemplate) -> None:
    """Two run and a third begins: one more is a fourth, and was the third."""
    up(manager, 1, 2)
    manager.write("mail@.service", ExecStartPre="/bin/sleep 2", ExecStart="/bin/sleep 600")
    manager.start("mail@3.service")
    manager.reaches("mail@3.service", "activating")
    result = Step(mail).run(by=1)
    assert result["before"] == 3
    assert mail.count(timeout=10).wanted == 4


def test_one_that_is_being_restarted_is_counted(manager: Manager, mail: SystemdTemplate) -> None:
    """While it stops nobody can say whether it starts again, so that is waited for."""
    manager.write("mail@.service", ExecStart="/bin/sleep 600", ExecStop="/bin/sleep 2")
    up(manager, 1, 2)
    restart = threading.Thread(target=manager.ask, args=("restart", "mail@2.service"))
    restart.start()
    manager.reaches("mail@2.service", "deactivating")
    result = Step(mail).run(by=1)
    restart.join()
    assert (result["before"], result["workers"]) == (2, 3)


def test_what_stays_down_is_not_counted(manager: Manager, mail: SystemdTemplate) -> None:
    up(manager, 1)
    manager.write("mail@.service", ExecStart="/bin/false")
    manager.start("mail@2.service")
    manager.reaches("mail@2.service", "failed")
    manager.write("mail@.service", ExecStart="/bin/sleep 600")
    assert Step(mail).run(by=1) == {"service": "shop", "before": 1, "workers": 2}


def test_one_that_cannot_live_is_told(manager: Manager, mail: SystemdTemplate) -> None:
    up(manager, 1)
    manager.write("mail@.service", ExecStart="/bin/false")
    with pytest.raises(ActionError, match="2 workers were asked for, and when time is up"):
        Step(mail, timeout=5.0).run(by=1)


def test_an_unsettled_template_says_so_when_time_is_up(
    manager: Manager, mail: SystemdTemplate
) -> None:
    manager.write("mail@.service", ExecStart="/bin/sleep 600", ExecStop="/bin/sleep 6")
    up(manager, 1)
    manager.ask("stop", "--no-block", "mail@1.service")
    manager.reaches("mail@1.service", "deactivating")
    with pytest.raises(ActionError, match=r"cannot be told in time how many .*; nothing was tou"):
        mail.count(timeout=1.5)
