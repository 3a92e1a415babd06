"""To which receivers does Alertmanager's configuration route an alert, and which route do we need?

Source: prometheus/alertmanager, dispatch/route.go (matching, inheritance, `continue`) and
config/config.go (the defaults).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import yaml

from receiver.policy.duration import parse_duration
from receiver.policy.matcher import Matcher, MatcherError, MatchOp
from receiver.policy.matcher_syntax import parse_matchers
from receiver.policy.strategy import Strategy

RECEIVER: Final = "promheal"
"""The name of our receiver in what we print."""
EXAMPLE: Final = "promheal-doctor"
"""The value of a label where any will do."""

_GROUP_WAIT: Final = 30.0
_GROUP_INTERVAL: Final = 300.0
REPEAT_INTERVAL: Final = 14_400.0
"""Seconds between two notifications of what has not changed, by default."""


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One `webhook_config`."""

    url: str
    """`<secret>` where Alertmanager hides it, as it does from 0.26 on."""
    send_resolved: bool = True
    max_alerts: int = 0

    @property
    def hidden(self) -> bool:
        return not self.url.startswith(("http://", "https://"))


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route with all that it inherits."""

    receiver: str
    matchers: tuple[Matcher, ...] = ()
    goes_on: bool = False
    """`continue`"""
    group_by: tuple[str, ...] = ()
    group_wait: float = _GROUP_WAIT
    group_interval: float = _GROUP_INTERVAL
    repeat_interval: float = REPEAT_INTERVAL
    routes: tuple[Route, ...] = ()

    def reached(self, labels: Mapping[str, str]) -> Iterator[Route]:
        """Yield the routes that an alert with *labels* ends in, in their order."""
        if not all(matcher.matches(labels) for matcher in self.matchers):
            return
        found = []
        for route in self.routes:
            below = list(route.reached(labels))
            found += below
            if below and not route.goes_on:
                break
        yield from found or [self]


class Routing(msgspec.Struct, frozen=True):
    """The routes and webhooks of a configuration of Alertmanager."""

    root: Route
    webhooks: Mapping[str, tuple[WebhookConfig, ...]]
    """By receiver; those without are left out."""
    kinds: Mapping[str, tuple[str, ...]]
    """How each receiver notifies: `webhook`, `email`."""


def read_routing(text: str) -> Routing:
    """Read Alertmanager's configuration. Raises ValueError when it is none."""
    try:
        config = yaml.safe_load(text)
        receivers = {
            str(each["name"]): tuple(_webhook(hook) for hook in each.get("webhook_configs") or ())
            for each in config["receivers"]
        }
        kinds = {
            str(each["name"]): tuple(
                key.removesuffix("_configs") for key in each if str(key).endswith("_configs")
            )
            for each in config["receivers"]
        }
        root = _route(config["route"], Route(receiver=""))
    except (yaml.YAMLError, MatcherError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its configuration cannot be read: {error}") from None
    return Routing(root, {name: hooks for name, hooks in receivers.items() if hooks}, kinds)


def _webhook(config: Mapping[str, Any]) -> WebhookConfig:
    return WebhookConfig(
        url=str(config.get("url", "")),
        send_resolved=bool(config.get("send_resolved", True)),
        max_alerts=int(config.get("max_alerts", 0)),
    )


def _route(config: Mapping[str, Any], above: Route) -> Route:
    def seconds(name: str, inherited: float) -> float:
        return parse_duration(str(config[name])) if config.get(name) is not None else inherited

    group_by = config.get("group_by")
    route = Route(
        receiver=str(config.get("receiver") or above.receiver),
        matchers=tuple(_matchers(config)),
        goes_on=bool(config.get("continue", False)),
        group_by=above.group_by if group_by is None else tuple(map(str, group_by)),
        group_wait=seconds("group_wait", above.group_wait),
        group_interval=seconds("group_interval", above.group_interval),
        repeat_interval=seconds("repeat_interval", above.repeat_interval),
    )
    below = tuple(_route(each, route) for each in config.get("routes") or ())
    return msgspec.structs.replace(route, routes=below)


def _matchers(config: Mapping[str, Any]) -> Iterator[Matcher]:
    for text in config.get("matchers") or ():
        yield from parse_matchers(str(text))
    for name, value in (config.get("match") or {}).items():
        yield Matcher(str(name), MatchOp.EQUAL, str(value))
    for name, value in (config.get("match_re") or {}).items():
        yield Matcher(str(name), MatchOp.MATCH, str(value))


def seldom(stale_after: float) -> float:
    """Return a `repeat_interval`, seconds, with time to spare before what is told grows stale."""
    return min(REPEAT_INTERVAL, 0.8 * stale_after)


# --- what our strategies need ---------------------------------------------------------------------


class NeededRoute(msgspec.Struct, frozen=True):
    """A route for some strategies."""

    matchers: tuple[Matcher, ...]
    group_by: tuple[str, ...]


def wanted(strategies: Iterable[Strategy]) -> tuple[NeededRoute, ...]:
    """Return the routes that lead every alert to us that one of *strategies* heals, and few more.

    Those that name their alerts share one route; each other one has its own, with its matchers and
    the labels that name its target.
    """
    named: dict[str, None] = {}
    sharing: list[Strategy] = []
    alone: list[NeededRoute] = []
    for strategy in strategies:
        names = alertnames(strategy)
        if names:
            named.update(dict.fromkeys(names))
            sharing.append(strategy)
        else:
            present = tuple(Matcher(name, MatchOp.NOT_EQUAL, "") for name in strategy.target)
            matchers = tuple(dict.fromkeys((*strategy.match, *present)))
            alone.append(NeededRoute(matchers, group_by([strategy])))
    if not named:
        return tuple(dict.fromkeys(alone))
    if len(named) == 1:
        matcher = Matcher("alertname", MatchOp.EQUAL, next(iter(named)))
    else:
        matcher = Matcher("alertname", MatchOp.MATCH, "|".join(map(_literally, named)))
    return (NeededRoute((matcher,), group_by(sharing)), *dict.fromkeys(alone))


def witness(strategy: Strategy, labels: Mapping[str, str]) -> dict[str, str] | None:
    """Return the labels of an alert that *strategy* heals, *labels* where its matchers allow.

    None when none can be made up: a matcher needs more than its text shows.
    """
    needed = ("alertname", *strategy.target)
    by_name: dict[str, list[Matcher]] = {name: [] for name in needed}
    for matcher in strategy.match:
        by_name.setdefault(matcher.name, []).append(matcher)
    found = dict(labels)
    for name, matchers in by_name.items():
        for value in _candidates(matchers, found.get(name, "")):
            if (value or name not in needed) and all(m.matches({name: value}) for m in matchers):
                found[name] = value
                break
        else:
            return None
    return {name: value for name, value in found.items() if value}


def _candidates(matchers: Iterable[Matcher], now: str) -> Iterator[str]:
    yield now
    for matcher in matchers:
        if matcher.op in {MatchOp.EQUAL, MatchOp.MATCH}:
            yield from sorted(matcher.literals or ())
            for piece in matcher.value.split("|"):
                yield piece.replace(".*", "").replace(".+", EXAMPLE).replace("\\", "")
            yield matcher.value
    yield ""
    yield EXAMPLE


def alertnames(strategy: Strategy) -> tuple[str, ...]:
    """The names of its alerts, if its matchers say them one by one."""
    for matcher in strategy.match:
        if matcher.name == "alertname" and matcher.value:
            if matcher.op is MatchOp.EQUAL:
                return (matcher.value,)
            if matcher.op is MatchOp.MATCH and matcher.literals:
                return tuple(sorted(matcher.literals))
    return ()


def group_by(strategies: Iterable[Strategy]) -> tuple[str, ...]:
    """Return by what to group: as finely as targets are told apart, by all where one has none."""
    names: dict[str, None] = {"alertname": None}
    for strategy in strategies:
        if not strategy.target:
            return ("...",)
        names.update(dict.fromkeys(strategy.target))
    return tuple(names)


def _literally(name: str) -> str:
    return "".join(f"\\{letter}" if letter in r"\.+*?()|[]{}^$" else letter for letter in name)
