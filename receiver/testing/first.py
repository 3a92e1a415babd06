"""A first test file for a configuration: what each strategy does when it heals, and when not.

What is expected in it is what came when it was written: it passes, and is to be read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Final

import msgspec

from receiver.actions import Actions, discover
from receiver.actions.parameters import names_used
from receiver.config.files import LoadedConfig, load
from receiver.errors import ConfigError, RefusedError
from receiver.policy.duration import format_duration
from receiver.policy.matcher import Matcher, MatchOp
from receiver.policy.run import Run
from receiver.policy.strategy import Mode, Strategy
from receiver.services import Inventory
from receiver.simulation.course import course_of
from receiver.simulation.script import Heals, Script, ScriptedAction, ScriptedAlert
from receiver.simulation.series import parse_series
from receiver.simulation.world import VirtualWorld
from receiver.template import names_in
from receiver.testing.file import MONDAY
from receiver.testing.seen import acted, text
from receiver.testing.trace import Trace

_PLAIN: Final = re.compile(r"[\w./][\w./-]*")
"""A path that YAML takes as it is."""
_INTERVAL: Final = 15.0
_BEGINS: Final = 60.0
"""Seconds until the alert of a test fires."""
_LONGEST: Final = 86_400.0
"""Seconds of a test; of a longer budget only the beginning is tried."""
_HEAD: Final = """\
# The strategies of {config}, tried in virtual time: nothing is asked, and nothing is executed.
#
#     promheal test {file}
#
# Written by `promheal test --init`. What is expected is what came: read it, and correct what should
# come instead.
config_file: {config}
{flags}
tests:
"""


class _Scenario(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    heals: bool = False
    fails: str = ""
    down: bool = False
    seconds: float
    never: str = ""


def write_first(path: Path, config_file: Path) -> Path:
    """Write a test file for *config_file* to *path*; raises RefusedError where one exists.

    Raises InvalidConfig when the configuration cannot be used, and ConfigError when it has no
    strategy that could be tried, or *path* cannot be written.
    """
    if path.exists():
        raise _exists(path)
    actions = discover()
    loaded = load(config_file, actions, {})
    if all(_labels(one, loaded.inventory) is None for one in loaded.strategies):
        raise ConfigError(
            f"{config_file} has no strategy for whose matchers an alert can be made up: "
            "write the tests by hand, see docs/reference/strategy-tests.md"
        )
    # `..` of a folder that is a link is that of the folder behind it.
    folder = config_file.parent.resolve()
    config = os.path.relpath(folder / config_file.name, path.parent.resolve())
    if not _PLAIN.fullmatch(config):
        config = json.dumps(config, ensure_ascii=False)
    flags = ""
    if any(one.preventive for one in loaded.strategies):
        flags = "flags: {preventive_healing: true}\n"
        on = msgspec.structs.replace(loaded.settings.flags, preventive_healing=True)
        loaded = msgspec.structs.replace(
            loaded, settings=msgspec.structs.replace(loaded.settings, flags=on)
        )
    with Trace(keep=False):
        tests = "".join(_tests(loaded, actions))
    written = _HEAD.format(config=config, file=path, flags=flags) + tests
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(written)
    except FileExistsError as error:
        raise _exists(Path(error.filename)) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def _exists(path: Path) -> RefusedError:
    return RefusedError(f"{path} exists; name another FILE, or remove it", status=409)


def _tests(loaded: LoadedConfig, actions: Actions) -> Iterator[str]:
    for strategy in loaded.strategies:
        labels = _labels(strategy, loaded.inventory)
        if labels is None:
            yield f"  # {strategy.name}: write `alerts` that its matchers select.\n"
            continue
        for scenario in _scenarios(strategy):
            yield _written(loaded, actions, strategy, labels, scenario)


def _scenarios(strategy: Strategy) -> Iterator[_Scenario]:
    name, verify = strategy.name, strategy.verify
    proof = _BEGINS + verify.within + verify.settle + 180.0
    yield _Scenario(name=f"{name}: heals", heals=True, seconds=proof)
    yield _Scenario(name=f"{name}: does not help", seconds=proof)
    yield _Scenario(
        name=f"{name}: {strategy.actions[0].action} fails", fails="it failed", seconds=600.0
    )
    for budget in strategy.budget[:1]:
        never = (
            f"      - {{strategy: {name}, "
            f"more_than: {{runs: {budget.runs}, per: {format_duration(budget.per)}}}}}\n"
        )
        yield _Scenario(
            name=f"{name}: is not repeated beyond its budget",
            seconds=min(budget.per + 600.0, _LONGEST),
            never=never,
        )
    yield _Scenario(name=f"{name}: Prometheus is down", down=True, seconds=180.0)


def _written(
    loaded: LoadedConfig,
    actions: Actions,
    strategy: Strategy,
    labels: dict[str, str],
    scenario: _Scenario,
) -> str:
    healer = _healer(strategy, actions)
    count = ceil((scenario.seconds - _BEGINS) / _INTERVAL)
    firing = f"0x3 1x{count}"
    end = text(scenario.seconds)
    lines = [f"  - name: '{scenario.name}'", "    alerts:", f"      - labels: {_flow(labels)}",
             f"        firing: {firing}"]  # fmt: skip
    annotations = dict.fromkeys(sorted(_used(strategy, "annotations")), "Something is wrong.")
    if annotations:
        lines.append(f"        annotations: {_flow(annotations)}")
    world = _world(loaded, actions, labels, annotations, scenario, firing, healer)
    if scenario.heals and healer:
        lines.append(f"        healed_by: {{action: {healer}, in: 30s}}")
    if scenario.fails:
        first = strategy.actions[0].action
        lines += ["    actions:", f"      - {{action: {first}, fails: {scenario.fails}}}"]
    events = []
    if scenario.down:
        events.append("      - {at: 0s, prometheus: down}")
        world.upstream.prometheus_down = True
    approves = strategy.mode is Mode.APPROVE and not scenario.down and not scenario.never
    if approves:
        events.append(f"      - {{at: 1m15s, approve: {{strategy: {strategy.name}}}}}")
        world.call(world.start + 75.0, lambda: _approve(world))
    if events:
        lines += ["    events:", *events]
    world.run(world.start + scenario.seconds)
    if scenario.never:
        lines += ["    never:", scenario.never.rstrip()]
    elif scenario.down:
        lines += ["    decision_test:", f"      - eval_time: {end}", *_decision(world, strategy)]
    else:
        lines += ["    run_test:", f"      - eval_time: {end}", *_runs(world, strategy)]
    return "\n".join(lines) + "\n"


def _world(
    loaded: LoadedConfig,
    actions: Actions,
    labels: dict[str, str],
    annotations: dict[str, str],
    scenario: _Scenario,
    firing: str,
    healer: str,
) -> VirtualWorld:
    alert = ScriptedAlert(
        labels=labels,
        annotations=annotations,
        course=course_of(parse_series(firing), _INTERVAL),
        heals=(Heals(action=healer, after=30.0),) if scenario.heals and healer else (),
    )
    fails = tuple(
        ScriptedAction(action=step.action, fails=scenario.fails)
        for strategy in loaded.strategies
        if scenario.fails and scenario.name.startswith(f"{strategy.name}: ")
        for step in strategy.actions[:1]
    )
    script = Script(interval=_INTERVAL, alerts=(alert,), actions=fails)
    return VirtualWorld(loaded, script, actions=actions, start=MONDAY)


def _approve(world: VirtualWorld) -> None:
    for run in world.journal.read(lambda t: t.runs(limit=10)):
        if run.asked_at is not None:
            world.process.control.approve(run.id, by="test", reason="a test")


def _decision(world: VirtualWorld, strategy: Strategy) -> Iterator[str]:
    found = world.journal.read(lambda t: t.latest_decisions(limit=1, strategy=strategy.name))
    verdict, reason = (found[0].verdict, found[0].reason) if found else ("none", "")
    yield f"        strategy: {strategy.name}"
    words = f"verdict: {verdict}" + (f", reason: {reason}" if reason else "")
    yield f"        exp_decision: {{{words}}}"


def _runs(world: VirtualWorld, strategy: Strategy) -> Iterator[str]:
    found = acted(world, strategy.name)
    yield f"        strategy: {strategy.name}"
    if not found:
        yield "        exp_runs: []"
        return
    yield "        exp_runs:"
    for run in found:
        yield from _run(world, run)


def _run(world: VirtualWorld, run: Run) -> Iterator[str]:
    assert run.acted_at is not None
    yield f"          - strategy: {run.strategy}"
    yield f"            started: {text(run.acted_at - world.start)}"
    ended = f"outcome: {run.outcome}" if run.outcome else f"state: {run.state}"
    yield f"            {ended}"
    steps = [step for step in run.steps if step.phase == "run"]
    yield f"            steps: [{', '.join(f'{{{one.action}: {one.state}}}' for one in steps)}]"
    undone = sorted((one for one in run.steps if one.phase != "run"), key=lambda one: -one.index)
    if undone:
        yield f"            undone: [{', '.join(one.action for one in undone)}]"


def _healer(strategy: Strategy, actions: Actions) -> str:
    """Return the last action that can heal; an empty text for none."""
    found = [step.action for step in strategy.actions if actions.get(step.action).heals]
    return found[-1] if found else ""


def _labels(strategy: Strategy, inventory: Inventory) -> dict[str, str] | None:
    """Return labels that its matchers select; None where none can be told."""
    labels: dict[str, str] = {}
    for matcher in strategy.match:
        value = _value(matcher)
        if value is None:
            return None
        if value:
            labels[matcher.name] = value
    services = {
        name.removeprefix("labels.")
        for step in strategy.actions
        for name in names_in(getattr(step.params, "service", ""))
    }
    for label in (*strategy.target, *sorted(services | _used(strategy, "labels"))):
        known = inventory.names if label in services else ()
        if labels.get(label, "example") == "example":
            labels[label] = known[0] if known else "example"
    labels.setdefault("alertname", "Example")
    return labels if all(matcher.matches(labels) for matcher in strategy.match) else None


def _used(strategy: Strategy, what: str) -> set[str]:
    """Return the names of the labels or annotations that templates of its steps use."""
    names = {name for step in strategy.actions for name in names_used(step.params)}
    return {name.partition(".")[2] for name in names if name.startswith(f"{what}.")}


def _value(matcher: Matcher) -> str | None:
    match matcher.op:
        case MatchOp.EQUAL:
            return matcher.value
        case MatchOp.MATCH if matcher.literals:
            return min(matcher.literals)
        case MatchOp.NOT_EQUAL | MatchOp.NOT_MATCH:
            return "" if matcher.matches({}) else "example"
        case _:
            return None


def _flow(labels: dict[str, str]) -> str:
    pairs = (f"{name}: {msgspec.json.encode(value).decode()}" for name, value in labels.items())
    return "{" + ", ".join(pairs) + "}"
