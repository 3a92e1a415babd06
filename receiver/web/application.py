"""What gunicorn runs: the service behind its WSGI application, if it may listen there."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from receiver.actions import discover
from receiver.app import Options, Promheal, build
from receiver.config.files import load
from receiver.errors import AwayError, ConfigError
from receiver.journal import prepare_journal
from receiver.reporting.metrics import CODES
from receiver.settings.environment import taken
from receiver.web import create_app, create_worker_app
from receiver.web.access.auth import AuthMiddleware, added
from receiver.web.access.control import AccessControl
from receiver.web.access.reloading import ReloadingConfig
from receiver.web.access.verdict import AuthRequest, Denied
from receiver.web.access.web_config import WebConfig
from receiver.web.access.web_config_file import LoadedWebConfig
from receiver.web.server.answering import OfferedRequest, Reply
from receiver.web.server.arbiter import WebServer
from receiver.web.server.listening import refuse_what_is_taken
from receiver.web.server.notify_socket import VARIABLES, NotifySocket
from receiver.web.webhook import PATH, Webhook

log: Final = logging.getLogger("promheal")

WAIT: Final = 60.0
"""Seconds to wait for a database server at the start."""
SHUTDOWN: Final = 30
"""Seconds that running actions may take after SIGTERM."""

_HANDED: Final = frozenset({"LISTEN_FDS", "GUNICORN_FD"})
"""Variables with which systemd, or a gunicorn before us, passes on a listening socket."""

_REMEDY: Final = """\
Have every caller say who it is:

    promheal config web --out web.yml
    promheal serve --web.config.file web.yml --web.listen-address {listen}

That writes tokens for Alertmanager, for Prometheus and for you into a file as this one, which you
can also write yourself:

    bearer_tokens:
      # A token: openssl rand -hex 32 > token. Its hash: tr -d '\\n' < token | sha256sum
      - {{name: alertmanager, role: webhook, sha256: ""}}
      - {{name: me, role: operator, sha256: ""}}
    tls_server_config:
      cert_file: server.crt
      key_file: server.key"""


def run(options: Options, listen: str, web_config: Path | None) -> None:
    """Serve until SIGTERM. Raises ConfigError and JournalError before anything is started."""
    watched = None
    if web_config is not None:
        watched = ReloadingConfig(web_config, lambda old, new: _may_replace(listen, old, new))
    config = watched.now() if watched else WebConfig()
    _refuse_to_be_open(listen, config, web_config)
    if not _is_loopback(listen) and config.tls is None:
        log.warning("without tls_server_config, passwords and tokens can be read on their way")
    systemd = taken(VARIABLES)
    # A broken file fails before anything is started, with exit code 2.
    load(options.config_file, discover(), options.environ)
    if not _prepared(options.storage_url) and not (options.receives and options.works):
        raise ConfigError(
            f"--storage.url {options.storage_url}: with a file one process does it all; several "
            "share a server: --storage.url postgresql://USER@HOST/DATABASE"
        )
    server = WebServer(
        lambda: Application(options, watched, systemd, loopback=_is_loopback(listen)),
        {
            "bind": [listen],
            "graceful_timeout": SHUTDOWN,
            "worker_exit": lambda _server, worker: worker.wsgi.close(),
            "proc_name": "promheal",
            **_tls(watched),
        },
        multiproc_dir=options.environ.get("PROMETHEUS_MULTIPROC_DIR", ""),
    )
    if not _HANDED.intersection(options.environ):
        refuse_what_is_taken(listen, *_address(listen))
    server.run()


def _prepared(url: str) -> bool:
    """Prepare the journal, and return whether it is shared.

    Waits for a database server that is away, as after a power cut.
    """
    until = monotonic() + WAIT
    while True:
        try:
            return prepare_journal(url)
        except AwayError as error:
            if monotonic() > until:
                raise
            log.warning("waiting for the journal: %s", error)
            sleep(1.0)


def _tls(watched: ReloadingConfig | None) -> dict[str, object]:
    """Return gunicorn's settings for TLS; none for plain HTTP."""
    if watched is None or watched.loaded.context is None:
        return {}
    # A file switches TLS on in gunicorn; the context then overrides what it says.
    return {
        "certfile": str(watched.loaded.files[0]),
        "ssl_context": lambda _config, _default: watched.context(),
    }


