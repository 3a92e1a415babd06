"""What does Prometheus make of a series' labels before it sends the alert?

Source: prometheus/prometheus, notifier/manager.go (external labels, then `alert_relabel_configs`)
and model/relabel/relabel.go.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
import re2

_ANY: Final = "\x00any"
"""Stands for a value that only Prometheus can say: a template's, or a variable's."""


class Sending(msgspec.Struct, frozen=True):
    """How one Prometheus labels the alerts that it sends."""

    external: Mapping[str, str] = {}
    chains: tuple[tuple[Relabel, ...], ...] | None = ((),)
    """`alert_relabel_configs`, one chain for each group of Alertmanagers; None: not known."""

    def may_make(self, name: str) -> bool:
        """Whether an alert may get the label *name* by relabelling, as far as is known."""
        return self.chains is None or any(
            config.action == "labelmap" or "$" in config.target_label or config.target_label == name
            for chain in self.chains
            for config in chain
        )

    def conflict(self, alert_labels: Mapping[str, str]) -> str:
        """Return the external label that says the alert is another Prometheus', in words."""
        for name, value in self.external.items():
            told = alert_labels.get(name)
            if told is not None and told != value and "$" not in value:
                return f'from another Prometheus: {name}="{told}", here "{value}"'
        return ""

    def sends(
        self,
        series: Mapping[str, str],
        rule_labels: Mapping[str, str],
        alert_labels: Mapping[str, str],
    ) -> bool:
        """Whether the alert of *series* by a rule with *rule_labels* has just *alert_labels*."""
        made = self._made(series, rule_labels, alert_labels)
        return any(_same(each, alert_labels) for each in made)

    def may_send(
        self,
        series: Mapping[str, str],
        rule_labels: Mapping[str, str],
        alert_labels: Mapping[str, str],
    ) -> bool:
        """Whether the alert of *series* has all of *alert_labels*, and perhaps others besides.

        An alert that somebody wrote, or passed on, may lack some.
        """
        for made in self._made(series, rule_labels, alert_labels):
            told = {name: value for name, value in alert_labels.items() if value}
            if made is not None and all(
                _fits(made.get(name, ""), value) for name, value in told.items()
            ):
                return True
        return False

    def difference(
        self,
        series: Mapping[str, str],
        rule_labels: Mapping[str, str],
        alert_labels: Mapping[str, str],
    ) -> str:
        """Return which label the alert of *series* would be sent with instead, in words."""
        for made in self._made(series, rule_labels, alert_labels):
            for name in sorted((made or {}).keys() | alert_labels.keys()):
                here, there = (made or {}).get(name, ""), alert_labels.get(name, "")
                if there and not _fits(here, there):
                    return f'this Prometheus would send it with {name}="{here}", not "{there}"'
        return "this Prometheus sends no such alert"

    def _made(
        self,
        series: Mapping[str, str],
        rule_labels: Mapping[str, str],
        alert_labels: Mapping[str, str],
    ) -> list[dict[str, str] | None]:
        """Return the labels that it sends, by each of its chains."""
        made = {name: value for name, value in series.items() if name != "__name__"}
        for name, value in rule_labels.items():
            made[name] = _ANY if "{{" in value else value
        if "alertname" in alert_labels:
            made["alertname"] = alert_labels["alertname"]
        for name, value in self.external.items():
            made.setdefault(name, _ANY if "$" in value else value)
        return [_relabelled(made, chain) for chain in self.chains or ()]


class Relabel(msgspec.Struct, frozen=True, kw_only=True):
    """One `relabel_config`; its defaults are Prometheus'."""

    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    target_label: str = ""
    regex: str = "(.*)"
    modulus: int = 0
    replacement: str = "$1"
    action: str = "replace"


def _same(made: Mapping[str, str] | None, alert_labels: Mapping[str, str]) -> bool:
    if made is None:
        return False
    made = {name: value for name, value in made.items() if value}
    return made.keys() == alert_labels.keys() and all(
        _fits(value, alert_labels[name]) for name, value in made.items()
    )


def _fits(made: str, told: str) -> bool:
    return _ANY in made or made == told


def _relabelled(labels: Mapping[str, str], chain: Iterable[Relabel]) -> dict[str, str] | None:
    """Return the labels after *chain*, None when it drops the alert."""
    made: dict[str, str] | None = dict(labels)
    for config in chain:
        if made is None:
            return None
        made = _applied(made, config)
    return made


def _applied(labels: dict[str, str], config: Relabel) -> dict[str, str] | None:  # noqa: C901, PLR0911, PLR0912  one case an action
    value = config.separator.join(labels.get(name, "") for name in config.source_labels)
    regex = _compiled(config.regex)
    match config.action:
        case "drop":
            return None if regex.fullmatch(value) else labels
        case "keep":
            return labels if regex.fullmatch(value) else None
        case "dropequal":
            return None if labels.get(config.target_label, "") == value else labels
        case "keepequal":
            return labels if labels.get(config.target_label, "") == value else None
        case "replace":
            return _replaced(labels, config, value)
        case "lowercase" | "uppercase":
            changed = value.lower() if config.action == "lowercase" else value.upper()
            return labels | {config.target_label: changed}
        case "hashmod":
            digest = hashlib.md5(value.encode(), usedforsecurity=False).digest()
            number = int.from_bytes(digest[8:], "big") % max(1, config.modulus)
            return labels | {config.target_label: str(number)}
        case "labelmap":
            renamed = {}
            for name, its in labels.items():
                found = regex.fullmatch(name)
                if found:
                    renamed[_expanded(config.replacement, found)] = its
            return labels | renamed
        case "labeldrop":
            return {name: its for name, its in labels.items() if not regex.fullmatch(name)}
        case "labelkeep":
            return {name: its for name, its in labels.items() if regex.fullmatch(name)}
        case other:
            raise ValueError(f"unknown relabel action {other}")


def _replaced(labels: dict[str, str], config: Relabel, value: str) -> dict[str, str]:
    found = _compiled(config.regex).fullmatch(value)
    if not found:
        return labels
    target = _expanded(config.target_label, found)
    made = _expanded(config.replacement, found)
    if made:
        return labels | {target: made}
    return {name: its for name, its in labels.items() if name != target}


def _expanded(template: str, found: Any) -> str:
    """Expand `$1`, `${1}`, `${name}` and `$$`. Source: Go's regexp.Expand."""

    def put(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[1] or match[2]
        try:
            return found.group(int(name) if name.isdigit() else name) or ""
        except (IndexError, KeyError, re2.error):
            return ""

    return _REFERENCE.sub(put, template)


_REFERENCE: Final = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)")


@lru_cache(maxsize=256)
def _compiled(regex: str) -> Any:
    return re2.compile(regex)
