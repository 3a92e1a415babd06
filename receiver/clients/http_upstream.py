"""One bounded question to an HTTP API that we depend on, and its answer or the reason for none.

Shared by prometheus.py and alertmanager.py. Every failure is an UpstreamError whose text names the
path, the status and what the other side said, and never the bearer token.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.errors import UpstreamError
from receiver.redaction import known, learn_url, redact

if TYPE_CHECKING:  # requests takes 60 ms to import, and `promheal --help` does not need it
    import requests

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of one answer; a larger one is no answer."""
MAX_MESSAGE: Final = 300
"""Characters of the other side's own words that are passed on."""

_REFUSALS: Final = frozenset({400, 422})
"""What Prometheus answers to a query that it cannot read, or cannot evaluate on its data."""

Fields = Iterable[tuple[str, str]]


class Upstream:
    """An HTTP API below one URL. Safe to use from many threads: each has its own connections."""

    def __init__(self, url: str, *, timeout: float, bearer_token_file: str | None = None) -> None:
        # Now, at the start, and not at the first question: that one stands between an alert and its
        # action.
        import requests  # noqa: F401, PLC0415  see above

        learn_url(url)
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._token_file = bearer_token_file
        self._local = threading.local()

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
        import requests  # noqa: PLC0415  see above
        import urllib3  # noqa: PLC0415

        headers = self._authorization(path)
        if body is not None:
            headers["Content-Type"] = "application/json"
        limit = self._timeout if timeout is None else min(self._timeout, timeout)
        began = time.monotonic()
        deadline = began + limit
        try:
            with self._session().request(
                method,
                self._url + path,
                params=list(params),
                data=list(form) if body is None else body,
                headers=headers,
                timeout=limit,
                # A redirect would carry the question, and perhaps the token, to another host.
                allow_redirects=False,
                stream=True,
            ) as response:
                status = response.status_code
                clock = _clock(response.headers.get("Date", ""), time.monotonic() - began)
                answer = self._read(response, path, deadline, limit)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise _too_slow(path, limit) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise UpstreamError(f"{path}: {_cause(error)}") from None
        if status != 200:
            raise UpstreamError(f"{path}: {status} {_message(answer)}".rstrip(), status=status)
        return answer, clock

    def _read(self, response: requests.Response, path: str, deadline: float, limit: float) -> bytes:
        """The whole body, within the deadline: `timeout` alone only bounds each packet.

        `iter_content` would collect packets before the deadline is looked at again.
        """
        body = bytearray()
        while chunk := response.raw.read1(65_536):
            body += chunk
            if len(body) > MAX_ANSWER:
                raise UpstreamError(f"{path}: the answer is larger than {MAX_ANSWER} bytes")
            if time.monotonic() > deadline:
                raise _too_slow(path, limit)
        return bytes(body)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            import requests  # noqa: PLC0415  see above

            session = self._local.session = requests.Session()
            # No proxy and no .netrc from the environment: what is asked stands in promheal.yml.
            session.trust_env = False
            # requests reads the whole body of a redirect to prepare what it may not send.
            session.get_redirect_target = lambda _: None  # type: ignore[assignment]  # named otherwise
            session.headers["User-Agent"] = "promheal"
            # Compressed answers could unpack to more than was read.
            session.headers["Accept-Encoding"] = "identity"
        return session

    def _authorization(self, path: str) -> dict[str, str]:
        """Read anew each time, since tokens are rotated in place."""
        if self._token_file is None:
            return {}
        try:
            token = Path(self._token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "is no ASCII text"
            raise UpstreamError(
                f"{path}: bearer_token_file {self._token_file}: {problem}"
            ) from None
        if not token or not token.isprintable():
            raise UpstreamError(f"{path}: bearer_token_file {self._token_file} holds no token")
        return {"Authorization": f"Bearer {known(token)}"}


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


def _too_slow(path: str, limit: float) -> UpstreamError:
    return UpstreamError(f"{path}: no answer within {limit:.3g}s")


def _message(body: bytes) -> str:
    """What the other side said about its refusal: from its JSON, or the first line of its text."""
    try:
        found = msgspec.json.decode(body, type=_ErrorBody | str)
        text = found if isinstance(found, str) else found.error or found.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[: 4 * MAX_MESSAGE].decode("utf-8", "replace").strip().partition("\n")[0]
    return redact(text)[:MAX_MESSAGE]


def _cause(error: BaseException) -> str:
    """The innermost reason, such as `Connection refused`; what wraps it repeats the whole URL."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (redact(text) or type(error).__name__)[:MAX_MESSAGE]
