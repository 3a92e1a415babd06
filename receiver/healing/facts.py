"""What is known before a decision? The history, the settings, and what upstream was asked."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Final

import msgspec

from receiver.clock import Clock
from receiver.healing.asked import Asked, Case, assumed, completed, confirmed, with_query
from receiver.journal import ActivePause, Affected, Episode, Transaction
from receiver.policy.decide import OF_THE_OPERATOR, Decision, decide
from receiver.policy.dormancy import backoff
from receiver.policy.guards.reasons import INDEPENDENT_OF_UPSTREAM
from receiver.policy.guards.situation import (
    RETRY,
    Around,
    Asking,
    Bounds,
    Hold,
    Past,
    Situation,
    Wishes,
)
from receiver.policy.role import UNBOUND
from receiver.policy.run import Run
from receiver.policy.signal import OPTIMISTIC
from receiver.policy.window import Window, active

_REASON: Final = 500
"""Characters of the pause file that are read."""


class Facts:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def situation(
        self,
        transaction: Transaction,
        case: Case,
        episode: Episode | None,
        run: Run | None,
        asked: Asked,
        *,
        runs_on: str = UNBOUND,
        fault: str = "",
    ) -> Situation:
        """Return what a decision rests on, the history read in *transaction*.

        *runs_on* is where the planned steps would be executed, *fault* why there is no plan.
        """
        config, strategy, key = case.config, case.strategy, case.key
        settings = config.settings
        engine = settings.engine
        now = self._clock()
        alert = None if episode is None else episode.alert
        furthest = max((budget.per for budget in strategy.budget), default=0.0)
        most, lately = engine.storm.targets, now - engine.stale_after
        history = transaction.history(
            key,
            now=now,
            but=0 if run is None else run.id,
            since=now - furthest,
            most=most,
            lately=lately,
        )
        # Counting the affected targets costs more than everything else here.
        affected = Affected(0, 0)
        if history.touched >= most:
            affected = transaction.affected(key, limit=most, since=lately)
        others: Iterable[float] = ()
        if strategy.limits is not None:
            others = transaction.latest_starts(key, since=now - strategy.limits.per)
        return Situation(
            now=now,
            strategy=strategy,
            target=key.target,
            alert=alert,
            last_seen=0.0 if episode is None else episode.last_seen,
            left_out="" if episode is None else asked.left_out,
            upstream=asked.upstream,
            wishes=Wishes(
                enabled=settings.flags.auto_healing,
                preventive=settings.flags.preventive_healing,
                dry_run=config.dry_run,
                pause=_pause(config.pause_file, history.pauses, case, now),
                rejected=history.veto,
                maintenance=_maintenance(settings.maintenance, episode, now),
            ),
            bounds=Bounds(
                stale_after=engine.stale_after,
                approval_for=engine.approval,
                max_concurrent_runs=engine.max_concurrent_runs,
                storm_targets=engine.storm.targets,
                backoff=backoff(
                    history.dormancy.failures, first=engine.backoff.first, most=engine.backoff.most
                ),
            ),
            asking=Asking(
                run=0 if run is None else run.id,
                asked_at=None if run is None else run.asked_at,
                approved_at=None if run is None else run.approved_at,
                fault=f"it would fail before its first step: {fault}" if fault else "",
                absent=_absent(transaction, runs_on),
            ),
            past=Past(
                last_end=history.last_end,
                last_healed=history.last_healed,
                last_outcome=history.last_outcome,
                forgets_at=history.forgets_at,
                restored_at=history.restored_at,
                starts=history.starts,
                latest_starts=tuple(others),
            ),
            around=Around(
                holder=history.holder,
                holder_reason=history.holder_reason,
                acting=history.acting,
                affected=affected.targets,
                treated=affected.treated,
                breakers=history.breakers,
                dormancy=history.dormancy,
            ),
        )

    def glance(
        self, transaction: Transaction, case: Case, episode: Episode, run: Run | None
    ) -> Situation:
        """Return what a decision would rest on if upstream said what lets us act."""
        asked = Asked(episode=episode, upstream=OPTIMISTIC)
        return self.situation(transaction, case, episode, run, asked)

    def for_alert(self, situation: Situation, case: Case, episode: Episode) -> Situation:
        """Return *situation* as it is for another alert of the same target."""
        now = self._clock()
        maintenance = _maintenance(case.config.settings.maintenance, episode, now)
        return msgspec.structs.replace(
            situation,
            now=now,
            alert=episode.alert,
            last_seen=episode.last_seen,
            wishes=msgspec.structs.replace(situation.wishes, maintenance=maintenance),
        )

    def decide_by(self, situation: Situation, asked: Asked) -> Decision:
        """Decide on *situation* by what was answered."""
        return decide(
            msgspec.structs.replace(situation, now=self._clock(), upstream=asked.upstream)
        )

    def ask(
        self, case: Case, episode: Episode, situation: Situation, blind: Asked | None = None
    ) -> Asked:
        """Ask Prometheus and Alertmanager about one alert, unless the answer could not matter.

        *situation* is what a `glance` has seen. In a storm most targets have to queue, and while
        everything is paused no answer changes that. *blind* is the answer to another alert of the
        target, if Prometheus could not be asked then: it is not waited for again.
        """
        if decide(situation).verdict.reason in INDEPENDENT_OF_UPSTREAM:
            return assumed(case, episode, OPTIMISTIC)
        if blind is None:
            asked = confirmed(case, episode, self._clock)
        else:
            asked = with_query(case, msgspec.structs.replace(blind, episode=episode))
        # The rest is asked only where a run may begin, or a person is to judge whether it may.
        if self.decide_by(situation, asked).refused_by - OF_THE_OPERATOR:
            return asked
        return completed(case, episode, asked)

    def unasked(self, case: Case, episode: Episode) -> Asked:
        """Return what is known of an alert where there is nobody to ask about it."""
        return completed(case, episode, confirmed(case, episode, self._clock))


def _pause(file: Path | None, pauses: Iterable[ActivePause], case: Case, now: float) -> Hold | None:
    """Return the pause that is for *case* and lasts longest."""
    if file is not None:
        try:
            with file.open(encoding="utf-8", errors="replace") as opened:
                reason = opened.readline(_REASON).strip()
        except FileNotFoundError:
            pass
        except OSError as error:
            # Whether it exists is unknown; whoever wrote it wanted everything to stop.
            return Hold(f"{file}: {error.strerror}", now + RETRY)
        else:
            return Hold(f"{file} exists: {reason}".rstrip(": "), now + RETRY)
    longest = max(
        (pause for pause in pauses if pause.covers(case.key)),
        key=lambda pause: inf if pause.until is None else pause.until,
        default=None,
    )
    if longest is None:
        return None
    return Hold(f"{longest.by}, {longest.scope}: {longest.reason}", longest.until)


def _maintenance(windows: tuple[Window, ...], episode: Episode | None, now: float) -> Hold | None:
    found = None if episode is None else active(windows, episode.alert.labels, now)
    return None if found is None else Hold(found[0].name, found[1])


def _absent(transaction: Transaction, runs_on: str) -> str:
    """Return the host or label that has no living worker, or an empty text."""
    return "" if runs_on == UNBOUND or transaction.has_worker(runs_on) else runs_on
