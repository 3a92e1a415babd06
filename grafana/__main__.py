"""Write the boards to a folder, at first grafana/dashboards."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana.board import text
from grafana.boards import boards

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards"
folder.mkdir(parents=True, exist_ok=True)
for board in boards():
    (folder / f"{board['uid']}.json").write_text(text(board), encoding="utf-8")
