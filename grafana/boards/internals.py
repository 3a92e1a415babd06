"""Is the receiver itself well? What comes in, what is made of it, and what it runs on."""

from __future__ import annotations

from grafana.board import Json, board, row
from grafana.panels import (
    BAD,
    FAIR,
    NO_YES_BAD,
    NO_YES_GOOD,
    OFF_ON,
    Column,
    Query,
    lines,
    listing,
    number,
    timeline,
)
from grafana.promql import (
    increase,
    least,
    most,
    of,
    of_ours,
    per_minute,
    quantile,
    rare_quantile,
    rate,
    total,
)

CODES = {
    "202": "green", "400": "orange", "401": "yellow", "403": "yellow", "408": "orange",
    "413": "orange", "415": "orange", "431": "orange", "501": "orange", "503": "red",
}  # fmt: skip
"""Alertmanager tries a 503 again, and gives up what is answered with the others."""


def make() -> Json:
    answers = "promheal_notifications_total"
    return board(
        "promheal-internals",
        "Is the receiver itself well? What comes in, what is made of it, and what it runs on.",
        (
            row(
                "Now",
                number(
                    "Acting",
                    "Processes that decide and act. Of two on one file, one does and the other "
                    "waits for its turn.",
                    "none",
                    total(of("promheal_acting")),
                    steps={0: BAD, 1: "green"},
                    decimals=0,
                    width=2,
                ),
                number(
                    "Journal",
                    "Whether every journal stores what it is given. If not, notifications are "
                    "answered 503, and nothing begins.",
                    "none",
                    least(of("promheal_journal_writable")),
                    named={0: ("not writable", BAD), 1: ("writable", "green")},
                    width=2,
                ),
                number(
                    "Lost",
                    "Receivers whose journal was refused, or has gone. A person must see to it: "
                    "the receiver says how.",
                    "none",
                    total(of("promheal_journal_state", 'state=~"refused|gone"')),
                    steps={0: "green", 1: BAD},
                    decimals=0,
                    width=2,
                ),
                number(
                    "Backup",
                    "How old the newest scheduled backup is, in its intervals. Beyond two, none is "
                    "being made.",
                    "none",
                    f"(time() - {most(of('promheal_backup_last_success_timestamp_seconds'))})"
                    f" / {most(of('promheal_backup_interval_seconds'))}",
                    steps={0: "green", 2: BAD},
                    decimals=1,
                    width=2,
                    none="none wanted",
                ),
                number(
                    "Last reload",
                    "Whether the last reload was taken. If not, the configuration before it is in "
                    "force, and the log says why.",
                    "none",
                    least(of("promheal_config_last_reload_successful")),
                    named={0: ("refused", BAD), 1: ("taken", "green")},
                    width=2,
                ),
                number(
                    "Configs",
                    "How many different configurations are in force. More than one: receivers "
                    "that should be the same are not.",
                    "none",
                    f"count(count_values('hash', {of('promheal_config_hash')}))",
                    steps={2: FAIR},
                    decimals=0,
                    width=2,
                ),
                number(
                    "Looked at a target",
                    "How long ago an engine last looked at a target. While alerts fire, it looks "
                    "again and again.",
                    "s",
                    f"time() - {most(of('promheal_last_consider_timestamp_seconds') + ' > 0')}",
                    steps={0: "text"},
                    none="never",
                    width=2,
                ),
                number(
                    "Heartbeat",
                    "How long ago PromhealWatchdog, an alert that always fires, last came through "
                    "Prometheus and Alertmanager. Beyond minutes, the chain is broken.",
                    "s",
                    f"time() - {most(of('promheal_last_heartbeat_timestamp_seconds') + ' > 0')}",
                    steps={0: "green", 900: BAD},
                    none="never",
                ),
                number(
                    "Clock lead",
                    "How far the wall clock is ahead of promheal's own, which no step moves. "
                    "Beyond some seconds, mend the time service.",
                    "s",
                    most(f"abs({of('promheal_clock_lead_seconds')})"),
                    steps={5: FAIR, 60: BAD},
                ),
                number(
                    "Up since",
                    "When the receiver that was started last was started.",
                    "dateTimeFromNow",
                    f"1000 * {most(of_ours(of('process_start_time_seconds')))}",
                    steps={0: "text"},
                    width=2,
                ),
                number(
                    "Refused",
                    "Notifications in this time that were not answered 202.",
                    "none",
                    total(increase(answers, 'code!="202"')),
                    steps={1: FAIR},
                    decimals=0,
                    width=2,
                ),
            ),
            row(
                "What comes in",
                lines(
                    "Since the last notification",
                    "How long ago one was last accepted. While alerts fire, Alertmanager says so "
                    "again at each repeat_interval.",
                    "s",
                    Query(
                        "time() - "
                        + most(
                            of("promheal_last_notification_timestamp_seconds") + " > 0", "instance"
                        ),
                        "{{instance}}",
                    ),
                    width=24,
                ),
                lines(
                    "Notifications by answer",
                    "Requests to POST /webhook. Alertmanager tries again after a 503 and gives "
                    "up after the others.",
                    "cpm",
                    Query(per_minute(answers, "code") + " > 0", "{{code}}"),
                    bars=True,
                    colours=CODES,
                ),
                lines(
                    "Time to answer",
                    "From a request's arrival to its answer, which comes after the commit.",
                    "s",
                    *(
                        Query(quantile(share, "promheal_notification_duration_seconds"), name)
                        for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
                    ),
                ),
                lines(
                    "Alerts",
                    "Alerts in accepted notifications.",
                    "cpm",
                    Query(per_minute("promheal_alerts_received_total", "status"), "{{status}}"),
                    bars=True,
                    colours={"firing": "orange", "resolved": "green"},
                    width=8,
                ),
                lines(
                    "Alerts that changed nothing",
                    "Repeat: said again, as by repeat_interval or the other of an HA pair. Late: "
                    "of an episode that has ended. Not open: ended before it was known.",
                    "cpm",
                    Query(per_minute("promheal_alerts_deduplicated_total", "reason"), "{{reason}}"),
                    bars=True,
                    width=8,
                ),
                lines(
                    "Quarantined alerts",
                    "Alerts that could not be read and were set aside; promheal's log says why.",
                    "cpm",
                    Query(per_minute("promheal_alerts_quarantined_total"), "quarantined"),
                    bars=True,
                    colours={"quarantined": "red"},
                    width=8,
                ),
            ),
            row(
                "The engine",
                lines(
                    "Queue",
                    "Targets that are ready and not yet looked at. It returns to 0 between bursts."
                    " Unmatched: firing alerts, after a start and a reload, still to be matched.",
                    "none",
                    Query(most(of("promheal_queue_length"), "instance"), "{{instance}}"),
                    Query(
                        most(of("promheal_alerts_unmatched"), "instance"), "unmatched, {{instance}}"
                    ),
                    whole=True,
                    width=8,
                ),
                lines(
                    "Waiting in the queue",
                    "From a wake until a thread takes it.",
                    "s",
                    Query(quantile(0.5, "promheal_queue_wait_seconds"), "median"),
                    Query(quantile(0.99, "promheal_queue_wait_seconds"), "99 %"),
                    width=8,
                ),
                lines(
                    "Decisions",
                    "Decisions by what they say, repetitions included.",
                    "cpm",
                    Query(per_minute("promheal_decisions_total", "verdict"), "{{verdict}}"),
                    bars=True,
                    colours={"allow": "green", "wait": "yellow", "deny": "orange"},
                    width=8,
                ),
                lines(
                    "Steps by outcome",
                    "How steps of runs ended. Unknown: promheal died during one that may not be "
                    "repeated.",
                    "cpm",
                    Query(per_minute("promheal_actions_total", "outcome"), "{{outcome}}"),
                    bars=True,
                    colours={
                        "done": "green",
                        "failed": "red",
                        "skipped": "blue",
                        "unknown": "purple",
                    },
                    width=8,
                ),
                lines(
                    "Duration of steps, 95 %",
                    "How long steps took, by action, over the hour before each point.",
                    "s",
                    Query(
                        rare_quantile(0.95, "promheal_action_duration_seconds", "action") + " >= 0",
                        "{{action}}",
                    ),
                    width=8,
                ),
                lines(
                    "Messages",
                    "Messages about runs and the engine, by channel: sent, or given up as failed.",
                    "cpm",
                    Query(
                        per_minute("promheal_notices_total", "channel", "result"),
                        "{{channel}}: {{result}}",
                    ),
                    bars=True,
                    width=8,
                ),
                timeline(
                    "Dormant",
                    "While an engine has stopped itself after too many targets failed in a row.",
                    NO_YES_BAD,
                    Query(most(of("promheal_dormant"), "instance"), "{{instance}}"),
                    width=12,
                    height=5,
                ),
                timeline(
                    "Acting",
                    "Which process decides and acts. Of two on one file, one does.",
                    NO_YES_GOOD,
                    Query(most(of("promheal_acting"), "instance"), "{{instance}}"),
                    width=12,
                    height=5,
                ),
                lines(
                    "Launcher",
                    "How often the launcher of programs had ended or did not answer, and programs "
                    "that were started without it.",
                    "cpm",
                    Query(per_minute("promheal_launcher_failures_total"), "failures"),
                    Query(per_minute("promheal_direct_starts_total"), "started without it"),
                    bars=True,
                    colours={"failures": "red", "started without it": "orange"},
                    width=8,
                ),
            ),
            row(
                "The journal",
                lines(
                    "Commits",
                    "Commits a second. Several writes share one commit, so a burst adds few.",
                    "ops",
                    Query(
                        total(rate("promheal_journal_commit_duration_seconds_count"), "instance"),
                        "{{instance}}",
                    ),
                    width=8,
                ),
                lines(
                    "Duration of commits",
                    "How long commits took, fsync included: the disk's part in every answer.",
                    "s",
                    Query(quantile(0.5, "promheal_journal_commit_duration_seconds"), "median"),
                    Query(quantile(0.99, "promheal_journal_commit_duration_seconds"), "99 %"),
                    width=8,
                ),
                lines(
                    "Size",
                    "Size of the journal. Retention keeps it from growing for ever.",
                    "bytes",
                    Query(most(of("promheal_journal_size_bytes"), "instance"), "{{instance}}"),
                    width=8,
                ),
            ),
            row(
                "Many machines",
                lines(
                    "Workers",
                    "Living processes by the host or label whose steps they execute. Unbound is "
                    "what has none; they decide, too.",
                    "none",
                    Query(most(of("promheal_workers"), "runs_on"), "{{runs_on}}"),
                ),
                lines(
                    "Runs without a worker",
                    "Unfinished runs that are bound to a host or label for which no worker lives. "
                    "Nobody else executes them.",
                    "none",
                    Query(most(of("promheal_runs_without_worker")), "runs"),
                ),
            ),
            row(
                "Configuration and surroundings",
                listing(
                    "Receivers",
                    "Version, and which configuration is in force. Equal numbers are equal "
                    "configurations.",
                    {
                        "instance": "Receiver",
                        "version": "Version",
                        "python": "Python",
                    },
                    Column(
                        most(of("promheal_config_hash"), "instance")
                        + " * on (instance) group_right () "
                        + most(of("promheal_build_info"), "instance", "version", "python"),
                        "Configuration",
                        "hex",
                    ),
                    width=12,
                    height=6,
                ),
                timeline(
                    "Feature flags",
                    "Which features are on.",
                    OFF_ON,
                    Query(most(of("promheal_feature_enabled"), "flag"), "{{flag}}"),
                    width=12,
                    height=6,
                ),
                lines(
                    "Strategies",
                    "Those in force by mode. Without one nothing is healed.",
                    "none",
                    Query(most(of("promheal_strategies"), "mode"), "{{mode}}"),
                    whole=True,
                    width=8,
                ),
                lines(
                    "Pauses",
                    "Those in force, by their scope.",
                    "none",
                    Query(most(of("promheal_pauses"), "scope"), "{{scope}}"),
                    whole=True,
                    width=8,
                ),
                timeline(
                    "Dry run",
                    "While it only says what it would do.",
                    NO_YES_BAD,
                    Query(most(of("promheal_dry_run"), "instance"), "{{instance}}"),
                    width=8,
                ),
                lines(
                    "Age of the configuration",
                    "Since a configuration was last taken.",
                    "s",
                    Query(
                        "time() - "
                        + most(
                            of("promheal_config_last_reload_success_timestamp_seconds"), "instance"
                        ),
                        "{{instance}}",
                    ),
                    width=8,
                ),
                lines(
                    "LLM keys",
                    "Keys of language model providers by their last probe.",
                    "none",
                    Query(most(of("promheal_llm_keys"), "state"), "{{state}}"),
                    colours={"active": "green", "failed": "red", "unknown": "yellow"},
                    whole=True,
                    width=8,
                ),
                lines(
                    "Background tasks",
                    "Tasks that run by the clock, and how many of them are paused.",
                    "none",
                    Query(most(of("promheal_background_tasks"), "state"), "{{state}}"),
                    colours={"active": "green", "paused": "yellow"},
                    whole=True,
                    width=8,
                ),
            ),
            row(
                "The process",
                lines(
                    "Processor",
                    "Processor time a second; 1 is one core.",
                    "none",
                    Query(
                        total(of_ours(rate("process_cpu_seconds_total")), "instance"),
                        "{{instance}}",
                    ),
                    width=8,
                ),
                lines(
                    "Memory",
                    "Resident memory, and what it has reserved.",
                    "bytes",
                    Query(
                        most(of_ours(of("process_resident_memory_bytes")), "instance"),
                        "{{instance}} resident",
                    ),
                    Query(
                        most(of_ours(of("process_virtual_memory_bytes")), "instance"),
                        "{{instance}} virtual",
                    ),
                    width=8,
                ),
                lines(
                    "File descriptors",
                    "Open files and sockets, of those that the process may have.",
                    "percentunit",
                    Query(
                        f"{most(of_ours(of('process_open_fds')), 'instance')}"
                        f" / {most(of_ours(of('process_max_fds')), 'instance')}",
                        "{{instance}}",
                    ),
                    width=8,
                ),
            ),
        ),
    )
