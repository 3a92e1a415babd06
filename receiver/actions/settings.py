"""`rate_limit`, `enable_cache` and `fallback_llm`: one setting of a service, and back again."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from receiver.actions import Action, Context, lacking
from receiver.errors import ActionError
from receiver.services import Inventory, Service
from receiver.services.formats import Value
from receiver.services.reload import inform
from receiver.services.settings_file import Change, SettingsFile, as_saved
from receiver.template import NameText


class SettingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service: NameText
    """A name in `services.yml` that has `settings`, as a rule from a label."""


class _Setting(Action):
    """Writes one key of the service's settings file, and has the service read it.

    What was there before is saved first. So it may be repeated after a crash, and is undone
    wherever it was cut; a value that somebody else has set meanwhile is never overwritten.
    """

    setting: ClassVar[str]
    """Which of the file's keys."""
    timeout = 60.0

    def idempotent(self, params: Any) -> bool:  # noqa: ARG002
        return True

    def problems(self, params: Any, inventory: Inventory) -> Iterable[str]:
        yield from lacking("settings", params.service, inventory)

    def run(self, params: Any, context: Context) -> dict[str, Any]:
        deadline = time.monotonic() + context.timeout
        service = context.inventory.get(params.service)
        settings = self._settings(service)
        change = _saved(context)
        if change is not None:
            settings.again(change, timeout=deadline - time.monotonic())
        else:
            value = self._wanted(params, context, service, settings.read(self.setting))
            if isinstance(value, _Nothing):
                return {"skipped": value.why}
            change = settings.change(
                self.setting,
                value,
                timeout=deadline - time.monotonic(),
                about_to=lambda change: context.save(as_saved(change)),
            )
            if change is None:
                key = settings.key(self.setting)
                return {"skipped": f"{key} in {settings.file} is {value!r} already"}
        reloaded = inform(
            settings.reload, service.manager, timeout=max(0.1, deadline - time.monotonic())
        )
        return {
            "service": service.name,
            "file": settings.file,
            "key": change.key,
            "before": change.before,
            "after": change.after,
            "reload": reloaded,
        }

    def undoable(self, params: Any) -> bool:  # noqa: ARG002
        return True

    def rollback(
        self,
        params: Any,
        context: Context,
        result: Mapping[str, Any] | None,  # noqa: ARG002  what was saved tells all
    ) -> dict[str, Any]:
        deadline = time.monotonic() + context.timeout
        change = _saved(context)
        if change is None:
            return {"restored": False, "detail": "nothing had been written"}
        service = context.inventory.get(params.service)
        settings = self._settings(service)
        restored = settings.restore(change, timeout=context.timeout)
        # Also when it was restored before: we may have died between the two.
        reloaded = inform(
            settings.reload, service.manager, timeout=max(0.1, deadline - time.monotonic())
        )
        return {
            "restored": restored,
            "key": change.key,
            "value": change.before,
            "reload": reloaded,
        }

    @abstractmethod
    def _wanted(
        self, params: Any, context: Context, service: Service, now: Value | None
    ) -> Value | _Nothing:
        """Return what the setting should be, which is *now*. Raises ActionError."""

    def _settings(self, service: Service) -> SettingsFile:
        if service.settings is None:
            raise ActionError(
                f"{service.name!r} has no `settings:` in services.yml; nothing was touched"
            )
        return service.settings


class _Nothing(msgspec.Struct, frozen=True):
    """There is nothing to do."""

    why: str


class RateLimitParams(SettingParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[float, msgspec.Meta(gt=0)]
    """As the service counts: requests a second, say."""


class SetRateLimit(_Setting):
    """Lowers the limit of what a service takes on; a limit that is lower already stays."""

    name = "rate_limit"
    Params = RateLimitParams
    setting = "rate_limit"

    def _wanted(
        self,
        params: RateLimitParams,
        context: Context,  # noqa: ARG002
        service: Service,
        now: Value | None,
    ) -> Value | _Nothing:
        if isinstance(now, str):
            raise ActionError(
                f"the limit of {service.name!r} is the text {now[:40]!r}, and no number; nothing "
                "was touched"
            )
        if now is not None and not isinstance(now, bool) and now <= params.limit:
            return _Nothing(f"the limit of {service.name!r} is {now} already")
        whole = params.limit == int(params.limit)
        return int(params.limit) if whole else params.limit


class EnableCache(_Setting):
    """Switches the cache of a service on."""

    name = "enable_cache"
    Params = SettingParams
    setting = "cache"

    def _wanted(
        self,
        params: SettingParams,  # noqa: ARG002
        context: Context,  # noqa: ARG002
        service: Service,  # noqa: ARG002
        now: Value | None,  # noqa: ARG002
    ) -> Value | _Nothing:
        return True


class FallbackLlm(_Setting):
    """Turns a service to the next of its providers that has a key which passes a probe."""

    name = "fallback_llm"
    Params = SettingParams
    setting = "llm"

    def problems(self, params: SettingParams, inventory: Inventory) -> Iterable[str]:
        found = list(super().problems(params, inventory))
        yield from found
        # An unknown service is told once.
        yield from (each for each in lacking("llm", params.service, inventory) if each not in found)

    def _wanted(
        self,
        params: SettingParams,  # noqa: ARG002
        context: Context,
        service: Service,
        now: Value | None,
    ) -> Value | _Nothing:
        if service.llm is None:
            raise ActionError(
                f"{service.name!r} has no `llm:` in services.yml; nothing was touched"
            )
        providers = list(service.llm.providers)
        start = providers.index(now) + 1 if isinstance(now, str) and now in providers else 0
        others = [each for each in providers[start:] + providers[:start] if each != now]
        for provider in others:
            if context.keys is None or context.keys.passes(provider):
                return provider
        raise ActionError(
            f"none of the other providers of {service.name!r} has a key that works: "
            f"{', '.join(others)}; nothing was touched"
        )


def _saved(context: Context) -> Change | None:
    return msgspec.convert(context.saved, Change) if context.saved else None
