"""The part of Alertmanager's HTTP API that we use: alerts, silences, status."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from receiver.clients.http_upstream import Upstream
from receiver.errors import UpstreamError
from receiver.policy.alert import Alert, Status
from receiver.policy.fingerprint import fingerprint
from receiver.policy.matcher import Matcher, MatcherError, MatchOp
from receiver.settings import AlertmanagerSettings

_ALERTS: Final = "/api/v2/alerts"
_STATUS: Final = "/api/v2/status"
_SILENCES: Final = "/api/v2/silences"

_T = TypeVar("_T")


class Alertmanager:
    """One Alertmanager. Safe to use from many threads."""

    def __init__(self, settings: AlertmanagerSettings) -> None:
        self._http = Upstream(
            settings.url,
            timeout=settings.timeout,
            config=settings,
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

    def send(
        self, labels: Mapping[str, str], annotations: Mapping[str, str], *, ends_at: float
    ) -> None:
        """Have an alert fire until *ends_at*, seconds since the epoch; a past one ends it.

        Raises UpstreamError.
        """
        alert = {
            "labels": labels,
            "annotations": annotations,
            "endsAt": datetime.fromtimestamp(ends_at, UTC),
        }
        self._http.post_json(_ALERTS, [alert])

    def hushed(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the ids of what silences, inhibits or mutes the alert with exactly these labels.

        Raises UpstreamError.
        """
        params = [
            ("filter", str(Matcher(name, MatchOp.EQUAL, value))) for name, value in labels.items()
        ]
        for found in self._fetch(params):
            if found.labels == labels:
                status = found.status
                return (*status.silenced_by, *status.inhibited_by, *status.muted_by)
        return ()

    def silences_of(self, alert: Alert) -> tuple[str, ...]:
        """Return the ids of the silences that are for *alert* now.

        Alertmanager decides which, by its own matchers. For an alert that it does not have, from a
        file or with a label that its sender made up, we match the active silences ourselves, so
        that none is evaded. Raises UpstreamError.
        """
        params = [
            ("filter", str(Matcher(name, MatchOp.EQUAL, value)))
            for name, value in alert.labels.items()
        ]
        for found in self._fetch(params):
            if found.labels == alert.labels:
                return tuple(found.status.silenced_by)
        body = self._http.get(_SILENCES)
        return tuple(
            silence.id
            for silence in _decoded(_SILENCES, body, list[_WireSilence])
            if silence.status.state == "active" and silence.is_for(alert.labels)
        )

    def silences(
        self, equal: Mapping[str, str], *, timeout: float | None = None
    ) -> tuple[Silence, ...]:
        """Return the silences, expired ones too, that have all these labels and values.

        Raises UpstreamError.
        """
        params = [
            ("filter", str(Matcher(name, MatchOp.EQUAL, value))) for name, value in equal.items()
        ]
        body = self._http.get(_SILENCES, params, timeout=timeout)
        return tuple(_decoded(_SILENCES, body, list[Silence]))

    def silence(
        self,
        equal: Mapping[str, str],
        *,
        starts_at: float,
        ends_at: float,
        created_by: str,
        comment: str,
        timeout: float | None = None,
    ) -> str:
        """Create a silence for alerts with just these labels and values; return its id.

        Raises UpstreamError.
        """
        wanted = {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True}
                for name, value in equal.items()
            ],
            "startsAt": datetime.fromtimestamp(starts_at, UTC),
            "endsAt": datetime.fromtimestamp(ends_at, UTC),
            "createdBy": created_by,
            "comment": comment,
        }
        body = self._http.post_json(_SILENCES, wanted, timeout=timeout)
        return _decoded(_SILENCES, body, _Created).silence_id

    def expire(self, identity: str, *, timeout: float | None = None) -> None:
        """End a silence that has not expired. Raises UpstreamError."""
        self._http.delete(f"/api/v2/silence/{quote(identity, safe='')}", timeout=timeout)

    def _fetch(self, params: Sequence[tuple[str, str]]) -> list[_WireAlert]:
        shown = [("active", "true"), ("silenced", "true"), ("inhibited", "true")]
        body = self._http.get(_ALERTS, [*shown, *params])
        return _decoded(_ALERTS, body, list[_WireAlert])

    def probe(self) -> None:
        """Check that it answers. Raises UpstreamError."""
        self.configuration()

    def configuration(self) -> str:
        """Return its configuration as YAML, with its secrets hidden. Raises UpstreamError."""
        body = self._http.get(_STATUS)
        return _decoded(_STATUS, body, _WireServer).config.original

    def webhook_notifications(self) -> tuple[float, float]:
        """Return how many webhook notifications failed since it started, and how many there were.

        Raises UpstreamError.
        """
        text = self._http.get("/metrics").decode("utf-8", "replace")

        def total(name: str) -> float:
            found = re.findall(rf'(?m)^{name}{{[^}}]*integration="webhook"[^}}]*}} (\S+)$', text)
            return sum(map(float, found))

        return (
            total("alertmanager_notifications_failed_total"),
            total("alertmanager_notifications_total"),
        )

    def ready(self) -> bool:
        return self._http.answers("/-/ready")


class _WireConfig(msgspec.Struct):
    original: str


class _WireServer(msgspec.Struct):
    config: _WireConfig


class _SilenceStatus(msgspec.Struct, frozen=True):
    state: str


class Silence(msgspec.Struct, frozen=True, rename="camel"):
    """A silence, with the fields by which we recognize our own."""

    id: str
    status: _SilenceStatus
    ends_at: datetime
    created_by: str = ""
    comment: str = ""

    @property
    def expired(self) -> bool:
        return self.status.state == "expired"


class _WireMatcher(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    def matches(self, labels: Mapping[str, str]) -> bool:
        return Matcher(self.name, _OPS[self.is_regex, self.is_equal], self.value).matches(labels)


_OPS: Final = {
    (False, True): MatchOp.EQUAL,
    (False, False): MatchOp.NOT_EQUAL,
    (True, True): MatchOp.MATCH,
    (True, False): MatchOp.NOT_MATCH,
}


class _WireSilence(msgspec.Struct, frozen=True):
    id: str
    status: _SilenceStatus
    matchers: list[_WireMatcher]

    def is_for(self, labels: Mapping[str, str]) -> bool:
        try:
            return all(matcher.matches(labels) for matcher in self.matchers)
        except MatcherError as error:
            raise UpstreamError(f"{_SILENCES}: silence {self.id}: {error}") from None


class _Created(msgspec.Struct, frozen=True):
    silence_id: str = msgspec.field(name="silenceID")


def _decoded(path: str, body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"{path}: the answer is not Alertmanager's: {error}") from None


class _WireStatus(msgspec.Struct, frozen=True, rename="camel"):
    silenced_by: list[str] = []
    inhibited_by: list[str] = []
    muted_by: list[str] = []


class _WireAlert(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    starts_at: datetime
    annotations: dict[str, str] = {}
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str = ""
    status: _WireStatus = _WireStatus()
