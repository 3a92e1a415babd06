"""What was decided, found in the journal by what a person knows of it, and explained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import inf, isfinite
from typing import Any, Final

import click

from receiver.actions import discover
from receiver.cli.output import moment, table
from receiver.errors import RefusedError
from receiver.healing.explaining import DecisionExplanation, Evidence, evidence, explain
from receiver.journal import DecisionRecord, Episode, Journal, Transaction
from receiver.log import escape
from receiver.policy.matcher import Matcher
from receiver.policy.matcher_syntax import parse_item

KINDS: Final = ("run", "decision", "alert")
SHOWN: Final = 10
"""Decisions that are explained at once."""
_SEARCHED: Final = 10_000
"""Episodes whose labels are looked at, the newest first."""
_PAGE: Final = 500
_MARKS: Final = {"allow": "✓", "wait": "…", "deny": "✗"}


class Moment(click.ParamType[float]):
    """A time as RFC 3339, or in seconds since the epoch."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        with suppress(ValueError):
            if isfinite(seconds := float(value)):
                return seconds
        with suppress(ValueError):
            at = datetime.fromisoformat(value)
            return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
        raise click.BadParameter(
            f"{value!r} is no time: write 2026-01-31T12:00:00Z, or seconds since the epoch",
            ctx,
            param,
        )


def is_about(text: str) -> bool:
    """Whether *text* names something in the journal, and not a file."""
    return text.partition(":")[0] in KINDS or "=" in text


def found(journal: Journal, about: Sequence[str], at: float | None) -> list[DecisionExplanation]:
    """Return the explanations of what *about* names, the newest decision first.

    Raises RefusedError when there is nothing, UsageError for what cannot be understood.
    """
    gathered = journal.read(
        lambda t: [evidence(t, one) for one in _decisions(t, about, inf if at is None else at)]
    )
    actions = discover()
    return [explain(one, actions, first=_was_first(one, at)) for one in gathered[:SHOWN]]


def text(explanations: Iterable[DecisionExplanation]) -> str:
    return "\n\n".join("\n".join(_lines(one)) for one in explanations)


def _lines(of: DecisionExplanation) -> Iterator[str]:
    one = of.decision
    reason = f" ({one.reason})" if one.reason else ""
    yield (
        f"{_MARKS[one.verdict]} decision {one.id}: {one.strategy} on {escape(one.target)}: "
        f"{one.verdict}{reason}"
    )
    times = f", {one.times} times, last at {moment(one.last_at)}" if one.times > 1 else ""
    facts = [["  decided", f"{moment(one.at)}{times}"]]
    facts += [["  why", one.detail]] if one.detail else []
    facts += [["  run", str(one.run)]] if one.run is not None else []
    facts += [["  episode", str(one.episode)]] if one.episode is not None else []
    if one.config_hash:
        by = f", promheal {of.version}" if of.version else ""
        facts.append(["  by", f"configuration {one.config_hash[:12]}{by}"])
    if of.replaced is not None and of.replaced.hash is not None:
        who = f"{of.replaced.how} {of.replaced.by}".strip()
        facts.append(
            ["  since", f"{of.replaced.hash[:12]}, from {moment(of.replaced.at)} on, by {who}"]
        )
    yield table(facts)
    yield table(
        [
            [
                "    " + _MARKS[answer["verdict"]],
                answer["guard"],
                answer["reason"],
                "" if answer["until"] is None else f"until {moment(answer['until'])}",
                answer["detail"],
            ]
            for answer in one.answers
        ]
    )
    if of.problem:
        yield f"  it cannot be asked again: {of.problem}"
    if of.differs:
        yield f"  this promheal decides otherwise than {of.version}: {', '.join(of.differs)}"
    if of.turning is None or one.verdict == "allow":
        return
    if of.turning.at is not None:
        yield f"  allowed from {moment(of.turning.at)} on, all else being the same"
    if of.turning.facts:
        yield "  it would have been allowed if"
        yield table([["    " + fact.guard, fact.wanted, fact.name] for fact in of.turning.facts])


def _was_first(of: Evidence, at: float | None) -> bool:
    """Whether what was known the first time is closer to *at* than what was known the last."""
    return at is not None and at < of.decision.last_at


def _decisions(transaction: Transaction, about: Sequence[str], at: float) -> list[DecisionRecord]:
    kind, _, name = about[0].partition(":")
    if kind in KINDS and len(about) > 1:
        raise click.UsageError(f"{about[0]} is enough; leave out {about[1]}")
    match kind:
        case "decision":
            one = transaction.decision(_number(kind, name))
            if one is None:
                raise RefusedError(f"no decision {name}; promheal run ID lists some", status=404)
            if one.at > at:
                made = f"decision {name} was made later, at {moment(one.at)}"
                raise RefusedError(f"{made}; leave out --at", status=404)
            return [one]
        case "run":
            decisions = [d for d in transaction.decisions(_number(kind, name)) if d.at <= at]
            if not decisions:
                raise RefusedError(f"no run {name} was decided on by then", status=404)
            return decisions[-1:]
        case "alert":
            episodes = transaction.episodes_of(name, limit=_PAGE)
        case _:
            episodes = list(_labelled(transaction, _matchers(about)))
    keys = dict.fromkeys(
        key
        for episode in episodes
        if episode.first_seen <= at
        for key in transaction.selected(episode.id)
    )
    each = [transaction.decision_at(key, at) for key in keys]
    decisions = [one for one in each if one is not None]
    if not decisions:
        raise RefusedError(
            f"nothing was decided about {' '.join(about)} by then; "
            "promheal explain FILE shows what would be decided about an alert now",
            status=404,
        )
    return sorted(decisions, key=lambda one: one.id, reverse=True)


def _number(kind: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise click.UsageError(f"{kind}:{text}: write its number, as {kind}:7")
    return int(text)


def _matchers(about: Sequence[str]) -> tuple[Matcher, ...]:
    try:
        return tuple(matcher for text in about for matcher in parse_item(text))
    except ValueError as error:
        raise click.UsageError(
            f"{about[0]!r} is no file, none of run:ID, decision:ID and alert:FINGERPRINT, "
            f"and no matcher: {error}"
        ) from None


def _labelled(transaction: Transaction, matchers: Sequence[Matcher]) -> Iterator[Episode]:
    before: int | None = None
    for _ in range(_SEARCHED // _PAGE):
        page = transaction.episodes(limit=_PAGE, before=before)
        for episode in page:
            if all(matcher.matches(episode.alert.labels) for matcher in matchers):
                yield episode
        if len(page) < _PAGE:
            return
        before = page[-1].id
