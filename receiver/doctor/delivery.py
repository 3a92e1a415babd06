"""Does Alertmanager route to promheal what its strategies heal? Only its configuration is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from receiver.clients.alertmanager import Alertmanager
from receiver.clients.http_exchange import fetch
from receiver.clients.prometheus import Prometheus
from receiver.config.files import LoadedConfig
from receiver.doctor.routing import (
    RECEIVER,
    Route,
    Routing,
    WebhookConfig,
    alertnames,
    group_by,
    read_routing,
    seldom,
    witness,
)
from receiver.errors import ActionError, UpstreamError
from receiver.policy.duration import format_duration
from receiver.policy.finding import Finding, fail, ok, warn
from receiver.policy.strategy import Strategy

SLOW: Final = 60.0
"""Seconds of waiting for a group beyond which there is a warning."""
_SUBJECT: Final = "alertmanager"
_PRINT: Final = "`promheal config alertmanager` prints"


class Lead(Enum):
    """Where a webhook leads."""

    HERE = auto()
    """To promheal's /webhook."""
    ASTRAY = auto()
    """To promheal, below another path."""
    SILENT = auto()
    """To a /webhook where nothing answers."""
    HIDDEN = auto()
    """Alertmanager hides the URL."""
    ELSEWHERE = auto()


class Way(NamedTuple):
    """A route and its webhook by which an alert comes to us."""

    route: Route
    hook: WebhookConfig


def examine(loaded: LoadedConfig, timeout: float) -> Iterator[Finding]:
    """Ask the Alertmanager of the configuration, each question within *timeout* seconds.

    Raises UpstreamError when it does not answer.
    """
    settings = loaded.settings.alertmanager
    if settings is None:
        yield warn(
            _SUBJECT, "none is named, so silences do not stop promheal; write `alertmanager:`"
        )
        return
    alertmanager = Alertmanager(msgspec.structs.replace(settings, timeout=timeout))
    try:
        routing = read_routing(alertmanager.configuration())
    except ValueError as error:
        yield warn(_SUBJECT, f"{settings.url} answers, but {error}")
        return
    if not routing.webhooks:
        yield fail(
            _SUBJECT,
            f"{settings.url} has no webhook, so promheal is never told; {_PRINT} what to add",
        )
        return
    yield ok(_SUBJECT, f"{settings.url} has webhooks in {', '.join(routing.webhooks)}")
    yield from _delivered(*alertmanager.webhook_notifications())
    yield from _led_to_us(loaded, routing, timeout)


def _led_to_us(loaded: LoadedConfig, routing: Routing, timeout: float) -> Iterator[Finding]:
    """Yield where each webhook leads, and for each strategy whether its alerts are routed to us."""
    examples = list(witnesses(loaded, timeout))
    concerned = {name for name in routing.webhooks if RECEIVER in name.lower()} | {
        route.receiver
        for _, alert in examples
        if alert is not None
        for route in routing.root.reached(alert)
    }
    leads = {}
    # Only ours are called: the webhooks of others are none of our business.
    for receiver in sorted(concerned & set(routing.webhooks)):
        for hook in routing.webhooks[receiver]:
            leads[hook] = _lead(hook, timeout)
            yield from _led(receiver, hook, leads[hook])
    ways: dict[Way, list[Strategy]] = {}
    strategies = []
    for strategy, alert in examples:
        found = [] if alert is None else ways_of(routing, alert, leads)
        strategies.append(_routed(strategy, alert, routing, found))
        for way in found:
            ways.setdefault(way, []).append(strategy)
    stale_after = loaded.settings.engine.stale_after
    for doubt in dict.fromkeys(
        doubt for way, healed in ways.items() for doubt in _doubts(way, healed, stale_after)
    ):
        yield warn(_SUBJECT, doubt)
    yield from strategies


def witnesses(
    loaded: LoadedConfig, timeout: float
) -> Iterator[tuple[Strategy, dict[str, str] | None]]:
    """Yield each strategy with the labels of an alert that it matches, None where none is found."""
    rules = _labels_by_alert(loaded, timeout)
    for strategy in loaded.strategies:
        labels = next((rules[name] for name in alertnames(strategy) if name in rules), {})
        yield strategy, witness(strategy, labels)


def ways_of(
    routing: Routing, alert: Mapping[str, str], leads: Mapping[WebhookConfig, Lead]
) -> list[Way]:
    """Return the ways by which *alert* comes to promheal.

    Where Alertmanager hides the URLs, the receiver of our name counts, and any if none has it.
    """
    ways = [
        (Way(route, hook), leads[hook])
        for route in routing.root.reached(alert)
        for hook in routing.webhooks.get(route.receiver, ())
    ]
    named = any(RECEIVER in name.lower() for name in routing.webhooks)
    return [
        way
        for way, lead in ways
        if lead in {Lead.HERE, Lead.ASTRAY, Lead.SILENT}
        or (lead is Lead.HIDDEN and (not named or RECEIVER in way.route.receiver.lower()))
    ]


