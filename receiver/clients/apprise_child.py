"""A program of its own: hands one message to one Apprise channel.

`receiver.clients.channels` runs it by path under `receiver.process`, so that a deadline ends it
whatever the other side does, and what Apprise loads and remembers is gone with it. It imports
nothing of the receiver. The message comes in the environment, where other users cannot read it, as
they could its arguments:

    PROMHEAL_MESSAGE={"url": "json://…", "title": "…", "body": "…", "timeout": 10.0}

Without a body nothing is sent, and the URL is only looked at. It ends with 0 when the message was
taken; else its output is one line in our own words: what the other side says, and what Apprise
logs, may repeat the secrets of the URL.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from http import HTTPStatus
from typing import Any

MAX_ANSWER = 1_048_576
"""Bytes of an answer that are read."""


def main() -> int:
    logging.disable()  # Apprise would log to stderr
    message = json.loads(os.environ.pop("PROMHEAL_MESSAGE"))  # noqa: TID251  see above
    try:
        problem = _deliver(**message)
    except Exception as error:  # noqa: BLE001  its text may hold the URL
        problem = f"Apprise failed with {type(error).__name__}"
    sys.stdout.write(problem)
    return 1 if problem else 0


def _deliver(url: str, timeout: float, title: str = "", body: str | None = None) -> str:
    """Send it, if there is a body; return what is wrong, or an empty text."""
    import apprise  # noqa: PLC0415  its faults are told by main

    asset = apprise.AppriseAsset(
        app_id="promheal",
        app_desc="promheal",
        app_url="",
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        return "its URL is not one that Apprise understands"
    # Those that speak HTTP import requests, and only they: nothing of this machine is called, such
    # as a program, a bus or the syslog.
    if not hasattr(sys.modules[type(service).__module__], "requests"):
        return f"{service.service_name} does not speak HTTP; take a service that does"
    if body is None:
        return ""  # only asked whether it could be sent
    service.socket_connect_timeout = service.socket_read_timeout = timeout
    answers = _bound_requests()
    if service.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT):
        return ""
    return answers[-1] if answers else "it was not sent; is its URL complete?"


def _bound_requests() -> list[str]:
    """Make requests ask neither proxy nor .netrc, follow nothing and read little.

    Return a list to which each answer, or why there is none, is added in our own words.
    """
    import requests  # noqa: PLC0415  Apprise brings it

    answers: list[str] = []

    class Bounded(requests.Session):
        def request(self, method: Any, url: Any, **options: Any) -> requests.Response:  # type: ignore[override]
            self.trust_env = False
            options.update(allow_redirects=False, stream=True)
            try:
                response = super().request(method, url, **options)
                # Kept where `content` finds it; packed as it came, or it could unpack to more.
                response._content = response.raw.read(MAX_ANSWER, decode_content=False)  # noqa: SLF001
            except Exception as error:
                answers.append(f"no answer: {type(error).__name__}")
                raise
            answers.append(f"it answered {_words(response.status_code)}")
            return response

        def get_redirect_target(self, response: requests.Response) -> None:
            del response  # requests would read it whole to prepare what is not sent

    requests.Session = requests.sessions.Session = Bounded  # type: ignore[misc]
    return answers


def _words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


if __name__ == "__main__":
    sys.exit(main())
