"""Which configuration is in force? The files as they were at the start, or at the last reload."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from receiver import bootstrap
from receiver.actions import Actions
from receiver.bootstrap import Options
from receiver.clock import Clock
from receiver.config.files import LoadedConfig, load
from receiver.config.in_force import Config
from receiver.config.stored import UnrecordedLoads
from receiver.errors import ConfigError
from receiver.healing.intake import Fetch
from receiver.journal import Episode
from receiver.policy.alert import Alert
from receiver.policy.signal import Signal
from receiver.policy.strategy import Strategies
from receiver.reporting.reach import UPSTREAMS, Probeable
from receiver.services import Inventory

log: Final = logging.getLogger("promheal")

NO_STRATEGIES: Final = Strategies(())


class CurrentConfig:
    """The configuration in force, and what it connects promheal with; a reload replaces both.

    Its methods are what the parts are given. Each answers by the configuration of that moment.
    """

    def __init__(
        self, loaded: LoadedConfig, *, options: Options, actions: Actions, clock: Clock
    ) -> None:
        self._options = options
        self._actions = actions
        self._clock = clock
        self._loaded = loaded
        self.keys = bootstrap.keys(loaded, options, clock)
        self._config = bootstrap.config(loaded, options, clock, self.keys)
        self._fetch = bootstrap.fetch(loaded)
        self.reload_successful = True
        self.reload_success_at = clock()
        self.loads = UnrecordedLoads()
        how = "command line" if options.takes_files else "start"
        self.loads.accept(loaded, how=how, at=self.reload_success_at)

    def reload(self, how: str, by: str) -> LoadedConfig:
        """Read the files again. Raises ConfigError when they cannot be used: nothing has changed.

        Called by one thread at a time. *how* and *by* are noted, as `ConfigLoad` has them.
        """
        try:
            loaded = load(self._options.config_file, self._actions, self._options.environ)
            keys = bootstrap.keys(loaded, self._options, self._clock)
            config = bootstrap.config(loaded, self._options, self._clock, keys)
            fetch = bootstrap.fetch(loaded)
        except ConfigError as error:
            self.reload_successful = False
            self.loads.refuse(str(error), how=how, by=by, at=self._clock())
            log.error("the configuration was not reloaded: %s", error)  # noqa: TRY400
            raise
        self._loaded, self._config, self._fetch = loaded, config, fetch
        keys.carry(self.keys)
        self.keys = keys
        self.reload_successful, self.reload_success_at = True, self._clock()
        self.loads.accept(loaded, how=how, by=by, at=self.reload_success_at)
        return loaded

    def config(self) -> Config:
        return self._config

    @property
    def files(self) -> Sequence[Path]:
        return self._loaded.files

    def inventory(self) -> Inventory:
        return self._config.inventory

    def strategies(self) -> Strategies:
        """Return those that alerts are matched against: none while auto detection is off."""
        config = self._config
        return config.strategies if config.settings.flags.auto_detection else NO_STRATEGIES

    def fetch(self) -> Fetch | None:
        """Return what asks Alertmanager for the rest of a truncated notification."""
        return self._fetch

    def ask(self, episode: Episode) -> Signal:
        """Ask Prometheus whether an alert fires now."""
        return self._config.judge(episode).signal

    def trusts(self, sender: str) -> bool:
        """Return whether expressions that *sender* gives count where Prometheus has no rule."""
        return sender in self._config.trusted

    def lists(self, alert: Alert) -> bool | None:
        """Return whether Prometheus lists an alert as firing; None when it cannot be asked."""
        return self._config.verifier.lists(alert.labels)

    def upstreams(self) -> Sequence[tuple[str, Probeable]]:
        """Return who is asked before an act, by the names of UPSTREAMS."""
        config = self._config
        both = zip(UPSTREAMS, (config.prometheus, config.alertmanager), strict=True)
        return [(name, one) for name, one in both if one is not None]
