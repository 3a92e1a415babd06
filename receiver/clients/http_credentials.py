"""Which headers say who asks? Those of an `http_config`, from its files as they are now.

Secrets are rotated in place, so a file is read at each request; what it held is known as a secret
from then on, and no text that leaves this process shows it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from receiver.policy.http_config import Authorization, BasicAuth, HTTPConfig
from receiver.redaction import known

Header = tuple[str, str]

_T = TypeVar("_T")


class CredentialsError(Exception):
    """A file of an `http_config` cannot be used; the text has its key, its path and the reason."""


def headers(config: HTTPConfig) -> Iterator[Header]:
    """Yield the headers that go with each request. Raises CredentialsError.

    A header with several values comes several times.
    """
    login = config.login
    if isinstance(login, BasicAuth):
        yield "Authorization", basic(login)
    elif login is not None:
        yield "Authorization", _authorization(login, config)
    yield from config.headers.items()
    for name, header in config.http_headers.items():
        for value in header.values:
            yield name, value
        for value in header.secrets:
            yield name, known(value)
        for file in header.files:
            yield name, _line(f"http_headers {name}", file, "value")


def basic(login: BasicAuth) -> str:
    """Return the value of the header `Authorization`."""
    username, password = login.username, known(login.password)
    if login.username_file:
        username = _line("username_file", login.username_file, "name")
    if login.password_file:
        password = secret("password_file", login.password_file)
    return f"Basic {known(b64encode(f'{username}:{password}'.encode()).decode())}"


def secret(key: str, file: str) -> str:
    """Return the text of a file without its last line break. Raises CredentialsError."""
    return known(_read(key, file).rstrip("\r\n"))


def learn_secrets(config: HTTPConfig) -> None:
    """Know the secrets of *config* before they are used; what cannot be read says so in its use."""
    for text in config.secrets:
        known(text)
    for file in config.secret_files:
        if Path(file).is_file():  # a pipe would be waited for
            try:
                secret("", file)
            except CredentialsError:
                continue


def rooted(value: _T, folder: Path) -> _T:
    """Return *value* with the files of each `http_config` in it relative to *folder*.

    Their secrets are known from then on.
    """
    found: Any = value
    if isinstance(value, HTTPConfig):
        found = value.below(folder)
        learn_secrets(found)
    elif isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        after = {name: rooted(each, folder) for name, each in fields.items()}
        changed = {name: each for name, each in after.items() if each is not fields[name]}
        found = msgspec.structs.replace(value, **changed) if changed else value
    elif isinstance(value, dict):
        after = {name: rooted(each, folder) for name, each in value.items()}
        found = after if any(after[name] is not each for name, each in value.items()) else value
    elif isinstance(value, tuple | list):
        items = type(value)(rooted(each, folder) for each in value)
        found = items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return cast(_T, found)


def _authorization(login: Authorization, config: HTTPConfig) -> str:
    credentials = known(login.credentials)
    if login.credentials_file:
        key = "credentials_file" if config.authorization is login else "bearer_token_file"
        credentials = _line(key, login.credentials_file, "token")
    return f"{login.type.strip()} {credentials}"


def _line(key: str, file: str, what: str) -> str:
    text = known(_read(key, file).strip())
    if not text or not text.isprintable() or not (text.isascii() or what == "value"):
        raise CredentialsError(f"{key} {file} holds no {what}")
    return text


def _read(key: str, file: str) -> str:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CredentialsError(f"{key} {file}: is no text") from None
    except OSError as error:
        raise CredentialsError(f"{key} {file}: {error.strerror}") from None
    return text
