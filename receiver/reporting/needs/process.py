"""What is wrong with this process, its journal, or whom it asks?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from receiver.engine.periodic_task import load
from receiver.journal import JournalState
from receiver.reporting.needs.need import Need, NeedReason, Severity
from receiver.reporting.present import Present

CLOCK_LEAD: Final = 60.0
"""Seconds by which the wall clock may differ from promheal's."""


def of_process(present: Present) -> Iterator[Need]:
    condition = present.condition
    if not condition.sound:
        checking = condition.state is JournalState.CHECKING
        yield Need(
            severity=Severity.WARNING if checking else Severity.CRITICAL,
            reason=NeedReason.JOURNAL,
            title=condition.problem,
            advice=condition.remedy,
        )
    elif present.unready:
        yield Need(severity=Severity.CRITICAL, reason=NeedReason.NOT_READY, title=present.unready)
    if condition.stores and present.trouble:
        yield Need(
            severity=Severity.CRITICAL,
            reason=NeedReason.JOURNAL_NOT_WRITABLE,
            title="the journal cannot store; alerts are answered 503",
            why=present.trouble,
            advice="Make room on the disk of the journal, or mend what is named here: "
            f"{present.trouble}",
            command="df -h",
        )
    for one in present.upstreams:
        if one.problem:
            yield Need(
                severity=Severity.CRITICAL,
                reason=NeedReason.UPSTREAM_DOWN,
                subject=one.name,
                title="Prometheus cannot be asked: no alert is confirmed, and no heal is proven"
                if one.name == "prometheus"
                else "Alertmanager cannot be asked for silences: nothing begins",
                why=one.problem,
                advice=f"Bring it back, or correct {one.name}.url or its token",
                command="promheal doctor",
            )
    if abs(present.clock_lead) > CLOCK_LEAD:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.CLOCK,
            title=f"the wall clock is {present.clock_lead:.0f} s ahead of promheal's, "
            "whose times are shown",
            advice="Restart the machine when it suits: promheal's clock follows the wall clock "
            "then",
        )
    if not present.reload_successful:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.RELOAD_FAILED,
            title="the configuration was not reloaded; the one before is in force",
            advice="Run promheal check, mend what it names, and reload",
            command="promheal check",
        )


def of_tasks(present: Present) -> Iterator[Need]:
    number = len(present.tasks)
    match load(number):
        case "overload":
            yield Need(
                severity=Severity.WARNING,
                reason=NeedReason.TASKS,
                subject="overload",
                title=f"{number} background tasks are an overload (3-5 are normal)",
                advice="Call POST /api/tasks/cleanup, and remove providers that are not used",
                command="promheal tasks cleanup",
            )
        case "caution":
            yield Need(
                severity=Severity.WARNING,
                reason=NeedReason.TASKS,
                subject="caution",
                title=f"{number} background tasks (3-5 are normal)",
                command="promheal tasks",
            )
        case _:
            pass
    paused = [task.id for task in present.tasks if task.paused]
    if paused:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.TASKS,
            subject="paused",
            title=f"background tasks are paused: {', '.join(paused)}",
            advice="Call POST /api/tasks/resume",
            command="promheal tasks resume",
        )
    if present.keys.all_failed:
        yield Need(
            severity=Severity.CRITICAL,
            reason=NeedReason.LLM_KEYS,
            title="all LLM keys failed",
            advice="Look at llm.providers for the reason of each, and set a key that works",
            command="promheal status -o json",
        )
