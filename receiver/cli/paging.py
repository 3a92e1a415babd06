"""Lists in pages: the options that ask for one, and how the next is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from receiver.cli.output import table

F = TypeVar("F", bound=Callable[..., Any])
_BIGGEST: Final = 2**63 - 1
"""Id that a journal can have."""


def by_id(what: str) -> Callable[[F], F]:
    """Return what adds `--limit` and `--before`, for a list that is newest first."""
    text = f"Only {what} older than this id: the next page."
    return _paged(20, click.option("--before", type=click.IntRange(1, _BIGGEST), help=text))


def by_offset(function: F) -> F:
    """Add `--limit` and `--offset`, for a list that has no ids."""
    text = "Leave out so many: the next page."
    return _paged(50, click.option("--offset", type=click.IntRange(0), help=text))(function)


def listing(
    rows: Sequence[Sequence[object]],
    header: Sequence[str],
    *,
    empty: str,
    option: str,
    following: int | None,
) -> str:
    """Return a page as a table; *option* asks for the page from *following* on, if there is one."""
    if not rows:
        return empty
    text = table(rows, header)
    return text if following is None else f"{text}\nmore: {option} {following}"


def _paged(limit: int, following: Callable[[F], F]) -> Callable[[F], F]:
    size = click.option("--limit", type=click.IntRange(1, 500), default=limit, show_default=True)
    return lambda function: size(following(function))