def _routed(
    strategy: Strategy, alert: Mapping[str, str] | None, routing: Routing, ways: list[Way]
) -> Finding:
    subject = f"strategy {strategy.name}"
    if alert is None:
        return warn(
            subject,
            "no example of its alerts comes to mind, so its route is not checked; try "
            "`amtool config routes test`",
        )
    if ways:
        return ok(subject, f"an alert {shown(alert)} is led to {ways[0].route.receiver}")
    reached = ", ".join(route.receiver for route in routing.root.reached(alert))
    return fail(
        subject,
        f"an alert {shown(alert)} goes to {reached} and not to promheal; {_PRINT} the route",
    )


def _delivered(failed: float, sent: float) -> Iterator[Finding]:
    if failed and failed == sent:
        yield warn(
            _SUBJECT,
            f"all {failed:.0f} notifications by webhooks failed since it started; its log says why",
        )
    elif failed:
        yield ok(
            _SUBJECT,
            f"{failed:.0f} of {sent:.0f} notifications by webhooks failed since it started; its "
            "log says why",
        )


def _doubts(way: Way, healed: Iterable[Strategy], stale_after: float) -> Iterator[str]:
    """Yield what delays alerts on the way to promheal, or loses some."""
    (route, hook), name = way, way.route.receiver
    if not hook.send_resolved:
        yield f"{name} sends no resolved alerts: write `send_resolved: true`"
    if hook.max_alerts:
        yield (
            f"{name} has max_alerts {hook.max_alerts}: what it cuts off counts as sent and never "
            "comes; write `max_alerts: 0`"
        )
    if route.group_interval > SLOW:
        yield (
            f"the route to {name} has group_interval {format_duration(route.group_interval)}, for "
            "which each change, each end and each retry waits; write `group_interval: 10s`"
        )
    if route.group_wait > SLOW:
        yield (
            f"the route to {name} has group_wait {format_duration(route.group_wait)}, in which "
            "nothing heals; write `group_wait: 0s`"
        )
    if route.repeat_interval >= stale_after:
        yield (
            f"the route to {name} has repeat_interval {format_duration(route.repeat_interval)}, "
            f"not below engine.stale_after ({format_duration(stale_after)}), after which a "
            "notification is not believed any more; write `repeat_interval: "
            f"{format_duration(seldom(stale_after))}`"
        )
    wanted = group_by(healed)
    missing = [each for each in wanted if each not in route.group_by]
    if missing and "..." not in route.group_by:
        finest = "'...'" if "..." in wanted else ", ".join(wanted)
        yield (
            f"the route to {name} does not group by {', '.join(missing)}, so the news of one "
            f"target waits for another's group_interval; write `group_by: [{finest}]`"
        )


def _lead(hook: WebhookConfig, timeout: float) -> Lead:
    """Ask what listens there: promheal's /-/healthy needs no credentials, and none are sent."""
    if hook.hidden:
        return Lead.HIDDEN
    place, path = _place(hook), urlsplit(hook.url).path
    right = path.endswith("/webhook")
    try:
        # Below another path it is looked for at the root, which is where it mostly is.
        base = path.removesuffix("/webhook") if right else ""
        reply = fetch("GET", f"{place}{base}/-/healthy", timeout=timeout)
    except ActionError:
        return Lead.SILENT if right else Lead.ELSEWHERE
    if b"promheal" not in reply.body.lower():
        return Lead.ELSEWHERE
    return Lead.HERE if right else Lead.ASTRAY


def _led(receiver: str, hook: WebhookConfig, lead: Lead) -> Iterator[Finding]:
    place = "" if hook.hidden else _place(hook)
    match lead:
        case Lead.HERE:
            yield ok(_SUBJECT, f"{receiver} posts to {place}, where promheal answers")
        case Lead.ASTRAY:
            yield fail(
                _SUBJECT,
                f"{receiver} posts to {urlsplit(hook.url).path or '/'}, and promheal, which "
                f"answers there, listens at /webhook; write `url: {place}/webhook`",
            )
        case Lead.SILENT:
            yield warn(
                _SUBJECT,
                f"{receiver} posts to {place}/webhook, where no promheal answers us: start it "
                "there, or mend host and port in `url:`; `promheal doctor --send-test-alert` shows "
                "whether an alert arrives",
            )
        case Lead.HIDDEN:
            yield ok(
                _SUBJECT,
                f"{receiver} has a webhook whose URL is hidden; `promheal doctor "
                "--send-test-alert` shows whether it leads here",
            )
        case Lead.ELSEWHERE if RECEIVER in receiver.lower():
            yield fail(
                _SUBJECT,
                f"{receiver} posts to {place}, and what answers there is not promheal; mend `url:`",
            )
        case Lead.ELSEWHERE:
            pass  # a webhook of others


def _place(hook: WebhookConfig) -> str:
    """Return scheme, host and port, without a password that may stand before them."""
    parts = urlsplit(hook.url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def shown(labels: Mapping[str, str]) -> str:
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{{{inside}}}"


def _labels_by_alert(loaded: LoadedConfig, timeout: float) -> dict[str, dict[str, str]]:
    """Return the constant labels of rules by the name of their alerts."""
    settings = loaded.settings.prometheus
    if settings is None:
        return {}
    try:
        rules = Prometheus(msgspec.structs.replace(settings, timeout=timeout)).rules()
    except UpstreamError:
        return {}  # reported where Prometheus is asked
    return {
        rule.name: {name: value for name, value in rule.labels.items() if "{{" not in value}
        for rule in rules
    }
