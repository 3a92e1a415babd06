"""How long does an alert's rule remember, by what this Prometheus has recorded and scrapes?

The answers are the same for many alerts and seldom change, so they are cached for some minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeVar

from receiver.clock import Clock
from receiver.errors import UpstreamError
from receiver.policy.authority import rule_of
from receiver.policy.decay import ALERTS, SCRAPE, Decay, Recordings, decay, recordings
from receiver.policy.duration import format_duration
from receiver.policy.promql import Rule, Samples
from receiver.policy.proof.parts import MARK
from receiver.policy.proof.restricted import Restricted, restricted
from receiver.policy.proof.syntax import parse
from receiver.policy.relabel import Sending

KEPT: Final = 300.0
"""Seconds for which an answer is cached."""
MOST: Final = 1_000
"""Answers that are cached."""
WINDOWS: Final = (30.0, 120.0, 600.0)
"""Windows, in seconds, in which samples are counted to find the scrape interval."""
LONGEST: Final = 300.0
"""Longest interval between samples, in seconds: beyond it Prometheus' lookback ends."""
SELECTORS: Final = 20
"""Selectors of one expression whose samples are counted."""
_SET_BY_RULE: Final = frozenset({"__name__", "alertname"})

_T = TypeVar("_T")


class RulesSource(Protocol):
    """Prometheus. All raise UpstreamError when there is no usable answer."""

    def query(self, expr: str, at: float | None = None) -> Samples: ...
    def rules(self, alertname: str | None = None) -> tuple[Rule, ...]: ...
    def recording_rules(self) -> tuple[Rule, ...]: ...
    def sending(self) -> Sending | None: ...


class Ruleset:
    def __init__(self, source: RulesSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._kept: dict[object, tuple[float, object]] = {}

    def decay(
        self, alert_labels: Mapping[str, str], expression: str | None, *, own_query: bool = False
    ) -> Decay:
        """Return how far back what is asked about an alert looks, and how often it is scraped.

        The rule's expression is asked, or *expression* where Prometheus has no such rule;
        *own_query*: it is the operator's instead. Never raises for what Prometheus answers.
        """
        rule = None
        try:
            if not own_query:
                rule = self._rule(alert_labels, expression)
        except UpstreamError as error:
            return Decay(None, f"Prometheus could not be asked for the rule: {error}")
        text = rule.query if rule else expression
        if not text:
            return Decay(None, "neither the alert nor Prometheus has its expression")
        found = decay(text, self._recordings(text))
        labels = {
            name: value
            for name, value in alert_labels.items()
            if name not in _SET_BY_RULE.union(rule.labels if rule else ())
        }
        return Decay(found.seconds, found.problem, self._interval(text, labels))

    def makers(self) -> dict[str, tuple[Rule, ...]]:
        """Return the rules that make series, by the name of these. Raises UpstreamError."""
        found: dict[str, tuple[Rule, ...]] = {}
        for rule in self._keep("recording rules", self._source.recording_rules):
            found[rule.name] = (*found.get(rule.name, ()), rule)
        return found | dict.fromkeys(ALERTS, self._keep("alerting rules", self._source.rules))

    def sending(self) -> Sending | None:
        """Return how Prometheus labels the alerts that it sends. Raises UpstreamError."""
        return self._keep("sending", self._source.sending)

    def _rule(self, alert_labels: Mapping[str, str], expression: str | None) -> Rule | None:
        name = alert_labels.get("alertname")
        if not name:
            return None
        rules = self._keep(("rules", name), lambda: self._source.rules(name))
        return rule_of(rules, alert_labels, expression)

    def _recordings(self, text: str) -> Recordings | None:
        try:
            rules = self._keep("recording rules", self._source.recording_rules)
            if any(name in each for name in ALERTS for each in (text, *(r.query for r in rules))):
                rules += self._keep("alerting rules", self._source.rules)
        except UpstreamError:
            return None
        return recordings(rules)

    def _interval(self, text: str, labels: Mapping[str, str]) -> float:
        try:
            query = _count_samples(restricted(parse(text), labels, {}))
            counts = self._keep(query, lambda: self._source.query(query)) if query else ()
        except (UpstreamError, ValueError):
            return SCRAPE
        found: dict[str, float] = {}
        for sample in counts:
            selector, _, window = sample.labels.get(MARK, "").partition(" ")
            if window and sample.value >= 2:  # else it is no answer to the question
                # The longest interval at which so many samples fit into the window.
                apart = min(LONGEST, float(window) / (sample.value - 1))
                found[selector] = min(found.get(selector, LONGEST), apart)
        return max(found.values(), default=SCRAPE)

    def _keep(self, name: object, ask: Callable[[], _T]) -> _T:
        now = self._clock()
        kept = self._kept.get(name)
        if kept is not None and now - kept[0] < KEPT:
            return kept[1]  # type: ignore[return-value]
        answer = ask()
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[name] = (now, answer)
        return answer


def _count_samples(asked: Restricted) -> str:
    """Return PromQL for how many samples each selector's series have, the one that has fewest."""
    texts = dict.fromkeys(
        selector.plain(asked.matchers[selector.index])
        for selector in asked.tree.selectors[:SELECTORS]
    )
    return "\nor ".join(
        f"label_replace(min(count_over_time({text}[{format_duration(window)}])), "
        f'"{MARK}", "{number} {window:g}", "", "")'
        for number, text in enumerate(texts)
        for window in WINDOWS
    )
