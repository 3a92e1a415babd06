"""The HTTP API of Alertmanager, as far as we ask it: alerts that were left out, and silences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from receiver.alert import Alert, Status, fingerprint
from receiver.errors import UpstreamError
from receiver.matcher import Matcher, MatchOp
from receiver.settings import AlertmanagerSettings
from receiver.upstream import Upstream

_ALERTS: Final = "/api/v2/alerts"
_STATUS: Final = "/api/v2/status"


class Alertmanager:
    """One Alertmanager. Safe to use from many threads."""

    def __init__(self, settings: AlertmanagerSettings) -> None:
        self._http = Upstream(
            settings.url,
            timeout=settings.timeout,
            bearer_token_file=settings.bearer_token_file,
        )

    def alerts(self, filters: Sequence[str] = (), *, receiver: str = "") -> tuple[Alert, ...]:
        """Return the alerts that fire now, silenced and inhibited ones too.

        *filters* are matchers that must all hold. *receiver* is a regular expression that must
        match the whole name of one of an alert's receivers; the `receiver` of a notification is
        one already.

        Alertmanager leaves out alerts that have ended, so all of these fire: their `endsAt` is only
        when they will count as ended if nobody repeats them. Raises UpstreamError.
        """
        params = [("filter", text) for text in filters]
        if receiver:
            params.append(("receiver", receiver))
        return tuple(
            Alert(
                fingerprint=alert.fingerprint or fingerprint(alert.labels),
                status=Status.FIRING,
                labels=alert.labels,
                annotations=alert.annotations,
                starts_at=alert.starts_at.timestamp(),
                ends_at=None,
                generator_url=alert.generator_url,
            )
            for alert in self._fetch(params)
            if alert.labels
        )

    def silences_of(self, alert: Alert) -> tuple[str, ...]:
        """Return the ids of the silences that are for *alert* now.

        Alertmanager decides it, by its own matchers; an alert that it does not know has none.
        Raises UpstreamError.
        """
        params = [
            ("filter", str(Matcher(name, MatchOp.EQUAL, value)))
            for name, value in alert.labels.items()
        ]
        for found in self._fetch(params):
            if found.labels == alert.labels:
                return tuple(found.status.silenced_by)
        return ()

    def _fetch(self, params: Sequence[tuple[str, str]]) -> list[_WireAlert]:
        shown = [("active", "true"), ("silenced", "true"), ("inhibited", "true")]
        body = self._http.get(_ALERTS, [*shown, *params])
        try:
            return msgspec.json.decode(body, type=list[_WireAlert])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamError(f"{_ALERTS}: the answer is not Alertmanager's: {error}") from None

    def configuration(self) -> str:
        """Return its configuration as YAML, with its secrets hidden. Raises UpstreamError."""
        body = self._http.get(_STATUS)
        try:
            return msgspec.json.decode(body, type=_WireServer).config.original
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamError(f"{_STATUS}: the answer is not Alertmanager's: {error}") from None

    def ready(self) -> bool:
        return self._http.answers("/-/ready")


class _WireConfig(msgspec.Struct):
    original: str


class _WireServer(msgspec.Struct):
    config: _WireConfig


class _WireStatus(msgspec.Struct, frozen=True, rename="camel"):
    silenced_by: list[str] = []


class _WireAlert(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    starts_at: datetime
    annotations: dict[str, str] = {}
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str = ""
    status: _WireStatus = _WireStatus()
