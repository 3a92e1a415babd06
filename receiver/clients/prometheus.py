"""The part of Prometheus' HTTP API that we use: queries, rules, configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from receiver.clients.http_upstream import Upstream
from receiver.clients.sending import read_sending
from receiver.errors import UpstreamError
from receiver.policy.promql import Rule, Sample, Samples
from receiver.policy.relabel import Sending
from receiver.settings import PrometheusSettings

_QUERY: Final = "/api/v1/query"
_ALERTMANAGERS: Final = "/api/v1/alertmanagers"
_QUERY_RANGE: Final = "/api/v1/query_range"
_CONFIG: Final = "/api/v1/status/config"
_LABELS: Final = "/api/v1/labels"
_RULES: Final = "/api/v1/rules"

_FORBIDDEN: Final = frozenset({400, 401, 403})
"""Answers for a path that is not served to everybody."""
MAX_SERIES: Final = 100_000
"""Series of one answer; Prometheus before 2.54 knows no such limit, and only bytes bound it."""


class Prometheus:
    """One Prometheus, or what speaks its API. Safe to use from many threads.

    Every method raises UpstreamError when there is no usable answer: refused, slow, too large, not
    understood, or an error that Prometheus reports; its own words are in the text.
    """

    def __init__(self, settings: PrometheusSettings) -> None:
        self._timeout = settings.timeout
        external = settings.external_labels
        self._told = Sending(external, None) if external else None
        self._http = Upstream(
            settings.url,
            timeout=settings.timeout,
            config=settings,
        )

    def probe(self) -> None:
        """Check that it answers queries."""
        if [sample.value for sample in self.query("vector(1)")] != [1.0]:
            raise UpstreamError(f"{_QUERY}: vector(1) is not answered with 1")

    def query(self, expr: str, at: float | None = None) -> Samples:
        """Return what *expr* evaluates to, at Prometheus' own now or at *at*."""
        form = [("query", expr), *self._bounds()]
        if at is not None:
            form.append(("time", repr(at)))
        body, clock = self._http.post_timed(_QUERY, form)
        data, warnings = _data(_QUERY, body, _Result)
        match data.resultType:
            case "vector":
                found = _decoded(_QUERY, data.result, list[_Series])
                samples = Samples(_sample(series) for series in found)
            case "scalar":
                point = _decoded(_QUERY, data.result, _Point)
                samples = Samples([Sample({}, _number(point.value), point.at)])
            case other:
                raise UpstreamError(f"{_QUERY}: the answer is a {other}, not an instant vector")
        samples.warnings, samples.clock = tuple(warnings), clock
        return samples

    def query_range(
        self, expr: str, *, start: float, end: float, step: float, timeout: float | None = None
    ) -> tuple[Range, ...]:
        """Return what *expr* evaluated to, every *step* seconds from *start* to *end*.

        Prometheus refuses more than 11,000 points a series. Points of native histograms are left
        out. *timeout* bounds it further than the one for all.
        """
        form = [("query", expr), ("start", repr(start)), ("end", repr(end)), ("step", repr(step))]
        form += self._bounds(timeout)
        body = self._http.post(_QUERY_RANGE, form, timeout=timeout)
        data, _ = _data(_QUERY_RANGE, body, _Result)
        if data.resultType != "matrix":
            raise UpstreamError(f"{_QUERY_RANGE}: the answer is a {data.resultType}, not a matrix")
        return tuple(
            Range(
                labels=series.metric,
                times=tuple(point.at for point in series.values),
                values=tuple(_number(point.value) for point in series.values),
            )
            for series in _decoded(_QUERY_RANGE, data.result, list[_Matrix])
        )

    def rules(self, alertname: str | None = None) -> tuple[Rule, ...]:
        """Return the alerting rules, or those called *alertname*.

        The error's `unknown_path` says that there is no rules API.
        """
        params = [("type", "alert")]
        if alertname is not None:
            # Those older than 2.44 ignore it and send all.
            params.append(("rule_name[]", alertname))
        return tuple(
            rule
            for rule in self._rules(params)
            if not rule.records and alertname in {None, rule.name}
        )

    def known_rules(self) -> tuple[Rule, ...] | None:
        """Return all alerting rules, or None when there is no rules API."""
        try:
            return self.rules()
        except UpstreamError as error:
            if error.unknown_path:
                return None
            raise

    def recording_rules(self) -> tuple[Rule, ...]:
        """Return the rules that make new series."""
        return tuple(rule for rule in self._rules([("type", "record")]) if rule.records)

    def label_names(self, selectors: Iterable[str]) -> frozenset[str]:
        """Return the labels of all series that any of *selectors* has selected lately."""
        form = [("match[]", selector) for selector in selectors]
        data, _ = _data(_LABELS, self._http.post(_LABELS, form), list[str])
        return frozenset(data)

    def sending(self) -> Sending | None:
        """Return how it labels the alerts that it sends; None where nobody says.

        Where it does not show that, the external labels are those of the settings.
        """
        try:
            data, _ = _data(_CONFIG, self._http.get(_CONFIG), _Config)
        except UpstreamError as error:
            if error.unknown_path or error.status in _FORBIDDEN:
                return self._told  # Thanos and Mimir have no such path
            raise
        return read_sending(data.yaml) or self._told

    def _rules(self, params: list[tuple[str, str]]) -> Iterator[Rule]:
        data, _ = _data(_RULES, self._http.get(_RULES, params), _Groups)
        return (_rule(rule, group) for group in data.groups for rule in group.rules)

    def _bounds(self, timeout: float | None = None) -> list[tuple[str, str]]:
        """Have Prometheus stop evaluating when we stop waiting."""
        limit = self._timeout if timeout is None else min(self._timeout, timeout)
        return [("timeout", repr(limit)), ("limit", str(MAX_SERIES))]

    def alertmanagers(self) -> tuple[str, ...]:
        """Return the URLs of those that it sends alerts to now."""
        data, _ = _data(_ALERTMANAGERS, self._http.get(_ALERTMANAGERS), _Alertmanagers)
        return tuple(each.url for each in data.active)

    def ready(self) -> bool:
        return self._http.answers("/-/ready")


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """One series over time."""

    labels: dict[str, str]
    times: tuple[float, ...]
    """Seconds since the epoch."""
    values: tuple[float | None, ...]
    """One for each time; in JSON, null for what is infinite or no number."""


