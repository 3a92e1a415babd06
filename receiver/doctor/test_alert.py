"""Does an alert arrive here by way of Alertmanager? One is sent, awaited and resolved.

It has the labels of a strategy's alerts and `promheal="test"`, so that promheal records it and
does not act. People whom Alertmanager notifies of such alerts get this one too.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from receiver.clients.alertmanager import Alertmanager
from receiver.clock import Clock
from receiver.config.files import LoadedConfig
from receiver.doctor.delivery import shown, witnesses
from receiver.doctor.routing import RECEIVER, Route, Routing, read_routing
from receiver.errors import ConfigError, UpstreamError
from receiver.healing.delivery_alerts import TEST, TEST_ID
from receiver.policy.finding import Finding, fail, ok
from receiver.yaml.diagnostics import quoted, suggestion

SPARE: Final = 10.0
"""Seconds beyond the waiting of the routes."""
LASTS: Final = 120.0
"""Seconds after which it resolves by itself, at least."""
_PAUSE: Final = 0.5
"""Seconds between two questions to promheal."""
_SUBJECT: Final = "test alert"


class Arrived(msgspec.Struct, frozen=True):
    """`lastTestAlert` of a running promheal."""

    id: str
    at: float
    receiver: str


class StatusAnswer(msgspec.Struct, rename="camel"):
    """`GET /api/status` of it, as far as it is about this."""

    last_test_alert: Arrived | None


class TestAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert to send, and the receivers that Alertmanager will notify."""

    labels: Mapping[str, str]
    routes: tuple[Route, ...]
    kinds: Mapping[str, tuple[str, ...]]
    """How each receiver notifies: `webhook`, `email`."""

    @property
    def id(self) -> str:
        return self.labels[TEST_ID]

    @property
    def ours(self) -> tuple[Route, ...]:
        """The routes on which it may come to promheal: to a webhook, of our name if one has it."""
        hooks = tuple(r for r in self.routes if "webhook" in self.kinds.get(r.receiver, ()))
        return tuple(r for r in hooks if RECEIVER in r.receiver.lower()) or hooks

    @property
    def patience(self) -> float:
        """Seconds within which Alertmanager has notified promheal."""
        return SPARE + max((r.group_wait + r.group_interval for r in self.ours), default=0.0)

    def told(self) -> Iterator[str]:
        """Yield a line for each receiver that Alertmanager will notify."""
        for receiver in dict.fromkeys(route.receiver for route in self.routes):
            kinds = ", ".join(self.kinds.get(receiver, ())) or "tells nobody"
            yield f"{receiver} ({kinds})"


def prepare(loaded: LoadedConfig, strategy: str | None, *, timeout: float) -> TestAlert:
    """Make a test alert as *strategy* heals it, by default the first; nothing is sent.

    Raises ConfigError when none can be made, UpstreamError when Alertmanager does not answer.
    """
    if loaded.settings.alertmanager is None:
        raise ConfigError("no Alertmanager is named; write `alertmanager: {url: …}`")
    names = loaded.strategies.names
    if not names:
        raise ConfigError("there are no strategies, so no alert is for promheal")
    name = strategy or names[0]
    if name not in names:
        raise ConfigError(f"there is no strategy {quoted(name)}{suggestion(name, names)}")
    examples = {each.name: (each, alert) for each, alert in witnesses(loaded, timeout)}
    healed, alert = examples[name]
    labels = {**(alert or {}), TEST[0]: TEST[1], TEST_ID: secrets.token_urlsafe(16)}
    if alert is None or not all(matcher.matches(labels) for matcher in healed.match):
        raise ConfigError(
            f"no example of the alerts of strategy {name} comes to mind; name another strategy"
        )
    routing = _routing(alertmanager_of(loaded, timeout))
    return TestAlert(labels=labels, routes=tuple(routing.root.reached(labels)), kinds=routing.kinds)


def alertmanager_of(loaded: LoadedConfig, timeout: float) -> Alertmanager:
    settings = loaded.settings.alertmanager
    assert settings is not None  # `prepare` has asked
    return Alertmanager(msgspec.structs.replace(settings, timeout=timeout))


def _routing(alertmanager: Alertmanager) -> Routing:
    try:
        return read_routing(alertmanager.configuration())
    except ValueError as error:
        raise UpstreamError(f"Alertmanager answers, but {error}") from None


def follow(
    test: TestAlert,
    alertmanager: Alertmanager,
    last: Callable[[], Arrived | None],
    waited: Callable[[float], object],
    clock: Clock,
) -> Finding:
    """Send it, wait until *last* says that it arrived, and end it.

    *waited* is told how many seconds went by since it was last told. Where it leads to no webhook,
    nothing is sent. Raises UpstreamError.
    """
    if not test.ours:
        return fail(
            _SUBJECT,
            f"{shown(test.labels)} was not sent: Alertmanager would take it to "
            f"{', '.join(test.told())}, and none of these has a webhook; `promheal config "
            "alertmanager` prints the route",
        )
    failed_before, _ = alertmanager.webhook_notifications()
    began, before = clock(), time.monotonic()
    annotations = {"summary": "promheal doctor tests the way from Alertmanager to promheal"}
    alertmanager.send(test.labels, annotations, ends_at=began + max(LASTS, test.patience + SPARE))
    try:
        told = before
        while True:
            arrived = last()
            now = time.monotonic()
            waited(now - told)
            told = now
            if arrived is not None and arrived.id == test.id:
                receiver = arrived.receiver.replace("\\", "")
                return ok(
                    _SUBJECT,
                    f"{shown(test.labels)} arrived in {now - before:.1f} s by {receiver}",
                )
            if now - before >= test.patience:
                failed_now, _ = alertmanager.webhook_notifications()
                return _lost(test, alertmanager.hushed(test.labels), failed_now - failed_before)
            time.sleep(_PAUSE)
    finally:
        with suppress(UpstreamError):  # then it ends by itself
            alertmanager.send(test.labels, annotations, ends_at=clock())


def _lost(test: TestAlert, hushed: tuple[str, ...], failed: float) -> Finding:
    took = ", ".join(test.told())
    if hushed:
        why = (
            f"Alertmanager keeps it to itself, by {', '.join(hushed)} (a silence, an inhibition or "
            "a time interval): end that, and send it again"
        )
    elif failed:
        why = (
            f"meanwhile {failed:.0f} notifications by webhooks failed: mend `url:` or the "
            "credentials of promheal's receiver; Alertmanager's log has the answer that it got"
        )
    else:
        why = (
            "no notification failed, so its webhook leads to something else than this promheal: "
            "`promheal config alertmanager` prints route and receiver; with several promheals, "
            "--url names the one that Alertmanager tells"
        )
    return fail(
        _SUBJECT,
        f"{shown(test.labels)} did not arrive within {test.patience:.0f} s; Alertmanager took it "
        f"to {took}; {why}",
    )
