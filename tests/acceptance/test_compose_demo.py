"""The demo of deploy/compose with its real programs and configuration; only Docker is played.

Names become addresses of loopback, a secret's place becomes a file, and a loop of the shell starts
the shop again, as Docker's `restart: always` does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml

from tests.acceptance.server import ask
from tests.chain import free_port, running
from tests.tools import REPOSITORY, tool

COMPOSE = REPOSITORY / "deploy/compose"
PORTS = {"shop": 8000, "prometheus": 9090, "alertmanager": 9093, "promheal": 3001}
MANY = yaml.safe_load((REPOSITORY / "deploy/compose-scale.yaml").read_text())["services"]
SEVERAL = {
    name: 3001 if name.startswith("receiver-") else 3002
    for name in MANY
    if name.startswith(("receiver-", "worker-"))
}

DOCKER = """\
#!/bin/sh
# Plays `docker` for deploy/compose/demo.
echo "$@" >>"$PLAYED"
case "$*" in
  info | "compose version" | *" up "* | *" logs "* | *" ps "*) exit 0 ;;
esac
while [ "$1" != exec ]; do shift; done
shift 3    # exec -T SERVICE
program=$1
shift
[ "$program" = python ] && exec "$PYTHON" "$@"
exec "$PYTHON" -m receiver "$@"
"""


class Stack:
    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        self.folder = folder
        self.ports = ports
        self.secrets = folder / "compose/secrets"

    def adapt(self, path: Path) -> None:
        """Let a file that was copied mean this machine instead of the containers."""
        text = path.read_text()
        for name, port in {**PORTS, **SEVERAL}.items():
            text = re.sub(
                rf"\b({name}|127\.0\.0\.1):{port}\b", f"127.0.0.1:{self.ports[name]}", text
            )
        for secret, name in (("promheal.token", path.stem), ("operator", "operator")):
            text = text.replace(f"/run/secrets/{secret}", str(self.secrets / f"{name}.token"))
        path.write_text(text)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    folder = tmp_path / "compose"
    shutil.copytree(COMPOSE, folder, ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(REPOSITORY / "receiver/demo/rules.yml", folder / "demo.yml")
    shutil.copytree(REPOSITORY / "rules", folder / "rules")
    made = Stack(tmp_path, {name: free_port() for name in (*PORTS, *SEVERAL)})
    for path in (*folder.glob("*.yml"), folder / "scale/prometheus.yml", folder / "demo"):
        if path.name != "demo.yml":
            made.adapt(path)
    subprocess.run([folder / "demo", "secrets"], check=True)
    return made


@pytest.fixture
def several(stack: Stack) -> Stack:
    """The same for compose-scale.yaml; its receivers' one name leads to the last of them."""
    stack.ports = {**stack.ports, "promheal": stack.ports["receiver-3"]}
    folder = stack.folder / "compose"
    shutil.copy(COMPOSE / "alertmanager.yml", folder)
    stack.adapt(folder / "alertmanager.yml")
    shutil.copy(folder / "scale/prometheus.yml", folder)
    return stack


def one(stack: Stack) -> dict[str, list[str]]:
    folder = stack.folder / "compose"
    return {
        "promheal": [
            *(sys.executable, "-m", "receiver", "serve"),
            f"--config.file={folder / 'promheal.yml'}",
            f"--web.config.file={stack.secrets / 'web.yml'}",
            f"--web.listen-address=127.0.0.1:{stack.ports['promheal']}",
            f"--storage.url=sqlite:///{stack.folder / 'promheal.db'}",
        ]
    }


def many(stack: Stack, database: str) -> dict[str, list[str]]:
    """The command lines of compose-scale.yaml, here."""
    found = {}
    for name, port in SEVERAL.items():
        text = "\n".join(MANY[name]["command"])
        for there, here in {
            "/etc/promheal/web.yml": stack.secrets / "web.yml",
            "/etc/promheal/": f"{stack.folder}/compose/",
            f"0.0.0.0:{port}": f"127.0.0.1:{stack.ports[name]}",
            "postgresql://promheal@postgres:5432/promheal": database,
            "/var/lib/promheal": stack.folder / name,
        }.items():
            assert there in text
            text = text.replace(there, str(here))
        found[name] = [sys.executable, "-m", "receiver", *text.splitlines()]
    return found


