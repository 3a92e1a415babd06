"""`promheal serve`: receive, heal, prove, until SIGTERM."""

from __future__ import annotations

from pathlib import Path

import click
from msgspec.structs import replace

from receiver.cli import options as shared
from receiver.web.access.trusted_proxies import TrustedProxies
from receiver.web.application import Proxied, run
from receiver.web.route_prefix import route_prefix


@click.command("serve")
@shared.config_file
@click.option(
    "--web.listen-address",
    "listen",
    default="127.0.0.1:3001",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen. Beyond this machine only with --web.config.file.",
)
@shared.web_config
@click.option(
    "--web.external-url",
    "external_url",
    metavar="URL",
    help="Where others reach it, as through a proxy on this machine: its host may be asked for, "
    "and what people are told links to it.",
)
@click.option(
    "--web.route-prefix",
    "prefix",
    metavar="PATH",
    help="What the path of every request begins with. [default: the path of --web.external-url]",
)
@click.option(
    "--web.trust-proxy",
    "proxies",
    multiple=True,
    metavar="CIDR",
    help="A proxy that says in X-Forwarded-For and X-Forwarded-Proto who its client is; may be "
    "given several times.",
)
@shared.storage_url
@shared.storage_path
@click.option(
    "--receive-only",
    is_flag=True,
    help="Accept, show and steer, and leave all work to others (promheal work) on the same server.",
)
@shared.dry_run
@shared.logging_options
def command(
    config_file: Path,
    listen: str,
    web_config: Path | None,
    external_url: str | None,
    prefix: str | None,
    proxies: tuple[str, ...],
    storage_url: str,
    storage_path: Path | None,
    *,
    receive_only: bool,
    dry_run: bool,
) -> None:
    """Receive Alertmanager's notifications on POST /webhook, heal, and prove it.

    Send SIGHUP, or POST /-/reload, to read the configuration again; SIGTERM to end.
    """
    options = shared.options(
        config_file, storage_url, dry_run=dry_run, external_url=external_url or ""
    )
    proxied = Proxied(TrustedProxies(proxies), route_prefix(prefix, external_url or ""))
    run(replace(options, data=storage_path, works=not receive_only), listen, web_config, proxied)
