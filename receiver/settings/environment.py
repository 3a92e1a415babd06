"""What does the environment say? The only reader of it, and of `.env.local`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, get_type_hints

import msgspec

from receiver.errors import ConfigError
from receiver.redaction import learn_variables
from receiver.settings import FlagSettings, Settings

FLAG_VARIABLES: Final[Mapping[str, str]] = {
    name: next(meta.extra["variable"] for meta in hint.__metadata__)
    for name, hint in get_type_hints(FlagSettings, include_extras=True).items()
}
"""The environment variable of each flag."""

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def environment() -> Mapping[str, str]:
    """Return this process's environment; what is secret in it is known from now on."""
    found = dict(os.environ)  # noqa: TID251  the one place that reads it
    learn_variables(found)
    return found


def taken(names: Iterable[str]) -> Mapping[str, str]:
    """Return those variables of the environment, and take them out of it: no library sees them."""
    environ = os.environ  # noqa: TID251  see above
    return {name: environ.pop(name) for name in names if name in environ}


def dotenv(path: Path) -> dict[str, str]:
    """Return the variables of a file of NAME=VALUE lines; a missing file has none.

    Raises ConfigError for a line that is neither a comment nor NAME=VALUE.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    found = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ConfigError(f"{path}:{number}:1: write NAME=VALUE, as TOKEN=…")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name.strip()] = value
    learn_variables(found)
    return found


def with_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return *settings* with the flags that the environment sets.

    Raises ConfigError for a value that is no boolean.
    """
    flags = {}
    for flag, variable in FLAG_VARIABLES.items():
        text = environ.get(variable, "").strip().lower()
        if not text:
            continue
        if text not in _TRUE | _FALSE:
            raise ConfigError(f"{variable}={text!r}: write true or false")
        flags[flag] = text in _TRUE
    if not flags:
        return settings
    return msgspec.structs.replace(settings, flags=msgspec.structs.replace(settings.flags, **flags))