class Application:
    """The WSGI application with the hooks that gunicorn's worker calls."""

    def __init__(
        self,
        options: Options,
        watched: ReloadingConfig | None,
        systemd: Mapping[str, str],
        *,
        loopback: bool,
    ) -> None:
        self._service: Promheal = build(options, patient=True)
        # A process that only executes steps gets no notifications.
        self._webhook = Webhook(self._service) if options.receives else None
        self._web_config = watched.now if watched else WebConfig
        self._warn_of_unknown_senders()
        self._access = AccessControl(
            self._web_config,
            loopback=loopback,
            external_url=options.external_url,
            on_refused=lambda status: self._service.intake.reject(str(status)),
        )
        app = create_worker_app(self._service)
        if self._webhook is not None:
            app = create_app(self._service, self._webhook)
        self._app = AuthMiddleware(app, self._access)
        try:
            self._service.start()
        except BaseException:
            self._service.close(timeout=0)  # or what has been started would keep the process
            raise
        self._systemd = NotifySocket(
            systemd, self._service.dead, lambda: self._service.ready() or "ready"
        )
        self._systemd.start()
        log.info(
            "ready to receive" if self._webhook else "ready to work",
            extra={"config": str(options.config_file)},
        )

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        return self._app(environ, start_response)

    def take(self, request: OfferedRequest, reply: Reply) -> bool:
        """Take a notification without waiting for its commit; the worker offers each request."""
        if self._webhook is None or request.method != "POST" or request.path != PATH:
            return False
        verdict = self._access.judge(
            AuthRequest(
                method=request.method,
                path=request.path,
                authorization=request.authorization,
                address=request.address,
                host=request.host,
                origin=request.origin,
                site=request.site,
            )
        )
        headers = added(self._access.headers)
        if isinstance(verdict, Denied):
            reply(verdict.status, verdict.body, [*verdict.headers, *headers])
        else:
            self._webhook.answer(
                request.content_type,
                request.content_encoding,
                request.body,
                request.address,
                lambda status, body: reply(status, body, headers),
                user=verdict.name,
            )
        return True

    def on_hup(self) -> None:
        try:
            self._service.reload()
        except ConfigError:
            return  # the service has logged it, and exports that the reload failed
        self._warn_of_unknown_senders()

    def _warn_of_unknown_senders(self) -> None:
        """Warn of trusted senders that no client can be: after a typo, runs would wait for ever."""
        known = self._web_config().names
        trusted = self._service.config.trusted
        for name in sorted(trusted - known) if known is not None else ():
            log.warning(
                "prometheus.trusted_senders names %r, who is no user, token or client certificate "
                "of --web.config.file, so its expressions never count",
                name,
            )

    def on_refused(self, status: int) -> None:
        code = str(status)
        self._service.intake.reject(code if code in CODES else "400")

    def close(self) -> None:
        self._systemd.close()
        self._service.close(timeout=SHUTDOWN - 5)


def _address(listen: str) -> tuple[str, int]:
    """Return host and port. Raises ConfigError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--web.listen-address {listen!r}: write HOST:PORT, as 127.0.0.1:3001")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_loopback(listen: str) -> bool:
    """Whether only this machine can reach *listen*. Raises ConfigError if it is none."""
    bare, port = _address(listen)
    try:
        return bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        raise ConfigError(
            f"--web.listen-address {listen!r}: {bare!r} is no IP address; write 127.0.0.1:{port}, "
            f"or 0.0.0.0:{port} for every address of this machine"
        ) from None


def _refuse_to_be_open(listen: str, config: WebConfig, web_config: Path | None) -> None:
    """Raise ConfigError if anybody who reaches this machine could restart its services."""
    if config.restricts or _is_loopback(listen):
        return
    file = web_config or "web.yml"
    more = (
        "TLS alone keeps nobody out. " if config.tls else ""
    ) + f"{file} names no users, no tokens and no client certificates. "
    raise ConfigError(
        f"--web.listen-address {listen!r} can be reached from other machines, and this server "
        "has no access control: whoever can post alerts there can restart your services. "
        f"{more if web_config else ''}{_REMEDY.format(listen=listen)}"
    )


def _may_replace(listen: str, old: LoadedWebConfig, new: LoadedWebConfig) -> None:
    """Raise ConfigError if a running server cannot apply *new*."""
    if (old.context is None) != (new.context is None):
        raise ConfigError("TLS is switched on and off by a restart; take it then, or undo it")
    if not (new.config.restricts or _is_loopback(listen)):
        raise ConfigError(
            f"it would open {listen} to everybody: it names no users, no tokens and no client "
            "certificates"
        )
