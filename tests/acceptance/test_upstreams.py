"""Do the tests run with the Prometheus and Alertmanager that were asked for (make UPSTREAMS=)?

Which those are, and where they come from, deploy/upstreams says.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import REPOSITORY, tool, upstreams

PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
ELSEWHERE = REPOSITORY / ".tools/upstreams"


def test_they_are_those_that_were_asked_for() -> None:
    found = upstreams()
    if found.absent:
        pytest.skip(str(found))
    for name in PROGRAMS:
        program = Path(tool(name))
        if found.asked:
            assert program.parent == ELSEWHERE / found.asked / "usr/bin", "run them by make"
        else:
            assert ELSEWHERE not in program.parents
    if found.asked:
        assert (int(found.prometheus.split(".")[0]) >= 3) == (found.asked == "new")
