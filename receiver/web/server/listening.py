"""Checks the listen address: one line says what is wrong, before gunicorn tries it five times."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Final

from receiver.errors import ConfigError
from receiver.process import table as processes

PATIENCE: Final = 1.0
"""Seconds for a previous process on the port to exit."""
_NEAR: Final = 20
"""Ports above it among which a free one is proposed."""


def refuse_what_is_taken(listen: str, host: str, port: int) -> None:
    """Raise ConfigError if we cannot listen there. *listen*: the address as it was written."""
    until = time.monotonic() + PATIENCE
    while (problem := _problem(host, port)) == errno.EADDRINUSE and time.monotonic() < until:
        time.sleep(0.1)
    if not problem:
        return
    place = f"--web.listen-address {listen}"
    if problem == errno.EADDRINUSE:
        raise ConfigError(f"{place}: {_held(port)}, or listen elsewhere, as at {_free(host, port)}")
    if problem == errno.EADDRNOTAVAIL:
        raise ConfigError(
            f"{place}: this machine has no address {host}; `ip -brief address` lists those that it "
            f"has, and 0.0.0.0:{port} is all of them"
        )
    remedy = ""
    if problem == errno.EACCES:
        remedy = f"; low ports are for root: listen at a higher one, as {_free(host, 3001)}"
    raise ConfigError(f"{place}: {os.strerror(problem)}{remedy}")


def _problem(host: str, port: int) -> int:
    """Return the errno of listening as gunicorn does; 0 for success."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
            found.listen()
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _held(port: int) -> str:
    who = processes.listener(port)
    if who is None:
        return "another program listens there; end it (as root, `ss -ltnp` names it)"
    return f"process {who.pid} ({who.name}) listens there; end it with `kill {who.pid}`"


def _free(host: str, port: int) -> str:
    """Return an address near it that is free."""
    near = next((one for one in range(port + 1, port + _NEAR) if not _problem(host, one)), port + 1)
    return f"[{host}]:{near}" if ":" in host else f"{host}:{near}"
