"""Which settings keep promheal from healing, or from proving it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from receiver.policy.strategy import Mode
from receiver.reporting.needs.need import Need, NeedReason, Severity, word
from receiver.reporting.present import Present


def of_settings(present: Present) -> Iterator[Need]:
    modes = Counter(strategy.mode for strategy in present.strategies)
    if not present.flags["auto_healing"]:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.DISABLED,
            title="auto healing is switched off",
            advice="Set flags.auto_healing to true in promheal.yml, and reload",
        )
    if not present.flags["auto_detection"]:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.DETECTION_OFF,
            title="auto detection is switched off: alerts are recorded, not matched",
            advice="Set flags.auto_detection to true in promheal.yml, and reload",
        )
    if present.dry_run:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.DRY_RUN,
            title="dry run: nothing is done",
            advice="See what would have been done; to do it, start without --dry-run",
            command="promheal alerts",
        )
    if not modes:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.NO_STRATEGY,
            title="there is no strategy: nothing is healed",
            advice="Write one into healing_strategies.yml, and reload",
            command="promheal check",
        )
    elif modes.keys() == {Mode.OBSERVE} and not present.dry_run:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.OBSERVE_ONLY,
            title="every strategy only observes: nothing is done",
            advice="See what would have been done; to do it, set a strategy's mode to auto",
            command="promheal alerts",
        )
    if modes and not present.proves:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.NO_PROMETHEUS,
            title="there is no Prometheus to ask: no heal can be proven",
            advice="Set prometheus.url in promheal.yml, and reload",
            command="promheal doctor",
        )
    if present.pause_file:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.PAUSED,
            subject="file",
            title=f"everything is paused, since {present.pause_file} exists",
            advice=f"Remove {present.pause_file}",
            command=f"rm {word(present.pause_file)}",
        )
