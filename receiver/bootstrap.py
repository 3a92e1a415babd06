"""The clients, channels and files that a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from receiver.clients.alertmanager import Alertmanager
from receiver.clients.channels import Channels
from receiver.clients.llm import LlmKeys
from receiver.clients.prometheus import Prometheus
from receiver.clock import Clock
from receiver.config.files import LoadedConfig
from receiver.config.in_force import Config
from receiver.errors import UpstreamError
from receiver.healing.intake import Fetch
from receiver.healing.verifier import PrometheusVerifier
from receiver.policy.alert import Alert, Notification
from receiver.policy.authority import FILE
from receiver.policy.role import EVERYWHERE, ProcessRole
from receiver.policy.signal import Silencing
from receiver.settings import Settings
from receiver.settings.environment import dotenv


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line, as far as it concerns the service."""

    config_file: Path
    storage_url: str
    environ: Mapping[str, str] = {}
    dry_run: bool = False
    external_url: str = ""
    """Our address for people, for the links in messages."""
    data: Path | None = None
    """Where the healing log and the snapshots go; None: beside the journal's file, or `data`."""
    receives: bool = True
    """Accept, show and steer."""
    works: bool = True
    """Decide and act, as far as *role* says; else all work is left to other processes."""
    role: ProcessRole = EVERYWHERE
    takes_files: bool = False
    """Alerts come from the operator's own files, which are trusted senders."""
    threads: int | None = None
    """Runs that act at the same time here; None: `engine.max_concurrent_runs`."""


def config(loaded: LoadedConfig, options: Options, clock: Clock, keys: LlmKeys) -> Config:
    settings = loaded.settings
    prometheus = None if settings.prometheus is None else Prometheus(settings.prometheus)
    alertmanager = None if settings.alertmanager is None else Alertmanager(settings.alertmanager)
    return Config(
        settings=settings,
        strategies=loaded.strategies,
        inventory=loaded.inventory,
        verifier=PrometheusVerifier(prometheus, clock),
        prometheus=prometheus,
        alertmanager=alertmanager,
        channels=channels(loaded, options),
        keys=keys,
        folder=folder(options),
        hash=loaded.hash,
        trusted=_trusted(settings, options),
        silenced=_silenced(alertmanager),
        pause_file=options.config_file.parent / settings.engine.pause_file,
        dry_run=options.dry_run,
    )


def _trusted(settings: Settings, options: Options) -> frozenset[str]:
    named = settings.prometheus.trusted_senders if settings.prometheus else ()
    return frozenset((*named, FILE) if options.takes_files else named)


def fetch(loaded: LoadedConfig) -> Fetch | None:
    settings = loaded.settings.alertmanager
    if settings is None:
        return None
    alertmanager = Alertmanager(settings)

    def ask(notification: Notification) -> Sequence[Alert]:
        return alertmanager.alerts(receiver=notification.receiver)

    return ask


def _silenced(alertmanager: Alertmanager | None) -> Callable[[Alert], Silencing]:
    if alertmanager is None:
        return lambda _: Silencing()

    def silenced(alert: Alert) -> Silencing:
        try:
            found = alertmanager.silences_of(alert)
        except UpstreamError as error:
            return Silencing(unknown=f"Alertmanager cannot be asked: {error}")
        return Silencing(f"silence {', '.join(found)}" if found else "")

    return silenced


def keys(loaded: LoadedConfig, options: Options, clock: Clock) -> LlmKeys:
    return LlmKeys(loaded.settings.llm, _variables(options), clock)


def channels(loaded: LoadedConfig, options: Options) -> Channels:
    return Channels(loaded.settings.notify, _variables(options), options.config_file.parent)


def _variables(options: Options) -> Mapping[str, str]:
    """Return the variables of the environment, which win, and of `.env.local`."""
    return {**dotenv(options.config_file.parent / ".env.local"), **options.environ}


def folder(options: Options) -> Path:
    """Return the folder of the healing log and of the snapshots."""
    if options.data is not None:
        return options.data
    scheme, _, journal = options.storage_url.partition(":///")
    return Path(journal).parent if scheme == "sqlite" else Path("data")
