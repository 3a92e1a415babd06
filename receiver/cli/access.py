"""Where the server is, and the credentials for it: from flags, else the environment, else a file.

The file is the user's own, `~/.config/promheal/config.yml`. Secrets are in files that it names, or
in PROMHEAL_TOKEN, never on the command line, which every user of the machine can read.
"""

from __future__ import annotations

import base64
import re
import stat
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from receiver.errors import ConfigError
from receiver.log import escape
from receiver.redaction import known
from receiver.yaml.diagnostics import Diagnostic, InvalidConfig, Report, quoted

DEFAULT_URL: Final = "http://127.0.0.1:3001"
MAX_SECRET: Final = 65_536
"""Bytes of a file with a token or a password."""

# Nothing that two URL parsers could understand differently.
_URL: Final = re.compile(
    r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?((?:/[\w.~%+-]*)*)",
    re.IGNORECASE | re.ASCII,
)

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What one source says: the command line, or config.yml, which has these keys."""

    url: _Text | None = None
    bearer_token_file: _Text | None = None
    username: _Text | None = None
    password_file: _Text | None = None
    ca_file: _Text | None = None
    cert_file: _Text | None = None
    key_file: _Text | None = None


FLAGS: Final = {
    "url": "--url",
    "bearer_token_file": "--token-file",
    "username": "--user",
    "password_file": "--password-file",
    "ca_file": "--ca-file",
    "cert_file": "--cert-file",
    "key_file": "--key-file",
}
"""The flags for these keys."""
HOW: Final = (
    "give credentials with --token-file, with --user and --password-file, with PROMHEAL_TOKEN, "
    "or in config.yml"
)


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The server's URL and the credentials for it. The files exist and fit together."""

    url: str
    """Without a slash at its end."""
    authorization: str | None = None
    """The value of the header: a secret."""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __repr__(self) -> str:
        return f"Access({self.url!r})"


def contradiction(given: Given, called: Mapping[str, str]) -> str:
    """Return what does not fit together, in the words of its source, or an empty text."""
    for one, other in (("username", "password_file"), ("cert_file", "key_file")):
        present = [name for name in (one, other) if getattr(given, name) is not None]
        if len(present) == 1:
            missing = other if present == [one] else one
            return f"{called[present[0]]} needs {called[missing]} as well"
    if given.username is not None and given.bearer_token_file is not None:
        return f"{called['username']} and {called['bearer_token_file']}: one of them is enough"
    if given.username is not None and ":" in given.username:
        return f"{called['username']}: a user name has no colon"
    return ""


def resolve(flags: Given, environ: Mapping[str, str], warn: Callable[[str], None]) -> Access:
    """Return the server's URL and the credentials; *warn* is called for secrets others can read.

    Credentials are taken from one source as a whole: a user from the flags is never combined with
    a password from the file. Raises ConfigError with the source and the remedy.
    """
    path = _config_path(environ)
    saved = Given() if path is None else _read(path)
    token = environ.get("PROMHEAL_TOKEN", "").strip()
    places = {
        "--url": flags.url,
        "PROMHEAL_URL": environ.get("PROMHEAL_URL"),
        str(path): saved.url,
        "": DEFAULT_URL,
    }
    url = _base(*next((place, text) for place, text in places.items() if text))
    pair = flags if flags.cert_file is not None else saved
    secure = url.startswith("https:")
    named = [given.bearer_token_file or given.username for given in (flags, saved)]
    if not secure and not _is_local(url) and (token or any(named) or pair.cert_file):
        raise ConfigError(
            f"{url}: credentials are not sent to another machine over plain http, where everybody "
            "on the way can read them; write https://, or ask through a tunnel: "
            "ssh -L 3001:127.0.0.1:3001 HOST"
        )
    access = Access(url=url, authorization=_authorization(flags, token, saved, warn))
    if not secure:
        return access
    ca_file = flags.ca_file or saved.ca_file
    _check_tls(ca_file, pair, warn)
    return msgspec.structs.replace(
        access, ca_file=ca_file, cert_file=pair.cert_file, key_file=pair.key_file
    )


def _base(place: str, url: str) -> str:
    """Return the URL that paths are appended to."""
    if "@" in url:  # it is not shown: there may be a password in it
        raise ConfigError(f"{place}: a URL holds no user and no password; {HOW}")
    found = _URL.fullmatch(url)
    if found is None or int(found[3] or 0) > 65535:
        raise ConfigError(f"{place}: {quoted(url)}: write https://HOST:PORT, or {DEFAULT_URL}")
    port = f":{found[3]}" if found[3] else ""
    return f"{found[1].lower()}://{found[2].lower()}{port}{found[4].rstrip('/')}"


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _config_path(environ: Mapping[str, str]) -> Path | None:
    """Return the path of the user's file: https://specifications.freedesktop.org/basedir-spec."""
    folder = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not folder.is_absolute():
        try:
            folder = Path.home() / ".config"
        except RuntimeError:  # a user without a home
            return None
    return folder / "promheal" / "config.yml"


