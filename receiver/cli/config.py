"""`promheal config alertmanager`: what Alertmanager needs to know."""

from __future__ import annotations

import click

SNIPPET = """\
# Into alertmanager.yml, before your other routes (below `route: routes:`). With `continue` they
# are asked as well, so people are told as before. One of them must match: where any route has
# taken an alert, Alertmanager does not use the root's own receiver.
- receiver: promheal
  matchers: ['service!=""']
  continue: true
  group_by: [alertname, service]
  group_wait: 0s        # told at once; promheal waits by itself where it should
  group_interval: 10s   # how soon a change, and the end, is told
  repeat_interval: 4h

# Below `receivers:`
- name: promheal
  webhook_configs:
    - url: {url}/webhook
      send_resolved: true
      max_alerts: 0     # every alert: cut-off ones are never sent again
"""


@click.group("config")
def command() -> None:
    """Write snippets for other programs' configuration."""


@command.command("alertmanager")
@click.option(
    "--web.external-url",
    "url",
    default="http://127.0.0.1:3001",
    show_default=True,
    help="Where Alertmanager reaches promheal.",
)
def alertmanager(url: str) -> None:
    """Print the route and the receiver for alertmanager.yml."""
    click.echo(SNIPPET.format(url=url.rstrip("/")), nl=False)
