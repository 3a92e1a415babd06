"""Can the locked versions be installed with the Python of Debian 12, whichever locked them?"""

from __future__ import annotations

import re
from importlib.metadata import distribution
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.tools import REPOSITORY

DEBIAN: Final = {"python_full_version": "3.11.2", "python_version": "3.11", "extra": ""}
LOCK: Final = (REPOSITORY / "deploy/requirements.txt").read_text()
LOCKED: Final = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))


def missing(requirements: list[str]) -> list[str]:
    """What must be installed on Debian, and is not locked."""
    wanted = [Requirement(one) for one in requirements]
    return [
        one.name
        for one in wanted
        if (one.marker is None or one.marker.evaluate(DEBIAN))
        and canonicalize_name(one.name) not in LOCKED
    ]


def test_a_requirement_that_only_debian_has_is_seen() -> None:
    assert missing(['left-pad; python_full_version < "3.11.3"', "pytest"]) == ["left-pad"]


@pytest.mark.parametrize("name", sorted(LOCKED))
def test_it_installs_on_debian(name: str) -> None:
    found = distribution(name)
    assert DEBIAN["python_full_version"] in SpecifierSet(found.metadata["Requires-Python"] or "")
    assert missing(found.requires or []) == []
