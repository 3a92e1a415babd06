"""What was done, and what was changed? Counts over the time that is looked at.

Which run it was, who asked for it and what each step printed is on promheal's own pages, to which
the rows lead.
"""

from __future__ import annotations

from grafana.board import (
    CELL_STRATEGY,
    STRATEGIES,
    Json,
    board,
    row,
    several,
    to_runs,
)
from grafana.panels import (
    FAIR,
    NO_YES_BAD,
    OFF_ON,
    OUTCOMES,
    STATES,
    WORST,
    Column,
    Panel,
    Query,
    listing,
    number,
    timeline,
)
from grafana.promql import LOOKED_AT, increase, most, of, of_ours, total
from grafana.promql import STRATEGIES as CHOSEN_STRATEGIES
from receiver.policy.guards.situation import Answer
from receiver.policy.run import Outcome

RUNS = {"strategy": to_runs(f"${{{CELL_STRATEGY}}}")}

COLOURS = {
    "promheal_heals_total": OUTCOMES,
    "promheal_verifications_total": OUTCOMES,
    "promheal_breaker_transitions_total": STATES,
}


def make() -> Json:
    return board(
        "promheal-audit",
        "What was done, and what was changed? Counts over the time that is looked at.",
        (
            row(
                "In this time",
                number(
                    "Runs",
                    "Runs that ended.",
                    "none",
                    total(increase("promheal_heals_total", CHOSEN_STRATEGIES)),
                    steps={0: "text"},
                    decimals=0,
                    width=4,
                ),
                number(
                    "Steps",
                    "Steps that were executed, of all strategies.",
                    "none",
                    total(increase("promheal_actions_total", 'outcome!="skipped"')),
                    steps={0: "text"},
                    decimals=0,
                    width=4,
                ),
                number(
                    "A person must look",
                    "Runs whose undoing failed, or of which it is not known what they did.",
                    "none",
                    total(
                        increase(
                            "promheal_heals_total",
                            CHOSEN_STRATEGIES,
                            f'outcome=~"{Outcome.ROLLBACK_FAILED}|{Outcome.UNKNOWN}"',
                        )
                    ),
                    steps={0.5: WORST},
                    decimals=0,
                    width=4,
                ),
                number(
                    "Changes of the configuration",
                    "How often another configuration came into force.",
                    "none",
                    total(_changes("promheal_config_hash")),
                    steps={0: "text"},
                    decimals=0,
                    width=4,
                ),
                number(
                    "Restarts",
                    "How often a receiver was started again.",
                    "none",
                    total(of_ours(_changes("process_start_time_seconds"))),
                    steps={1: FAIR},
                    decimals=0,
                    width=4,
                ),
                number(
                    "Changes of flags",
                    "How often a feature was turned on or off.",
                    "none",
                    total(_changes("promheal_feature_enabled")),
                    steps={0: "text"},
                    decimals=0,
                    width=4,
                ),
            ),
            row(
                "What was done",
                _counts(
                    "Runs",
                    "Runs by strategy and how they ended; a strategy leads to its runs.",
                    "promheal_heals_total",
                    {"strategy": "Strategy", "outcome": "Outcome"},
                ),
                _counts(
                    "Rollbacks",
                    "What was undone after a step failed.",
                    "promheal_rollbacks_total",
                    {"strategy": "Strategy", "outcome": "Undoing"},
                ),
                _counts(
                    "Verifications",
                    "What Prometheus said after the last step.",
                    "promheal_verifications_total",
                    {"strategy": "Strategy", "result": "Result"},
                ),
                _counts(
                    "Steps",
                    "Steps by action and how they ended, of all strategies.",
                    "promheal_actions_total",
                    {"action": "Action", "outcome": "Outcome"},
                ),
                _counts(
                    "Breakers",
                    "What breakers became. CLOSED: a run healed, or a person closed it.",
                    "promheal_breaker_transitions_total",
                    {"breaker": "Breaker", "to": "Became"},
                ),
                _counts(
                    "Messages",
                    "Who was told, by channel.",
                    "promheal_notices_total",
                    {"channel": "Channel", "result": "Result"},
                ),
            ),
            row(
                "What was not done",
                _counts(
                    "Denied",
                    "Decisions not to act on an alert; repetitions count.",
                    "promheal_decisions_total",
                    {"strategy": "Strategy", "reason": "Reason"},
                    f'verdict="{Answer.DENY}"',
                    width=12,
                ),
                _counts(
                    "Made to wait",
                    "Decisions to wait; repetitions count.",
                    "promheal_decisions_total",
                    {"strategy": "Strategy", "reason": "Reason"},
                    f'verdict="{Answer.WAIT}"',
                    width=12,
                ),
            ),
            row(
                "What was changed",
                timeline(
                    "Feature flags",
                    "Which features were on.",
                    OFF_ON,
                    Query(most(of("promheal_feature_enabled"), "flag"), "{{flag}}"),
                    width=12,
                    height=6,
                ),
                timeline(
                    "Dormant",
                    "While an engine had stopped itself. A person wakes it.",
                    NO_YES_BAD,
                    Query(most(of("promheal_dormant"), "instance"), "{{instance}}"),
                    width=12,
                    height=6,
                ),
                listing(
                    "Receivers",
                    "When each receiver was started and took its configuration, and how often "
                    "these changed in this time.",
                    {"instance": "Receiver"},
                    Column(
                        f"1000 * {most(of_ours(of('process_start_time_seconds')), 'instance')}",
                        "Started",
                        "dateTimeAsIso",
                    ),
                    Column(
                        "1000 * "
                        + most(
                            of("promheal_config_last_reload_success_timestamp_seconds"), "instance"
                        ),
                        "Configuration taken",
                        "dateTimeAsIso",
                    ),
                    Column(total(_changes("promheal_config_hash"), "instance"), "Changes"),
                    Column(
                        total(of_ours(_changes("process_start_time_seconds")), "instance"),
                        "Restarts",
                    ),
                    height=5,
                ),
            ),
        ),
        variables=[several("strategy", STRATEGIES, "Strategies of healing_strategies.yml.")],
        annotate=CHOSEN_STRATEGIES,
        since="now-24h",
        refresh="1m",
    )


def _changes(metric: str) -> str:
    return f"changes({of(metric)}[{LOOKED_AT}])"


def _counts(
    title: str,
    description: str,
    metric: str,
    labels: dict[str, str],
    *matchers: str,
    width: int = 8,
) -> Panel:
    """List how often each happened, leaving out what did not; rows lead to the strategy's runs."""
    chosen = (CHOSEN_STRATEGIES,) if "strategy" in labels else ()
    return listing(
        title,
        description,
        labels,
        Column(total(increase(metric, *chosen, *matchers), *labels) + " > 0", "Times"),
        links=RUNS,
        colours=COLOURS.get(metric, {}),
        width=width,
    )
