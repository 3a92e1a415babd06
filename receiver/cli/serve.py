"""`promheal serve`: receive, heal, prove, until SIGTERM."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click

from receiver.actions import discover
from receiver.cli import options as shared
from receiver.config_files import load
from receiver.errors import ConfigError
from receiver.journal import open_journal
from receiver.metrics import CODES
from receiver.web import create_app
from receiver.web.arbiter import Server
from receiver.web.webhook import PATH, Tell, Webhook
from receiver.web.worker import Taken
from receiver.wiring import Options, Service, build

log: Final = logging.getLogger("promheal")

SHUTDOWN: Final = 30
"""Seconds that actions under way may take after SIGTERM."""


@click.command("serve")
@shared.config_file
@click.option(
    "--web.listen-address",
    "listen",
    default="127.0.0.1:3001",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; a loopback address, since there is no access control yet.",
)
@shared.storage_url
@shared.dry_run
@shared.logging_options
def command(config_file: Path, listen: str, storage_url: str, *, dry_run: bool) -> None:
    """Receive Alertmanager's notifications on POST /webhook, heal, and prove it.

    Send SIGHUP, or POST /-/reload, to read the configuration again; SIGTERM to end.
    """
    bind = _loopback(listen)
    options = shared.options(config_file, storage_url, dry_run=dry_run)
    # What is wrong with the files is said before anything is started, with exit code 2.
    load(options.config_file, discover(), options.environ)
    open_journal(storage_url).close()
    server = Server(
        lambda: _Application(options),
        {
            "bind": [bind],
            "graceful_timeout": SHUTDOWN,
            "worker_exit": lambda _server, worker: worker.wsgi.close(),
            "proc_name": "promheal",
        },
        multiproc_dir=options.environ.get("PROMETHEUS_MULTIPROC_DIR", ""),
    )
    server.run()


class _Application:
    """The WSGI application with the hooks that the worker calls."""

    def __init__(self, options: Options) -> None:
        self._service: Service = build(options)
        self._webhook = Webhook(self._service)
        self._app = create_app(self._service, self._webhook)
        self._service.start()
        log.info("ready to receive", extra={"config": str(options.config_file)})

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        return self._app(environ, start_response)

    def take(self, request: Taken, tell: Tell) -> bool:
        """Take a notification without waiting for its commit; the worker offers each request."""
        if request.method != "POST" or request.path != PATH:
            return False
        self._webhook.answer(request.kind, request.encoding, request.body, request.sender, tell)
        return True

    def on_hup(self) -> None:
        try:
            self._service.reload()
        except ConfigError:
            return  # the service has logged it, and exports that the reload failed

    def on_refused(self, status: int) -> None:
        code = str(status)
        self._service.intake.reject(code if code in CODES else "400")

    def close(self) -> None:
        self._service.close(timeout=SHUTDOWN - 5)


def _loopback(listen: str) -> str:
    """Return *listen* if only this machine can reach it; raises ConfigError otherwise."""
    host, colon, port = listen.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--web.listen-address {listen!r}: write HOST:PORT, as 127.0.0.1:3001")
    try:
        loopback = bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        raise ConfigError(
            f"--web.listen-address {listen!r}: {bare!r} is no IP address; write 127.0.0.1:{port}"
        ) from None
    if not loopback:
        raise ConfigError(
            f"--web.listen-address {listen!r} can be reached from other machines, and this version "
            "has no access control: whoever can post alerts there can restart your services. "
            f"Listen on 127.0.0.1:{port}, and put a proxy with authentication in front of it"
        )
    return listen
