"""Asks the verification about every history, and holds its word against what is true."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from bench.public_rules import asked as verification
from bench.public_rules.finding import Case, Tools, asked
from bench.public_rules.histories import TITLES, Fact, History, ups
from bench.public_rules.series import STEP, Labels, samples, text
from bench.public_rules.server import Asker, Filling, serving
from bench.public_rules.truth import Is, Truth
from receiver.clients.prometheus import Prometheus

MOST_UNKNOWN: Final = 0.01
"""Of states that are truly well."""
ACTION: Final = 1_577_836_800.0 + 39 * STEP
"""When the action is in the histories that are written, as in those of tests/histories/."""
PROVABLE: Final = ("well", "well, up", "restarted", "replaced, well", "pod, well")
"""Histories that are truly well in the end."""
CHECKED: Final = (*PROVABLE, "ill", "replaced, ill", "pod, ill", "ended")
"""Those of which Prometheus has to confirm that they are what they are called."""


class Slot(msgspec.Struct, frozen=True):
    """One history of one case, at a time of its own."""

    case: Case
    history: History
    action: float


class Verdict(msgspec.Struct, frozen=True):
    slot: Slot
    word: str
    """`cleared`, `firing`, `unknown`; empty: it does not belong into the set, `reason` says why."""
    reason: str
    wrong: str = ""
    """`cleared` or `firing`, when the opposite is true."""


def fill(pairs: Iterable[tuple[Case, History]], filling: Filling) -> list[Slot]:
    """Write the samples of each history; those that cannot be are left out."""
    slots = []
    for case, history in pairs:
        assert case.names is not None
        action = filling.room(2 * case.length + case.shape.reach, case.length)
        try:
            rows = [
                *samples(
                    case.shape, case.names, history.targets,
                    action=action, length=case.length, looks=[history.look],
                    restarted=history.restarted,
                ),
                *ups(case, history, action=action),
            ]  # fmt: skip
        except ValueError:
            continue  # two targets that no label tells apart
        filling.add(text(rows))
        slots.append(Slot(case, history, action))
    return slots


def judge(slots: Sequence[Slot], blocks: Path, binary: str, tools: Tools) -> Iterator[Verdict]:
    """Yield what the verification says of each of *slots*, as *binary* has its data."""
    with serving(binary, blocks) as url, Asker(url) as asker:
        one = partial(_judge, asker, verification.client(url))
        yield from asked(slots, one, tools, f"asking {Path(binary).name}")


def _judge(asker: Asker, client: Prometheus, slot: Slot) -> Verdict:
    case, history = slot.case, slot.history
    try:
        before = asker.ask(case.shape.text, slot.action)
    except ValueError as error:
        return Verdict(slot, "", str(error))
    if case.alert not in [labels for labels, _ in before]:
        return Verdict(slot, "", "does not fire before the action")
    at = slot.action + history.look
    told = history.name in CHECKED or history.fact is Fact.ASK
    after = case.question.ask(asker, at) if told else None
    reason = _unfit(history, after) if after else ""
    if reason:
        return Verdict(slot, "", reason)
    alert = alert_of(case)
    source = verification.Source(client, slot.action)
    well_at = slot.action - case.length - STEP
    binding = verification.bind(source, alert, case.rule, slot.action, well_at)
    source.at = at
    word, why = verification.look(source, binding, at, slot.action + STEP / 2)
    wrong = ""
    if history.fact is Fact.HEALED:
        wrong = "firing" if word == "firing" else ""
    elif word == "cleared" and not (history.fact is Fact.ASK and after and after.well):
        wrong = word
    return Verdict(slot, word, why, wrong)


def alert_of(case: Case) -> dict[str, str]:
    """Labels of the alert, as Alertmanager sends them."""
    own = {k: v for k, v in case.alert.items() if k != "__name__"}
    return {**own, **case.rule.labels, "alertname": case.rule.name}


def _unfit(history: History, after: Truth) -> str:
    """Why the history is not what its name says; empty: it is."""
    if history.name in PROVABLE and not after.well:
        return f"not well in the end: {after.why}"
    if history.name in {"ill", "replaced, ill"} and not after.fires:
        return "not ill in the end"
    if history.name == "ended" and (after.fires or after.why is not Is.ENDED):
        return "not ended by something else"
    return after.error


# --- the table ------------------------------------------------------------------------------------


class Sums(msgspec.Struct, frozen=True):
    """What all verdicts come to."""

    lines: tuple[str, ...]
    failures: tuple[str, ...]
    """Gates that do not hold."""


def sums(
    verdicts: Sequence[Verdict],
    titles: Mapping[str, str] = TITLES,
    most_unknown: float = MOST_UNKNOWN,
) -> Sums:
    lines = [f"{'history':44} {'n':>6} {'cleared':>8} {'firing':>7} {'unknown':>8} {'wrong':>6}"]
    fit = [v for v in verdicts if v.word]
    for name, title in titles.items():
        here = [v for v in fit if v.slot.history.name == name]
        if here:
            words = Counter(v.word for v in here)
            wrong = sum(bool(v.wrong) for v in here)
            lines.append(
                f"{title:44} {len(here):6} {words['cleared']:8} {words['firing']:7}"
                f" {words['unknown']:8} {wrong:6}"
            )
    failures = []
    wrongly = Counter(v.wrong for v in fit if v.wrong)
    if wrongly["cleared"]:
        failures.append(f"{wrongly['cleared']} wrongly cleared")
    if wrongly["firing"]:
        failures.append(f"{wrongly['firing']} good heals called ineffective")
    well = [v for v in fit if v.slot.history.name in PROVABLE]
    unknown = [v for v in well if v.word == "unknown"]
    share = len(unknown) / len(well) if well else 0.0
    lines.append(f"truly well and unknown: {len(unknown)} of {len(well)} ({share:.2%})")
    for reason, count in Counter(_kind_of(v.reason) for v in unknown).most_common(20):
        lines.append(f"  {count:5}  {reason}")
    if share > most_unknown:
        failures.append(
            f"{share:.2%} of what is truly well ends unknown, more than {most_unknown:.0%}"
        )
    return Sums(tuple(lines), tuple(failures))


def _kind_of(reason: str) -> str:
    """*reason* without what only this rule has."""
    text_ = re.sub(r"\{[^{}]*\}|\"[^\"]*\"", "…", reason)
    text_ = re.sub(r"\d{4}-\d\d-\d\dT[\d:.+]+|\d\d:\d\d:\d\d", "TIME", text_)
    text_ = re.sub(r"\d+(\.\d+)?", "N", re.sub(r"\S*_\S*", "NAME", text_))
    return text_[:100]


# --- a finding as a small history -----------------------------------------------------------------


def finding(verdict: Verdict) -> dict[str, object]:
    """Return *verdict*'s history as one JSON object.

    Each series with its first value and its rise from sample to sample (40 in a phase) while it was
    well, before the action and after it; None: it was not there.
    """
    slot = verdict.slot
    case, history = slot.case, slot.history
    assert case.names is not None
    rows: list[tuple[Labels, list[tuple[float, float]]]] = [
        *samples(
            case.shape, case.names, history.targets,
            action=ACTION, length=case.length, looks=[history.look],
                    restarted=history.restarted,
        ),
        *ups(case, history, action=ACTION),
    ]  # fmt: skip
    wanted = {Fact.HEALED: ["cleared"], Fact.ILL: ["firing", "unknown"]}
    return {
        "rule": {"alert": case.rule.name, "expr": case.rule.expr, "labels": case.rule.labels},
        "alert": alert_of(case),
        "series": [
            {
                "name": labels[0][1],
                "labels": dict(labels[1:]),
                "well": _phase(points, ACTION - 2 * case.length, case.length),
                "before": _phase(points, ACTION - case.length, case.length),
                "after": _phase(points, ACTION, case.length),
            }
            for labels, points in rows
        ],
        "well_at": ACTION - case.length - STEP,
        "want": wanted.get(history.fact, ["unknown", "firing"]),
        "why": history.name,
        "got": [verdict.word, verdict.reason],
        "seconds": {"phase": case.length, "looked after": history.look},
    }


def _phase(
    points: Sequence[tuple[float, float]], start: float, length: float
) -> tuple[float | str, float] | None:
    here = [v for t, v in points if start < t <= start + length]
    if not here:
        return None
    if math.isnan(here[0]):
        return ("NaN", 0.0)
    return here[0], (here[-1] - here[0]) / (length / STEP - 1)


def notable(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What is wrong, and what is well and unknown."""
    return [
        v for v in verdicts if v.wrong or (v.word == "unknown" and v.slot.history.name in PROVABLE)
    ]


def write(verdicts: Iterable[Verdict], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, verdict in enumerate(verdicts):
        name = verdict.slot.history.name.replace(", ", "-").replace(": ", "-").replace(" ", "-")
        path = folder / f"{name}-{verdict.wrong or verdict.word}-{number}.json"
        path.write_text(json.dumps(finding(verdict), indent=1))
