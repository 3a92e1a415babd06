"""The bench of worker classes, in short, with the one of others that gunicorn brings itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from bench.attackers import closed_after
from bench.worker_classes import BODY_DEADLINE
from bench.worker_trials import beside, examine, running
from tests.requests_in_bytes import SMUGGLING

pytestmark = pytest.mark.slow


def test_a_worker_class_of_others_takes_notifications_through_the_adapter(tmp_path: Path) -> None:
    authority = trustme.CA()
    with running("gunicorn", tmp_path, authority) as one:
        found = beside(one, "unread", 2, 0.3)
        assert 0 < found["beside 2 that never read: p50 ms"] < 5_000
        *counts, _, renewed = examine(one, authority)[0]
        assert sum(map(int, counts)) == len(SMUGGLING)
        assert renewed == "yes"
        seconds = closed_after("body", one.port(), 60)
        assert seconds is not None
        assert seconds >= BODY_DEADLINE
