"""Families that are made anew at each scrape, and how they are written.

With hundreds of strategies they have thousands of rows, nearly all of them the same as at the last
scrape. prometheus_client makes a Sample of each and writes it label by label, which takes twenty
times as long; so the text of a family is kept for as long as its rows are the same, and the text
before each value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

import msgspec
from prometheus_client.utils import floatToGoString

from receiver.redaction import forms, redact

_KEPT: Final = 1 << 16
"""Rows whose text before the value is kept: more than 1,000 strategies have."""
_IN_QUOTES: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
SUFFIXES: Final = {"counter": "_total", "gauge": "", "info": "_info"}

Rows = Iterable[tuple[tuple[str, ...], float]]
"""Values of the labels, and the number."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """With the prefix, and without `_total` or `_info`."""
    help: str
    kind: Literal["counter", "gauge", "info"] = "gauge"
    labels: tuple[str, ...] = ()
    rows: list[tuple[tuple[str, ...], float]]

    def text(self, *, openmetrics: bool) -> str:
        sample = self.name + SUFFIXES[self.kind]
        # Both formats are written alike but for the heads.
        name = self.name if openmetrics else sample
        kind = "gauge" if self.kind == "info" and not openmetrics else self.kind
        head = f"# HELP {name} {self.help}\n# TYPE {name} {kind}\n"
        return head + "".join(
            f"{_before(sample, self.labels, values)} {_written(number)}\n"
            for values, number in self.rows
        )


def clean(text: str) -> str:
    """Return an exposition with its secrets redacted; numbers are none."""
    if redact(text) == text:
        return text
    return _IN_QUOTES.sub(lambda found: redact(found[0]), text)


class Texts:
    """The text of each family, written anew when its rows or the known secrets have changed."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], tuple[Family, bytes]] = {}
        self._forms = forms()

    def of(self, family: Family, *, openmetrics: bool) -> bytes:
        if self._forms is not forms():
            self._forms = forms()
            self._kept.clear()
        kept = self._kept.get((family.name, openmetrics))
        if kept is not None and kept[0].rows == family.rows:
            return kept[1]
        text = clean(family.text(openmetrics=openmetrics)).encode()
        self._kept[family.name, openmetrics] = family, text
        return text


def counter(name: str, text: str, value: float) -> Family:
    return Family(name=f"promheal_{name}", help=text, kind="counter", rows=[((), value)])


def gauge(name: str, text: str, value: float) -> Family:
    return gauges(name, text, [], [((), value)])


def gauges(name: str, text: str, labels: list[str], rows: Rows) -> Family:
    return Family(name=f"promheal_{name}", help=text, labels=tuple(labels), rows=list(rows))


@lru_cache(maxsize=_KEPT)
def _before(sample: str, labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Return what stands before a value."""
    if not labels:
        return sample
    pairs = sorted(zip(labels, values, strict=True))
    return f"{sample}{{{','.join(f'{name}={_quoted(value)}' for name, value in pairs)}}}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'"{escaped}"'


def _written(number: float) -> str:
    return str(floatToGoString(number)) if number else "0.0"  # type: ignore[no-untyped-call]
