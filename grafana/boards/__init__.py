"""Which boards are there?"""

from __future__ import annotations

from grafana.board import Json
from grafana.boards import audit, internals, overview, strategy


def boards() -> list[Json]:
    return [made.make() for made in (overview, strategy, internals, audit)]
