"""How does a command ask a running server?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from receiver.errors import UpstreamError

F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT: Final = 10.0  # seconds

url = click.option(
    "--url",
    default="http://127.0.0.1:3001",
    show_default=True,
    envvar="PROMHEAL_URL",
    show_envvar=True,
    help="Where the server listens.",
)


def get(url: str, path: str, **query: Any) -> Any:
    """Return the JSON of a GET; raises UpstreamError with the server's own message."""
    import requests  # noqa: PLC0415  costs 60 ms, and --help needs none of it

    session = requests.Session()
    session.trust_env = False
    try:
        answer = session.get(
            url.rstrip("/") + path,
            params={name: value for name, value in query.items() if value is not None},
            timeout=TIMEOUT,
            allow_redirects=False,
        )
        body = answer.json()
    except requests.JSONDecodeError:
        raise UpstreamError(f"{url}{path} answered {answer.status_code}, and no JSON") from None
    except requests.RequestException as error:
        raise UpstreamError(
            f"{url} does not answer ({type(error).__name__}); is `promheal serve` running there? "
            "--url says where to ask"
        ) from None
    if not answer.ok:
        message = body.get("error", {}).get("message", "") if isinstance(body, dict) else ""
        raise UpstreamError(message or f"{url}{path} answered {answer.status_code}")
    return body
