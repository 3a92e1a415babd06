"""How is it asked? Pieces of PromQL, each of them bound to the receivers that are chosen.

Every selector carries `$job` and `$instance`, so nobody can forget them. `rate` has Grafana's
`$__rate_interval`, the shortest window that never misses a scrape. What happens a few times a day
needs a longer one: `increase` over what is looked at, or over the hour before each point.
"""

from __future__ import annotations

from typing import Final

from receiver.policy.run import FAILURES, Outcome

CHOSEN: Final = ('job=~"$job"', 'instance=~"$instance"')
STRATEGY: Final = 'strategy="$strategy"'
"""Of the one strategy that the board is about."""
STRATEGIES: Final = 'strategy=~"$strategy"'
JUDGED: Final = f'outcome=~"{"|".join((Outcome.HEALED, *sorted(FAILURES)))}"'
"""Of what says whether a strategy helps; what is inconclusive or was cancelled does not."""
LOOKED_AT: Final = "$__range"
HOUR: Final = "1h"


def of(metric: str, *matchers: str) -> str:
    """Select a metric of the chosen receivers."""
    return f"{metric}{{{', '.join((*CHOSEN, *matchers))}}}"


def of_ours(expr: str) -> str:
    """Keep what is said of promheal, of what every program says: all jobs are chosen at first.

    Of promheal is what was one in the time that is looked at, so that one that is down counts.
    """
    seen = f"last_over_time({of('promheal_build_info')}[{LOOKED_AT}])"
    return f"{expr} and on (job, instance) {seen}"


def rate(metric: str, *matchers: str) -> str:
    return f"rate({of(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str, over: str = LOOKED_AT) -> str:
    return f"increase({of(metric, *matchers)}[{over}])"


def changed(metric: str, *matchers: str) -> str:
    """For annotations, which want a value where something happened and none elsewhere."""
    return f"changes({of(metric, *matchers)}[$__rate_interval]) > 0"


def total(expr: str, *labels: str) -> str:
    return _aggregated("sum", expr, labels)


def most(expr: str, *labels: str) -> str:
    return _aggregated("max", expr, labels)


def least(expr: str, *labels: str) -> str:
    return _aggregated("min", expr, labels)


def per_minute(metric: str, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """Ask how many a minute, which adds up however wide the board is drawn."""
    return f"60 * {total(rate(metric, *matchers), *labels)}"


def effectiveness(*matchers: str) -> str:
    """Ask for the heals that held, of the runs that healed or failed in the time looked at.

    It is what `promheal_strategy_effectiveness_ratio` is since the journal began.
    """
    healed = total(increase("promheal_heals_total", *matchers, f'outcome="{Outcome.HEALED}"'))
    relapsed = total(increase("promheal_relapses_total", *matchers))
    judged = total(increase("promheal_heals_total", *matchers, JUDGED))
    return f"clamp_min({healed} - {relapsed}, 0) / {judged}"


def quantile(share: float, metric: str, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """Ask below which value *share* of a histogram lies, now."""
    return _quantile(share, rate(f"{metric}_bucket", *matchers), labels)


def rare_quantile(
    share: float,
    metric: str,
    *labels: str,
    matchers: tuple[str, ...] = (),
    over: str = HOUR,
) -> str:
    """Ask the same of what is so rare that most windows of a minute hold none."""
    return _quantile(share, increase(f"{metric}_bucket", *matchers, over=over), labels)


def _quantile(share: float, buckets: str, labels: tuple[str, ...]) -> str:
    return f"histogram_quantile({share}, {total(buckets, 'le', *labels)})"


def _aggregated(how: str, expr: str, labels: tuple[str, ...]) -> str:
    return f"{how} by ({', '.join(labels)}) ({expr})" if labels else f"{how}({expr})"
