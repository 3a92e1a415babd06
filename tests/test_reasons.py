"""What is held to the table of reasons outside of the guards: SQL and the pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import receiver.journal
from receiver.policy.guards.reasons import MEANINGS, Wake, woken_by
from receiver.policy.guards.situation import Answer, Reason
from tests.test_docs import DECISIONS, DOCS, code, prose, table

OPERATIONS = DOCS / "operations.md"
ENDS = {
    "on its own, at its time": {Wake.TIME},
    "when another run ends": {Wake.TARGET, Wake.PLACE},
    "when a worker for its host is running": {Wake.WORKER},
    "when the answer of Prometheus or Alertmanager changes": {Wake.RETRY},
    "when Prometheus has the rule": {Wake.RETRY},
    "at its time, or when someone resumes": {Wake.PERSON},
    "when someone resumes, resets, or approves": {Wake.PERSON},
}
"""What operations.md says of the first wake of a reason."""


def test_the_reasons_that_sql_names_are_those_that_a_worker_wakes() -> None:
    folder = Path(receiver.journal.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("queries*.sql")]
    named = [name for text in texts for name in re.findall(r"reason (?:=|<>|in) \(?'(\w+)'", text)]

    assert len(named) == 2
    assert set(named) == set(woken_by(Wake.WORKER))


# -- the pages


def _section(reason: Reason) -> str:
    text = prose(DECISIONS).split("## Reasons")[1].split("## Run states")[0]
    section = text.split(f"\n### {reason}\n")[1].split("\n### ")[0]
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(section.split()))


@pytest.mark.parametrize("reason", Reason)
def test_its_section_says_what_the_table_says(reason: Reason) -> None:
    section, meaning = _section(reason), MEANINGS[reason]

    assert section.startswith(f"Verdict `{meaning.answer}`")
    assert f"**Do**: {meaning.remedy}" in section
    asked_again = re.search(r"asked again every (10 seconds|minute)", section) is not None
    assert asked_again == (Wake.RETRY in meaning.wakes or reason is Reason.PAUSED)  # by its file


def test_operations_says_when_each_ends() -> None:
    found = table(OPERATIONS, "What waits, and why?", "reason").rows
    rows = [([Reason(name) for name in code(named)], ends) for named, ends in found]

    assert sorted(reason for reasons, _ in rows for reason in reasons) == sorted(Reason)
    for reasons, ends in rows:
        said = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", ends)
        wakes = next((wakes for start, wakes in ENDS.items() if said.startswith(start)), None)
        if wakes is None:
            assert said.startswith("nothing waits")
            assert {MEANINGS[reason].answer for reason in reasons} == {Answer.DENY}
        else:
            assert {MEANINGS[reason].wakes[0] for reason in reasons} == wakes
