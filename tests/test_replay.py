"""The alerts of rules that others wrote: each is taken, and matches whom it should.

PUBLIC_RULES names a folder with more of them, such as a clone of awesome-prometheus-alerts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.public_rules.reading import PublicRule, read_folder
from receiver.app import Promheal
from receiver.web.flask_app import create_app
from tests.figures import Record

RULES: Final = Path(os.environ.get("PUBLIC_RULES", "tests/public_rules"))
BATCH: Final = 100
MATCHERS: Final[dict[str, tuple[str, Callable[[PublicRule], bool]]]] = {
    "critical": ('severity="critical"', lambda rule: rule.labels.get("severity") == "critical"),
    "mild": ('severity!~"crit.*|page"', lambda rule: not _is_grave(rule)),
    "hosts": ('alertname=~"Host.*|Node.*"', lambda rule: rule.name.startswith(("Host", "Node"))),
    "named": ('alertname!=""', lambda rule: True),
}
"""A matcher, and the same in Python."""


def _is_grave(rule: PublicRule) -> bool:
    severity = rule.labels.get("severity", "")
    return severity.startswith("crit") or severity == "page"


def test_alerts_of_every_rule_are_taken_and_match_whom_they_should(
    config: Path, make_service: Callable[..., Promheal], record_property: Record
) -> None:
    actions = [{"action": "log", "message": "x"}]
    strategies = {
        name: {"match": [matcher], "mode": "observe", "actions": actions}
        for name, (matcher, _) in MATCHERS.items()
    }
    (config / "healing_strategies.yml").write_text(json.dumps({"strategies": strategies}))
    client = create_app(make_service()).test_client()
    rules = read_folder(RULES).rules
    for first in range(0, len(rules), BATCH):
        some = list(enumerate(rules))[first : first + BATCH]
        body = {"version": "4", "alerts": [_alert(number, rule) for number, rule in some]}
        answer: Any = client.post("/webhook", json=body)
        assert answer.status_code == 202
        assert answer.json == {"opened": len(some), "repeated": 0, "closed": 0}

    found: dict[str, list[str]] = {}
    offset: int | None = 0
    while offset is not None:
        page: Any = client.get(f"/api/alerts?limit=500&offset={offset}").json
        found |= {one["labels"]["rule"]: sorted(one["strategies"]) for one in page["alerts"]}
        offset = page["next"]
    expected = {
        str(number): sorted(name for name, (_, matches) in MATCHERS.items() if matches(rule))
        for number, rule in enumerate(rules)
    }
    record_property("rules", len(rules))
    assert found == expected
    assert len({tuple(names) for names in found.values()}) > 1, "not all the same"


def _alert(number: int, rule: PublicRule) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {**rule.labels, "alertname": rule.name, "rule": str(number)},
        "annotations": {"expression": rule.expr},
        "startsAt": "2026-01-31T12:00:00Z",
    }
