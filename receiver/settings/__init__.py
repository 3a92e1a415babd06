"""What did the operator switch on, and where are the others? `promheal.yml`, key by key.

A field is all that a key needs: the reader, the published schema and the table of the reference
are made of its name, type, default and docstring. A reload builds new values.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from receiver.policy.breaker import MainThresholds, Thresholds
from receiver.policy.http_config import HTTPConfig, ServerHTTPConfig
from receiver.policy.texts import FilePath, Url
from receiver.policy.window import Window
from receiver.settings.texts import (
    ChannelName,
    ChannelNames,
    Positive,
    ProviderName,
    Sender,
    Variable,
)


class PrometheusSettings(ServerHTTPConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where heals are proven."""

    url: Url
    """Where heals are proven, with its route prefix if it has one. Without the section `prometheus`
    nothing is proven: every run whose steps succeed ends as `inconclusive`, and every `when` is
    unknown."""
    timeout: Positive = 5.0
    """For one question; a later answer proves nothing."""
    external_labels: Annotated[dict[str, str], msgspec.Meta(extra={"type": "labels"})] = (
        msgspec.field(default_factory=dict)
    )
    """The external labels of this Prometheus, for a server that does not show its configuration at
    `/api/v1/status/config` (Thanos, Mimir, VictoriaMetrics). An alert with another value of one of
    them is [another Prometheus'](../explanation/verification.md#which-series-is-this-alerts), and
    is not judged here."""
    trusted_senders: tuple[Sender, ...] = ()
    """Users, tokens and client certificates of [`--web.config.file`](access.md), by name: where
    Prometheus [does not have an alert's rule](decisions.md#rule_unknown), the expression in their
    link may confirm it. It is evaluated on your Prometheus, so name only who may choose what that
    works on."""