class _Point(msgspec.Struct, array_like=True):
    at: float
    """Seconds since the epoch."""
    value: str
    """A number as text, since JSON has no NaN."""


class _Envelope(msgspec.Struct):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    errorType: str = ""  # noqa: N815  Prometheus' names
    error: str = ""
    warnings: list[str] = []


class _Result(msgspec.Struct):
    resultType: str  # noqa: N815
    result: msgspec.Raw


class _Series(msgspec.Struct):
    metric: dict[str, str]
    value: _Point | None = None
    histogram: tuple[float, msgspec.Raw] | None = None


class _Matrix(msgspec.Struct):
    metric: dict[str, str]
    values: list[_Point] = []


class _WireAlert(msgspec.Struct):
    labels: dict[str, str] = {}
    state: str = ""


class _WireRule(msgspec.Struct, rename="camel"):
    name: str
    query: str
    type: str
    labels: dict[str, str] | None = None
    duration: float = 0.0
    keep_firing_for: float = 0.0
    health: str = "unknown"
    last_error: str = ""
    last_evaluation: datetime | None = None
    state: str = ""
    alerts: list[_WireAlert] | None = None


class _Group(msgspec.Struct):
    name: str
    rules: list[_WireRule]
    interval: float = 0.0


class _Groups(msgspec.Struct):
    groups: list[_Group]


class _Config(msgspec.Struct):
    yaml: str = ""


class _Receiver(msgspec.Struct):
    url: str


class _Alertmanagers(msgspec.Struct, rename={"active": "activeAlertmanagers"}):
    active: list[_Receiver] = []


_T = TypeVar("_T")


def _decoded(path: str, raw: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"{path}: the answer is not Prometheus': {error}") from None


def _data(path: str, body: bytes, kind: type[_T]) -> tuple[_T, list[str]]:
    reply = _decoded(path, body, _Envelope)
    if reply.status != "success":
        raise UpstreamError(f"{path}: {reply.status} {reply.errorType}: {reply.error}")
    return _decoded(path, reply.data, kind), reply.warnings


def _sample(series: _Series) -> Sample:
    if series.value is not None:
        return Sample(series.metric, _number(series.value.value), series.value.at)
    return Sample(series.metric, float("nan"), series.histogram[0] if series.histogram else 0.0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UpstreamError(f"{_QUERY}: {text[:40]!r} is no number") from None


def _rule(rule: _WireRule, group: _Group) -> Rule:
    return Rule(
        name=rule.name,
        query=rule.query,
        records=rule.type == "recording",
        labels=rule.labels or {},
        duration=rule.duration,
        keep_firing_for=rule.keep_firing_for,
        health=rule.health,
        last_error=rule.last_error,
        last_evaluation=rule.last_evaluation.timestamp() if rule.last_evaluation else 0.0,
        interval=group.interval,
        state=rule.state,
        alerts=tuple(alert.labels for alert in rule.alerts or ()),
        firing=tuple(alert.labels for alert in rule.alerts or () if alert.state == "firing"),
    )
