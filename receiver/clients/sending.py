"""How does Prometheus' own configuration say that it labels the alerts that it sends?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import yaml

from receiver.policy.relabel import Relabel, Sending


def read_sending(text: str) -> Sending | None:
    """Read what `/api/v1/status/config` shows; None when it is not Prometheus' configuration."""
    try:
        config = _Loader(text).get_single_data()
        alerting = config.get("alerting") or {}
        common = _chain(alerting.get("alert_relabel_configs"))
        chains = {
            (*common, *_chain(each.get("alert_relabel_configs")))
            for each in alerting.get("alertmanagers") or ()
        }
        external = (config.get("global") or {}).get("external_labels") or {}
        return Sending(
            {str(name): str(value) for name, value in external.items()},
            tuple(chains) or (common,),
        )
    except (yaml.YAMLError, msgspec.ValidationError, AttributeError, TypeError, ValueError):
        return None


_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C reads a large configuration a hundred times as fast."""


def _chain(configs: Iterable[Mapping[str, Any]] | None) -> tuple[Relabel, ...]:
    return tuple(msgspec.convert(dict(each), Relabel, strict=False) for each in configs or ())
