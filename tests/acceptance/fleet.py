"""Receivers and workers of promheal on the hosts of an estate, and what their actions leave."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.acceptance.estate import Estate, Host, Postgres, Program
from tests.acceptance.server import PATIENCE, Answer, Served, undaunted, write_configuration
from tests.chain import wait_until

PORT: Final = 3001
TOKENS: Final = {role: f"token-of-{role}-9c41d7" for role in ("webhook", "viewer", "operator")}


class Fleet:
    """promheals that share a configuration and a journal."""

    def __init__(
        self,
        estate: Estate,
        postgres: Postgres,
        strategies: Mapping[str, Any],
        services: Mapping[str, Any] = {},
        **settings: Any,
    ) -> None:
        self.estate = estate
        self.postgres = postgres
        self.folder = estate.folder / "configuration"
        self.folder.mkdir()
        write_configuration(self.folder, *undaunted(strategies, settings), services)
        tokens = [
            {"name": role, "role": role, "sha256": hashlib.sha256(token.encode()).hexdigest()}
            for role, token in TOKENS.items()
        ]
        (self.folder / "web.yml").write_text(json.dumps({"bearer_tokens": tokens}))

    def receiver(self, host: str, *, loopback: bool = False) -> Receiver:
        place = self.estate.host(host)
        return Receiver(self, place, "serve", "--receive-only", loopback=loopback)

    def worker(self, host: str, *arguments: str) -> Worker:
        return Worker(self, self.estate.host(host), "work", *arguments)


class _Member(Program):
    """A process of the fleet; it may be asked by whoever has a token."""

    def __init__(self, fleet: Fleet, host: Host, *arguments: str, loopback: bool = False) -> None:
        super().__init__(fleet.estate, host, PORT)
        self.fleet = fleet
        self.arguments = arguments
        self._loopback = loopback

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}" if self._loopback else super().address

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "receiver", *self.arguments),
            f"--config.file={self.fleet.folder / 'promheal.yml'}",
            f"--storage.url={self.fleet.postgres.url}",
            f"--web.config.file={self.fleet.folder / 'web.yml'}",
            f"--web.listen-address={self.address}",
        ]

    def environ(self) -> Mapping[str, str]:
        return self.fleet.postgres.environ_of_clients

    def ask(self, path: str, body: bytes | None = None) -> Answer:
        by = self.host if self._loopback else self.estate.desk
        return by.ask(self.address, path, body, token=TOKENS["operator"])

    def ready(self) -> bool:
        return self.ask("/-/ready").status == 200


class Receiver(_Member, Served):
    """`promheal serve --receive-only`."""

    @property
    def webhook(self) -> str:
        return f"http://{self.address}/webhook"


class Worker(_Member):
    """`promheal work`."""


# ── what actions leave behind ──


class Line(NamedTuple):
    what: str
    run: int
    pid: int
    namespace: str
    at: float


class Deeds:
    """What actor.py did, one file a deed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "hold").mkdir(parents=True)

    def argv(self, deed: str, seconds: float = 0.0) -> list[str]:
        program = str(Path(__file__).with_name("actor.py"))
        return [sys.executable, "-I", "-S", program, str(self.folder), deed, str(seconds)]

    def step(self, deed: str, seconds: float = 0.0, **keys: Any) -> dict[str, Any]:
        return {"action": "command", "argv": self.argv(deed, seconds), "timeout": "5m", **keys}

    def hold(self, deed: str) -> None:
        (self.folder / "hold" / deed).touch()

    def release(self, deed: str) -> None:
        (self.folder / "hold" / deed).unlink()

    def of(self, deed: str) -> list[Line]:
        path = self.folder / deed
        lines = path.read_text().splitlines() if path.exists() else []
        return list(map(_line, lines))

    def begun(self, deed: str, times: int = 1) -> Line:
        """Wait until a deed has begun for the *times*-th time."""

        def begins() -> list[Line]:
            return [line for line in self.of(deed) if line.what == "begin"][times - 1 :]

        found: list[Line] = wait_until(begins, within=PATIENCE, what=f"{deed} begins")
        return found[0]

    def all(self) -> Iterator[tuple[str, list[Line]]]:
        for path in sorted(self.folder.iterdir()):
            if path.is_file():
                yield path.name, self.of(path.name)


def _line(text: str) -> Line:
    what, run, pid, namespace, at = text.split()
    return Line(what, int(run), int(pid), namespace, float(at))
