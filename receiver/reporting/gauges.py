"""Gauges that are made anew at each scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"promheal_{name}", text, value=value)


def gauges(
    name: str, text: str, labels: list[str], rows: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    family = GaugeMetricFamily(f"promheal_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
