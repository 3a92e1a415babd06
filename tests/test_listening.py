"""A port that somebody else has: one line says who, and both ways out of it work."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.errors import ConfigError
from receiver.process import table as processes
from receiver.web.server import listening
from receiver.web.server.listening import refuse_what_is_taken
from tests.chain import free_port

_HOLD = """\
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """One at which another process listens."""
    port = free_port()
    script = tmp_path / "holder"
    script.write_text(_HOLD)
    command = [sys.executable, str(script), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield port
        holder.kill()


def refused(port: int) -> str:
    with pytest.raises(ConfigError) as error:
        refuse_what_is_taken(f"127.0.0.1:{port}", "127.0.0.1", port)
    return str(error.value)


def test_it_is_one_line_with_exit_code_2_and_both_remedies_work(
    port: int, config: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "receiver", "serve"),
            f"--config.file={config}/promheal.yml",
            f"--storage.url=sqlite:///{tmp_path}/journal.db",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    said = re.fullmatch(
        rf"promheal: --web\.listen-address 127\.0\.0\.1:{port}: process \d+ \(holder\) "
        r"listens there; end it with `(kill \d+)`, or listen elsewhere, as at 127\.0\.0\.1:(\d+)",
        line,
    )
    assert said is not None, line
    refuse_what_is_taken("", "127.0.0.1", int(said[2]))
    subprocess.run(shlex.split(said[1]), check=True)
    refuse_what_is_taken("", "127.0.0.1", port)


def test_who_ends_meanwhile_is_waited_for(port: int) -> None:
    who = processes.listener(port)
    assert who is not None
    with subprocess.Popen(["sh", "-c", f"sleep 0.3; kill {who.pid}"]):
        refuse_what_is_taken("", "127.0.0.1", port)


def test_who_may_not_be_seen_is_another_program(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "listener", lambda _: None)
    monkeypatch.setattr(listening, "PATIENCE", 0.0)

    assert "another program listens there; end it (as root, `ss -ltnp` names it)" in refused(port)


def test_a_listener_on_ipv6_is_known_by_its_first_process() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as here:
        who = processes.listener(here.getsockname()[1])
    assert who is not None
    assert who.name


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"this machine has no address 203\.0\.113\.9; .* 0\.0\.0"
    ):
        refuse_what_is_taken("203.0.113.9:80", "203.0.113.9", 80)


def test_a_socket_that_systemd_hands_over_is_served(config: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, number = taken.getsockname()[1], taken.fileno()
        script = f'exec 3<&{number}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        with subprocess.Popen(
            [
                *("bash", "-c", script, "bash", sys.executable, "-m", "receiver", "serve"),
                f"--config.file={config}/promheal.yml",
                f"--storage.url=sqlite:///{tmp_path}/journal.db",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            pass_fds=[number],
        ) as served:
            taken.close()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=60) as answer:
                assert answer.status == 200
            served.terminate()
