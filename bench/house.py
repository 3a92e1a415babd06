"""Does the house show its architecture? `make house` measures the packages of `receiver/`.

A *room* is a package of `receiver/`, or a module that stands beside them; an *arrow* is a pair of
rooms of which one imports the other. Arrows between modules count too, for moving files alone is no
improvement. The limits are what is there today, and only go down.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
LONG: Final = 300
"""Lines from which a file may hold two nouns."""

LIMITS: Final = {
    "rooms": 26,
    "arrows": 178,
    "back": 0,
    "floors": 14,
    "arrows of modules, for 100 modules": 452,
    "files above 300 lines": 1,
    "names of classes in several files": 0,
}
"""By what is counted. Lower it when it has become less."""


_NO_ROOMS: Final = frozenset({"receiver", "receiver.__main__"})
"""The package itself, and who only starts it."""


class Arrow(NamedTuple):
    """One module that imports another."""

    source: str
    target: str


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the files of the package by their modules' names."""
    found = {}
    for path in sorted((root / "receiver").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows(files: Mapping[str, Path]) -> set[Arrow]:
    """Return who imports whom, lazy imports and those for types included."""
    return {
        Arrow(name, target)
        for name, path in files.items()
        for target in _imported(ast.parse(path.read_text(encoding="utf-8")), files)
        if target != name and {name, target}.isdisjoint(_NO_ROOMS)
    }


def room(module: str) -> str:
    return module.split(".")[1]


def floors(pairs: set[tuple[str, str]]) -> dict[str, int]:
    """Return how high each room stands: above all that it uses. Raises ValueError for a circle."""
    below: dict[str, set[str]] = defaultdict(set)
    for source, target in pairs:
        below[source].add(target)
        below[target] |= set()
    found: dict[str, int] = {}

    def height(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise ValueError(f"a circle: {' → '.join((*above, name))}")
        if name not in found:
            found[name] = 1 + max((height(one, (*above, name)) for one in below[name]), default=-1)
        return found[name]

    for name in sorted(below):
        height(name, ())
    return found


def classes(files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return the names of classes that stand in several files, with these."""
    where: dict[str, list[str]] = defaultdict(list)
    for module, path in files.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(module)
    return {name: found for name, found in sorted(where.items()) if len(found) > 1}


def measure(root: Path = ROOT) -> dict[str, int]:
    """Return the figures, by the names of LIMITS."""
    files = modules(root)
    all_of_them = arrows(files)
    pairs = {(room(a), room(b)) for a, b in all_of_them if room(a) != room(b)}
    heights = floors(pairs)
    return {
        "rooms": len(heights),
        "arrows": len(pairs),
        "back": sum(heights[a] <= heights[b] for a, b in pairs),
        "floors": 1 + max(heights.values()),
        "arrows of modules, for 100 modules": round(100 * len(all_of_them) / len(files)),
        "files above 300 lines": len(list(_long(files))),
        "names of classes in several files": len(classes(files)),
    }


def beyond(figures: Mapping[str, int]) -> list[str]:
    """Return what has become more than its limit, in words."""
    return [
        f"{name}: {number}, and no more than {LIMITS[name]} is allowed"
        for name, number in figures.items()
        if number > LIMITS[name]
    ]


def _imported(tree: ast.Module, files: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "receiver":
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if below in files else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "receiver")


def _long(files: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    for module, path in files.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONG:
            yield lines, module


def main() -> int:
    files = modules()
    figures = measure()
    for name, number in figures.items():
        print(f"{number:6}  {name} (at most {LIMITS[name]})")
    pairs = Counter((room(a), room(b)) for a, b in arrows(files) if room(a) != room(b))
    heights = floors(set(pairs))
    print("\nThe rooms, the highest first, and whom they use by how many imports:")
    for name in sorted(heights, key=lambda one: (-heights[one], one)):
        used = sorted((number, to) for (source, to), number in pairs.items() if source == name)
        print(f"{heights[name]:6}  {name}: " + ", ".join(f"{to} {n}" for n, to in reversed(used)))
    print(f"\nFiles above {LONG} lines:")
    for lines, module in sorted(_long(files), reverse=True):
        print(f"{lines:6}  {module}")
    print("\nNames of classes in several files:")
    for name, found in classes(files).items():
        print(f"        {name}: {', '.join(found)}")
    found = beyond(figures)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
