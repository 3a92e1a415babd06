"""The limits of `make house`, and that each of its figures can be wrong."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bench import house
from tests.tools import REPOSITORY

ARCHITECTURE = REPOSITORY / "docs/explanation/architecture.md"


def test_the_house_is_within_its_limits_and_these_are_what_is_there() -> None:
    figures = house.measure()

    assert house.beyond(figures) == []
    assert figures == house.LIMITS, "it has become less: lower the limit"


def test_every_package_has_its_layer() -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    layers = pyproject.partition("\nlayers = [")[2].partition("]")[0]
    named = set(re.findall(r"\w+", layers))
    assert named == {house.room(name) for name in house.modules() if name.count(".")} - {"__main__"}


def package(folder: Path, **files: str) -> Path:
    (folder / "receiver").mkdir(parents=True)
    for name, text in {"__init__": "", **files}.items():
        path = folder / "receiver" / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_rooms_arrows_and_floors_are_counted(tmp_path: Path) -> None:
    root = package(
        tmp_path,
        low="class A: ...\n",
        one__in__low="from receiver.low import A\nclass A: ...\n",
        one__in__high="from receiver.one import low\n",
        top="def late():\n    from receiver.one.high import low\n" + "\n" * 300,
    )

    assert house.measure(root) == {
        "rooms": 3, "arrows": 2, "back": 0, "floors": 3,
        "arrows of modules, for 100 modules": 60,
        "files above 300 lines": 1,
        "names of classes in several files": 1,
    }  # fmt: skip


def test_a_circle_of_rooms_is_named(tmp_path: Path) -> None:
    root = package(tmp_path, a="from receiver import b\n", b="import receiver.a\n")

    with pytest.raises(ValueError, match="a circle: a → b → a"):
        house.measure(root)


def test_what_has_grown_is_named() -> None:
    most = house.LIMITS["arrows"]

    assert house.beyond({**house.LIMITS, "arrows": most + 1}) == [
        f"arrows: {most + 1}, and no more than {most} is allowed"
    ]


def test_every_place_on_the_way_of_an_alert_is_there() -> None:
    named = re.findall(r"`receiver/([\w/]+)\.py:([\w.]+)`", ARCHITECTURE.read_text("utf-8"))
    assert len(named) > 10
    for path, name in named:
        body = ast.parse((REPOSITORY / f"receiver/{path}.py").read_text("utf-8")).body
        for part in name.split("."):
            found = [
                node
                for node in body
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part
            ]
            assert found, f"{path}.py has no {name}"
            body = found[0].body
