"""How does a command ask a running server, and what if the server says no?"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click
import msgspec

from receiver.cli.access import DEFAULT_URL, FLAGS, HOW, Access, Given, contradiction, resolve
from receiver.cli.output import say
from receiver.errors import RefusedError, UpstreamError
from receiver.log import escape

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

TIMEOUT: Final = 10.0  # seconds
MAX_ANSWER: Final = 16 * 1024 * 1024  # bytes
MAX_MESSAGE: Final = 1_000
"""Characters of the server's own words that are shown."""

_REFUSALS: Final = frozenset({403, 404, 409})
"""It was understood: not allowed, not there, or not in this state."""

_FILE: Final = click.Path(dir_okay=False)


class Server:
    """A running promheal. What goes wrong is a RefusedError, or an UpstreamError with a remedy."""

    def __init__(self, access: Access, *, timeout: float = TIMEOUT) -> None:
        self._access = access
        self._timeout = timeout

    def get(self, path: str, **query: Any) -> Any:
        """Return what JSON says; parameters that are None are left out."""
        return self._ask("GET", path, query)

    def post(self, path: str, **fields: Any) -> Any:
        """Change something; fields that are None are left out."""
        return self._ask("POST", path, body=_present(fields))

    def delete(self, path: str, **query: Any) -> Any:
        return self._ask("DELETE", path, query, body={})

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] = {},
        *,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        import requests  # noqa: PLC0415  costs 60 ms, and --help needs none of it
        import urllib3  # noqa: PLC0415

        access, deadline = self._access, time.monotonic() + self._timeout
        session = requests.Session()
        # No proxy, no .netrc and no CA bundle from the environment: who is asked and as whom stands
        # in the flags and in config.yml.
        session.trust_env = False
        # A redirect would carry the credentials to another host; requests prepares the next request
        # even where it may not follow, and reads the whole body for that.
        session.get_redirect_target = lambda _: None  # type: ignore[assignment]  # named otherwise
        session.verify = access.ca_file or True
        if access.cert_file is not None and access.key_file is not None:
            session.cert = (access.cert_file, access.key_file)
        headers = {"User-Agent": "promheal", "Accept": "application/json"}
        headers["Accept-Encoding"] = "identity"  # others could unpack to more than was read
        if body is not None:
            headers["Content-Type"] = "application/json"
        if access.authorization is not None:
            headers["Authorization"] = access.authorization
        try:
            with (
                session,
                session.request(
                    method,
                    access.url + path,
                    params=_present(query),
                    data=None if body is None else msgspec.json.encode(body),
                    headers=headers,
                    timeout=self._timeout,
                    allow_redirects=False,
                    stream=True,
                ) as answer,
            ):
                raw = self._read(answer.raw, deadline, changes=body is not None)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise self._too_slow(changes=body is not None) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise UpstreamError(f"{access.url}: {_why(error, access.url)}") from None
        return self._judge(path, answer.status_code, answer.headers.get("Location", ""), raw)

    def _read(self, raw: Any, deadline: float, *, changes: bool) -> bytes:
        """Return the whole body, within the deadline: `timeout` alone only bounds each packet."""
        body = bytearray()
        while chunk := raw.read1(65_536):
            body += chunk
            if len(body) > MAX_ANSWER:
                raise UpstreamError(
                    f"{self._access.url}: the answer is larger than {MAX_ANSWER >> 20} MiB"
                )
            if time.monotonic() > deadline:
                raise self._too_slow(changes=changes)
        return bytes(body)

    def _judge(self, path: str, status: int, location: str, raw: bytes) -> Any:
        url = self._access.url
        code, said = _error(raw)
        if status in _REFUSALS:
            raise RefusedError(said or f"{url}{path} answered {status}", status=status, code=code)
        if status == 401:
            given = self._access.authorization is not None
            problem = "does not take these credentials" if given else "wants to know who asks"
            raise UpstreamError(f"{url} {problem}{f' ({said})' if said else ''}; {HOW}")
        if 300 <= status < 400:
            raise UpstreamError(
                f"{url}{path} answered {status}: it is elsewhere, at "
                f"{escape(location[:MAX_MESSAGE]) or 'no address'}, and redirects are not "
                "followed; give the right --url"
            )
        if status >= 400:
            raise UpstreamError(f"{url}{path} answered {status}{f': {said}' if said else ''}")
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UpstreamError(
                f"{url}{path} answered {status}, and no JSON; is it promheal that listens there?"
            ) from None

    def _too_slow(self, *, changes: bool) -> UpstreamError:
        told = "; it may have been done all the same, `promheal audit` tells" if changes else ""
        return UpstreamError(f"{self._access.url}: no answer within {self._timeout:g}s{told}")


