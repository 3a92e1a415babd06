"""Prometheus, as the proof asks it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from receiver.policy.promql import Rule, Sample, Samples
from receiver.policy.proof.parts import PartAnswers, Parts
from receiver.policy.relabel import Sending

NO_TIME: Final = "the server did not say for which moment it answered"


class ProofSource(Protocol):
    """Prometheus. All raise UpstreamError when there is no usable answer."""

    def query(self, expr: str, at: float | None = None) -> Samples: ...

    def recordings(self) -> Mapping[str, tuple[Rule, ...]]:
        """Return the rules that make series, by the name of these."""

    def sending(self) -> Sending | None:
        """Return how it labels the alerts that it sends; None where it does not say."""


def answered(source: ProofSource, parts: Parts, query: str, at: float | None = None) -> PartAnswers:
    return parts.read(source.query(query, at))


def incomplete(warnings: Iterable[str]) -> str:
    """Return the first warning of missing data. Those about PromQL itself are none."""
    for text in warnings:
        if not text.startswith("PromQL "):
            return f"the answer may be incomplete: {text}"
    return ""


def shown(sample: Sample) -> str:
    labels = ", ".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
    labels = labels if len(labels) <= 200 else labels[:200] + "…"
    return f"{{{labels}}} = {sample.value:g}"
