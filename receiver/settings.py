"""What did the operator switch on, and where are the others? `promheal.yml` and the environment.

This file is the only reader of the environment. Everything is read once into frozen values; a
reload reads it again and builds new ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from receiver.errors import ConfigError
from receiver.policy.breaker import MainThresholds, Thresholds
from receiver.policy.duration import Duration
from receiver.policy.window import Window
from receiver.redaction import learn_variables

_Url = Annotated[
    str,
    msgspec.Meta(
        pattern="^https?://", examples=["http://127.0.0.1:9090"], extra={"amend": "http://{}"}
    ),
]
_ProviderName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]{1,54}$", examples=["openai"])]
"""It becomes the id of a task."""
_ChannelName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]{1,54}$", examples=["oncall"])]
"""It becomes the value of a metric's label."""
_VARIABLE: Final = re.compile("[A-Z_][A-Z0-9_]*")
_Positive = Annotated[Duration, msgspec.Meta(gt=0)]


def _variable(text: str) -> str:
    """Return *text*, which is not repeated when it is refused: it may be the key itself."""
    if not _VARIABLE.fullmatch(text):
        raise ValueError(
            "this is no name of a variable; name the one that holds the secret, as OPENAI_API_KEY"
        )
    return text


_Variable = Annotated[str, msgspec.Meta(extra={"parse": _variable})]


def _sender(name: str) -> str:
    if not name or len(name) > 100:
        raise ValueError("name a user, a token or a client certificate of --web.config.file")
    if name == "anonymous" or name.startswith("@"):
        raise ValueError(
            f"{name!r} is nobody who has shown who it is; name a user, a token or a client "
            "certificate of --web.config.file"
        )
    return name


_Sender = Annotated[str, msgspec.Meta(extra={"parse": _sender})]


class PrometheusSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where heals are proven."""

    url: _Url
    """For example http://127.0.0.1:9090, with its route prefix if it has one."""
    timeout: _Positive = 5.0
    """For one question; an answer that comes later proves nothing."""
    bearer_token_file: str | None = None
    external_labels: dict[str, str] = {}
    """Its external labels, for a server that does not show its configuration."""
    trusted_senders: tuple[_Sender, ...] = ()
    """Users, tokens and client certificates of `--web.config.file`, by name, whose alerts may be
    proven by the expression in their link where no rule is known."""


class AlertmanagerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is asked for silences, and for the alerts that `max_alerts` cut off."""

    url: _Url
    timeout: _Positive = 5.0
    bearer_token_file: str | None = None


class BackoffSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After a failure nothing begins for a while, twice as long after each further one."""

    first: _Positive = 5.0
    most: _Positive = 320.0


class StormSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    targets: Annotated[int, msgspec.Meta(ge=1)] = 10
    """While more targets than this are ill for one strategy, only so many are treated at once, and
    one that was treated in vain keeps its place."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_concurrent_runs: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    """Runs that act at the same moment; those that verify do not count."""
    resync: _Positive = 60.0
    """How often everything that fires is considered again without being told."""
    stale_after: _Positive = 18_000.0
    """How long a notification is believed when Prometheus cannot confirm it.

    Above Alertmanager's repeat_interval (4 h by default), which is how often it says so again.
    """
    dormant_after: Annotated[int, msgspec.Meta(ge=1)] = 10
    """Different targets that fail, with no heal of any between, after which the whole engine stops
    until a person resumes it."""
    backoff: BackoffSettings = BackoffSettings()
    storm: StormSettings = StormSettings()
    main_breaker: MainThresholds = MainThresholds()
    """Of `self-healing-main`, which counts the targets that fail, under whichever strategy."""
    target_breaker: Thresholds = Thresholds()
    """Of each target; a strategy's stands in `healing_strategies.yml`."""
    approval: _Positive = 3_600.0
    """How long a run that needs a person's approval waits for it, and how long that holds."""
    pause_file: str = "promheal.paused"
    """While this file exists nothing begins; its first line is the reason. Path, relative to
    `promheal.yml`."""


class FlagSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    auto_healing: bool = True
    """Off: alerts are recorded and decided, nothing acts."""
    auto_detection: bool = True
    """Off: alerts are recorded, and no strategy is asked for them."""
    preventive_healing: bool = False
    """Whether strategies that are marked `preventive` may act."""
    process_monitoring: bool = True
    """Whether the state of every service in `services.yml` is sampled."""


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    retention: _Positive = 7_776_000.0
    """Finished runs, decisions and closed episodes older than this are deleted (90 days)."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    allow: tuple[_Url, ...] = ()
    """URL prefixes that the action `http` may call: scheme, host, port and path."""


class LlmProvider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider of language models, and where its keys are."""

    base_url: _Url
    """For example https://api.openai.com/v1; `/models` below it is asked."""
    keys: Annotated[tuple[_Variable, ...], msgspec.Meta(min_length=1)]
    """Names of environment variables, or of variables in `.env.local`; never the keys."""
    header: str = "Authorization"
    """Carries the key: `Authorization` as `Bearer KEY`, any other, as `x-api-key`, as it is."""


class LlmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    providers: dict[_ProviderName, LlmProvider] = {}
    probe: _Positive = 300.0
    """How often each key is tried."""
    timeout: _Positive = 10.0


class NotifyChannel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where people are told something. It has one of the three, each an Apprise URL."""

    url: str | None = None
    """For example json://127.0.0.1:8080/told; for one without a secret."""
    url_file: str | None = None
    """Path of a file that holds the URL, relative to `promheal.yml`; read at each message."""
    url_env: _Variable | None = None
    """Name of the environment variable, or of the variable in `.env.local`, that holds it."""

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.url, self.url_file, self.url_env)) != 1:
            raise ValueError("a channel has one of `url`, `url_file` and `url_env`")


class NotifyEvents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which channels are told that this happened."""

    failed: tuple[str, ...] = ()
    """A run failed, and was undone as far as it can be; or it is not known how it ended."""
    ineffective: tuple[str, ...] = ()
    """All steps were done, and it still fires."""
    inconclusive: tuple[str, ...] = ()
    """All steps were done and nothing is proven, again and again on one target; or Prometheus could
    not be asked."""
    relapsed: tuple[str, ...] = ()
    """A heal did not hold: it fires again."""
    rollback_failed: tuple[str, ...] = ()
    """A run could not be undone: what it left is for a person to see to."""
    dormant: tuple[str, ...] = ()
    """The engine stopped itself."""
    breaker_permanent_open: tuple[str, ...] = ()
    """A breaker opened for good."""
    approval_needed: tuple[str, ...] = ()
    """A run waits for a person's yes."""


class NotifySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    channels: dict[_ChannelName, NotifyChannel] = {}
    on: NotifyEvents = NotifyEvents()

    @property
    def tells(self) -> bool:
        """Whether anything is told that is not a step."""
        return self.on != NotifyEvents()

    def __post_init__(self) -> None:
        for event in NotifyEvents.__struct_fields__:
            for name in getattr(self.on, event):
                if name not in self.channels:
                    known = ", ".join(self.channels) or "none"
                    raise ValueError(f"`on.{event}` names no channel {name!r}; known: {known}")


class HealingLogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    file: str | None = "healing_log.jsonl"
    """One line a finished run. Path, relative to the journal's folder; null: none is written."""
    max_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 10_485_760
    """When the file would grow beyond this it becomes `.1`, and a new one is begun."""
    keep: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """Older files that are kept."""


class UndeclaredValues(StrEnum):
    REFUSE = "refuse"
    WARN = "warn"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`promheal.yml`."""

    strategies: str = "healing_strategies.yml"
    """Path, relative to this file."""
    services: str = "services.yml"
    """Path, relative to this file."""
    undeclared_values: UndeclaredValues = UndeclaredValues.REFUSE
    """`warn`, in this release only: values that no `values` of their strategy describes may go on
    standing in arguments of programs, and `check` warns of them."""
    prometheus: PrometheusSettings | None = None
    alertmanager: AlertmanagerSettings | None = None
    engine: EngineSettings = EngineSettings()
    flags: FlagSettings = FlagSettings()
    journal: JournalSettings = JournalSettings()
    http: HttpSettings = HttpSettings()
    llm: LlmSettings = LlmSettings()
    notify: NotifySettings = NotifySettings()
    maintenance: tuple[Window, ...] = ()
    """When nothing begins."""
    healing_log: HealingLogSettings = HealingLogSettings()


FLAG_VARIABLES: Final = {
    "auto_healing": "FEATURE_AUTO_HEALING_ENABLED",
    "auto_detection": "FEATURE_AUTO_DETECTION_MONITORING",
    "preventive_healing": "FEATURE_PREVENTIVE_HEALING_ENABLED",
    "process_monitoring": "FEATURE_PROCESS_MONITORING_ENABLED",
}
"""The environment variable of each flag; it wins over the file."""

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def environment() -> Mapping[str, str]:
    """Return this process's environment; what is secret in it is known from now on."""
    found = dict(os.environ)  # noqa: TID251  the one place that reads it
    learn_variables(found)
    return found


def taken(names: Iterable[str]) -> Mapping[str, str]:
    """Return those variables of the environment, and take them out of it: no library sees them."""
    environ = os.environ  # noqa: TID251  see above
    return {name: environ.pop(name) for name in names if name in environ}


def dotenv(path: Path) -> dict[str, str]:
    """Return the variables of a file of NAME=VALUE lines; a missing file has none.

    Raises ConfigError for a line that is neither a comment nor NAME=VALUE.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    found = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ConfigError(f"{path}:{number}:1: write NAME=VALUE, as TOKEN=…")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name.strip()] = value
    learn_variables(found)
    return found


def with_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return *settings* with the flags that the environment sets.

    Raises ConfigError for a value that is no boolean.
    """
    flags = {}
    for flag, variable in FLAG_VARIABLES.items():
        text = environ.get(variable, "").strip().lower()
        if not text:
            continue
        if text not in _TRUE | _FALSE:
            raise ConfigError(f"{variable}={text!r}: write true or false")
        flags[flag] = text in _TRUE
    if not flags:
        return settings
    return msgspec.structs.replace(settings, flags=msgspec.structs.replace(settings.flags, **flags))
