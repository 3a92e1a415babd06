"""Which messages are sent without a `notify` step? The events of `notify.on`, to their channels.

What may have to be sent is stored in the transaction that makes it true, so it is sent at least
once, whatever ends promheal. One thread sends, and nobody waits for it. What gathers while it
sends, waits or retries becomes one message for each channel.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from receiver.config.in_force import Config
from receiver.errors import ActionError, JournalError
from receiver.journal import OWN, Journal, PendingMessage, Transaction
from receiver.policy.breaker import BreakerEvent, BreakerState
from receiver.policy.guards.situation import Reason
from receiver.policy.run import Outcome, Run
from receiver.policy.target import Key
from receiver.reporting.metrics import NOTICES
from receiver.reporting.needs import engine, runs

log: Final = logging.getLogger("promheal.notices")

TIMEOUT: Final = 20.0
"""Seconds for one message."""
AGAIN: Final = (2.0, 10.0, 30.0)
"""Seconds between the attempts to send to one channel; then it is given up."""
APART: Final = 10.0
"""Seconds between two messages to a channel; what happens meanwhile is gathered."""
BATCH: Final = 500
"""Rows that are read at once, to become one message for each channel."""
SHOWN: Final = 15
"""Events that a digest lists one by one."""
MAX_TEXT: Final = 300
"""Characters of a target, a reason or a label: they are as long as their sender likes."""


class Event(StrEnum):
    """What a message can be about: the keys of `notify.on`."""

    FAILED = "failed"
    INEFFECTIVE = "ineffective"
    INCONCLUSIVE = "inconclusive"
    RELAPSED = "relapsed"
    ROLLBACK_FAILED = "rollback_failed"
    DORMANT = "dormant"
    BREAKER_PERMANENT_OPEN = "breaker_permanent_open"
    APPROVAL_NEEDED = "approval_needed"


_OF: Final = {
    Outcome.FAILED: Event.FAILED,
    Outcome.ROLLED_BACK: Event.FAILED,
    Outcome.UNKNOWN: Event.FAILED,
    Outcome.INEFFECTIVE: Event.INEFFECTIVE,
    Outcome.INCONCLUSIVE: Event.INCONCLUSIVE,
    Outcome.ROLLBACK_FAILED: Event.ROLLBACK_FAILED,
}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one run."""

    event: Event
    run: Run
    subject: str = ""
    """The breaker, if it is about one."""
    reason: str = ""
    labels: Mapping[str, str] = {}
    """Of the alert."""

    @property
    def headline(self) -> str:
        about = self.subject or f"{self.run.strategy} on {_cut(self.run.target)}"
        match self.event:
            case Event.FAILED | Event.INEFFECTIVE | Event.INCONCLUSIVE | Event.ROLLBACK_FAILED:
                return f"{self.run.outcome}: {about}"
            case Event.RELAPSED:
                return f"healed, and it fires again: {about}"
            case Event.DORMANT:
                return "dormant: the engine has stopped itself"
            case Event.BREAKER_PERMANENT_OPEN:
                return f"breaker {_cut(about)} is open for good"
            case Event.APPROVAL_NEEDED:
                return f"approval needed: {about}"

    def text(self, url: str) -> str:
        """Return the body of a message about it. *url* is that of the status page, or empty."""
        run = self.run
        where = "waiting" if self.event is Event.APPROVAL_NEEDED else "runs"
        lines = [
            f"Run: {run.id} of {run.strategy} on {_cut(run.target)}",
            f"Outcome: {run.outcome}" if run.outcome else "",
            f"Reason: {_cut(self.reason)}" if self.reason else "",
            "Alert: " + ", ".join(f"{name}={_cut(value)}" for name, value in self.labels.items())
            if self.labels
            else "",
            self._remedy(),
            f"{url.rstrip('/')}/#{where}" if url else "",
        ]
        return "\n".join(line for line in lines if line)

    def _remedy(self) -> str:
        """Return what to do, with the command that the list of needs has for it."""
        run = self.run
        match self.event:
            case Event.RELAPSED:
                return f"It treats a symptom, so look for the cause: promheal run {run.id}"
            case Event.DORMANT:
                return f"Nothing acts until a person says: {engine.dormant('').command}"
            case Event.BREAKER_PERMANENT_OPEN:
                command = engine.open_for_good(self.subject).command
                return f"Nothing passes it until a person says: {command}"
            case Event.APPROVAL_NEEDED:
                yes = runs.approval(run).command
                return f"Say yes or no: {yes}, or {yes.replace('approve', 'reject', 1)}"
            case _:
                need = runs.in_vain(run)
                return f"{need.advice}: {need.command}"


