"""What does Prometheus say about this alert now? The questions of verification.py, asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from receiver.authority import Speaker, lists, rule_of
from receiver.clock import Clock
from receiver.errors import UpstreamError
from receiver.guards.situation import Condition, Doubt, Signal
from receiver.prometheus import Prometheus
from receiver.promql import Selector, quote, read
from receiver.strategy import Expect
from receiver.verification import Judgement, judge, observe

_SCRAPING: Final = re.compile(r"\bup\b|\babsent")


class PrometheusProver:
    """Asks one Prometheus; without one nothing is ever proven."""

    def __init__(self, prometheus: Prometheus | None, clock: Clock) -> None:
        self._prometheus = prometheus
        self._clock = clock

    def judge(
        self,
        alert_labels: Mapping[str, str],
        expression: str | None,
        *,
        since: float,
        expect: Expect = Expect.EMPTY,
        own_query: bool = False,
        speaker: Speaker = Speaker.SENDER,
    ) -> Judgement:
        """Whether the alert's series is still returned, and the data is there, newer than *since*.

        *speaker* says that *expression* is the rule's; *own_query*: it is the strategy's instead.
        """
        if self._prometheus is None:
            nobody = "no prometheus in promheal.yml"
            return Judgement(Signal.UNKNOWN, None, nobody, doubt=Doubt.NOBODY)
        evidence = observe(
            self._prometheus,
            alert_labels,
            expression,
            now=self._clock(),
            own_query=own_query,
            speaker=speaker,
        )
        return judge(evidence, alert_labels, since=since, expect=expect)

    def lists(self, alert_labels: Mapping[str, str]) -> bool | None:
        """Whether Prometheus has the alert among those that fire; None when it cannot be asked."""
        name = alert_labels.get("alertname")
        if self._prometheus is None or not name:
            return False
        try:
            rules = self._prometheus.rules(name)
        except UpstreamError as error:
            return False if error.unknown_path else None
        rule = rule_of(rules, alert_labels)
        return rule is not None and rule.health == "ok" and lists(rule.firing, alert_labels)

    def condition(self, query: str) -> tuple[Condition, str]:
        """Whether *query* returns anything, and what was answered."""
        if self._prometheus is None:
            return Condition.UNKNOWN, "no prometheus in promheal.yml"
        try:
            samples = self._prometheus.query(query)
        except UpstreamError as error:
            return Condition.UNKNOWN, str(error)
        if samples:
            return Condition.TRUE, f"{query} returned {samples[0].value:g}"
        return Condition.FALSE, f"{query} returned nothing"

    def suspect(self, alert_labels: Mapping[str, str], expression: str | None) -> str:
        """Why the alert may tell of its monitoring and not of its target; empty if it does not.

        The target's scrape fails, as far as the alert's `job` and `instance` name it. An expression
        that asks for just that, or for what is absent, is believed.
        """
        about = {name: alert_labels[name] for name in ("job", "instance") if name in alert_labels}
        if self._prometheus is None or not about or expression is None:
            return ""
        if _is_about_scraping(expression):
            return ""
        matchers = ",".join(f"{name}={quote(value)}" for name, value in about.items())
        query = f"max(up{{{matchers}}}) == 0"
        try:
            failing = self._prometheus.query(query)
        except UpstreamError as error:
            return f"whether the target is scraped is not known: {error}"
        return f"its scrape fails: {query}" if failing else ""


def _is_about_scraping(expression: str) -> bool:
    """Whether it asks for a scrape that fails, or for what is absent."""
    try:
        selectors = read(expression).selectors
    except ValueError:  # MetricsQL: by its words
        return _SCRAPING.search(expression) is not None
    return all(each.optional for each in selectors) or any(map(_reads_up, selectors))


def _reads_up(selector: Selector) -> bool:
    return selector.text.partition("{")[0].strip() == "up" or '__name__="up"' in selector.text
