"""Metrics of a simulated promheal, as a scrape would show them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from typing import Final

import msgspec
from msgspec.structs import asdict

from receiver.clients.llm import KeySummary
from receiver.journal.condition import SOUND
from receiver.reporting.families import SUFFIXES
from receiver.reporting.present import Present
from receiver.reporting.scrape import Scrape
from receiver.simulation.world import VirtualWorld

_SAMPLE: Final = re.compile(
    r"\s*(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)\s*"
)
_LABEL: Final = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')


class MetricSample(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str]
    value: float

    @property
    def series(self) -> str:
        labels = ",".join(
            f"{name}={msgspec.json.encode(value).decode()}" for name, value in self.labels.items()
        )
        return f"{self.name}{{{labels}}}" if labels else self.name

    @property
    def text(self) -> str:
        return f"{self.series} {self.value:g}"

    def equals(self, value: float) -> bool:
        return value == self.value or (math.isnan(value) and math.isnan(self.value))


def parse_sample(text: str) -> MetricSample:
    """Return the sample of a line of a scrape. Raises ValueError with a remedy."""
    found = _SAMPLE.fullmatch(text)
    if found is None:
        raise ValueError(
            f'{text!r} is no sample; write for example promheal_heals_total{{outcome="healed"}} 1'
        )
    labels: dict[str, str] = {}
    rest, at = found["labels"] or "", 0
    while at < len(rest):
        label = _LABEL.match(rest, at)
        if label is None:
            raise ValueError(f'{text!r}: labels are written as {{name="value",other="value"}}')
        labels[label[1]] = label[2].replace('\\"', '"').replace("\\\\", "\\")
        at = label.end()
    try:
        value = float(found["value"])
    except ValueError:
        raise ValueError(f"{text!r}: {found['value']!r} is no number") from None
    return MetricSample(found["name"], labels, value)


def samples_of(world: VirtualWorld) -> Iterator[MetricSample]:
    """Yield what a scrape of this moment would show of the journal and of this process."""
    scrape = Scrape(
        journal=world.journal,
        present=lambda: _present(world),
        uncounted=lambda: nullcontext({}),
    )
    for family in scrape.collect(0.0):
        name = family.name + SUFFIXES[family.kind]
        for values, number in family.rows:
            yield MetricSample(name, dict(zip(family.labels, values, strict=True)), number)


def _present(world: VirtualWorld) -> Present:
    settings = world.loaded.settings
    return Present(
        strategies=world.loaded.strategies,
        engine=settings.engine,
        actions=world.actions.names,
        channels=tuple(settings.notify.channels),
        flags=asdict(settings.flags),
        dry_run=False,
        pause_file="",
        queue_length=0,
        unmatched=0,
        last_consider=world.process.reconciler.last_consider,
        last_heartbeat=0.0,
        last_notification=world.process.intake.last_notification,
        refused={},
        condition=SOUND,
        trouble="",
        journal_writable=True,
        unready="",
        acting=True,
        config_hash=world.loaded.hash,
        reload_successful=True,
        reload_success_at=world.start,
        clock_lead=0.0,
        upstreams=(),
        proves=settings.prometheus is not None,
        tasks=(),
        keys=KeySummary(),
        backup=None,
        version=version("promheal"),
        now=world.clock(),
    )
