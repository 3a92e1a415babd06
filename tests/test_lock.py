"""Can the locked versions be installed with every Python that promheal runs on?"""

from __future__ import annotations

import re
from importlib.metadata import distribution
from platform import python_version
from typing import Final, NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.tools import REPOSITORY

PYTHONS: Final = ("3.11.2", "3.12.3", "3.13.5", "3.14.7")
"""Of Debian 12, Ubuntu 24.04, Debian 13 and Debian testing."""
EACH_PYTHON: Final = pytest.mark.parametrize("python", PYTHONS)


class Pin(NamedTuple):
    name: str
    version: str
    marker: str
    """Which Pythons need it; empty: all."""


def pins(lock: str) -> list[Pin]:
    found = re.findall(r"^([a-z0-9-]+)==(\S+)(?: ; (.+?))? \\$", lock, re.MULTILINE)
    return [Pin(*each) for each in found]


LOCK: Final = pins((REPOSITORY / "deploy/requirements-dev.txt").read_text())


def holds(marker: str | Marker | None, python: str) -> bool:
    """Does *marker* say that this Python needs it?"""
    if not marker:
        return True
    short = ".".join(python.split(".")[:2])
    return Marker(str(marker)).evaluate(
        {"python_full_version": python, "python_version": short, "extra": ""}
    )


def locked(python: str, lock: list[Pin] = LOCK) -> set[str]:
    return {pin.name for pin in lock if holds(pin.marker, python)}


def missing(requirements: list[str], python: str, lock: list[Pin] = LOCK) -> list[str]:
    """What must be installed with this Python, and is not locked for it."""
    wanted = [Requirement(one) for one in requirements]
    there = locked(python, lock)
    return [
        one.name
        for one in wanted
        if holds(one.marker, python) and canonicalize_name(one.name) not in there
    ]


def test_a_requirement_that_only_one_python_has_is_seen() -> None:
    wanted = ['left-pad; python_full_version < "3.11.3"', "pytest"]
    assert missing(wanted, "3.11.2") == ["left-pad"]
    assert missing(wanted, "3.13.5") == []
    here = pins("left-pad==1.0 ; python_full_version < '3.11.3' \\\npytest==9.0 \\\n")
    assert missing(wanted, "3.11.2", here) == []
    assert missing(["left-pad"], "3.13.5", here) == ["left-pad"]


def test_the_lock_is_made_for_each_of_them() -> None:
    made = re.findall(r"^PYTHONS := (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert made == [" ".join(python.rpartition(".")[0] for python in PYTHONS)]


@EACH_PYTHON
def test_each_python_finds_one_version_of_each_package(python: str) -> None:
    names = [pin.name for pin in LOCK if holds(pin.marker, python)]
    assert len(names) == len(set(names)) > 100


@pytest.mark.parametrize(
    ("name", "version"),
    sorted({pin[:2] for pin in LOCK if holds(pin.marker, python_version())}),
)
def test_it_installs_with_each_python(name: str, version: str) -> None:
    found = distribution(name)
    assert Version(found.version) == Version(version), "install what is locked: make develop"
    needed = str(found.metadata.json.get("requires_python", ""))
    for python in PYTHONS:
        if name in locked(python):
            assert python in SpecifierSet(needed)
            assert missing(found.requires or [], python) == []
