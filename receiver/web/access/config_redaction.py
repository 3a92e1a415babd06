"""Redacts the problems of a file with secrets: they show only what is known to be harmless.

People write passwords where hashes belong, and the problems of a file end up in a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from receiver.yaml.diagnostics import Diagnostic
from receiver.yaml.nodes import Items, Node, Pairs, Scalar

_OPEN: Final = frozenset(
    {"tls_server_config", "http_server_config", "rate_limit", "roles", "client_certificates"}
)
_OPEN_BELOW: Final[Mapping[str, frozenset[str]]] = {
    "bearer_tokens": frozenset({"name", "role"}),
}
_SECRET: Final = ("tls_server_config", "key")
_ALONE: Final = re.compile(r"\s*(?:- +)*(?:[\w.-]+: +)?", re.ASCII)
"""What precedes a value that is alone on its line."""


def redacted(problems: Iterable[Diagnostic], tree: Node | None) -> Iterator[Diagnostic]:
    """Yield *problems* with the harmless part of their lines, up to the value that is marked.

    *tree* is None for a file that is not YAML: then no line is shown.
    """
    harmless = {(node.line, node.column) for node in _harmless(tree)}
    for problem in problems:
        message, start = problem.message, max(0, problem.column - 1)
        if message.startswith(("tag ", "alias ", "anchor ")):
            message = "YAML tags, aliases and anchors are not read; put a text in quotes"
        end = start + problem.length if (problem.line - 1, start) in harmless else start
        if not _ALONE.fullmatch(problem.source[:start]):
            end = min(end, problem.source.find(":") + 1)
        source = "" if tree is None else problem.source[:end]
        cut = "…" if source.strip() and end < len(problem.source) else ""
        yield msgspec.structs.replace(problem, message=message, source=source + cut)


def _harmless(node: Node | None, path: tuple[str, ...] = ()) -> Iterator[Node]:
    """Yield the keys, and the values that are never secrets."""
    match node:
        case Pairs():
            for key, value in node.pairs:
                yield key
                name = key.value if isinstance(key, Scalar) else ""
                yield from _harmless(value, (*path, name))
        case Items():
            for item in node.items:
                yield from _harmless(item, path)
        case Scalar() if _is_open(path):
            yield node
        case _:
            return


def _is_open(path: tuple[str, ...]) -> bool:
    if not path or path == _SECRET:
        return False
    return path[0] in _OPEN or (len(path) > 1 and path[1] in _OPEN_BELOW.get(path[0], ()))
