"""Kinds of caches, by the key that identifies them in services.yml."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.services.file_cache import FileCache
from receiver.services.http_cache import HttpCache
from receiver.services.redis_cache import RedisCache

CACHES: Final[dict[str, type[msgspec.Struct]]] = {
    "redis": RedisCache,
    "files": FileCache,
    "http": HttpCache,
}
