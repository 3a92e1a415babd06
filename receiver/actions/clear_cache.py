"""`clear_cache`: remove what a service of the inventory keeps and can do without."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from receiver.actions import Action, Context, lacking
from receiver.clients.url import refuse_unless_allowed
from receiver.errors import ActionError
from receiver.services import Inventory
from receiver.services.http_cache import HttpCache
from receiver.template import NameText, is_template


class ClearCacheParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service: NameText
    """A name in `services.yml`, as a rule from a label."""


class ClearCache(Action):
    """Its `cache` says what is removed; a label only chooses the service.

    It may be repeated, and goes on where it was cut short. There is nothing to undo.
    """

    name = "clear_cache"
    Params = ClearCacheParams

    def idempotent(self, params: ClearCacheParams) -> bool:  # noqa: ARG002
        return True

    def problems(self, params: ClearCacheParams, inventory: Inventory) -> Iterable[str]:
        yield from lacking("cache", params.service, inventory)
        chosen = inventory.names if is_template(params.service) else (params.service,)
        for service in (inventory.get(name) for name in inventory.names if name in chosen):
            if isinstance(service.cache, HttpCache):
                try:
                    refuse_unless_allowed(service.cache.http.url, inventory.allowed_urls)
                except ActionError as error:
                    yield f"service: the cache of {service.name!r}: {error}"

    def run(self, params: ClearCacheParams, context: Context) -> dict[str, Any]:
        service = context.inventory.get(params.service)
        if service.cache is None:
            raise ActionError(
                f"{service.name!r} has no `cache` in services.yml, nothing was touched"
            )
        if isinstance(service.cache, HttpCache):
            refuse_unless_allowed(service.cache.http.url, context.inventory.allowed_urls)
        began = time.monotonic()
        removed = service.cache.clear(timeout=context.timeout)
        seconds = round(time.monotonic() - began, 3)
        return {"service": service.name, **removed, "seconds": seconds}
