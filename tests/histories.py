"""Small histories in a real Prometheus, and what must be said of an alert after the action.

    python -m tests.histories FILE.json …

A file has the alert's `rule` (alert, expr, labels), its labels (`alert`), and `series`: a name,
labels, and 40 samples of 15 s in each phase, `[start, slope]` or null for none: `well` (before it
fired), `before` (while it fires, up to the action) and `after` (after it). `well_at` is a moment
when it was well, `recorded` are recording rules by name, `external` the server's external labels,
`lag` seconds that it answers behind; `accept_gone` is `verify.gone: accept`. `want` are the answers
that are right after the action, `want_before` those before it; `why` says why. A start may be
"NaN".
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.clients.prometheus import Prometheus
from receiver.policy.promql import Rule, Samples
from receiver.policy.proof.bind import bind
from receiver.policy.proof.judgement import Judgement
from receiver.policy.proof.verifier import look
from receiver.policy.relabel import Sending
from receiver.policy.signal import Signal
from receiver.settings import PrometheusSettings
from tests.chain import free_port, running, wait_until
from tests.tools import tool

FOLDER: Final = Path(__file__).parent / "histories"

_BASE, _STEP, _SAMPLES = 1_577_836_800, 15, 40
_APART: Final = 86_400
"""Seconds from one history to the next: no query reaches from one into another."""
_EPOCH: Final = 1e9
"""A value above it is a time, and moves with its history."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    rule: dict[str, Any]
    alert: dict[str, str]
    series: list[dict[str, Any]]
    want: list[str]
    why: str = ""
    want_before: tuple[str, ...] = ("firing",)
    well_at: float | None = None
    recorded: dict[str, str] = {}
    external: dict[str, str] | None = None
    lag: float = 0.0
    accept_gone: bool = False
    link: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    before: Judgement
    after: Judgement
    queries: int
    """That were asked after the action."""

    def is_right(self, history: History) -> bool:
        return (
            str(self.before.signal) in history.want_before
            and str(self.after.signal) in history.want
        )


def read(file: Path) -> History:
    return msgspec.json.decode(file.read_bytes(), type=History)


@contextmanager
def filled(histories: Sequence[History], folder: Path, binary: str = "") -> Iterator[Prometheus]:
    """A Prometheus that holds *histories*, each a day after the one before it."""
    lines = [line for index, each in enumerate(histories) for line in _samples(each, index)]
    text = "\n".join(line for _, line in sorted(lines))
    (folder / "openmetrics").write_text(text + "\n# EOF\n")
    (folder / "prometheus.yml").write_text("global: {}\n")
    subprocess.run(
        [
            tool("promtool"), "tsdb", "create-blocks-from", "openmetrics",
            "--max-block-duration=87600h", folder / "openmetrics", folder / "tsdb",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    argv = [
        binary or tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with running(argv, f"http://127.0.0.1:{port}", folder / "log") as program:
        asking = Prometheus(PrometheusSettings(url=program.url, timeout=20.0))
        wait_until(asking.ready, what="Prometheus is ready")
        yield asking


def verdict(asking: Prometheus, history: History, index: int = 0) -> Verdict:
    """Ask about a history as promheal does: once before the action, once after it."""
    end = _BASE + index * _APART + _SAMPLES * _STEP
    before, after = float(end - _STEP), float(end + (_SAMPLES - 1) * _STEP)
    rule = Rule(
        name=history.rule["alert"],
        query=history.rule["expr"],
        labels=history.rule.get("labels", {}),
        health="ok",
    )
    well_at = 0.0 if history.well_at is None else history.well_at + index * _APART
    expression = history.link or rule.query
    bound = bind(
        _At(asking, history, before), history.alert, expression, rule, now=before, well_at=well_at
    )
    if bound.binding is None:
        return Verdict(bound, Judgement(signal=Signal.UNKNOWN, detail=bound.detail), 0)
    then = _At(asking, history, after)
    seen = look(
        then,
        bound.binding,
        since=end - _STEP / 2,
        now=after,
        accept_gone=history.accept_gone,
    )
    return Verdict(bound, seen, then.asked)


class _At:
    """A Prometheus whose clock stands still, or that answers for an earlier moment."""

    def __init__(self, asking: Prometheus, history: History, now: float) -> None:
        self._asking = asking
        self._history = history
        self._now = now
        self.asked = 0

    def query(self, expr: str, at: float | None = None) -> Samples:
        self.asked += 1
        answer = self._asking.query(expr, self._now - self._history.lag if at is None else at)
        answer.clock = self._now
        return answer

    def recordings(self) -> Mapping[str, tuple[Rule, ...]]:
        made = self._history.recorded.items()
        return {name: (Rule(name=name, query=query, records=True),) for name, query in made}

    def sending(self) -> Sending | None:
        external = self._history.external
        return None if external is None else Sending(external, None)


def _samples(history: History, index: int) -> Iterable[tuple[int, str]]:
    moved = index * _APART
    base = _BASE + moved
    for each in history.series:
        labels = ",".join(
            f"{name}={json.dumps(value, ensure_ascii=False)}"
            for name, value in each["labels"].items()
        )
        for phase, first in (("well", -_SAMPLES), ("before", 0), ("after", _SAMPLES)):
            if each.get(phase) is None:
                continue
            start, slope = float(each[phase][0]), float(each[phase][1])
            if start > _EPOCH:
                start += moved
            for number in range(_SAMPLES):
                at = base + (first + number) * _STEP
                value = f"{start + slope * number:.14g}".replace("nan", "NaN")
                yield at, f"{each['name']}{{{labels}}} {value} {at}"


def main(files: Sequence[str]) -> int:
    histories = [read(Path(file)) for file in files]
    wrong = 0
    with (
        tempfile.TemporaryDirectory(prefix="histories-") as folder,
        filled(histories, Path(folder)) as asking,
    ):
        for index, (file, history) in enumerate(zip(files, histories, strict=True)):
            said = verdict(asking, history, index)
            right = said.is_right(history)
            wrong += not right
            sys.stdout.write(
                f"{'ok  ' if right else 'FAIL'} {file} | want {history.want_before} "
                f"{history.want} | got {said.before.signal} {said.after.signal} | "
                f"{said.after.detail[:200]}\n"
            )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
