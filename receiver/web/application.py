"""What gunicorn runs: the service behind its WSGI application, if it may listen there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

from receiver.app import Options, Promheal, build, refuse_broken
from receiver.errors import AwayError, ConfigError
from receiver.journal import prepare_journal
from receiver.process.launching import LAUNCHING
from receiver.reporting.metrics import CODES
from receiver.settings.environment import taken
from receiver.web.access.auth import AuthMiddleware
from receiver.web.access.control import AccessControl
from receiver.web.access.exposure import ListenAddress
from receiver.web.access.reloading import ReloadingConfig
from receiver.web.access.trusted_proxies import TrustedProxies
from receiver.web.access.web_config import WebConfig
from receiver.web.flask_app import create_app, create_worker_app
from receiver.web.route_prefix import PrefixMiddleware, RoutePrefix
from receiver.web.server.answering import OfferedRequest, Reply
from receiver.web.server.arbiter import WebServer, tell_of_the_last_worker
from receiver.web.server.caretaker import LISTENERS
from receiver.web.server.listening import refuse_what_is_taken
from receiver.web.server.notify_socket import VARIABLES, NotifySocket
from receiver.web.webhook import PATH, Webhook

log: Final = logging.getLogger("promheal")

WAIT: Final = 60.0
"""Seconds to wait for a database server at the start."""
SHUTDOWN: Final = 30
"""Seconds that running actions may take after SIGTERM."""

_PREFIX: Final = ("SCRIPT_NAME",)
"""With this variable, gunicorn would answer every path that does not begin with it by 500."""
_FORWARDED_FOR: Final = "HTTP_X_FORWARDED_FOR"
_FORWARDED_PROTO: Final = "HTTP_X_FORWARDED_PROTO"
_HANDED: Final = frozenset({"LISTEN_FDS", "GUNICORN_FD", LISTENERS})
"""Variables with which systemd, or a gunicorn before us, passes on a listening socket."""


class Proxied(NamedTuple):
    """How requests come through a proxy."""

    trusted: TrustedProxies = TrustedProxies()
    prefix: RoutePrefix = RoutePrefix()


def run(
    options: Options, listen: str, web_config: Path | None, proxied: Proxied | None = None
) -> None:
    """Serve until SIGTERM. Raises ConfigError and JournalError before anything is started."""
    tell_of_the_last_worker()
    address = ListenAddress(listen)
    reloading = (
        ReloadingConfig(web_config, address.check_reload) if web_config is not None else None
    )
    config = reloading.now() if reloading else WebConfig()
    address.check(config, web_config)
    if not address.loopback and config.tls is None:
        log.warning("without tls_server_config, passwords and tokens can be read on their way")
    systemd = taken(VARIABLES)
    taken(_PREFIX)
    # A broken file fails before anything is started, with exit code 2.
    refuse_broken(options)
    if not _prepared(options.storage_url) and not (options.receives and options.works):
        raise ConfigError(
            f"--storage.url {options.storage_url}: with a file one process does it all; several "
            "share a server: --storage.url postgresql://USER@HOST/DATABASE"
        )
    server = WebServer(
        lambda: Application(
            options, reloading, systemd, proxied or Proxied(), loopback=address.loopback
        ),
        {
            "bind": [listen],
            "graceful_timeout": SHUTDOWN,
            "worker_exit": close_worker,
            "proc_name": "promheal",
            **_tls(reloading),
        },
        multiproc_dir=options.environ.get("PROMETHEUS_MULTIPROC_DIR", ""),
        kept=systemd,
    )
    if not _HANDED.intersection(options.environ):
        refuse_what_is_taken(listen, address.host, address.port)
    server.run()


def close_worker(_server: object, worker: Any) -> None:
    """Close the application, if the worker has come as far as that: gunicorn's `worker_exit`."""
    if hasattr(worker, "wsgi"):
        worker.wsgi.close()


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


def _tls(reloading: ReloadingConfig | None) -> dict[str, object]:
    """Return gunicorn's settings for TLS; none for plain HTTP."""
    if reloading is None or reloading.loaded.context is None:
        return {}
    # A file switches TLS on in gunicorn; the context then overrides what it says.
    return {
        "certfile": str(reloading.loaded.files[0]),
        "ssl_context": lambda _config, _default: reloading.context(),
    }


class Application:
    """The WSGI application with the hooks that gunicorn's worker calls."""

    def __init__(
        self,
        options: Options,
        reloading: ReloadingConfig | None,
        systemd: Mapping[str, str],
        proxied: Proxied,
        *,
        loopback: bool,
    ) -> None:
        self._service: Promheal = build(options, patient=True)
        # A process that only executes steps gets no notifications.
        self._webhook = Webhook(self._service) if options.receives else None
        self._web_config = reloading.now if reloading else WebConfig
        self._warn_of_unknown_senders()
        access = AccessControl(
            self._web_config,
            loopback=loopback,
            external_url=options.external_url,
            on_refused=lambda status: self._service.intake.reject(str(status)),
            now=self._service.clock,
        )
        app = create_worker_app(self._service)
        if self._webhook is not None:
            app = create_app(self._service, self._webhook)
        self._auth = AuthMiddleware(app, access)
        self._trusted, self._prefix = proxied
        self._served = PrefixMiddleware(self._auth, self._prefix, self._auth.added_headers)
        try:
            LAUNCHING.start()  # after gunicorn has set our limits, and before anything acts
            self._service.start()
        except BaseException:
            self._service.close(timeout=0)  # or what has been started would keep the process
            raise
        self._systemd = NotifySocket(
            systemd,
            self._service.dead,
            lambda: self._service.ready() or str(self._service.journal.condition) or "ready",
        )
        self._systemd.start()
        log.info(
            "ready to receive" if self._webhook else "ready to work",
            extra={"config": str(options.config_file)},
        )

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        peer = environ.get("REMOTE_ADDR", "")
        environ["REMOTE_ADDR"] = self._trusted.client(peer, environ.get(_FORWARDED_FOR, ""))
        environ["wsgi.url_scheme"] = self._trusted.scheme(
            peer, environ.get(_FORWARDED_PROTO, ""), environ["wsgi.url_scheme"]
        )
        return self._served(environ, start_response)

    def take(self, request: OfferedRequest, reply: Reply) -> bool:
        """Take a notification without waiting for its commit; the worker offers each request."""
        below = self._prefix.below(request.path)
        if self._webhook is None or request.method != "POST" or below != PATH:
            return False
        address = self._trusted.client(request.address, request.forwarded_for)
        request = request._replace(path=below, address=address)
        user = self._auth.admit(request, reply)
        if user is not None:
            headers = self._auth.added_headers()
            self._webhook.answer(
                request.content_type,
                request.content_encoding,
                request.body,
                request.address,
                lambda status, body: reply(status, body, headers),
                user=user,
            )
        return True

    def on_hup(self) -> None:
        try:
            self._service.reload("SIGHUP")
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
        LAUNCHING.stop()
