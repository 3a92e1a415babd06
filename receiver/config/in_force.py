"""The configuration in force, with the clients that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from receiver.clients.alertmanager import Alertmanager
from receiver.clients.channels import Channels
from receiver.clients.llm import LlmKeys
from receiver.clients.prometheus import Prometheus
from receiver.journal import Episode
from receiver.policy.alert import Alert
from receiver.policy.authority import FILE, Speaker
from receiver.policy.decay import Decay
from receiver.policy.link import expression_of
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.judgement import Judgement
from receiver.policy.signal import ConditionState, Silencing
from receiver.policy.strategy import Expect, Strategies
from receiver.services import Inventory
from receiver.settings import Settings


class Verifier(Protocol):
    """Prometheus, asked about alerts."""

    def confirm(
        self,
        alert_labels: Mapping[str, str],
        said: str | None,
        *,
        speaker: Speaker = Speaker.SENDER,
        starts_at: float = 0.0,
    ) -> Judgement:
        """Whether the alert fires now, before anything is done, and which series is its.

        *said* is the expression that *speaker* gives; *starts_at* is when the alert began.
        """

    def look(
        self,
        binding: Binding | None,
        *,
        since: float,
        expect: Expect = Expect.EMPTY,
        accept_gone: bool = False,
    ) -> Judgement:
        """Whether what is bound still fires by data newer than *since*; 0: by any.

        None: it could not be told which series is the alert's.
        """

    def decay(
        self, alert_labels: Mapping[str, str], expression: str | None, *, own_query: bool = False
    ) -> Decay:
        """How long what was before an action counts in what `judge` asks."""

    def lists(self, alert_labels: Mapping[str, str]) -> bool | None:
        """Whether Prometheus has the alert among those that fire; None when it cannot be asked."""

    def condition(self, query: str) -> tuple[ConditionState, str]:
        """Whether *query* returns anything, and what was answered."""

    def suspect(self, alert_labels: Mapping[str, str], expression: str | None) -> str:
        """Return why the alert may be about its monitoring and not its target; or nothing."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration. A reload makes a new one; a run under way keeps its plan."""

    settings: Settings
    strategies: Strategies
    inventory: Inventory
    verifier: Verifier
    prometheus: Prometheus | None = None
    alertmanager: Alertmanager | None = None
    channels: Channels | None = None
    keys: LlmKeys | None = None
    folder: Path | None = None
    """The journal's."""
    hash: str
    trusted: frozenset[str] = frozenset()
    """Senders whose expressions count where Prometheus has no rule, by name."""
    silenced: Callable[[Alert], Silencing] = lambda _: Silencing()
    """Which silences are for an alert now."""
    pause_file: Path | None = None
    """While it exists, nothing begins."""
    dry_run: bool = False

    @property
    def asks(self) -> bool:
        """Whether there is anybody to ask about an alert: Prometheus, or Alertmanager."""
        return self.settings.prometheus is not None or self.settings.alertmanager is not None

    def judge(self, episode: Episode) -> Judgement:
        """Ask whether an alert fires now, by whoever may say what its expression is."""
        alert, speaker = episode.alert, Speaker.SENDER
        said = alert.expression
        if episode.vouched_by in self.trusted:
            speaker = Speaker.FILE if episode.vouched_by == FILE else Speaker.TRUSTED
            said = expression_of(episode.vouched_link)
        return self.verifier.confirm(alert.labels, said, speaker=speaker, starts_at=alert.starts_at)
