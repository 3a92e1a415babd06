"""How do the parts meet? `build(options)` makes a promheal of them, and nothing else does."""

from __future__ import annotations

import logging
from typing import Final

from receiver.actions import discover
from receiver.app.configuration import CurrentConfig
from receiver.app.leadership import journal_clock
from receiver.app.promheal import Promheal
from receiver.bootstrap import Options
from receiver.clock import Clock, LateClock
from receiver.config.files import load
from receiver.engine import Engine
from receiver.engine.embedded import EmbeddedEngine
from receiver.engine.timers import Timers
from receiver.errors import JournalError
from receiver.journal import Journal, open_journal
from receiver.reporting.metrics import Metrics
from receiver.yaml.diagnostics import format_problem

__all__ = ["Options", "Promheal", "build", "refuse_broken"]

log: Final = logging.getLogger("promheal")

DECIDING: Final = 2
"""Threads beyond those that can act, so that deciding and verifying never wait for an action."""


def refuse_broken(options: Options) -> None:
    """Raise ConfigError when the configuration cannot be used."""
    load(options.config_file, discover(), options.environ)


def build(options: Options, *, patient: bool = False) -> Promheal:
    """Make a promheal that is not yet started.

    Raises ConfigError when the configuration cannot be used, JournalError when the journal cannot;
    but *patient*, it waits for a journal in a file that cannot be used now.
    """
    actions = discover()
    loaded = load(options.config_file, actions, options.environ)
    for problem in loaded.problems:
        log.warning("%s", format_problem(problem))
    metrics = Metrics()
    journal = open_journal(
        options.storage_url,
        observe_commit=metrics.journal_commit_duration.observe,
        patient=patient,
    )
    clock = LateClock()
    try:
        clock.go_on_with(journal_clock(journal))
    except JournalError:
        if not patient:
            raise
    timers = Timers(clock)
    current = CurrentConfig(loaded, options=options, actions=actions, clock=clock)
    return Promheal(
        options=options,
        current=current,
        actions=actions,
        journal=journal,
        metrics=metrics,
        clock=clock,
        timers=timers,
        engine=_engine(
            options, current=current, journal=journal, metrics=metrics, clock=clock, timers=timers
        ),
    )


def _engine(
    options: Options,
    *,
    current: CurrentConfig,
    journal: Journal,
    metrics: Metrics,
    clock: Clock,
    timers: Timers,
) -> Engine:
    """Return the engine for this journal, not started."""

    def acting() -> int:
        return options.threads or current.config().settings.engine.max_concurrent_runs

    if not journal.shared:
        return EmbeddedEngine(
            threads=lambda: acting() + DECIDING,
            clock=clock,
            timers=timers,
            observe_wait=metrics.queue_wait.observe,
        )
    from receiver.engine.postgres import PostgresEngine  # noqa: PLC0415  what is not installed
    from receiver.journal.postgres import PostgresJournal  # noqa: PLC0415

    assert isinstance(journal, PostgresJournal)
    return PostgresEngine(
        journal=journal,
        role=options.role,
        threads=lambda: acting() + (DECIDING if options.role.decides else 0),
        clock=clock,
        observe_wait=metrics.queue_wait.observe,
    )
