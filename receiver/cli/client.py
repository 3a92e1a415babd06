"""How does a command ask a running server, and what if the server says no?"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import click
import msgspec

from receiver.cli.access import DEFAULT_URL, FLAGS, HOW, Access, Given, contradiction, resolve
from receiver.cli.called import called
from receiver.cli.output import say
from receiver.errors import RefusedError, UpstreamError
from receiver.log import escape
from receiver.policy.http_config import HTTPConfig, TLSConfig

if TYPE_CHECKING:  # it imports ssl, and `promheal --help` does not need it
    from receiver.clients.http import NoReplyError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

TIMEOUT: Final = 10.0  # seconds
MAX_ANSWER: Final = 16 * 1024 * 1024  # bytes
MAX_MESSAGE: Final = 1_000
"""Characters of the server's own words that are shown."""

NO_SUCH_PATH: Final = "no_such_path"
"""The code of an answer to a request for what promheal does not serve."""
_REFUSALS: Final = frozenset({403, 404, 409})
"""It was understood: not allowed, not there, or not in this state."""

_TITLE: Final = re.compile(r"<title[^>]*>\s*([^<]{1,100})", re.IGNORECASE)
_SHOWN: Final = 100
"""Characters of what a stranger says of itself."""

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
        access = self._access
        headers = {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if access.authorization is not None:
            headers["Authorization"] = access.authorization
        return self._judge(path, *self._sent(method, path, query, headers, body))

    def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] = {},
        headers: Mapping[str, str] = {},
        body: Mapping[str, Any] | None = None,
    ) -> tuple[int, str, bytes]:
        """Return the status of the answer, where it says that it is instead, and its body."""
        from receiver.clients.http import HTTPClient, NoReplyError  # noqa: PLC0415  see above

        access = self._access
        changes = body is not None
        tls = TLSConfig(
            ca_file=access.ca_file, cert_file=access.cert_file, key_file=access.key_file
        )
        try:
            with HTTPClient(HTTPConfig(tls_config=tls)) as client:
                reply = client.request(
                    method,
                    access.url + path,
                    timeout=self._timeout,
                    most=MAX_ANSWER,
                    headers={"Accept": "application/json", **headers},
                    params=[(name, str(value)) for name, value in _present(query).items()],
                    data=None if body is None else msgspec.json.encode(body),
                )
        except NoReplyError as error:
            if error.late:
                raise self._too_slow(changes=changes) from None
            raise UpstreamError(f"{access.url}: {_why(error, access.url)}") from None
        if reply.cut:
            raise UpstreamError(f"{access.url}: the answer is larger than {MAX_ANSWER >> 20} MiB")
        return reply.status, reply.location, reply.body

    def _judge(self, path: str, status: int, location: str, raw: bytes) -> Any:
        url = self._access.url
        code, said = _refusal(raw)
        if code == NO_SUCH_PATH:
            raise UpstreamError(
                f"{url} is promheal, and has no {path}: --url is its address, with its "
                "--web.route-prefix and no other path; or it is of another version"
            )
        if status in _REFUSALS and said:
            raise RefusedError(said, status=status, code=code)
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
        if status >= 400 and said:
            raise UpstreamError(f"{url}{path} answered {status}: {said}")
        if status < 400:
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return msgspec.json.decode(raw)
        raise UpstreamError(
            f"{url}{path} answered {status}, and not as promheal does{self._stranger(raw)}; "
            "--url says where promheal listens"
        )

    def _stranger(self, raw: bytes) -> str:
        """Return what somebody else, who answered *raw*, says of himself; he is sent no secret."""
        said = _title(raw)
        if not said:
            # Prometheus says its name at the first, Alertmanager in the title of the second.
            with suppress(UpstreamError):
                healthy = _line(self._sent("GET", "/-/healthy")[2])
                # "OK" is no name.
                said = healthy if " " in healthy else _title(self._sent("GET", "/")[2])
        said = said or _line(raw)
        return f": it says {said!r}" if said else ""

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
    from receiver.settings.environment import environment  # noqa: PLC0415  costs 30 ms, and --help needs none

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


def _refusal(raw: bytes) -> tuple[str, str]:
    """Return the code and the words of promheal's refusal, safe for a terminal; else nothing."""
    try:
        found = msgspec.json.decode(raw, type=_Errors).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    return found.code, escape(called(found.message[:MAX_MESSAGE]))


def _title(raw: bytes) -> str:
    """Return the title of a page, safe for a terminal; or nothing."""
    found = _TITLE.search(raw[:65_536].decode("utf-8", "replace"))
    return "" if found is None else escape(found[1].strip())


def _line(raw: bytes) -> str:
    """Return the first line of a text, safe for a terminal; nothing of a page or of JSON."""
    line = raw[:_SHOWN].decode("utf-8", "replace").strip().partition("\n")[0].strip()
    return "" if line.startswith(("<", "{", "[")) else escape(line)


def _why(error: NoReplyError, url: str) -> str:
    """Return what stopped a request, and the remedy."""
    if error.unsent:
        return str(error)
    import ssl  # noqa: PLC0415  the client has imported it by now

    for cause in error.causes:
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
    last = error.cause
    text = last.strerror if isinstance(last, OSError) and last.strerror else str(last)
    hint = "is `promheal serve` running there? --url says where to ask"
    if url.startswith("http:") and not isinstance(last, ConnectionRefusedError):
        hint += ", https:// if it speaks TLS"
    return f"{escape(text[:MAX_MESSAGE]) or type(last).__name__}; {hint}"