url = click.option(
    "--url",
    show_default=DEFAULT_URL,
    metavar="URL",
    help="Where the server listens; also PROMHEAL_URL.",
)


def server(function: F) -> F:
    """Add the options that say where the server is and who asks, and hand over a `server`."""

    @perhaps
    @functools.wraps(function)
    def with_server(*args: Any, server: Callable[[], Server], **kwargs: Any) -> Any:
        return function(*args, server=server(), **kwargs)

    return with_server  # type: ignore[return-value]  # the same call, with options for `server`


def perhaps(function: F) -> F:
    """Add the same options, and hand over what makes a `server`, for who does not always ask one.

    No file of who asks is read before.
    """

    @url
    @click.option("--token-file", type=_FILE, help="A bearer token; also PROMHEAL_TOKEN, itself.")
    @click.option("--user", help="Who asks; the password is in --password-file.")
    @click.option("--password-file", type=_FILE, help="The password of --user.")
    @click.option("--ca-file", type=_FILE, help="Certificates that sign the server's.")
    @click.option("--cert-file", type=_FILE, help="Our own certificate.")
    @click.option("--key-file", type=_FILE, help="The key of --cert-file.")
    @functools.wraps(function)
    def with_server(*args: Any, **kwargs: Any) -> Any:
        given = {}
        for name, flag in FLAGS.items():
            given[name] = kwargs.pop(flag.removeprefix("--").replace("-", "_"))
            if given[name] == "":
                raise click.UsageError(f"{flag} is empty")
        flags = Given(**given)
        problem = contradiction(flags, FLAGS)
        if problem:
            raise click.UsageError(problem)
        return function(*args, server=lambda: _server(flags), **kwargs)

    return with_server  # type: ignore[return-value]  # the same call, with options for `server`


def _server(flags: Given) -> Server:
    from receiver.settings import environment  # noqa: PLC0415  costs 30 ms, and --help needs none

    return Server(resolve(flags, environment(), _warn))


def segment(name: str) -> str:
    """Return *name* as one part of a path; raises UsageError for what no path can carry."""
    if name in {"", ".", ".."}:
        raise click.UsageError(f"{name!r} is no name")
    return quote(name.encode("utf-8", "surrogateescape"), safe="")


def understood(answer: Any, shape: type[T]) -> T:
    """Return *answer* as a value; raises UpstreamError when it is none, as of another version."""
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        raise UpstreamError(
            f"the server answers in words of another version ({escape(str(error))}); "
            "-o json shows them as they are"
        ) from None


def _warn(text: str) -> None:
    say(f"promheal: warning: {text}", err=True)


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


def _error(raw: bytes) -> tuple[str, str]:
    """Return the code of the server's refusal, and its own words, safe for a terminal."""
    try:
        found = msgspec.json.decode(raw, type=_Errors).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    return found.code, escape(found.message[:MAX_MESSAGE])


def _why(error: BaseException, url: str) -> str:
    """Return what stopped a request, and the remedy."""
    import ssl  # noqa: PLC0415  requests has imported it by now

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            named = cause.verify_code in {62, 64}  # of a name or an address that it is not for
            remedy = (
                "--url must name the server as its certificate does"
                if named
                else "--ca-file names the certificates that sign the server's"
            )
            return f"its certificate is not trusted: {escape(cause.verify_message)}; {remedy}"
        if isinstance(cause, ssl.SSLError):
            reason = cause.reason or "it ended without a word"
            if "ALERT" in reason or isinstance(cause, ssl.SSLEOFError):
                return f"TLS: {reason}; it may want --cert-file and --key-file"
            return f"TLS: {reason}; if the server speaks none, write http://"
    last = causes[-1]
    text = last.strerror if isinstance(last, OSError) and last.strerror else str(last)
    hint = "is `promheal serve` running there? --url says where to ask"
    if url.startswith("http:") and not isinstance(last, ConnectionRefusedError):
        hint += ", https:// if it speaks TLS"
    return f"{escape(text[:MAX_MESSAGE]) or type(last).__name__}; {hint}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        wrapped = next((one for one in error.args if isinstance(one, BaseException)), None)
        error = error.__cause__ or error.__context__ or wrapped
