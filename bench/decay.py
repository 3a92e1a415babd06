"""How far back do the rules of a folder look? `python -m bench.decay DIR`

The folder has Prometheus' rule files, in whatever folders: those of a public collection, or yours.
Each expression is read as promheal reads that of an alert before it acts.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from receiver.doctor.rule_files import read_rule_files
from receiver.errors import ConfigError
from receiver.policy.decay import decay, recordings
from receiver.policy.duration import format_duration
from receiver.policy.strategy import Verify

WITHIN, AT_MOST = Verify().within, 3_600.0


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    began = time.process_time()
    try:
        files = read_rule_files([Path(arguments[0])])
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    made = recordings(each.rule for each in files.rules)
    counts: Counter[str] = Counter()
    longest: list[tuple[float, str]] = []
    for each in files.rules:
        if each.rule.records:
            continue
        found = decay(each.rule.query, made)
        counts[_range(found.seconds)] += 1
        if found.seconds is None:
            print(f"{each.place.report.file}: {each.rule.name}: {found.problem}")
        else:
            longest.append((found.seconds, each.rule.name))
    took = time.process_time() - began
    print(f"{counts.total()} alerting rules of {len(files.reports)} files in {took:.1f} s of CPU")
    for name in (*_RANGES, "not known"):
        print(f"{counts[name]:6d}  {name}")
    for seconds, name in sorted(longest, reverse=True)[:5]:
        print(f"{format_duration(seconds):>8}  {name}")
    unread = sum(report.broken for report in files.reports)
    return 1 if unread or counts["not known"] else 0


_LESS, _SAME, _MORE, _MOST, _NONE = (
    f"less than {format_duration(WITHIN)} back",
    f"exactly {format_duration(WITHIN)}",
    f"more than {format_duration(WITHIN)}",
    f"more than {format_duration(AT_MOST)}",
    "not at all",
)
_RANGES = (_NONE, _LESS, _SAME, _MORE, _MOST)


def _range(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    if seconds > WITHIN:
        return _MOST if seconds > AT_MOST else _MORE
    if seconds == WITHIN:
        return _SAME
    return _LESS if seconds else _NONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
