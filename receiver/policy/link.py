"""Which expression does an alert's link carry? Links of Prometheus, VMUI, Grafana and OpenShift.

Anybody can send any link, so only its text is used, never its host; its length is bounded, and a
link that cannot be read carries no expression. authority.py says whose expression counts.

| from | where |
| --- | --- |
| Prometheus, Thanos, Mimir | `/graph?g0.expr=` |
| VMUI | `/vmui/#/?g0.expr=`, in the fragment |
| Grafana Explore | `panes=`, or before 10.1 `left=`: JSON with `queries: [{expr}]` |
| OpenShift's console | `/monitoring/query-browser?query0=` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

MAX_LINK: Final = 65_536
"""Characters of a link that is read: more than the longest expression takes when escaped."""
_MOST_FIELDS: Final = 64
_PLAIN: Final = ("g0.expr", "query0")
_EXPLORE: Final = ("panes", "left")


def expression_of(link: str) -> str | None:
    """Return the expression that *link* carries; None for none, several or an unreadable link."""
    if len(link) > MAX_LINK:
        return None
    try:
        parts = urlsplit(link)
        for text in (parts.query, parts.fragment.partition("?")[2]):
            found = _expression_in(parse_qs(text, max_num_fields=_MOST_FIELDS))
            if found is not None:
                return found
    except (ValueError, msgspec.DecodeError, RecursionError):  # no URL, no JSON, or without end
        return None
    return None


def _expression_in(fields: Mapping[str, list[str]]) -> str | None:
    for name in _PLAIN:
        if name in fields:
            return _usable(fields[name][0])
    for name in _EXPLORE:
        if name in fields:
            # Of two queries side by side, either may be the alert's.
            found = set(_explored(msgspec.json.decode(fields[name][0])))
            return _usable(found.pop()) if len(found) == 1 else None
    return None


def _explored(state: Any) -> Iterator[str]:
    """Yield the expressions of a state of Grafana Explore.

    `panes` is a mapping of panes, `left` is one pane: a mapping, or before Grafana 7 a list in
    which the queries are items.
    """
    panes: list[Any]
    if isinstance(state, list):
        panes = [{"queries": state}]
    elif isinstance(state, dict) and "queries" not in state:
        panes = list(state.values())
    else:
        panes = [state]
    for pane in panes:
        queries = pane.get("queries") if isinstance(pane, dict) else None
        for query in queries if isinstance(queries, list) else ():
            expression = query.get("expr") if isinstance(query, dict) else None
            if isinstance(expression, str):
                yield expression


def _usable(expression: str) -> str | None:
    return expression if expression.strip() and "\0" not in expression else None
