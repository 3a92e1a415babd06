"""How can the demo's service fail? Each fault, the alert that it fires, and its measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

SERVICE: Final = "shop"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which the service can fail."""

    name: str
    """As the service knows it."""
    alert: str
    """The alert of rules.yml that sees it."""
    words: str
    """What it does to the service."""
    gauge: str
    """PromQL for what the alert's expression compares with its threshold."""
    show: Callable[[float], str]
    """Says in words what *gauge* returned."""


def _percentile(value: float) -> str:
    return f"p95 is {value:.2f} s"


def _memory(value: float) -> str:
    return f"{value / 1e6:.0f} MB are held"


def _cores(value: float) -> str:
    return f"{value:.2f} cores are used"


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault(
            name="latency",
            alert="HighLatency",
            words="every answer takes 0.8 s",
            gauge="histogram_quantile(0.95, sum by (le) (rate("
            f'http_request_duration_seconds_bucket{{service="{SERVICE}"}}[5s])))',
            show=_percentile,
        ),
        Fault(
            name="memory",
            alert="HighMemory",
            words="it leaks 200 MB",
            gauge=f'max_over_time(process_resident_memory_bytes{{service="{SERVICE}"}}[3s])',
            show=_memory,
        ),
        Fault(
            name="cpu",
            alert="HighCPU",
            words="a thread of it spins",
            gauge=f'rate(process_cpu_seconds_total{{service="{SERVICE}"}}[5s])',
            show=_cores,
        ),
    )
}
BY_ALERT: Final = {fault.alert: fault for fault in FAULTS.values()}