def _read(path: Path) -> Given:
    """Return what the file says, nothing if there is none. Raises InvalidConfig."""
    # PyYAML and the readers take 30 ms, and most people have no such file.
    from receiver.yaml.nodes import Pairs, parse, read_file  # noqa: PLC0415
    from receiver.yaml.scalars import BAD, mark  # noqa: PLC0415
    from receiver.yaml.values import Readers  # noqa: PLC0415

    report = Report(str(path))
    given = Given()
    try:
        found = read_file(path, report)
    except FileNotFoundError:
        return given
    if found is not None:
        report = Report(str(path), found[1])
        tree = parse(found[1], report)
        if isinstance(tree, Pairs):
            given = Readers().of(Given)(tree, report)
            problem = "" if given is BAD else contradiction(given, {name: name for name in FLAGS})
            if problem:
                mark(tree, report, problem)
        elif tree is not None:
            mark(tree, report, f"expected a mapping of {', '.join(FLAGS)}")
    if report.broken:
        raise InvalidConfig(_redacted(problem) for problem in report.problems)
    files = [name for name in FLAGS if name.endswith("_file")]
    return msgspec.structs.replace(
        given,
        **{name: str(path.parent / value) for name in files if (value := getattr(given, name))},
    )


def _redacted(problem: Diagnostic) -> Diagnostic:
    """Return it without its line: people write tokens where file names belong."""
    message = problem.message
    if message.startswith(("tag ", "alias ", "anchor ")):
        message = "YAML tags, aliases and anchors are not read; put a text in quotes"
    return msgspec.structs.replace(problem, source="", message=message)


def _authorization(
    flags: Given, token: str, saved: Given, warn: Callable[[str], None]
) -> str | None:
    if flags.bearer_token_file is not None or flags.username is not None:
        return _header(flags, warn)
    if token:
        return f"Bearer {_checked(token, 'PROMHEAL_TOKEN')}"
    return _header(saved, warn)


def _header(given: Given, warn: Callable[[str], None]) -> str | None:
    if given.bearer_token_file is not None:
        token = _secret(given.bearer_token_file, warn).strip()
        return f"Bearer {_checked(token, escape(given.bearer_token_file))}"
    if given.username is not None and given.password_file is not None:
        password = _secret(given.password_file, warn).rstrip("\r\n")
        pair = f"{given.username}:{password}".encode("utf-8", "surrogateescape")
        known(password)
        return f"Basic {base64.b64encode(pair).decode()}"
    return None


def _checked(token: str, place: str) -> str:
    if not token or not re.fullmatch("[!-~]+", token):
        raise ConfigError(f"{place}: holds no token: one line of ASCII without spaces")
    return known(token)


def _secret(path: str, warn: Callable[[str], None]) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_SECRET + 1)
        _warn_if_open(path, warn)
    except OSError as error:
        raise ConfigError(f"{escape(path)}: {error.strerror}") from None
    if len(content) > MAX_SECRET:
        raise ConfigError(
            f"{escape(path)}: larger than {MAX_SECRET} bytes; is this the right file?"
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{escape(path)}: is not UTF-8") from None


def _warn_if_open(path: str, warn: Callable[[str], None]) -> None:
    mode = Path(path).stat().st_mode
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        name = escape(path)
        warn(f"{name} holds a secret, and every user of this machine can read it; chmod 600 {name}")


def _check_tls(ca_file: str | None, pair: Given, warn: Callable[[str], None]) -> None:
    """Raise ConfigError for files that TLS cannot use; the HTTP client says it less clearly."""
    import ssl  # noqa: PLC0415  only https needs it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except ssl.SSLError:
            raise ConfigError(f"{escape(ca_file)}: holds no certificate in PEM form") from None
        except OSError as error:
            raise ConfigError(f"{escape(ca_file)}: {error.strerror}") from None
    if pair.cert_file is None or pair.key_file is None:
        return
    for path in (pair.cert_file, pair.key_file):
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise ConfigError(f"{escape(path)}: {error.strerror}") from None
    _warn_if_open(pair.key_file, warn)
    try:
        # Without a password given here OpenSSL would ask the terminal for one.
        context.load_cert_chain(pair.cert_file, pair.key_file, password=lambda: "")
    except ssl.SSLError as error:
        raise ConfigError(
            f"{escape(pair.cert_file)} and {escape(pair.key_file)}: no certificate and its key, "
            f"without a password, in PEM form ({error.reason or 'unreadable'})"
        ) from None
