"""One bounded question to an HTTP API that we depend on, and its answer or the reason for none.

Shared by prometheus.py and alertmanager.py. Every failure is an UpstreamError whose text names the
path, the status and what the other side said, and never a secret.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from receiver.clients.http import Fields, HTTPClient, NoReplyError
from receiver.errors import UpstreamError
from receiver.policy.http_config import PLAIN, HTTPConfig
from receiver.redaction import learn_url, redact

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of one answer; a larger one is no answer."""
MAX_MESSAGE: Final = 300
"""Characters of the other side's own words that are passed on."""

_REFUSALS: Final = frozenset({400, 422})
"""What Prometheus answers to a query that it cannot read, or cannot evaluate on its data."""


class Upstream:
    """An HTTP API below one URL. Safe to use from many threads; connections are kept."""

    def __init__(self, url: str, *, timeout: float, config: HTTPConfig = PLAIN) -> None:
        # Now, at the start, and not at the first question: that one stands between an alert and its
        # action.
        import requests  # noqa: F401, PLC0415  it takes 60 ms, and `promheal --help` needs none

        learn_url(url)
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._client = HTTPClient(config, keep_alive=True)

    def get(self, path: str, params: Fields = (), *, timeout: float | None = None) -> bytes:
        """Return the body of a 200. Raises UpstreamError for everything else.

        *timeout* bounds the question further than the one for all.
        """
        return self._ask("GET", path, params=params, timeout=timeout)[0]

    def post(self, path: str, form: Fields, *, timeout: float | None = None) -> bytes:
        """Like `get`, with the fields in the body: an expression may be longer than a URL."""
        return self._ask("POST", path, form=form, timeout=timeout)[0]

    def post_timed(self, path: str, form: Fields) -> tuple[bytes, float | None]:
        """Like `post`, and what the other side's clock showed when it was asked.

        Seconds since the epoch, at most one second early; None where the answer has no date.
        """
        return self._ask("POST", path, form=form)

    def post_json(self, path: str, value: object, *, timeout: float | None = None) -> bytes:
        """Like `get`, with *value* in the body."""
        return self._ask("POST", path, body=msgspec.json.encode(value), timeout=timeout)[0]

    def delete(self, path: str, *, timeout: float | None = None) -> bytes:
        """Like `get`, and it is gone."""
        return self._ask("DELETE", path, timeout=timeout)[0]

    def answers(self, path: str) -> bool:
        """Whether *path* is answered with a 200 now."""
        try:
            self.get(path)
        except UpstreamError:
            return False
        return True

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Fields = (),
        form: Fields = (),
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> tuple[bytes, float | None]:
        limit = self._timeout if timeout is None else min(self._timeout, timeout)
        try:
            reply = self._client.request(
                method,
                self._url + path,
                timeout=limit,
                most=MAX_ANSWER,
                headers={} if body is None else {"Content-Type": "application/json"},
                params=params,
                data=form if body is None else body,
            )
        except NoReplyError as error:
            words = f"no answer within {limit:.3g}s" if error.late else error.words
            raise UpstreamError(f"{path}: {words}") from None
        if reply.cut:
            raise UpstreamError(f"{path}: the answer is larger than {MAX_ANSWER} bytes")
        if reply.status != 200:
            text = f"{path}: {reply.status} {_message(reply.body)}"
            raise UpstreamError(text.rstrip(), status=reply.status)
        return reply.body, _clock(reply.date, reply.seconds)


class _ErrorBody(msgspec.Struct):
    error: str = ""
    """Prometheus' API."""
    message: str = ""
    """Alertmanager's API, when it cannot read the question."""


def _clock(date: str, took: float) -> float | None:
    """What the clock showed that an answer's `Date` is by, when it was asked *took* seconds ago."""
    try:
        return parsedate_to_datetime(date).timestamp() - took
    except (TypeError, ValueError, OverflowError):
        return None


def _message(body: bytes) -> str:
    """What the other side said about its refusal: from its JSON, or the first line of its text."""
    try:
        found = msgspec.json.decode(body, type=_ErrorBody | str)
        text = found if isinstance(found, str) else found.error or found.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[: 4 * MAX_MESSAGE].decode("utf-8", "replace").strip().partition("\n")[0]
    return redact(text)[:MAX_MESSAGE]
