"""`snapshot`: keep how it is now, for whoever looks for the cause later."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from receiver.actions import Action, Context, unknown_service
from receiver.clients.http_exchange import exchange
from receiver.clients.prometheus import Prometheus, Range
from receiver.errors import ActionError, UpstreamError
from receiver.policy import promql
from receiver.policy.duration import Duration
from receiver.process import table as processes
from receiver.services import Inventory, Service
from receiver.snapshots import Logs, Machine, Metric, ServiceWord, Snapshot, keep
from receiver.template import NameText, PromqlText, problems_in_promql, sample

MOST_SERIES: Final = 50
"""Of one query."""
POINTS: Final = 240
"""Of one series, and one more."""
LEAST_STEP: Final = 5.0  # seconds
BEFORE: Final = 21_600.0
"""Seconds: of an alert that fires for longer, the time until now is looked at."""
TOP: Final = 20
"""Processes by CPU, and as many by memory."""
LOOK: Final = 0.5
"""Seconds over which the CPU use of processes is measured."""
LOG_BYTES: Final = 65_536
"""Of the end of a log."""
LOG_LINES: Final = 200
_HEALTH: Final = 5.0  # seconds
_MAX_DETAIL: Final = 2_000  # characters

_T = TypeVar("_T")


class SnapshotParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service: NameText | None = None
    """A name in `services.yml`, as a rule from a label: its state and the end of its log are
    kept."""
    queries: Annotated[
        tuple[PromqlText, ...],
        msgspec.Meta(max_length=10, extra={"type": "list of up to 10 PromQL queries"}),
    ] = ()
    """Besides the alert's own expression. Values of templates are escaped, as in
    [`when`](templates.md)."""
    window: Annotated[Duration, msgspec.Meta(ge=60, le=86_400)] = 900.0
    """How much of the time before the alert is kept; 1m to 1d."""


class TakeSnapshot(Action):
    """Reads, and writes one file. A part that cannot be had is noted in it, with the reason."""

    name = "snapshot"
    Params = SnapshotParams
    timeout = 30.0
    heals = False

    def idempotent(self, params: SnapshotParams) -> bool:  # noqa: ARG002  the file is written anew
        return True

    def problems(self, params: SnapshotParams, inventory: Inventory) -> Iterable[str]:
        if params.service is not None:
            yield from unknown_service(params.service, inventory)
        for position, query in enumerate(params.queries):
            problem = problems_in_promql(query)
            if problem is None:
                try:
                    promql.parse(sample(query))
                except ValueError as error:
                    problem = f"no PromQL that can be asked: {error}"
            if problem is not None:
                yield f"queries[{position}]: {problem}"

    def run(self, params: SnapshotParams, context: Context) -> dict[str, Any]:
        if context.folder is None:
            raise ActionError("there is no folder for snapshots")
        parts = _Parts(time.monotonic() + context.timeout)
        service = None
        if params.service is not None:
            service = context.inventory.get(params.service)
        machine = parts.get("machine", lambda _: _machine())
        word = logs = None
        if service is not None:
            asked = service
            word = parts.get("service", lambda left: _word(asked, left))
            logs = parts.get("logs", lambda _: _logs(asked))
        snapshot = Snapshot(
            run=context.run_id,
            step=context.step,
            strategy=context.strategy,
            target=context.target,
            taken_at=context.now,
            alert=dict(context.alert),
            value=context.value,
            decisions=tuple(context.decisions()),
            metrics=_metrics(params, context, parts),
            machine=machine,
            service=word,
            logs=logs,
            missing=parts.missing,
        )
        try:
            kept = keep(context.folder, snapshot)
        except OSError as error:
            raise ActionError(f"the snapshot was not written: {error}") from None
        return {
            "path": str(kept.path),
            "sha256": kept.sha256,
            "bytes": kept.size,
            "missing": parts.missing,
        }


class _Parts:
    """Gets one part after the other, and notes why one is missing."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self.missing: dict[str, str] = {}

    def get(self, name: str, ask: Callable[[float], _T]) -> _T | None:
        """Return what *ask* says, which is told how many seconds are left; None without it."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            self.missing[name] = "there was no time left"
            return None
        try:
            return ask(left)
        except (ActionError, UpstreamError) as error:
            self.missing[name] = str(error)[:_MAX_DETAIL]
        except OSError as error:
            self.missing[name] = error.strerror or str(error)
        return None


# ── metrics ──


def _metrics(params: SnapshotParams, context: Context, parts: _Parts) -> tuple[Metric, ...]:
    expression = context.alert.get("expression")
    if expression is None:
        parts.missing["expression"] = "the alert does not say what its expression is"
    queries = [query for query in (expression, *params.queries) if query is not None]
    prometheus = context.prometheus
    if prometheus is None:
        parts.missing["metrics"] = "there is no `prometheus` in promheal.yml"
        return ()
    began = float(context.alert.get("starts_at", context.now))
    start = max(context.now - BEFORE, min(began, context.now)) - params.window
    labels = context.alert.get("labels", {})
    found = []
    for query in dict.fromkeys(queries):
        metric = parts.get(
            f"metrics: {query[:200]}",
            lambda left, query=query: _metric(  # type: ignore[misc]
                prometheus, query, start, context.now, labels, left
            ),
        )
        if metric is not None:
            found.append(metric)
    return tuple(found)


def _metric(
    prometheus: Prometheus,
    query: str,
    start: float,
    end: float,
    labels: Mapping[str, str],
    left: float,
) -> Metric:
    step = max(LEAST_STEP, (end - start) / POINTS)
    start = end - math.ceil((end - start) / step) * step  # so that the last point is the end
    found = prometheus.query_range(query, start=start, end=end, step=step, timeout=left)

    def likeness(series: Range) -> int:
        return len(series.labels.items() & labels.items())

    return Metric(
        query=query,
        start=start,
        end=end,
        step=step,
        series=tuple(sorted(found, key=likeness, reverse=True)[:MOST_SERIES]),
        left_out=max(0, len(found) - MOST_SERIES),
    )


# ── the machine and the service ──


def _machine() -> Machine:
    memory = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        memory[name] = int(rest.split()[0]) * 1024
    return Machine(
        cpus=os.cpu_count() or 1,
        load=os.getloadavg(),
        memory_bytes=memory.get("MemTotal", 0),
        available_bytes=memory.get("MemAvailable", 0),
        processes=processes.top(TOP, over=LOOK),
    )


def _word(service: Service, left: float) -> ServiceWord:
    began = time.monotonic()
    status = service.manager.status(timeout=left / 2)
    health = ""
    if service.health is not None:
        rest = max(0.1, left - (time.monotonic() - began))
        try:
            answer = exchange(
                "GET", service.health.url, timeout=min(rest, service.health.timeout, _HEALTH)
            )
            health = answer.words
        except ActionError as error:
            health = str(error)[:_MAX_DETAIL]
    return ServiceWord(
        name=service.name,
        state=status.state.value,
        detail=status.detail[:_MAX_DETAIL],
        pid=status.pid,
        health=health,
    )


def _logs(service: Service) -> Logs:
    if service.logs is None:
        raise ActionError(f"`logs` of {service.name} is not set in services.yml")
    # O_NONBLOCK: a pipe would keep us.
    descriptor = os.open(service.logs, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ActionError(f"{service.logs} is no regular file")
        begin = max(0, found.st_size - LOG_BYTES)
        content = os.pread(descriptor, LOG_BYTES, begin)
    finally:
        os.close(descriptor)
    lines = content.decode("utf-8", "replace").splitlines()
    if begin and len(lines) > 1:
        del lines[0]  # its beginning is missing
    return Logs(
        path=service.logs,
        modified_at=found.st_mtime,
        size=found.st_size,
        lines=tuple(lines[-LOG_LINES:]),
    )
