"""Does an expression ask for a scrape that fails? Then a target that is down is what it means."""

from __future__ import annotations

import re
from typing import Final

from receiver.policy.proof.flow import places
from receiver.policy.proof.syntax import parse

_SCRAPING: Final = re.compile(r"\bup\b|\babsent")


def asks_about_scraping(expression: str) -> bool:
    """Whether it asks for a scrape that fails, or only for what is absent."""
    try:
        tree = parse(expression)
    except ValueError:  # MetricsQL: by its words
        return _SCRAPING.search(expression) is not None
    at = places(tree.root)
    return all(at[each.index].optional for each in tree.selectors) or any(
        each.metric == "up" for each in tree.selectors
    )
