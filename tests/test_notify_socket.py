"""What systemd hears, on the other end of a real socket."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import app
from receiver.engine.embedded import EmbeddedEngine
from receiver.web.server.notify_socket import NotifySocket
from tests.acceptance.server import PATIENCE, Promheal
from tests.chain import wait_until

SECOND = "1000000"  # microseconds, as WATCHDOG_USEC has them


class Systemd:
    """Listens as systemd does, and keeps the lines."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.lines: list[str] = []

    def heard(self) -> list[str]:
        while True:
            try:
                self.lines += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.lines

    def wait_for(self, line: str) -> None:
        wait_until(lambda: line in self.heard(), within=PATIENCE, what=line)

    def forget(self) -> None:
        self.heard()
        self.lines.clear()

    def variables(self, watchdog: str = SECOND) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": watchdog}


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listener = Systemd(str(tmp_path / "notify"))
    yield listener
    listener.socket.close()


def test_an_abstract_socket_is_told(tmp_path: Path) -> None:
    listener = Systemd(f"@promheal-{os.getpid()}")
    ours = NotifySocket(listener.variables("0"), str, str)
    ours.start()
    ours.close()
    listener.wait_for("READY=1")
    listener.wait_for("STOPPING=1")
    listener.socket.close()


def test_what_is_dead_is_not_called_alive_until_it_lives(systemd: Systemd) -> None:
    dead = ["the journal's thread has ended"]
    ours = NotifySocket(systemd.variables(), lambda: dead[0], lambda: "ready")
    ours.start()
    systemd.wait_for("STATUS=the journal's thread has ended")
    assert "WATCHDOG=1" not in systemd.heard()
    dead[0] = ""
    systemd.wait_for("WATCHDOG=1")
    systemd.wait_for("STATUS=ready")
    ours.close()


def test_without_a_watchdog_it_only_tells_how_it_fares(systemd: Systemd) -> None:
    ours = NotifySocket(systemd.variables("0"), str, lambda: "ready")
    ours.start()
    systemd.wait_for("STATUS=ready")
    ours.close()
    assert "WATCHDOG=1" not in systemd.heard()


def test_a_socket_that_is_gone_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = NotifySocket({"NOTIFY_SOCKET": str(tmp_path / "gone")}, str, str)
    with caplog.at_level(logging.WARNING):
        ours.start()
        ours.close()
    assert "cannot notify systemd" in caplog.text


def test_without_systemd_nothing_runs() -> None:
    ours = NotifySocket({}, str, str)
    ours.start()
    ours.close()


def test_a_service_lives_though_another_process_acts(service: app.Promheal) -> None:
    assert service.ready()
    assert service.dead() == ""


def test_a_service_whose_journal_has_ended_is_dead(service: app.Promheal) -> None:
    service.journal.close()
    assert service.dead() == "the journal's thread has ended"


def test_a_service_whose_engine_lost_a_thread_is_dead(
    service: app.Promheal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbeddedEngine, "alive", False)
    assert service.dead() == "a thread of the engine has ended"


def test_a_real_server_is_ready_lives_and_ends(
    tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in systemd.variables().items():
        monkeypatch.setenv(name, value)
    with Promheal(tmp_path / "promheal", {}) as server:
        systemd.wait_for("READY=1")
        assert systemd.lines[0] == "READY=1", "not gunicorn's, which adds a status of its own"
        assert not any("Gunicorn" in line for line in systemd.lines)
        systemd.wait_for("WATCHDOG=1")
        systemd.wait_for("STATUS=ready")
        worker = server.worker()
        os.kill(worker, signal.SIGSTOP)
        systemd.forget()
        time.sleep(1.5)
        assert systemd.heard() == [], "what hangs is not called alive"
        os.kill(worker, signal.SIGCONT)
        systemd.wait_for("WATCHDOG=1")

        assert server.stop() == 0
        systemd.wait_for("STOPPING=1")
