"""Everything that is asked about one moment, in one query.

One, since all of it must be true at once: a target that comes back between two queries would give
an empty answer from before its return, and a fresh sample from after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from receiver.policy.promql import Sample, Samples
from receiver.policy.proof.tree import Tree, show

MARK: Final = "__promheal__"
"""The label that tells the parts of one answer apart."""
RESULT: Final = "R"
TIME: Final = "T"
MAX_QUERY: Final = 65_536
"""Characters of a query that is asked."""
TOLERANCE: Final = 1.0
"""Seconds by which clocks and answers may differ: HTTP tells the time in whole ones."""


class Parts:
    """The parts of a query, in PromQL; what is asked twice is asked once."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def add(self, text: str) -> None:
        self._marks.setdefault(text, str(len(self._marks)))

    def query(self, expression: Tree | None = None, *, text: str = "") -> str:
        """Return one query for all parts, the time, and what *expression*, or *text*, returns.

        Raises ValueError when it would be too long.
        """
        if expression is not None:
            text = show(expression.root)
            text = f"vector({text})" if expression.is_scalar else text
        parts = [_marked("vector(time())", TIME)]
        if text:
            # A comment may stand at the end of what is not ours.
            parts.insert(0, _marked(f"{text}\n", RESULT))
        parts += [_marked(part, mark) for part, mark in self._marks.items()]
        query = "\nor ".join(parts)
        if len(query) > MAX_QUERY:
            raise ValueError(
                f"all that it rests on is too much for one query: {len(query)} characters"
            )
        return query

    def read(self, answer: Samples) -> PartAnswers:
        texts = {mark: text for text, mark in self._marks.items()}
        rows: dict[str, list[Sample]] = {text: [] for text in self._marks}
        returned: list[Sample] = []
        at = None
        for sample in answer:
            labels = dict(sample.labels)
            mark = labels.pop(MARK, RESULT)
            plain = Sample(labels, sample.value, sample.at)
            if mark == RESULT:
                returned.append(plain)
            elif mark == TIME:
                at = sample.value
            else:
                rows[texts[mark]].append(plain)
        found = {text: tuple(samples) for text, samples in rows.items()}
        return PartAnswers(tuple(returned), at, found, answer.warnings, answer.clock)


class PartAnswers(msgspec.Struct, frozen=True):
    """What a query for parts was answered."""

    returned: tuple[Sample, ...]
    """Of the expression."""
    at: float | None
    """The moment that all of it is of, by the server's own word."""
    rows: Mapping[str, tuple[Sample, ...]]
    """By the part's text."""
    warnings: tuple[str, ...] = ()
    clock: float | None = None
    """What the server's clock showed when it was asked; None: not told."""

    def behind(self, now: float) -> float:
        """Return how many seconds before it was asked, at *now*, the moment lies that it is of.

        VictoriaMetrics answers for 30 seconds ago, front ends for the end of a step. Where the
        server does not tell its clock, ours stands for it. A second of doubt counts against the
        heal, but for a server that answers for the moment at which it is asked.
        """
        assert self.at is not None
        found = (now if self.clock is None else self.clock) - self.at
        return 0.0 if found <= TOLERANCE else found + TOLERANCE

    def number(self, part: str) -> float | None:
        """Return the value of a part that is one number, None when there is none."""
        rows = self.rows.get(part, ())
        return rows[0].value if rows else None


def _marked(vector: str, mark: str) -> str:
    return f'label_replace({vector}, "{MARK}", "{mark}", "", "")'
