"""What do the files say? promheal.yml, services.yml and healing_strategies.yml as values.

All three are read in one pass, and the problems of all are reported together. Bytes become nodes
(yaml/nodes.py), and nodes become values by the types of the fields (yaml/values.py); the rules that
a type cannot express are here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.actions import Actions
from receiver.clients.http_credentials import rooted
from receiver.config.kinds import service_kinds
from receiver.config.strategies import read_strategies
from receiver.errors import ConfigError
from receiver.policy.strategy import Strategies
from receiver.redaction import known, learn, learn_url
from receiver.services import Inventory, Service
from receiver.services.managers import MANAGERS
from receiver.settings import Settings, UndeclaredValues
from receiver.settings.environment import dotenv, with_environment
from receiver.template import KNOWN
from receiver.yaml.diagnostics import (
    Diagnostic,
    DiagnosticSeverity,
    InvalidConfig,
    Report,
    by_place,
)
from receiver.yaml.keys import MappingKey, construct, entries, read_keys
from receiver.yaml.nodes import Node, parse, read_file
from receiver.yaml.scalars import BAD, mark, read_text
from receiver.yaml.values import Readers

_READERS: Final = Readers()
_TEMPLATE: Final = re.compile(rf"\{{\{{-?\s*(?:{'|'.join(KNOWN)})\b")
_SECRET_FILE: Final = re.compile(
    r"""(?:password|token|credentials|url)_file["']?\s*:\s*["']?([^\s"',}]+)""", re.IGNORECASE
)
_MOST_SECRET: Final = 65_536  # characters
_PLACE: Final = re.compile(r":(\d+):(\d+): (.*)", re.DOTALL)


class LoadedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration without errors."""

    settings: Settings
    strategies: Strategies
    inventory: Inventory
    problems: tuple[Diagnostic, ...] = ()
    """Warnings only."""
    hash: str
    """SHA-256, hexadecimal, of the three files and the flags in force."""
    files: tuple[Path, ...]
    """What was read: promheal.yml, healing_strategies.yml, services.yml."""
    texts: tuple[str, ...] = ()
    """What stood in them."""


def load(
    config_file: Path,
    actions: Actions,
    environ: Mapping[str, str],
    managers: Mapping[str, type[msgspec.Struct]] = MANAGERS,
    *,
    instead: Mapping[Path, str] = {},
) -> LoadedConfig:
    """Read the configuration that begins with *config_file*.

    *instead* has texts that are taken for those of files. The flags of *environ* win over those of
    `.env.local` beside the file, and these over the file. Raises InvalidConfig with all problems,
    warnings too, when any of them is an error.
    """
    main = _File(config_file, instead)
    tree = main.tree("no such file; write it, or name another with --config.file")
    settings, named = (None, _Named()) if tree is None else _read_settings(tree, main.report)

    strategies_file = _File(config_file.parent / named.strategies.value, instead)
    services_file = _File(config_file.parent / named.services.value, instead)
    services_tree = _beside(services_file, "services", named.services, main)
    strategies_tree = _beside(strategies_file, "strategies", named.strategies, main)

    local, outside = Report(str(config_file.parent / ".env.local")), Report("environment")
    settings = _with_flags(settings, local, outside, environ)

    inventory = Inventory(
        read_services(services_tree, services_file.report, managers),
        settings.http.allow if settings else (),
        tuple(settings.notify.channels) if settings else (),
    )
    # With an incomplete inventory every action would report that its service is missing.
    unfinished = settings is None or services_tree is None or services_file.report.broken
    known = None if unfinished else inventory
    tolerant = settings is not None and settings.undeclared_values is UndeclaredValues.WARN
    strategies = read_strategies(
        strategies_tree,
        strategies_file.report,
        actions,
        known,
        severity=DiagnosticSeverity.WARNING if tolerant else DiagnosticSeverity.ERROR,
    )

    reports = (main.report, local, outside, services_file.report, strategies_file.report)
    problems = tuple(by_place(reports))
    if settings is None or any(report.broken for report in reports):
        raise InvalidConfig(problems)
    files = (main, strategies_file, services_file)
    return LoadedConfig(
        settings=settings,
        strategies=Strategies(rooted(strategies, strategies_file.path.parent)),
        inventory=inventory,
        problems=problems,
        hash=_hash([file.raw for file in files], settings),
        files=tuple(file.path for file in files),
        texts=tuple(file.text for file in files),
    )


