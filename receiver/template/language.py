"""Which expressions may a template use? Those of Jinja2 that cannot run long.

The parsed tree is checked before Jinja2 compiles it: `"a" * 2000000000` is computed while compiling
(measured: 18 s, then MemoryError).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from receiver.template.values import FILTERS, text_of

if TYPE_CHECKING:
    from jinja2 import nodes

MAX_DEPTH: Final = 50
"""How deeply an expression may be nested; each level costs stack while it is compiled."""
KNOWN: Final = ("labels", "annotations", "alert", "strategy", "target", "value")
"""The names that a template may use."""
ALERT_FIELDS: Final = ("annotations", "expression", "fingerprint", "labels", "starts_at")
_ALERTS_OWN: Final = frozenset({("alert", "labels"), ("alert", "annotations")})
_ALLOWED: Final = frozenset(
    {"And", "Compare", "CondExpr", "Const", "Filter", "Getattr", "Getitem"}
    | {"Keyword", "Name", "Neg", "Not", "Operand", "Or", "Test"}
)
_WORDS: Final = {
    "Add": "`+`",
    "Call": "a call",
    "Concat": "`~`",
    "Dict": "a dict",
    "Div": "`/`",
    "FloorDiv": "`//`",
    "List": "a list",
    "Mod": "`%`",
    "Mul": "`*`",
    "Pos": "`+`",
    "Pow": "`**`",
    "Sub": "`-`",
    "Tuple": "a list of values",
}


def refusals_of(node: nodes.Node, depth: int = 0, *, whole: bool = False) -> Iterator[str]:
    """Yield why an expression is refused: only those that cannot run long are allowed.

    *whole* says that a name of many values may stand here, as in `"zone" in labels`.
    """
    from jinja2 import nodes  # noqa: PLC0415

    kind = type(node).__name__
    if depth > MAX_DEPTH:
        yield "nested too deeply"
        return
    if kind not in _ALLOWED:
        yield (
            f"{_WORDS.get(kind, kind.lower())} may not be used; only names, their parts, "
            f"constants, comparisons, `… if … else …` and the filters {', '.join(FILTERS)}"
        )
        return
    match node:
        case nodes.Name() | nodes.Getattr() | nodes.Getitem():
            yield from _path_problems(path_of(node), whole=whole)
            return
        case nodes.Const(value=float() as value) if not math.isfinite(value):
            yield f"{value} is no number that can be written"
        case nodes.Filter(name=name) if name not in FILTERS:
            yield f"unknown filter `{name}`; {_known(name, tuple(FILTERS))}"
        case nodes.Filter() if node.dyn_args or node.dyn_kwargs:
            yield "`*` before an argument may not be used"
        case nodes.Test(name=name) if name != "defined":
            yield f"unknown test `is {name}`; known: is defined, is not defined"
        case nodes.CondExpr(expr2=None):
            yield "an `if` needs an `else`, for when it does not hold"
        case _:
            pass
    whole = isinstance(node, nodes.Operand) and node.op in {"in", "notin"}
    for child in node.iter_child_nodes():
        yield from refusals_of(child, depth + 1, whole=whole)


def path_of(node: nodes.Node) -> tuple[str, ...]:
    """Return `alert.labels["x"]` as (alert, labels, x); empty when it is no such path."""
    from jinja2 import nodes  # noqa: PLC0415

    match node:
        case nodes.Name(name=name):
            return (name,)
        case nodes.Getattr(node=above, attr=part):
            pass
        case nodes.Getitem(node=above, arg=nodes.Const(value=str() as part)):
            pass
        case _:
            return ()
    path = path_of(above)
    return (*path, part) if path else ()


def names_of(node: nodes.Expr) -> Iterator[str]:
    """Yield the names of the values that an expression's value is made of."""
    for part in _made_of(node):
        path = path_of(part)
        path = path[1:] if path[:2] in _ALERTS_OWN else path
        if path and path != ("strategy",):
            yield ".".join(path)


def constants_of(node: nodes.Expr) -> Iterator[str]:
    """Yield the constants that may be the whole value, as "none" in `default("none")`."""
    from jinja2 import nodes  # noqa: PLC0415

    for part in _made_of(node, whole=True):
        if isinstance(part, nodes.Const) and part.value is not None:
            yield text_of(part.value)


def _made_of(node: nodes.Expr, *, whole: bool = False) -> Iterator[nodes.Expr]:
    """Yield the names and constants that an expression's value is made of.

    *whole*: only those that it may be, and none that becomes a part of it.
    """
    from jinja2 import nodes  # noqa: PLC0415

    parts: list[nodes.Expr] = []
    match node:
        case nodes.Filter(node=nodes.Expr() as inner):
            more = [*node.args, *(pair.value for pair in node.kwargs)]
            parts = [inner] if whole and node.name == "replace" else [inner, *more]
        case nodes.CondExpr(expr1=first, expr2=nodes.Expr() as second):
            parts = [first, second]
        case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
            parts = [left, right]
        case nodes.Neg(node=inner):
            parts = [inner]
        case nodes.Const() | nodes.Name() | nodes.Getattr() | nodes.Getitem():
            yield node
        case _:
            pass  # true or false
    for part in parts:
        yield from _made_of(part, whole=whole)


def _path_problems(path: tuple[str, ...], *, whole: bool) -> Iterator[str]:
    if path[:2] in _ALERTS_OWN:
        path = path[1:]
    match path:
        case ():
            yield "only a name may have parts, and they must be constant texts"
        case (name, *_) if name not in KNOWN:
            yield f"unknown name `{name}`; {_known(name, KNOWN)}"
        case ("labels" | "annotations", _) | ("strategy" | "target" | "value",):
            pass
        case ("labels" | "annotations" | "alert" as name,):
            if not whole:
                yield f"`{name}` holds many values; name one of them, as in `{name}.…`"
        case ("alert", part):
            if part not in ALERT_FIELDS:
                yield f"`alert` has no `{part}`; {_known(part, ALERT_FIELDS)}"
        case _:
            yield f"`{'.'.join(path)}`: `{'.'.join(path[:-1])}` has no parts"


def _known(name: str, names: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  few make a mistake, and it is large

    near = get_close_matches(name, names, 1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return f"{hint}known: {', '.join(names)}"
