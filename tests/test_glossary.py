"""The words of CONTRIBUTING: each is in use, and what it replaces is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest

from tests.test_docs import PAGES, prose, table
from tests.tools import REPOSITORY

CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
SOURCES = sorted((REPOSITORY / "receiver").rglob("*.py"))


class Entry(NamedTuple):
    term: str
    replaced: tuple[str, ...]
    """Neither in a name nor in prose."""
    ordinary: tuple[str, ...]
    """Not in a name."""


def entries() -> Iterator[Entry]:
    for term, _, cell in table(CONTRIBUTING, "Words", "term").rows:
        words = [word.strip() for word in cell.split(",") if word.strip()]
        ordinary = tuple(word.strip("*") for word in words if word.startswith("*"))
        yield Entry(term, tuple(word for word in words if not word.startswith("*")), ordinary)


ENTRIES = list(entries())
EACH = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.term)


def words(name: str) -> set[str]:
    """The words of a name: `PendingNotice` and `pending_notice` have the same two."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


@cache
def names() -> dict[str, str]:
    """Modules, packages, classes and public functions of receiver/, each with where it is."""
    found: dict[str, str] = {}
    for path in SOURCES:
        where = str(path.relative_to(REPOSITORY))
        found[path.parent.name if path.stem == "__init__" else path.stem] = where
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                found[node.name] = f"{where}:{node.lineno}"
    return found


@cache
def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in SOURCES).replace("_", " ").lower()


def has(text: str, word: str) -> bool:
    return re.search(rf"\b{word}s?\b", text, re.IGNORECASE) is not None


@EACH
def test_a_term_is_in_use(entry: Entry) -> None:
    assert has(sources(), entry.term)


@EACH
def test_what_a_term_replaces_is_in_no_name(entry: Entry) -> None:
    out = {*entry.replaced, *entry.ordinary}
    assert {name: where for name, where in names().items() if words(name) & out} == {}


@EACH
def test_what_a_term_replaces_is_in_no_prose(entry: Entry) -> None:
    for page in PAGES:
        text = re.sub(r"`[^`]+`|\]\([^)]+\)", "", prose(page))
        assert [word for word in entry.replaced if has(text, word)] == [], page


def test_the_words_of_a_name_are_found() -> None:
    assert words("PendingNotice") == words("pending_notice") == {"pending", "notice"}
    assert words("LLMKeys") >= {"keys"}
    assert {"glossary", "Entry", "EACH"} & names().keys() == set()
    assert names()["decide"].startswith("receiver/policy/decide.py")