@contextmanager
def started(stack: Stack, processes: Mapping[str, list[str]]) -> Iterator[None]:
    folder, ports = stack.folder / "compose", stack.ports
    shop = f"while :; do {sys.executable} -m receiver.demo.service {ports['shop']} & wait $!; done"
    with ExitStack() as all_:
        process = subprocess.Popen(["/bin/sh", "-c", shop], cwd=REPOSITORY, start_new_session=True)
        all_.callback(process.wait)
        all_.callback(os.killpg, process.pid, 9)
        for name, argv in {
            **processes,
            "prometheus": [
                tool("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={stack.folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            ],
            "alertmanager": [
                tool("prometheus-alertmanager"),
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={stack.folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
                "--cluster.listen-address=",
            ],
        }.items():
            log = stack.folder / f"{name}.log"
            all_.enter_context(running(argv, f"http://127.0.0.1:{ports[name]}", log))
        yield


def demo(stack: Stack, path: str, *words: str) -> subprocess.CompletedProcess[str]:
    asked = "receiver-1" if "scale" in words else "promheal"
    return subprocess.run(
        [stack.folder / "compose/demo", *words],
        env={
            "PATH": path,
            "PYTHON": sys.executable,
            "PYTHONPATH": str(REPOSITORY),
            "PLAYED": str(stack.folder / "played"),
            "PROMHEAL_URL": f"http://127.0.0.1:{stack.ports[asked]}",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def played_docker(stack: Stack) -> str:
    """A PATH on which `docker` is played."""
    programs = stack.folder / "bin"
    programs.mkdir()
    (programs / "docker").write_text(DOCKER)
    (programs / "docker").chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


@pytest.mark.slow
def test_the_shop_is_made_sick_and_its_heal_is_proven(stack: Stack) -> None:
    with started(stack, one(stack)):
        done = demo(stack, played_docker(stack))
        log = (stack.folder / "promheal.log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert 'restart-shop  service="shop"  healed' in re.sub(r" +", "  ", done.stdout)
    assert "Healed, and proven by Prometheus." in done.stdout


@pytest.mark.slow
def test_three_receivers_and_two_workers_heal_it_too(several: Stack, database: str) -> None:
    """Alertmanager tells one receiver, a worker heals, and another receiver is asked."""
    with started(several, many(several, database)):
        done = demo(several, played_docker(several), "scale")
        logs = {name: (several.folder / f"{name}.log").read_text() for name in SEVERAL}
        scraped = up(several)
    assert done.returncode == 0, done.stdout + done.stderr + str(logs)
    assert 'restart-shop  service="shop"  healed' in re.sub(r" +", "  ", done.stdout)
    (acted,) = (name for name, log in logs.items() if "step started" in log)
    assert acted in {"worker-1", "worker-2"}
    assert scraped == {f"127.0.0.1:{several.ports[name]}": "1" for name in SEVERAL}
    asked = (several.folder / "played").read_text()
    assert "compose-scale.yaml exec -T receiver-1 promheal runs" in asked


def up(stack: Stack) -> dict[str, str]:
    """What Prometheus reaches of the job promheal."""
    query = urlencode({"query": 'up{job="promheal"}'})
    answer = ask(f"http://127.0.0.1:{stack.ports['prometheus']}/api/v1/query?{query}").json()
    return {one["metric"]["instance"]: one["value"][1] for one in answer["data"]["result"]}


def test_without_docker_it_says_so_and_what_to_do(stack: Stack, tmp_path: Path) -> None:
    programs = tmp_path / "few"
    programs.mkdir()
    for name in ("dirname", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = demo(stack, str(programs))
    assert done.returncode == 1
    assert (
        done.stderr
        == "compose-demo: there is no docker here. `make demo` shows the same without it.\n"
    )


def test_the_secrets_are_kept_from_others_and_from_a_second_time(stack: Stack) -> None:
    before = (stack.secrets / "operator.token").read_text()
    subprocess.run([stack.folder / "compose/demo", "secrets"], check=True)
    assert (stack.secrets / "operator.token").read_text() == before
    assert len(before) == 64
    assert stack.secrets.stat().st_mode & 0o777 == 0o700
