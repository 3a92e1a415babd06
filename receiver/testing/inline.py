"""The configuration that a test file names, or has in itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.actions import Actions
from receiver.config.files import LoadedConfig, load, read_services
from receiver.config.strategies import read_strategies
from receiver.policy.strategy import Strategies
from receiver.services import Inventory
from receiver.services.managers import MANAGERS
from receiver.settings import AlertmanagerSettings, PrometheusSettings, Settings
from receiver.testing.file import InlineServices, InlineStrategies, StrategyTests
from receiver.yaml.diagnostics import Report
from receiver.yaml.nodes import Node, Pairs, Scalar
from receiver.yaml.scalars import Read
from receiver.yaml.values import Readers

_UPSTREAM: Final = "http://simulated.example"


def _as_it_is(node: Node, _: Report) -> Any:
    return node


def _unread(_: Readers) -> Read:
    return _as_it_is


INLINE: Final[dict[type, Callable[[Readers], Read]]] = {
    InlineStrategies: _unread,
    InlineServices: _unread,
}
"""What reads the parts that are read once all is known: later."""


def configuration(
    file: StrategyTests, report: Report, actions: Actions, folder: Path
) -> LoadedConfig | None:
    """Return what is tested, or None after a report.

    Raises InvalidConfig when `config_file` cannot be used.
    """
    if file.config_file is not None:
        found: LoadedConfig | None = load(folder / file.config_file, actions, {})
    else:
        found = _inline(file, report, actions)
    if found is None:
        return None
    changes = {
        name: value
        for name in ("engine", "flags", "maintenance")
        if (value := getattr(file, name)) is not None
    }
    settings = msgspec.structs.replace(found.settings, **changes)
    return msgspec.structs.replace(found, settings=settings)


def _inline(file: StrategyTests, report: Report, actions: Actions) -> LoadedConfig | None:
    services = read_services(_section("services", file.services), report, MANAGERS)
    inventory = Inventory(services)
    strategies = read_strategies(
        _section("strategies", file.strategies), report, actions, inventory
    )
    if report.broken:
        return None
    return LoadedConfig(
        settings=Settings(
            prometheus=PrometheusSettings(url=_UPSTREAM),
            alertmanager=AlertmanagerSettings(url=_UPSTREAM),
        ),
        strategies=Strategies(strategies),
        inventory=inventory,
        hash=hashlib.sha256("\n".join(report.lines).encode()).hexdigest(),
        files=(Path(report.file),),
    )


def _section(name: str, node: Any) -> Node | None:
    """Return the section *name* as a file that has only this."""
    if node is None:
        return None
    assert isinstance(node, Node)
    place = {
        "line": node.line, "column": node.column,
        "end_line": node.end_line, "end_column": node.end_column,
    }  # fmt: skip
    return Pairs(pairs=[(Scalar(value=name, plain=True, **place), node)], **place)
