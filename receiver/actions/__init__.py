"""What can we do? The actions, found by entry points, each with its parameters and its undoing.

An action is a class without state. Its parameters are a frozen struct that is checked when the
configuration is loaded; strings in them are templates, rendered (receiver/template/) before
`run` is called. `run` returns what an operator wants to read and what `rollback` needs, as JSON.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Final

import msgspec

from receiver.actions.parameters import Path
from receiver.clients.alertmanager import Alertmanager
from receiver.clients.channels import Channels
from receiver.clients.llm import LlmKeys
from receiver.clients.prometheus import Prometheus
from receiver.errors import ConfigError
from receiver.process.interpreters import Reading
from receiver.services import Inventory
from receiver.template import VARIABLES, is_template
from receiver.yaml.diagnostics import nearest

GROUP: Final = "promheal.actions"
"""The entry point group in which plug-ins announce actions."""


class Later(msgspec.Struct, frozen=True):
    """An action's answer when only time is missing: carry on at *until*, holding no thread."""

    until: float
    """Seconds since the epoch, by promheal's clock."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What an action may know and use besides its parameters."""

    run_id: int
    step: int
    """Position of this step in the run, from 0."""
    strategy: str
    target: str
    alert: Mapping[str, Any]
    """fingerprint, labels, annotations, starts_at, expression: hostile text, data only."""
    value: float | None = None
    """What the alert's expression returned when it was decided."""
    target_labels: Mapping[str, str] = {}
    """The labels that the target is made of, with their values."""
    timeout: float
    """Seconds that this step may take in all."""
    started_at: float
    """When this step was committed as started, by promheal's clock."""
    now: float
    inventory: Inventory
    save: Callable[[Mapping[str, Any]], None]
    """Write down what undoing needs, durably, before anything is touched. JSON, and no secrets."""
    saved: Mapping[str, Any] = {}
    """What this step has saved: also before we died, and also when it is undone."""
    prometheus: Prometheus | None = None
    alertmanager: Alertmanager | None = None
    channels: Channels | None = None
    keys: LlmKeys | None = None
    """Which keys of language model providers work."""
    decisions: Callable[[], list[dict[str, Any]]] = list
    """What was decided about this run until now, each with the answer of every guard."""
    folder: pathlib.Path | None = None
    """The journal's: what an action keeps for people is below it."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a process that this step starts; values are data, never code."""
        return {
            "PROMHEAL_RUN_ID": str(self.run_id),
            VARIABLES["strategy"]: self.strategy,
            VARIABLES["target"]: self.target,
            VARIABLES["alert.fingerprint"]: str(self.alert.get("fingerprint", "")),
        }


class Action:
    """The base of every action."""

    name: ClassVar[str]
    Params: ClassVar[type[msgspec.Struct]]
    timeout: ClassVar[float] = 60.0
    """Seconds, unless the step says otherwise."""
    heals: ClassVar[bool] = True
    """False for one that only watches or tells: an alert that goes on is not its failure."""

    def idempotent(self, params: Any) -> bool:
        """Whether a step found started after a crash may simply be run again."""
        raise NotImplementedError

    def problems(self, params: Any, inventory: Inventory) -> Iterable[str]:
        """Yield what is wrong with checked but unrendered *params*; asked at load."""
        del params, inventory
        return ()

    def readings(self, params: Any) -> Iterable[tuple[Path, Reading]]:
        """Yield where in *params* a template stands that is known to be read as code.

        There only values that the strategy lists may stand.
        """
        del params
        return ()

    def run(self, params: Any, context: Context) -> dict[str, Any] | Later:
        """Do it. Raises ActionError when it failed."""
        raise NotImplementedError

    def rehearse(self, params: Any, context: Context) -> dict[str, Any] | Later:
        """Return what `run` would, as far as that is known without touching anything.

        A simulation asks it: whether there is nothing to do, or only time is missing.
        """
        del params, context
        return {}

    def undoable(self, params: Any) -> bool:
        """Whether `rollback` can undo it."""
        del params
        return False

    def rollback(
        self, params: Any, context: Context, result: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Undo it. *result* is what `run` returned, or None when it is not known to have ended.

        Then `context.saved` tells how far it came. Raises ActionError when the state before could
        not be restored.
        """
        raise NotImplementedError


def unknown_service(name: str, inventory: Inventory) -> Iterable[str]:
    """Yield that no service has this *name*, with the nearest, for an action's `problems`."""
    if is_template(name) or name in inventory.names:
        return
    near = nearest(name, inventory.names)
    hint = f"did you mean {near!r}? " if near else ""
    known = ", ".join(sorted(inventory.names)[:20]) or "none"
    yield f"service: no {name!r} in services.yml; {hint}known: {known}"


def lacking(part: str, name: str, inventory: Inventory) -> Iterable[str]:
    """Yield that no service which *name* can choose has a *part*, for an action's `problems`.

    *name* may be a template; *part* is a key of services.yml, as `settings`.
    """
    yield from unknown_service(name, inventory)
    names = inventory.names if is_template(name) else (name,)
    services = [inventory.get(each) for each in inventory.names if each in names]
    if services and all(getattr(service, part) is None for service in services):
        whose = ", ".join(repr(service.name) for service in services[:20])
        has = "has no" if len(services) == 1 else "have no"
        yield f"service: {whose} {has} `{part}:` in services.yml"


class Actions:
    """The known actions by name."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self._actions: dict[str, Action] = {}
        for action in actions:
            if action.name in self._actions:
                raise ConfigError(
                    f"two actions are called {action.name!r}: "
                    f"{type(self._actions[action.name]).__module__} and {type(action).__module__}; "
                    "uninstall one of the packages"
                )
            self._actions[action.name] = action

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._actions))

    def get(self, name: str) -> Action:
        """Return the action, or raise ConfigError with the known ones and the nearest."""
        try:
            return self._actions[name]
        except KeyError:
            near = nearest(name, self._actions)
            hint = f"did you mean {near!r}? " if near else ""
            raise ConfigError(
                f"unknown action {name!r}; {hint}known: {', '.join(self.names)}"
            ) from None


def discover(found: Iterable[EntryPoint] | None = None) -> Actions:
    """Return the actions that installed packages announce.

    Raises ConfigError when one cannot be imported or two share a name.
    """
    actions: list[Action] = []
    for entry in sorted(found or entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            action = entry.load()()
        except Exception as error:
            raise ConfigError(f"action {entry.name!r} ({entry.value}): {error}") from error
        if not isinstance(action, Action):
            raise ConfigError(
                f"action {entry.name!r} ({entry.value}) is no receiver.actions.Action"
            )
        actions.append(action)
    return Actions(actions)
