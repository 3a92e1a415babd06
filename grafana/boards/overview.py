"""Is healing working, how well, and what holds it back?"""

from __future__ import annotations

from grafana.board import (
    CELL_STRATEGY,
    SERIES_STRATEGY,
    Json,
    board,
    row,
    to_strategy,
)
from grafana.panels import (
    BAD,
    BREAKER,
    FAIR,
    NO_YES_BAD,
    NO_YES_GOOD,
    OUTCOMES,
    Column,
    Query,
    breaker_state,
    lines,
    listing,
    number,
    timeline,
)
from grafana.promql import (
    LOOKED_AT,
    effectiveness,
    increase,
    least,
    most,
    of,
    of_ours,
    per_minute,
    rare_quantile,
    total,
)
from receiver.policy.guards.situation import Answer
from receiver.policy.run import Outcome

HEALED = f'outcome="{Outcome.HEALED}"'
ENDED = f'outcome!="{Outcome.CANCELLED}"'
UNPROVEN = f'outcome="{Outcome.INCONCLUSIVE}"'
CLEAR = "promheal_alert_to_clear_seconds"


def make() -> Json:
    unproven = total(increase("promheal_heals_total", UNPROVEN))
    return board(
        "promheal-overview",
        "Is healing working, how well, and what holds it back?",
        (
            row(
                "Is healing working?",
                number(
                    "Receivers up",
                    "Receivers that Prometheus reached at its last scrape.",
                    "none",
                    total(of_ours(of("up"))),
                    steps={0: BAD, 1: "green"},
                    none="none",
                ),
                number(
                    "Dormant",
                    "Whether an engine has stopped itself after too many targets failed in a row. "
                    "It begins nothing until a person wakes it: promheal resume.",
                    "none",
                    most(of("promheal_dormant")),
                    named=NO_YES_BAD,
                ),
                number(
                    "Firing",
                    "Open alerts that a strategy selects; one that two select counts twice.",
                    "none",
                    total(of("promheal_alerts_firing")),
                    steps={0: "text"},
                    decimals=0,
                ),
                number(
                    "In progress",
                    "Runs that hold a target: acting, waiting, verifying or rolling back.",
                    "none",
                    total(of("promheal_heals_in_progress")),
                    steps={0: "text"},
                    decimals=0,
                ),
                number(
                    "Effectiveness",
                    "Heals that held, of the runs that healed or failed in this time. What could "
                    "not be proven or was cancelled says nothing about the cure.",
                    "percentunit",
                    effectiveness(),
                    steps={0: BAD, 0.5: FAIR, 0.8: "green"},
                    decimals=0,
                    none="none proven",
                ),
                number(
                    "Not proven",
                    "Of the runs that ended in this time, those that Prometheus could not judge. "
                    "Those that were cancelled, mostly before they began, do not count.",
                    "percentunit",
                    f"{unproven} / {total(increase('promheal_heals_total', ENDED))}",
                    steps={0: "green", 0.2: FAIR, 0.5: BAD},
                    decimals=0,
                    none="no runs",
                ),
                number(
                    "Median to clear",
                    "From an alert's start to the proof that it is healed, in this time.",
                    "s",
                    rare_quantile(0.5, CLEAR, over=LOOKED_AT),
                    steps={0: "text"},
                    none="none healed",
                ),
                number(
                    "95 % clear within",
                    "Of 20 healed alerts in this time, 19 took no longer from their start to "
                    "the proof.",
                    "s",
                    rare_quantile(0.95, CLEAR, over=LOOKED_AT),
                    steps={0: "text"},
                    none="none healed",
                ),
            ),
            row(
                "What needs a person?",
                lines(
                    "Needs",
                    "What promheal status lists, with the command that helps. Critical: it does "
                    "not heal. Nothing: it is healthy.",
                    "none",
                    Query(most(of("promheal_needs"), "severity"), "{{severity}}"),
                    colours={"critical": BAD, "warning": FAIR},
                    whole=True,
                    width=8,
                ),
                timeline(
                    "Asked before each act",
                    "Whether Prometheus and Alertmanager answer. While one does not, what needs "
                    "its word does not begin.",
                    NO_YES_GOOD,
                    Query(least(of("promheal_upstream_up"), "upstream"), "{{upstream}}"),
                    width=8,
                ),
                lines(
                    "Approvals",
                    "Runs that wait for a person's yes or no.",
                    "none",
                    Query(most(of("promheal_approvals_pending")), "waiting"),
                    whole=True,
                    width=4,
                ),
                lines(
                    "Longest wait",
                    "For how long the oldest of them has been waiting.",
                    "s",
                    Query(most(of("promheal_approval_oldest_seconds")), "oldest"),
                    width=4,
                ),
            ),
            row(
                "How well?",
                lines(
                    "Runs by outcome",
                    "How runs ended. Ineffective: every step succeeded and the alert still "
                    "fires. Inconclusive: nothing could be proven. Rollback failed: a person "
                    "must look. Relapsed: what was healed fired again soon.",
                    "cpm",
                    Query(per_minute("promheal_heals_total", "outcome"), "{{outcome}}"),
                    Query(per_minute("promheal_relapses_total"), "relapsed"),
                    bars=True,
                    colours=OUTCOMES,
                ),
                lines(
                    "Time to clear",
                    "From an alert's start to the proof that it is healed, over the hour "
                    "before each point.",
                    "s",
                    Query(rare_quantile(0.5, CLEAR), "median"),
                    Query(rare_quantile(0.95, CLEAR), "95 %"),
                ),
                listing(
                    "Strategies",
                    "All strategies now; runs and the healed among them in this time. Follow a "
                    "name to its board or to its runs.",
                    {"strategy": "Strategy"},
                    Column(total(of("promheal_alerts_firing"), "strategy"), "Firing"),
                    Column(total(of("promheal_heals_in_progress"), "strategy"), "In progress"),
                    Column(total(increase("promheal_heals_total"), "strategy"), "Runs"),
                    Column(total(increase("promheal_heals_total", HEALED), "strategy"), "Healed"),
                    Column(
                        most(of("promheal_strategy_effectiveness_ratio"), "strategy") + " >= 0",
                        "Effectiveness, ever",
                        "percentunit",
                        none="none proven",
                    ),
                    Column(least(of("promheal_budget_remaining"), "strategy"), "Budget left"),
                    Column(
                        most(of("promheal_storm_active"), "strategy"),
                        "Storm",
                        named=NO_YES_BAD,
                    ),
                    links={"strategy": to_strategy(CELL_STRATEGY)},
                ),
            ),
            row(
                "What holds it back?",
                lines(
                    "Waiting, by reason",
                    "Decisions to wait. The alert is looked at again while it fires, and each "
                    "look counts; what the reasons mean is in docs/reference/decisions.md.",
                    "cpm",
                    Query(
                        per_minute(
                            "promheal_decisions_total",
                            "reason",
                            matchers=(f'verdict="{Answer.WAIT}"',),
                        )
                        + " > 0",
                        "{{reason}}",
                    ),
                    bars=True,
                ),
                lines(
                    "Denied, by reason",
                    "Decisions not to act on an alert at all, such as of a strategy that only "
                    "observes.",
                    "cpm",
                    Query(
                        per_minute(
                            "promheal_decisions_total",
                            "reason",
                            matchers=(f'verdict="{Answer.DENY}"',),
                        )
                        + " > 0",
                        "{{reason}}",
                    ),
                    bars=True,
                ),
                timeline(
                    "Breakers",
                    "The main breaker, one for each strategy, and those of targets that are "
                    "not closed. Only a person closes one that is PERMANENT_OPEN.",
                    BREAKER,
                    Query(breaker_state(), "{{breaker}}"),
                ),
                timeline(
                    "Storms",
                    "While more targets are affected than are treated at once, the cause is "
                    "probably elsewhere, and nothing begins.",
                    NO_YES_BAD,
                    Query(most(of("promheal_storm_active"), "strategy"), "{{strategy}}"),
                    link=to_strategy(SERIES_STRATEGY),
                    width=12,
                ),
                lines(
                    "Budget left",
                    "Runs left in a budget's window, on the target that has fewest.",
                    "none",
                    Query(
                        least(of("promheal_budget_remaining"), "strategy", "window"),
                        "{{strategy}} in {{window}}",
                    ),
                    link=to_strategy(SERIES_STRATEGY),
                    whole=True,
                ),
                lines(
                    "Targets failed in a row",
                    "Different targets on which runs have failed since any was healed. At engine."
                    "dormant_after the engine stops itself.",
                    "none",
                    Query(most(of("promheal_consecutive_failures"), "instance"), "{{instance}}"),
                    whole=True,
                ),
                lines(
                    "Backoff",
                    "For how long nothing begins after the last failure.",
                    "s",
                    Query(most(of("promheal_backoff_seconds"), "instance"), "{{instance}}"),
                ),
            ),
        ),
        annotate='strategy=~".+"',
    )
