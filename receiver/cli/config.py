"""`promheal config`: what was loaded, routes for Alertmanager, and a first web.yml."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from receiver.cli import configurations
from receiver.cli import options as shared
from receiver.cli.loading import loaded
from receiver.errors import ConfigError

HEAD = """\
# Into alertmanager.yml, before your other routes (below `route: routes:`). With `continue` they
# are asked as well, so people are told as before. One of them must match: where any route has
# taken an alert, Alertmanager does not use the root's own receiver.
# The matchers are those of the strategies in {file}: print it again when these change.
"""
ROUTE = """\
- receiver: promheal
  matchers: {matchers}
  continue: true
  group_by: {group_by}
  group_wait: 0s        # told at once; promheal waits by itself where it should
  group_interval: 10s   # how soon a change, and the end, is told
  repeat_interval: {repeat_interval:<3}  # below engine.stale_after
"""
RECEIVER = """\

# Below `receivers:`
- name: promheal
  webhook_configs:
    - url: {url}/webhook
      send_resolved: true
      max_alerts: 0     # every alert: cut-off ones are never sent again
"""
ROUNDS: Final = 10
"""Of bcrypt, as the power of 2."""

_HEAD: Final = """\
# Who may ask promheal, and over what: promheal serve --web.config.file FILE
# In the format of Prometheus' own web configuration, with roles: webhook (POST /webhook and nothing
# else), viewer (reads everything), operator (everything). A change is in force within a second.
# Here are only hashes; the tokens were shown once, when this file was written.
"""
_TLS: Final = """
# A certificate to begin with, and the one that Alertmanager needs as ca_file:
#   openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \\
#     -keyout server.key -out server.crt -subj /CN=promheal -addext subjectAltName=DNS:HOST
# HOST is the name that stands in Alertmanager's url. Paths are relative to this file.
tls_server_config:
  cert_file: server.crt
  key_file: server.key
"""
_TOKENS: Final = (
    ("alertmanager", "webhook", "Alertmanager, for POST /webhook"),
    ("prometheus", "viewer", "Prometheus, for GET /metrics"),
    ("operator", "operator", "you: promheal status --token-file FILE"),
)
_ONCE: Final = """
These are shown once. Store each in a file that only its reader may read (mode 0600):

{tokens}
In alertmanager.yml, at promheal's webhook:

    webhook_configs:
      - url: {scheme}://HOST:3001/webhook
        http_config:
          authorization:
            credentials_file: /etc/alertmanager/promheal.token
{trust}
In prometheus.yml:

    scrape_configs:
      - job_name: promheal
        scheme: {scheme}
        authorization:
          credentials_file: /etc/prometheus/promheal.token
{scrape_trust}        static_configs:
          - targets: ["HOST:3001"]
"""


@click.group("config")
def command() -> None:
    """Show what was loaded and go back to it; write what other programs need."""


for _command in (configurations.history, configurations.diff, configurations.rollback):
    command.add_command(_command)


@command.command("alertmanager")
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False), required=False, metavar="[FILE]"
)
@shared.config_file
@click.option(
    "--web.external-url",
    "url",
    default="http://127.0.0.1:3001",
    show_default=True,
    help="Where Alertmanager reaches promheal.",
)
def alertmanager(file: Path | None, config_file: Path, url: str) -> None:
    """Print the routes and the receiver for alertmanager.yml.

    The routes lead to promheal what its strategies heal. FILE is promheal.yml, or --config.file is.
    """
    from receiver.doctor.routing import seldom, wanted  # noqa: PLC0415  100 ms, not for --help
    from receiver.policy.duration import format_duration  # noqa: PLC0415

    file = file or config_file
    found = loaded(file)
    routes = wanted(found.strategies)
    if not routes:
        raise ConfigError(f"{file} has no strategies, so no alert has to be routed to promheal")
    repeat = seldom(found.settings.engine.stale_after)
    click.echo(HEAD.format(file=os.path.relpath(file)), nl=False)
    for route in routes:
        text = ROUTE.format(
            matchers=_listed(map(_quoted, map(str, route.matchers))),
            group_by=_listed(_plain(name) for name in route.group_by),
            repeat_interval=format_duration(repeat),
        )
        click.echo(text, nl=False)
    click.echo(RECEIVER.format(url=url.rstrip("/")), nl=False)


def _listed(texts: Iterable[str]) -> str:
    return f"[{', '.join(texts)}]"


def _plain(label: str) -> str:
    """Return a label's name in YAML, quoted unless it is a plain word; `...` is not."""
    return label if re.fullmatch(r"[a-zA-Z_]\w*", label, re.ASCII) else _quoted(label)


@command.command("web")
@click.option("--user", metavar="NAME", help="Also a user with a password, who is an operator.")
@click.option(
    "--tls", is_flag=True, help="Also TLS, with server.crt and server.key beside the file."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A new file, that only you may read; otherwise it is printed.",
)
def web(user: str | None, out: Path | None, *, tls: bool) -> None:
    """Write a web configuration with fresh tokens, and show these once on standard error.

    Alertmanager's may only post alerts, Prometheus' only read, and the operator's everything.
    """
    if user is not None and (not user.isprintable() or ":" in user or not user.strip()):
        raise ConfigError(f"--user {user!r}: a name that is not empty and has no colon")
    if user in {name for name, _, _ in _TOKENS}:
        raise ConfigError(f"--user {user}: a token has this name; choose another")
    text, shown = _HEAD, ""
    text += "\nbearer_tokens:\n"
    for name, role, reader in _TOKENS:
        token = secrets.token_urlsafe(32)
        digest = hashlib.sha256(token.encode()).hexdigest()
        text += f"  - name: {name}\n    role: {role}\n    sha256: {digest}\n"
        shown += f"    {token}   {reader}\n"
    if user is not None:
        password, hashed = _password()
        name = _quoted(user)
        text += f"\nbasic_auth_users:\n  {name}: {hashed}\nroles:\n  {name}: operator\n"
        shown += f"    {password}   the password of {user}, for a browser\n"
    text += _TLS if tls else ""
    if out is None:
        click.echo(text, nl=False)
    else:
        _write(out, text)
    trust = "          tls_config: {ca_file: /etc/alertmanager/promheal.crt}\n" if tls else ""
    click.echo(
        _ONCE.format(
            tokens=shown,
            scheme="https" if tls else "http",
            trust=trust,
            scrape_trust="        tls_config: {ca_file: /etc/prometheus/promheal.crt}\n"
            if tls
            else "",
        ),
        nl=False,
        err=True,
    )
    if out is not None:
        click.echo(f"\nWritten: {out}. Then: promheal serve --web.config.file {out}", err=True)


def _password() -> tuple[str, str]:
    """Return a fresh password and its hash."""
    import bcrypt  # noqa: PLC0415  only who wants a user waits for it

    password = secrets.token_urlsafe(16)
    return password, bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _write(path: Path, text: str) -> None:
    """Write a new file that only its owner may read. Raises ConfigError."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"--out {path}: the file exists; its tokens are in use perhaps. Name another one"
        ) from None
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written: {error.strerror}") from None
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
