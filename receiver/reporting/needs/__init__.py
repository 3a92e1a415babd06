"""What needs a person now? One list, for the status, the metrics, the log and the messages.

promheal is healthy when the list is empty, and only then. Titles and advice are quoted from the
operations guide, whose `jq` lines must work as they stand.
"""

from __future__ import annotations

from collections.abc import Iterable

from receiver.reporting.needs.engine import of_engine
from receiver.reporting.needs.need import Need, Severity
from receiver.reporting.needs.notifications import of_notifications
from receiver.reporting.needs.process import of_process, of_tasks
from receiver.reporting.needs.runs import of_runs
from receiver.reporting.needs.settings import of_settings
from receiver.reporting.present import Present, Seen


def needs(present: Present, seen: Seen | None) -> tuple[Need, ...]:
    """Return what needs a person, critical first; without *seen* the journal cannot be read."""
    found = [*of_process(present), *of_notifications(present), *of_settings(present)]
    if seen is not None:
        found += [*of_engine(present, seen), *of_runs(present, seen)]
    found += of_tasks(present)
    return tuple(sorted(found, key=lambda need: need.severity is not Severity.CRITICAL))


def worst(found: Iterable[Need]) -> str:
    """Return the worst severity in the list, or `healthy` when it is empty."""
    severities = {need.severity for need in found}
    if not severities:
        return "healthy"
    return str(Severity.CRITICAL if Severity.CRITICAL in severities else Severity.WARNING)