class _File:
    """One of the files, with its problems."""

    def __init__(self, path: Path, instead: Mapping[Path, str]) -> None:
        self.path = path
        self.report = Report(str(path))
        self.raw = b""
        self.text = ""
        self._instead = instead.get(path)

    def tree(self, missing: str, section: str = "") -> Node | None:
        """Return the document, or None after a report. Without a file, the report is *missing*."""
        if self._instead is not None:
            self.raw, self.text = self._instead.encode(), self._instead
        else:
            try:
                found = read_file(self.path, self.report)
            except FileNotFoundError:
                if missing:
                    self.report.add(missing)
                return None
            if found is None:
                return None
            self.raw, self.text = found
        text = self.text
        learn(text)
        for name in _SECRET_FILE.findall(text):
            # Learned before it is used: a program that an action runs may print it.
            _learn_file(self.path.parent / name)
        self.report = Report(str(self.path), text)
        tree = parse(text, self.report)
        if tree is None and not self.report.broken:
            what = f"{section}: {{}}" if section else "{}"
            self.report.add(f"the file is empty; write {what} for none of it", 0, 0)
        return tree


def _learn_file(path: Path) -> None:
    if not path.is_file():  # a pipe would be waited for
        return
    try:
        with path.open(encoding="utf-8") as file:
            text = known(file.read(_MOST_SECRET))
    except (OSError, UnicodeDecodeError):
        return  # reported where it is used
    if "://" in text:
        learn_url(text.strip(), entirely=True)


class _Reference(msgspec.Struct, frozen=True):
    """The name of another file, and the node that has it; None for the default."""

    value: str
    node: Node | None = None


class _Named(msgspec.Struct, frozen=True):
    strategies: _Reference = _Reference("healing_strategies.yml")
    services: _Reference = _Reference("services.yml")


def _beside(file: _File, key: str, reference: _Reference, main: _File) -> Node | None:
    """Return the document of a file that promheal.yml names, or of the default one beside it."""
    if reference.node is not None:
        tree = file.tree("", key)
        if tree is None and not file.report.broken:
            message = f"no such file: {file.path}; write it, or correct its name here"
            mark(reference.node, main.report, message)
        return tree
    if main.report.broken:  # another name may be behind one of its errors
        return file.tree("", key)
    return file.tree(
        f"no such file; write it, or name another as `{key}:` in {main.path.name}", key
    )


def _hash(contents: list[bytes], settings: Settings) -> str:
    whole = hashlib.sha256()
    for content in (*contents, msgspec.json.encode(settings.flags)):
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()


# ── promheal.yml and the environment ──


def _read_settings(tree: Node, report: Report) -> tuple[Settings | None, _Named]:
    values = read_keys(tree, report, _SETTINGS)
    if values is None:
        return None, _Named()
    named = {name: value for name, value in values.items() if isinstance(value, _Reference)}
    plain = values | {name: reference.value for name, reference in named.items()}
    settings = construct(Settings, plain, tree, report)
    if settings is BAD:
        return None, _Named(**named)
    return rooted(settings, Path(report.file).parent), _Named(**named)


def _read_reference(node: Node, report: Report) -> Any:
    text = read_text(node, report)
    return BAD if text is BAD else _Reference(text, node)


_SETTINGS: Final = _READERS.keys(Settings, strategies=_read_reference, services=_read_reference)


def _with_flags(
    settings: Settings | None, local: Report, outside: Report, environ: Mapping[str, str]
) -> Settings | None:
    """Return *settings* with the flags of `.env.local` and, winning over it, the environment."""
    try:
        variables = dotenv(Path(local.file))
    except ConfigError as error:
        variables = {}
        text = str(error).removeprefix(local.file)
        found = _PLACE.fullmatch(text)
        if found:
            local.add(found[3], int(found[1]) - 1, int(found[2]) - 1)
        else:
            local.add(text.removeprefix(": "))
    # Flags are checked even when promheal.yml is broken.
    flagged = settings or Settings()
    for report, values in ((local, variables), (outside, environ)):
        try:
            flagged = with_environment(flagged, values)
        except ConfigError as error:
            report.add(str(error))
    return settings and flagged


# ── services.yml ──


def _read_literal(node: Node, report: Report) -> Any:
    """Return a text that is no template: services.yml has none."""
    text = read_text(node, report)
    if text is not BAD and _TEMPLATE.search(text):
        return mark(
            node,
            report,
            "there are no templates in services.yml: a label chooses the service, and nothing in "
            "it; write this out, or use the action `command` in the strategy",
        )
    return text


def service_keys(managers: Mapping[str, type[msgspec.Struct]]) -> Mapping[str, MappingKey]:
    """Return the keys of a service, as they are read."""
    return _service_keys(tuple(managers.items()))


@cache
def _service_keys(managers: tuple[tuple[str, type[msgspec.Struct]], ...]) -> dict[str, MappingKey]:
    own = {part: kinds.reader for part, kinds in service_kinds(dict(managers)).items()}
    return Readers(_read_literal, own).keys(Service, omit=("name",))


def read_services(
    tree: Node | None, report: Report, managers: Mapping[str, type[msgspec.Struct]]
) -> dict[str, Service]:
    keys, found = service_keys(managers), {}
    for name, _, node in entries(tree, "services", report):
        values = read_keys(node, report, keys)
        if values is not None:
            service = construct(Service, {"name": name, **values}, node, report)
            if service is not BAD:
                found[name] = rooted(service, Path(report.file).parent)
    return found