class AlertmanagerSettings(ServerHTTPConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is asked for silences, and for the alerts that `max_alerts` cut off."""

    url: Url
    """Who is asked whether an alert is silenced, before each act, and for the alerts that
    `max_alerts` cut off. While it cannot be asked [nothing begins](decisions.md#silence_unknown).
    Without the section `alertmanager` silences stop nothing, and those alerts are never known."""
    timeout: Positive = 5.0
    """For one question."""


class BackoffSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After a failure nothing begins for a while, twice as long after each further one."""

    first: Positive = 5.0
    """After a failure nothing begins for so long, twice as long after each further target that
    fails: [backoff](decisions.md#backoff-1)."""
    most: Positive = 320.0
    """The longest that nothing begins for."""


class StormSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    targets: Annotated[int, msgspec.Meta(ge=1)] = 10
    """While more targets than this are affected for one strategy, promheal acts on only
    so many at a time:
    [storm](decisions.md#storm-1)."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_concurrent_runs: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    """Runs that act at the same moment, over all targets. Runs that wait or verify do not count. A
    reload changes it."""
    resync: Positive = 60.0
    """How often everything that fires, and every run under way, is looked at again without being
    told."""
    stale_after: Positive = 18_000.0
    """How long an alert is believed while Prometheus cannot be asked. Keep it above Alertmanager's
    `repeat_interval`, which is 4h by default."""
    dormant_after: Annotated[int, msgspec.Meta(ge=1)] = 10
    """Different targets that have failed, with no heal of any between, after which the engine is
    [dormant](decisions.md#dormancy)."""
    backoff: BackoffSettings = BackoffSettings()
    storm: StormSettings = StormSettings()
    main_breaker: MainThresholds = MainThresholds()
    """Of `self-healing-main`, which counts the targets that fail, under whichever strategy."""
    target_breaker: Thresholds = Thresholds()
    """Of each target; a strategy's stands in `healing_strategies.yml`."""
    approval: Positive = 3_600.0
    """How long a run waits for a person's [approval](decisions.md#approval), and how long a yes
    holds."""
    pause_file: FilePath = "promheal.paused"
    """While this file exists [nothing begins](decisions.md#pauses); its first line is the
    reason."""


class FlagSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is switched on. The environment variable of a flag wins over the file."""

    auto_healing: Annotated[
        bool, msgspec.Meta(extra={"variable": "FEATURE_AUTO_HEALING_ENABLED"})
    ] = True
    """`false`: alerts are recorded and decided, nothing acts."""
    auto_detection: Annotated[
        bool, msgspec.Meta(extra={"variable": "FEATURE_AUTO_DETECTION_MONITORING"})
    ] = True
    """`false`: alerts are recorded, and no strategy is asked for them."""
    preventive_healing: Annotated[
        bool, msgspec.Meta(extra={"variable": "FEATURE_PREVENTIVE_HEALING_ENABLED"})
    ] = False
    """Whether strategies that are marked `preventive` may act."""
    process_monitoring: Annotated[
        bool, msgspec.Meta(extra={"variable": "FEATURE_PROCESS_MONITORING_ENABLED"})
    ] = True
    """Whether the state of every service is [sampled](tasks.md)."""


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    retention: Positive = 7_776_000.0
    """What is over for longer than this is [deleted](journal.md#retention), once an hour."""
    inputs: Positive = 2_592_000.0
    """How long it is kept [what a decision rested on](decisions.md#what-a-decision-rested-on); the
    decision itself is kept as long as `retention` says."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    allow: tuple[Annotated[Url, msgspec.Meta(extra={"type": "URL prefix"})], ...] = ()
    """What the action `http` may call: scheme, host, port, and the beginning of the path up to a
    `/`. `check` does not find a prefix without a scheme; it allows nothing."""


class LlmProvider(HTTPConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider of language models, and where its keys are."""

    base_url: Url
    """`https://api.openai.com/v1`; `/models` below it is asked."""
    keys: Annotated[tuple[Variable, ...], msgspec.Meta(min_length=1)]
    """Of variables in the environment or in `.env.local`, in capital letters; never the keys
    themselves."""
    header: str = "Authorization"
    """Carries the key: `Authorization` as `Bearer KEY`, any other, such as `x-api-key`, as it
    is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.login is not None and self.header.lower() == "authorization":
            raise ValueError(
                "the key is the `Authorization`; name another `header`, or remove `basic_auth` and "
                "`authorization`"
            )
        if self.header.lower() in map(str.lower, (*self.headers, *self.http_headers)):
            raise ValueError(f"header {self.header!r} carries the key; remove it here")


class LlmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    providers: Annotated[
        dict[ProviderName, LlmProvider],
        msgspec.Meta(extra={"type": "mapping of [providers](configuration.md#a-provider)"}),
    ] = {}
    """Providers of language models whose keys are [tried](llm-keys.md), by name."""
    probe: Positive = 300.0
    """How often each key is tried."""
    timeout: Positive = 10.0
    """For one try."""


class NotifyChannel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where messages go. It has one of the three, each an Apprise URL."""

    url: Annotated[str, msgspec.Meta(extra={"type": "URL of Apprise"})] | None = None
    """For one without a secret."""
    url_file: FilePath | None = None
    """A file that holds the URL, relative to `promheal.yml`; read at each message."""
    url_env: Variable | None = None
    """The name of the variable that holds it, in the environment or in `.env.local`."""

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.url, self.url_file, self.url_env)) != 1:
            raise ValueError("a channel has one of `url`, `url_file` and `url_env`")


class NotifyEvents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The channels that get a message when this happens."""

    failed: ChannelNames = ()
    """For a run that failed, was undone after a failure, or ended unknown."""
    ineffective: ChannelNames = ()
    """For a run whose steps all succeeded while the alert still fires."""
    inconclusive: ChannelNames = ()
    """For a run that proved nothing: from the third in a row on one target, or because Prometheus
    could not be asked."""
    relapsed: ChannelNames = ()
    """For a heal that did not hold."""
    rollback_failed: ChannelNames = ()
    """For a run that could not be undone."""
    dormant: ChannelNames = ()
    """When the engine becomes [dormant](decisions.md#dormant)."""
    breaker_permanent_open: ChannelNames = ()
    """When a [breaker](decisions.md#breakers) opens for good."""
    approval_needed: ChannelNames = ()
    """When a run waits for a person's [approval](decisions.md#approval)."""


class NotifySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    channels: Annotated[
        dict[ChannelName, NotifyChannel],
        msgspec.Meta(extra={"type": "mapping of [channels](configuration.md#a-channel)"}),
    ] = {}
    """Where messages go, by name."""
    on: NotifyEvents = NotifyEvents()

    @property
    def tells(self) -> bool:
        """Whether any message is sent that is not a step."""
        return self.on != NotifyEvents()

    def __post_init__(self) -> None:
        for event in NotifyEvents.__struct_fields__:
            for name in getattr(self.on, event):
                if name not in self.channels:
                    known = ", ".join(self.channels) or "none"
                    raise ValueError(f"`on.{event}` names no channel {name!r}; known: {known}")


class HealingLogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    file: FilePath | None = "healing_log.jsonl"
    """One line for each run that acted and has ended, and for what `--dry-run` would have done: the
    [healing log](healing-log.md). `null`: none is written."""
    max_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 10_485_760
    """When it would grow beyond this it becomes `.1`, and a new one is begun."""
    keep: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """How many older files are kept."""


class BackupSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    folder: FilePath | None = None
    """Where [backups](journal.md#backup) of a journal in SQLite go, best on another disk; relative
    to the journal. Without it none are made by the clock."""
    every: Positive = 86_400.0
    """The age of the newest one from which on another is made."""
    keep: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 7
    """How many are kept. An older one is removed only after the newest was restored on trial."""


class UndeclaredValues(StrEnum):
    REFUSE = "refuse"
    WARN = "warn"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`promheal.yml`."""

    strategies: FilePath = "healing_strategies.yml"
    """The file of strategies."""
    services: FilePath = "services.yml"
    """The file of services."""
    undeclared_values: UndeclaredValues = UndeclaredValues.REFUSE
    """What becomes of a configuration in which values stand in arguments of programs that no
    [`values`](templates.md#values) describes. `warn` is for moving, and goes with the next release:
    `check` warns of them, and they are let through. What is code for a shell or another interpreter
    is refused in either case."""
    prometheus: PrometheusSettings | None = None
    alertmanager: AlertmanagerSettings | None = None
    engine: EngineSettings = EngineSettings()
    flags: FlagSettings = FlagSettings()
    journal: JournalSettings = JournalSettings()
    http: HttpSettings = HttpSettings()
    llm: LlmSettings = LlmSettings()
    notify: NotifySettings = NotifySettings()
    maintenance: Annotated[
        tuple[Window, ...],
        msgspec.Meta(extra={"type": "list of [windows](configuration.md#a-maintenance-window)"}),
    ] = ()
    """When nothing begins."""
    healing_log: HealingLogSettings = HealingLogSettings()
    backup: BackupSettings = BackupSettings()
