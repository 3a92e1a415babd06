"""What does this process say of itself at scrape? It differs between replicas."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from math import nan

from receiver.journal import JournalState
from receiver.policy.strategy import Mode
from receiver.process.launching import LAUNCHING
from receiver.reporting.families import Family, counter, gauge, gauges
from receiver.reporting.present import Present
from receiver.reporting.reach import UPSTREAMS


def of_process(present: Present, *, readable: bool) -> Iterator[Family]:
    yield gauges(
        "background_tasks", "Background tasks by state.", ["state"],
        (
            (("active",), sum(not task.paused for task in present.tasks)),
            (("paused",), sum(task.paused for task in present.tasks)),
        ),
    )  # fmt: skip
    answering = {one.name: float(not one.problem) for one in present.upstreams}
    yield gauges(
        "upstream_up",
        "1 while who is asked before an act answers; NaN before it was asked.",
        ["upstream"],
        (((name,), answering.get(name, nan)) for name in UPSTREAMS),
    )
    modes = Counter(strategy.mode for strategy in present.strategies)
    yield gauges(
        "strategies", "Strategies in force.", ["mode"],
        (((str(mode),), modes[mode]) for mode in Mode),
    )  # fmt: skip
    yield gauge("dry_run", "1 while nothing is done, by --dry-run.", present.dry_run)
    keys = present.keys
    yield gauges(
        "llm_keys", "Keys of language model providers by the last probe.", ["state"],
        (
            (("active",), keys.active),
            (("failed",), keys.failed),
            (("unknown",), keys.total - keys.active - keys.failed),
        ),
    )  # fmt: skip
    yield gauge(
        "clock_lead_seconds",
        "How far the wall clock is ahead of promheal's own, which no step moves.",
        present.clock_lead,
    )
    yield gauges(
        "feature_enabled", "Feature flags.", ["flag"],
        (((flag,), on) for flag, on in present.flags.items()),
    )  # fmt: skip
    yield gauge(
        "alerts_unmatched",
        "Firing alerts that the strategies in force have still to be matched with.",
        present.unmatched,
    )
    yield gauge("queue_length", "Targets that are ready to be considered.", present.queue_length)
    yield gauge(
        "journal_writable", "1 while the journal stores what it is given.",
        present.journal_writable and readable,
    )  # fmt: skip
    yield gauges(
        "journal_state", "1 for the state that the journal is in.", ["state"],
        (((str(state),), state is present.condition.state) for state in JournalState),
    )  # fmt: skip
    backup = present.backup
    yield gauge(
        "backup_last_success_timestamp_seconds",
        "When the newest scheduled backup was made; 0 before the first, NaN where none are wanted.",
        nan if backup is None else backup.at,
    )
    yield gauge(
        "backup_interval_seconds",
        "Age from which on another backup is made; NaN where none are wanted.",
        nan if backup is None else backup.every,
    )
    launcher = LAUNCHING.counts
    yield counter(
        "launcher_failures",
        "How often the launcher of programs had ended, or did not answer.",
        launcher.failures,
    )
    yield counter(
        "direct_starts",
        "Programs that were started without the launcher, since it failed too often.",
        launcher.direct,
    )
    yield gauge("acting", "1 in a process that decides and acts.", present.acting)
    yield gauge(
        "last_consider_timestamp_seconds",
        "When the engine last looked at a target.",
        present.last_consider,
    )
    yield gauge(
        "last_heartbeat_timestamp_seconds",
        "When the alert PromhealWatchdog last arrived; 0 before the first.",
        present.last_heartbeat,
    )
    yield gauge(
        "last_notification_timestamp_seconds",
        "When a notification was last accepted; 0 before the first.",
        present.last_notification,
    )
    yield gauge(
        "config_last_reload_successful", "1 when the last reload was taken.",
        present.reload_successful,
    )  # fmt: skip
    yield gauge(
        "config_last_reload_success_timestamp_seconds", "When a configuration was last taken.",
        present.reload_success_at,
    )  # fmt: skip
    yield gauge(
        "config_hash", "48 bits of the configuration's SHA-256, to compare replicas.",
        int(present.config_hash[:12] or "0", 16),
    )  # fmt: skip
    yield Family(
        name="promheal_build",
        help="Version of promheal and of Python.",
        kind="info",
        labels=("version", "python"),
        rows=[((present.version, platform.python_version()), 1.0)],
    )
