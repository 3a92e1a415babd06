"""What does one strategy do, how well, and what stands before it?"""

from __future__ import annotations

from grafana.board import STRATEGIES, Json, board, one, row, to_runs
from grafana.panels import (
    BAD,
    BREAKER,
    FAIR,
    NO_YES_BAD,
    OUTCOMES,
    Link,
    Query,
    breaker_state,
    lines,
    number,
    timeline,
)
from grafana.promql import (
    LOOKED_AT,
    STRATEGY,
    effectiveness,
    least,
    most,
    of,
    per_minute,
    rare_quantile,
    total,
)
from receiver.policy.breaker import MAIN
from receiver.policy.guards.situation import Answer
from receiver.reporting.metrics import TARGET_BREAKERS

HERE = (STRATEGY,)
OWN = "strategy:$strategy"
RUNS = to_runs("${strategy}")
PAGE = Link("Page of the strategy", "${promheal_url}/strategies/${strategy}", outside=True)
RESULTS = {"healed": "green", "ineffective": "orange", "inconclusive": "yellow"}


def make() -> Json:
    return board(
        "promheal-strategy",
        "What does one strategy do, how well, and what stands before it?",
        (
            row(
                "Now",
                number(
                    "Firing",
                    "Open alerts that this strategy selects.",
                    "none",
                    total(of("promheal_alerts_firing", STRATEGY)),
                    steps={0: "text"},
                    decimals=0,
                    link=PAGE,
                ),
                number(
                    "In progress",
                    "Its runs that hold a target.",
                    "none",
                    total(of("promheal_heals_in_progress", STRATEGY)),
                    steps={0: "text"},
                    decimals=0,
                    link=RUNS,
                ),
                number(
                    "Breaker",
                    "The strategy's own breaker. OPEN lets nothing begin for a time, HALF_OPEN one "
                    "trial; PERMANENT_OPEN stays until a person closes it: promheal breaker reset.",
                    "none",
                    breaker_state(f'breaker="{OWN}"'),
                    named=BREAKER,
                    link=PAGE,
                ),
                number(
                    "Storm",
                    "Whether more targets are affected than are treated at once.",
                    "none",
                    most(of("promheal_storm_active", STRATEGY)),
                    named=NO_YES_BAD,
                ),
                number(
                    "Budget left",
                    "Runs left in the narrowest window, on the target that has fewest.",
                    "none",
                    least(of("promheal_budget_remaining", STRATEGY)),
                    steps={0: BAD, 1: "green"},
                    decimals=0,
                    none="no budget",
                ),
                number(
                    "Effectiveness",
                    "Heals that held, of the runs that healed or failed in this time.",
                    "percentunit",
                    effectiveness(STRATEGY),
                    steps={0: BAD, 0.5: FAIR, 0.8: "green"},
                    decimals=0,
                    none="none proven",
                    link=RUNS,
                ),
                number(
                    "Effectiveness, ever",
                    "Heals that held, of the runs that healed or failed since the journal began.",
                    "percentunit",
                    most(of("promheal_strategy_effectiveness_ratio", STRATEGY)),
                    steps={0: BAD, 0.5: FAIR, 0.8: "green"},
                    decimals=0,
                    none="none proven",
                ),
                number(
                    "Median to clear",
                    "From an alert's start to the proof that it is healed, in this time.",
                    "s",
                    rare_quantile(
                        0.5, "promheal_alert_to_clear_seconds", matchers=HERE, over=LOOKED_AT
                    ),
                    steps={0: "text"},
                    none="none healed",
                ),
            ),
            row(
                "How its runs end",
                lines(
                    "Runs by outcome",
                    "How runs ended. Ineffective: every step succeeded and the alert still fires. "
                    "Inconclusive: nothing could be proven.",
                    "cpm",
                    Query(
                        per_minute("promheal_heals_total", "outcome", matchers=HERE), "{{outcome}}"
                    ),
                    bars=True,
                    colours=OUTCOMES,
                    link=RUNS,
                    width=24,
                ),
                lines(
                    "Verifications",
                    "What Prometheus said after the last step, of runs whose steps all succeeded.",
                    "cpm",
                    Query(
                        per_minute("promheal_verifications_total", "result", matchers=HERE),
                        "{{result}}",
                    ),
                    bars=True,
                    colours=RESULTS,
                    link=RUNS,
                ),
                lines(
                    "Rollbacks",
                    "After a step failed, what had been done was undone. Where undoing failed, a "
                    "person must look.",
                    "cpm",
                    Query(
                        per_minute("promheal_rollbacks_total", "outcome", matchers=HERE),
                        "{{outcome}}",
                    ),
                    bars=True,
                    colours={"done": "blue", "failed": "dark-red"},
                    link=RUNS,
                ),
            ),
            row(
                "Why it acts, and why not",
                lines(
                    "Decisions",
                    "Decisions by what they say. An alert is looked at again while it fires, and "
                    "each look counts.",
                    "cpm",
                    Query(
                        per_minute("promheal_decisions_total", "verdict", matchers=HERE),
                        "{{verdict}}",
                    ),
                    bars=True,
                    colours={"allow": "green", "wait": "yellow", "deny": "orange"},
                ),
                lines(
                    "Waiting and denied, by reason",
                    "Why it did not act. What the reasons mean is in docs/reference/decisions.md.",
                    "cpm",
                    Query(
                        per_minute(
                            "promheal_decisions_total",
                            "verdict",
                            "reason",
                            matchers=(STRATEGY, f'verdict!="{Answer.ALLOW}"'),
                        )
                        + " > 0",
                        "{{verdict}}: {{reason}}",
                    ),
                    bars=True,
                ),
            ),
            row(
                "How long it takes",
                *(
                    lines(
                        title,
                        f"{what}, over the hour before each point.",
                        "s",
                        Query(rare_quantile(0.5, metric, matchers=HERE), "median"),
                        Query(rare_quantile(0.95, metric, matchers=HERE), "95 %"),
                        link=RUNS,
                        width=8,
                    )
                    for title, metric, what in (
                        (
                            "Alert to action",
                            "promheal_alert_to_action_seconds",
                            "From an alert's start to its run's first step",
                        ),
                        (
                            "Runs",
                            "promheal_heal_duration_seconds",
                            "From a run's first step to its end",
                        ),
                        (
                            "Alert to clear",
                            "promheal_alert_to_clear_seconds",
                            "From an alert's start to the proof that it is healed",
                        ),
                    )
                ),
            ),
            row(
                "What holds it back",
                timeline(
                    "Breakers before it",
                    "A run begins when none of these forbids it: the main breaker, the strategy's, "
                    "and the target's. Targets' are shown while they are not closed, of all "
                    "strategies.",
                    BREAKER,
                    Query(
                        breaker_state(f'breaker=~"{MAIN}|{OWN}|target:.+"'),
                        "{{breaker}}",
                    ),
                    link=PAGE,
                ),
                timeline(
                    "Storm",
                    "While more targets are affected than are treated at once, nothing begins.",
                    NO_YES_BAD,
                    Query(most(of("promheal_storm_active", STRATEGY), "strategy"), "storm"),
                    width=8,
                ),
                lines(
                    "Budget left",
                    "Runs left in each window, on the target that has fewest.",
                    "none",
                    Query(
                        least(of("promheal_budget_remaining", STRATEGY), "window"), "in {{window}}"
                    ),
                    whole=True,
                    width=8,
                ),
                lines(
                    "Changes of its breaker",
                    "What its breaker became, and what targets' breakers of all strategies did.",
                    "cpm",
                    Query(
                        per_minute(
                            "promheal_breaker_transitions_total",
                            "breaker",
                            "to",
                            matchers=(f'breaker=~"{OWN}|{TARGET_BREAKERS}"',),
                        )
                        + " > 0",
                        "{{breaker}}: {{to}}",
                    ),
                    bars=True,
                    width=8,
                ),
            ),
        ),
        variables=[one("strategy", STRATEGIES, "A strategy of healing_strategies.yml.")],
        annotate=STRATEGY,
    )
