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
import resource
import ssl
import sys
from http import HTTPStatus

MAX_MEMORY = 256 * 1024 * 1024
"""Bytes that this process may have: an answer that has no end ends there."""


def main() -> int:
    _bound()
    message = json.loads(os.environ.pop("PROMHEAL_MESSAGE"))  # noqa: TID251  see above
    try:
        problem = _deliver(**message)
    except Exception as error:  # noqa: BLE001  its text may hold the URL
        problem = f"Apprise failed with {type(error).__name__}"
    sys.stdout.write(problem)
    return 1 if problem else 0


def _deliver(url: str, timeout: float, title: str = "", body: str | None = None) -> str:
    """Send it, if there is a body; return what is wrong, or an empty text."""
    answers = _listen().words
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
    service.redirects = False  # they would carry the message, and the secrets, to another host
    answers.clear()
    if service.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT):
        return ""
    return answers[-1] if answers else "it was not sent; is its URL complete?"


class _Answers(logging.Handler):
    """Keeps what came of each request, in our own words: the log's may repeat the secrets."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        match record:
            case logging.LogRecord(
                name="urllib3.connectionpool", args=(_, _, _, _, _, _, int(status), *_)
            ):
                self.words.append(f"it answered {_words(status)}")
            case logging.LogRecord(name="apprise") if (error := sys.exc_info()[0]) is not None:
                self.words.append(f"no answer: {error.__name__}")


def _listen() -> _Answers:
    """Have requests and Apprise tell of each exchange, and nobody print it."""
    answers = _Answers()
    logging.getLogger().addHandler(logging.NullHandler())
    for name in ("urllib3.connectionpool", "apprise"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [answers], False
        logger.setLevel(logging.DEBUG)
    return answers


def _bound() -> None:
    """Bound what an answer can do to this process, and have requests ask neither proxy nor .netrc.

    Whom the system trusts is trusted.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    trusted = ssl.get_default_verify_paths()
    more = {"NO_PROXY": "*", "NETRC": os.devnull}
    os.environ.update(more)  # noqa: TID251  requests reads it
    if bundle := trusted.cafile or trusted.capath:
        os.environ["REQUESTS_CA_BUNDLE"] = bundle  # noqa: TID251


def _words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


if __name__ == "__main__":
    sys.exit(main())