class Notices:
    """Sends, from `start` until `stop`."""

    def __init__(
        self,
        *,
        journal: Journal,
        config: Callable[[], Config],
        url: str = "",
        apart: float = APART,
        again: Sequence[float] = AGAIN,
    ) -> None:
        """*url*: where people reach promheal."""
        self._journal = journal
        self._config = config
        self._url = url
        self._apart = apart
        self._again = tuple(again)
        self._wanted = threading.Event()
        self._ending = threading.Event()
        self._owed: Callable[[Transaction], None] | None = None  # sent, and not stored yet
        self._thread = threading.Thread(target=self._work, name="notices", daemon=True)

    def start(self) -> None:
        """Send what is pending, also from before the start, and what will be."""
        self._wanted.set()
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Look for something to send. Never waits."""
        self._wanted.set()

    def stop(self, timeout: float) -> None:
        """End; what is not sent within *timeout* seconds is sent after the next start."""
        self._ending.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            more = True
            while more:
                try:
                    more = self._batch()
                except JournalError as error:
                    log.warning("messages wait for the journal: %s", error)
                except Exception:
                    log.exception("sending messages failed, retried")
                if self._ending.is_set():
                    return
                if more and self._ending.wait(self._apart):
                    return

    def _batch(self) -> bool:
        """Send what is pending; True when there was something."""
        if self._owed is not None:
            self._store(self._owed)
        rows = self._journal.read(lambda t: t.pending_messages(limit=BATCH))
        if not rows:
            return False
        notices = self._journal.read(lambda t: list(_notices(t, rows)))
        config = self._config()
        to: dict[str, list[Notice]] = {}
        for notice in notices:
            for channel in getattr(config.settings.notify.on, notice.event):
                to.setdefault(channel, []).append(notice)
        results = self._send(config, {name: self._message(found) for name, found in to.items()})

        def sent(transaction: Transaction) -> None:
            transaction.messages_sent([row.id for row in rows])
            for channel, result in results.items():
                transaction.count(NOTICES.name, channel, result)

        if len(results) == len(to):
            self._store(sent)
        return True

    def _store(self, sent: Callable[[Transaction], None]) -> None:
        """Store what was sent; until then nothing is sent, or it would be sent twice.

        Raises JournalError.
        """
        self._owed = sent
        self._journal.atomically(sent, OWN)
        self._owed = None

    def _message(self, notices: Sequence[Notice]) -> tuple[str, str]:
        """Return title and body: of one, or a digest of several."""
        if len(notices) == 1:
            return f"promheal: {notices[0].headline}", notices[0].text(self._url)
        counts = Counter(notice.event for notice in notices)
        title = ", ".join(f"{number} {event}" for event, number in counts.most_common())
        # What only a person can end stands first.
        first = sorted(notices, key=lambda notice: notice.event in _OF.values())
        lines = [f"{notice.headline} (run {notice.run.id})" for notice in first[:SHOWN]]
        if len(notices) > SHOWN:
            lines.append(f"and {len(notices) - SHOWN} more: promheal runs")
        if self._url:
            lines.append(f"{self._url.rstrip('/')}/")
        return f"promheal: {title}", "\n".join(lines)

    def _send(self, config: Config, messages: Mapping[str, tuple[str, str]]) -> dict[str, str]:
        """Send to each channel, and retry those that failed; return the result of each.

        Channels that were still pending when promheal ended are left out.
        """
        results: dict[str, str] = {}
        problems: dict[str, str] = {}
        for delay in (0.0, *self._again):
            if self._ending.wait(delay) and delay:
                return results
            for channel, (title, body) in messages.items():
                if channel in results:
                    continue
                try:
                    assert config.channels is not None
                    config.channels.send(channel, title, body, timeout=TIMEOUT)
                except ActionError as error:
                    problems[channel] = str(error)
                else:
                    results[channel] = "sent"
            if len(results) == len(messages):
                return results
        for channel in messages.keys() - results.keys():
            results[channel] = "failed"
            log.error("notification not delivered: %s", problems[channel], extra={
                "channel": channel, "title": messages[channel][0],
            })  # fmt: skip
        return results


def _notices(transaction: Transaction, rows: Sequence[PendingMessage]) -> Iterator[Notice]:
    """Yield the events of these rows, each once."""
    for what, number in dict.fromkeys((row.what, row.run) for row in rows):
        run = transaction.run(number)
        if run is None:
            continue
        episode = transaction.episode(run.episode)
        about: Any = {"run": run, "labels": {} if episode is None else episode.alert.labels}
        if what == "asked":
            if run.reason == Reason.AWAITING_APPROVAL:
                yield Notice(event=Event.APPROVAL_NEEDED, reason=_why(transaction, run), **about)
        elif run.outcome in _OF or run.relapsed_at is not None:
            event = _OF.get(run.outcome, Event.RELAPSED) if run.outcome else Event.RELAPSED
            yield Notice(event=event, reason=run.reason, **about)
            for one in transaction.transitions(run=run.id):
                if (
                    one.happening.event is BreakerEvent.FAILURE
                    and one.state is BreakerState.PERMANENT_OPEN
                ):
                    yield Notice(event=Event.BREAKER_PERMANENT_OPEN, subject=one.breaker, **about)
            dormancy = transaction.dormancy()
            if dormancy.since is not None and dormancy.since == run.finished_at:
                yield Notice(event=Event.DORMANT, reason=dormancy.reason, **about)


def _why(transaction: Transaction, run: Run) -> str:
    """Return what the guard said when it asked for approval."""
    decision = transaction.last_decision(Key(run.strategy, run.target))
    return "" if decision is None else decision.detail


def _cut(text: str) -> str:
    """Return it on one line, so that no label can pass for a line of the message."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"
