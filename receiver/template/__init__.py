"""What does `{{ labels.service }}` become? Labels into parameters, sandboxed and bounded.

A template is the operator's, from a file; what it names is the alert's, hostile text that stays
text. The language is the expressions of Jinja2 that cannot run long: names, their parts, constants,
comparisons, `if … else …` and a few filters. Statements, calls and arithmetic are refused in the
parsed tree, before Jinja2 compiles it: `"a" * 2000000000` is computed while compiling (measured:
18 s, then MemoryError). Text, output and every filter's result have a limit.

Where a value stands decides what it may be:

- in an argument: it matches the pattern that is declared for it, see parameters.py;
- in a URL (`UrlText`): it is percent-encoded, so that it adds no segment, query or host;
- in PromQL (`render_promql`): inside quotes, escaped, after `=~` as a regular expression that only
  matches itself; outside quotes only as a number.

Jinja2 is imported when the first template is met: most processes never need it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import msgspec

from receiver.errors import TemplateError
from receiver.policy.value_promise import fault_of

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SOURCE: Final = 16_384
"""Characters of a template."""
MAX_OUTPUT: Final = 65_536
"""Characters of what it renders to, and of every value on the way there."""
MAX_TOKENS: Final = 2_000
"""Words and signs of a template."""
MAX_DEPTH: Final = 50
"""How deeply an expression may be nested; each level costs stack while it is compiled."""

KNOWN: Final = ("labels", "annotations", "alert", "strategy", "target", "value")
"""The names that a template may use."""
FILTERS: Final = ("default", "float", "int", "lower", "replace", "round", "trim", "upper")
ALERT_FIELDS: Final = ("annotations", "expression", "fingerprint", "labels", "starts_at")
NUMBERS: Final = ("value", "alert.starts_at")
"""Those of them that are numbers."""
VARIABLES: Final = {
    "strategy": "PROMHEAL_STRATEGY",
    "target": "PROMHEAL_TARGET",
    "alert.fingerprint": "PROMHEAL_FINGERPRINT",
}
"""What stands in the environment of every program that a step starts."""
RESERVED: Final = frozenset(
    {*VARIABLES.values(), "PROMHEAL_RUN_ID", "PROMHEAL_STEP_EXIT"}
    | {"PROMHEAL_MESSAGE", "PROMHEAL_TOKEN", "PROMHEAL_URL"}
)
"""The names of all that promheal itself sets there, and of what its own programs read."""

UrlText = Annotated[str, msgspec.Meta(extra={"template": "url"})]
"""A parameter that is a URL: values in it are percent-encoded."""
ProseText = Annotated[str, msgspec.Meta(extra={"template": "prose"})]
"""A parameter that no program reads as an argument: any value may stand in it."""
NameText = Annotated[str, msgspec.Meta(extra={"template": "name"})]
"""A parameter by which one of the things that the operator has written is looked up, and nothing
else is done with it: a label chooses."""
PromqlText = Annotated[str, msgspec.Meta(extra={"template": "promql"})]
"""A parameter that is a query: no value can end the string that it stands in."""

_NUMBER: Final = re.compile(r"\s*([+-]?\d{1,18})(\.\d{0,18})?(?:[eE][+-]?\d{1,3})?\s*", re.ASCII)
_RE2_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
_PROMQL_SPECIAL: Final = re.compile(r"[\x00-\x1f\x7f\\\"'`]")
_HINT: Final = "; for the text {{ itself write {{ '{{' }}"

_DOLLAR: Final = re.compile(r"\$(labels|value)\b")


class Variables(msgspec.Struct, frozen=True, kw_only=True):
    """What a template may name."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    alert: Mapping[str, Any]
    """fingerprint, starts_at, expression; labels and annotations once more."""
    strategy: str
    target: str
    value: float | None = None
    """The value of the alert's expression when it was decided, or None: it is not known."""


class Place(Enum):
    """Where in a PromQL query a value stands."""

    CODE = "code"
    STRING = "string"
    REGEX = "regex"


def is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


def problems_in(text: str) -> str | None:
    """Return what is wrong with a template, with its remedy, or None."""
    try:
        if is_template(text):
            _compiled(text)
    except TemplateError as error:
        return str(error)
    return None


def problems_in_promql(text: str) -> str | None:
    """Return what is wrong with a template of a PromQL query, or None. The query is not parsed."""
    try:
        if is_template(text):
            _promql(text)
    except TemplateError as error:
        return str(error)
    return None


def names_in(text: str) -> tuple[str, ...]:
    """Return whose values the text of a good template is made of, as `labels.service` or `value`.

    What a value is only compared with is none of them, nor is the strategy's name, which is the
    operator's.
    """
    if not is_template(text):
        return ()
    pieces = [piece for piece in _compiled(text).pieces if not isinstance(piece, str)]
    return tuple(dict.fromkeys(name for piece in pieces for name in _names(piece)))


def name_of_value(text: str) -> str:
    """Return the one spelling of what `names_in` returns: `labels.service` for `service` too.

    Raises ValueError for what is no name of a value, or of one that no pattern can describe.
    """
    for field in ("labels", "annotations"):
        for prefix in (f"{field}.", f"alert.{field}."):
            if text.startswith(prefix) and text != prefix:
                return f"{field}.{text.removeprefix(prefix)}"
    if text in NUMBERS or text == "alert.fingerprint":
        return text
    if text == "strategy":
        raise ValueError("`strategy` is the operator's own text, and needs no pattern")
    if text in {"target", "alert.expression"}:
        raise ValueError(
            f"`{text}` holds quotes and more, so it may stand in no argument; hand it over as a "
            "variable"
        )
    if not text or text in KNOWN or text.startswith("alert."):
        raise ValueError(
            f"{_short(text)} names no value; write the name of a label, as service, or "
            f"annotations.NAME, {', '.join(NUMBERS)} or alert.fingerprint"
        )
    return f"labels.{text}"


def value_of(name: str, variables: Variables) -> str | None:
    """Return the text of what *name*, as `names_in` returns it, stands for; None for nothing."""
    first, _, rest = name.partition(".")
    found = getattr(variables, first)
    value = found.get(rest) if rest else found
    return None if value is None else _text(value)


def sample(text: str, value: str = "1") -> str:
    """Return a good template's text with each of its expressions replaced by *value*."""
    if not is_template(text):
        return text
    return "".join([piece if isinstance(piece, str) else value for piece in _compiled(text).pieces])


def render(text: str, variables: Variables, *, escape: Callable[[str], str] | None = None) -> str:
    """Return *text* with its expressions replaced by their values, each passed through *escape*.

    A text without templates is returned as it is. Raises TemplateError.
    """
    if not is_template(text):
        return text
    compiled = _compiled(text)
    values = [_text(value) for value in compiled.values(variables)]
    return compiled.join(values if escape is None else [escape(value) for value in values])


def render_url(text: str, variables: Variables) -> str:
    """Return a URL in which every value is percent-encoded, `/` too.

    None is empty in the path: what is below a collection would become the collection, and DELETE
    would be for all. Raises TemplateError.
    """
    _refuse_empty(text, variables)
    try:
        return render(text, variables, escape=lambda value: quote(value, safe=""))
    except UnicodeEncodeError as error:
        raise TemplateError(f"{_short(text)}: a value is not valid Unicode: {error}") from None


def _refuse_empty(url: str, variables: Variables) -> None:
    if not is_template(url):
        return
    compiled = _compiled(url)
    values = iter(compiled.values(variables))
    for piece in compiled.pieces:
        if isinstance(piece, str):
            if "?" in piece:
                return
        elif not _text(next(values)) and "" not in _constants(piece):
            raise TemplateError(f"{_short(url)}: a value is empty, so it would be another URL")


def render_argument(text: str, variables: Variables) -> str:
    """Return an argument of a program: what comes from an alert keeps the promise of every pattern.

    That it matches the one that is declared for it is seen to before; a filter could have changed
    it. What the operator wrote in a value's place may be anything. Raises TemplateError.
    """
    if not is_template(text):
        return text
    compiled = _compiled(text)
    shown = [_text(value) for value in compiled.values(variables)]
    expressions = [piece for piece in compiled.pieces if not isinstance(piece, str)]
    for value, expression in zip(shown, expressions, strict=True):
        if any(_names(expression)) and value not in set(_constants(expression)):
            fault = fault_of(value)
            if fault:
                raise TemplateError(f"{_short(text)}: {_short(value)}, and a value {fault}")
    return compiled.join(shown)


def render_promql(text: str, variables: Variables) -> str:
    """Return a query in which no value can end the string that it stands in. Raises TemplateError.

    What follows `=~` and `!~` is matched literally; outside quotes only a number may stand.
    """
    if not is_template(text):
        return text
    compiled = _compiled(text)
    rendered = []
    for value, place in zip(compiled.values(variables), _promql(text), strict=True):
        shown = _text(value)
        if place is Place.CODE:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TemplateError(
                    f"{_short(text)}: {_short(shown)} stands outside quotes in PromQL, where only "
                    "numbers may; put it in double quotes or through the filter `float`"
                )
            rendered.append(shown)
        else:
            if place is Place.REGEX:
                shown = _RE2_SPECIAL.sub(r"\\\g<0>", shown)
            rendered.append(_promql_escape(shown))
    return compiled.join(rendered)


# ── parsing ──


class _Compiled:
    """A checked template: texts, and the expressions between them."""

    def __init__(
        self,
        pieces: tuple[str | nodes.Expr, ...],
        evaluate: Callable[[Mapping[str, Any]], list[object]],
        source: str,
    ) -> None:
        self.pieces = pieces
        self._evaluate = evaluate
        self._source = source

    def values(self, variables: Variables) -> list[object]:
        """Return the value of each expression: str, bool, int or float. Raises TemplateError."""
        # What a jinja2.TemplateError is, is not known before jinja2 is imported.
        from jinja2 import TemplateError as JinjaError  # noqa: PLC0415

        try:
            values = self._evaluate(
                {
                    "labels": _Named("the alert has no label", variables.labels),
                    "annotations": _Named("the alert has no annotation", variables.annotations),
                    "alert": _Named("`alert` has no", variables.alert),
                    "strategy": variables.strategy,
                    "target": variables.target,
                    "value": variables.value,
                }
            )
            for value in values:
                _text(value)
        except JinjaError as error:
            raise TemplateError(f"{_short(self._source)}: {error.message}") from None
        except TemplateError as error:
            raise TemplateError(f"{_short(self._source)}: {error}") from None
        except (TypeError, ValueError, ArithmeticError) as error:
            raise TemplateError(f"{_short(self._source)}: {error}") from None
        return values

    def join(self, values: list[str]) -> str:
        rest = iter(values)
        parts = [piece if isinstance(piece, str) else next(rest) for piece in self.pieces]
        size = sum(map(len, parts))
        if size > MAX_OUTPUT:
            raise TemplateError(
                f"{_short(self._source)} became {size} characters; at most {MAX_OUTPUT} are taken"
            )
        return "".join(parts)


class _Named:
    """Labels and the like as a template sees them: `labels.items` is the label of that name."""

    __slots__ = ("__values", "__what")

    def __init__(self, what: str, values: Mapping[str, Any]) -> None:
        self.__what = what
        self.__values = values

    def __contains__(self, name: str) -> bool:
        return name in self.__values

    def __getitem__(self, name: str) -> object:
        from jinja2 import StrictUndefined  # noqa: PLC0415

        if name in self.__values:
            value = self.__values[name]
            if isinstance(value, Mapping):
                return _Named(f"`alert.{name}` has no", value)
            return value
        known = ", ".join(sorted(map(_short, self.__values))[:20]) or "none"
        return StrictUndefined(f"{self.__what} {_short(name)}; it has: {known}")


def _hint(text: str) -> str:
    meant = _DOLLAR.sub(r"\1", text)
    if meant == text:
        return _HINT
    return f"; did you mean {meant!r}? A name has no $ here, unlike in rules of Prometheus"


@lru_cache(maxsize=1024)
def _compiled(text: str) -> _Compiled:
    """Check and compile a template. Raises TemplateError."""
    from jinja2 import TemplateSyntaxError, nodes  # noqa: PLC0415

    if len(text) > MAX_SOURCE:
        raise TemplateError(
            f"{_short(text)}: a template of {len(text)} characters; at most {MAX_SOURCE} are read"
        )
    if "\0" in text:
        raise TemplateError(f"{_short(text)}: a template may not hold a NUL")
    environment = _environment()
    try:
        # Reading is linear; what comes after it is not.
        kinds = [kind for _, kind, _ in islice(environment.lex(text), MAX_TOKENS + 1)]
        if len(kinds) > MAX_TOKENS:
            raise TemplateError(f"{_short(text)}: more than {MAX_TOKENS} words and signs")
        if not {"block_begin", "raw_begin"}.isdisjoint(kinds):
            raise TemplateError(
                f"{_short(text)}: only {{{{ … }}}} may be used, no {{% … %}}; for the text {{% "
                "itself write {{ '{%' }}"
            )
        pieces = _pieces(text, environment.parse(text))
        body: list[nodes.Node] = [
            nodes.Assign(nodes.Name(f"value{index}", "store"), piece, lineno=1)
            for index, piece in enumerate(piece for piece in pieces if not isinstance(piece, str))
        ]
        template = environment.from_string(nodes.Template(body, lineno=1))
    except TemplateSyntaxError as error:
        raise TemplateError(f"{_short(text)}: {error.message}{_hint(text)}") from None
    except RecursionError:
        raise TemplateError(f"{_short(text)}: nested too deeply") from None
    except (ValueError, ArithmeticError) as error:  # a number with thousands of digits
        raise TemplateError(f"{_short(text)}: {error}") from None

    def evaluate(names: Mapping[str, Any]) -> list[object]:
        context = template.new_context(dict(names))
        for _ in template.root_render_func(context):
            pass
        return [context.vars[f"value{index}"] for index in range(len(body))]

    return _Compiled(pieces, evaluate, text)


def _pieces(text: str, tree: nodes.Template) -> tuple[str | nodes.Expr, ...]:
    from jinja2 import nodes  # noqa: PLC0415

    pieces: list[str | nodes.Expr] = []
    for output in tree.body:
        assert isinstance(output, nodes.Output), "without statements there is only output"
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                pieces.append(node.data)
                continue
            for problem in _problems(node):
                raise TemplateError(f"{_short(text)}: {problem}")
            pieces.append(node)
    return tuple(pieces)


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


def _problems(node: nodes.Node, depth: int = 0, *, whole: bool = False) -> Iterator[str]:
    """Yield why an expression is not one of the few that cannot run long.

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
            yield from _path_problems(_path(node), whole=whole)
            return
        case nodes.Const(value=float() as value) if not math.isfinite(value):
            yield f"{value} is no number that can be written"
        case nodes.Filter(name=name) if name not in FILTERS:
            yield f"unknown filter `{name}`; {_known(name, FILTERS)}"
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
        yield from _problems(child, depth + 1, whole=whole)


def _path(node: nodes.Node) -> tuple[str, ...]:
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
    path = _path(above)
    return (*path, part) if path else ()


def _names(node: nodes.Expr) -> Iterator[str]:
    """Yield whose values an expression's value is made of."""
    for part in _made_of(node):
        path = _path(part)
        path = path[1:] if path[:2] in _ALERTS_OWN else path
        if path and path != ("strategy",):
            yield ".".join(path)


def _constants(node: nodes.Expr) -> Iterator[str]:
    """Yield what the operator wrote to stand in a value's place, as "none" in `default("none")`."""
    from jinja2 import nodes  # noqa: PLC0415

    for part in _made_of(node, whole=True):
        if isinstance(part, nodes.Const) and part.value is not None:
            yield _text(part.value)


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
    near = get_close_matches(name, names, 1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return f"{hint}known: {', '.join(names)}"


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    environment = ImmutableSandboxedEnvironment(
        # `{#` is text, as in a shell's ${#name}: a template never holds a NUL.
        comment_start_string="\0{#",
        comment_end_string="#}\0",
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
        cache_size=0,
    )
    environment.globals.clear()
    environment.filters.clear()
    environment.filters.update(
        {
            "default": _default,
            "float": _float,
            "int": _int,
            "lower": lambda value: _text(value).lower(),
            "replace": _replace,
            "round": _round,
            "trim": lambda value: _text(value).strip(),
            "upper": lambda value: _text(value).upper(),
        }
    )
    return environment


# ── values ──


def _text(value: object) -> str:
    """Return how a value is written. Raises for what is not known or is no single value."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case None:
            raise TemplateError("a value is not known now; give one with the filter `default`")
        case _Named():
            raise TemplateError("an expression names many values; name one of them")
        case _:
            return str(value)  # a StrictUndefined raises, and says what is missing


def _default(value: object, default_value: object = "", boolean: object = False) -> object:  # noqa: FBT002  as in Jinja2
    from jinja2 import Undefined  # noqa: PLC0415

    missing = value is None or isinstance(value, Undefined)
    return default_value if missing or (boolean and not value) else value


def _float(value: object, default: object = None) -> object:
    if isinstance(value, float):
        return value
    text = _text(value)
    if _NUMBER.fullmatch(text):
        return float(text)
    if default is None:
        raise TemplateError(f"{_short(text)} is no number")
    return default


def _int(value: object, default: object = None) -> object:
    number = _float(value, default)
    if not isinstance(number, float):
        return number
    if not math.isfinite(number):
        raise TemplateError(f"{number} is no whole number")
    whole = None if isinstance(value, float) else _NUMBER.fullmatch(_text(value))
    # Through a float, a number with more than 15 digits would become another one.
    if whole is not None and whole[2] is None and whole[0].strip() == whole[1]:
        return int(whole[1])
    return int(number)


def _round(value: object, digits: int = 0) -> object:
    number = _float(value)
    assert isinstance(number, float)
    return round(number, digits)


def _replace(value: object, old: object, new: object) -> str:
    text, before, after = _text(value), _text(old), _text(new)
    size = len(text) + text.count(before) * (len(after) - len(before))
    if size > MAX_OUTPUT:
        raise TemplateError(f"`replace` would make {size} characters; at most {MAX_OUTPUT}")
    return text.replace(before, after)


def _short(text: object) -> str:
    shown = str(text)
    return repr(shown if len(shown) <= 80 else f"{shown[:60]}…")


# ── PromQL ──


@lru_cache(maxsize=256)
def _promql(text: str) -> tuple[Place, ...]:
    """Return where the values of a query stand. Raises TemplateError."""
    places = []
    here = _Position()
    for piece in _compiled(text).pieces:
        if isinstance(piece, str):
            for character in piece:
                here.advance(character)
        elif here.forbidden:
            raise TemplateError(
                f"{_short(text)}: a value may not stand {here.forbidden} in PromQL; put it in "
                "double quotes"
            )
        elif here.quote:
            places.append(Place.REGEX if here.regex else Place.STRING)
        elif _is_number(piece):
            places.append(Place.CODE)
        else:
            raise TemplateError(
                f"{_short(text)}: a value stands outside quotes in PromQL, where only numbers may; "
                "put it in double quotes or through the filter `float` or `int`"
            )
    return tuple(places)


class _Position:
    """Where in a query a reader of it stands, as far as quotes and comments go."""

    def __init__(self) -> None:
        self.quote = ""
        self.regex = False
        """Whether the quoted text is a regular expression: it follows `=~` or `!~`."""
        self._comment = False
        self._escaped = False
        self._code = ""
        """The last two characters outside quotes."""

    @property
    def forbidden(self) -> str:
        """Where it stands, if no value can be made safe there."""
        if self._comment:
            return "in a comment"
        if self._escaped:
            return "after a backslash"
        return "in ` `, which has no escapes," if self.quote == "`" else ""

    def advance(self, character: str) -> None:
        if self._comment:
            self._comment = character != "\n"
        elif self._escaped:
            self._escaped = False
        elif self.quote:
            self._escaped = character == "\\" and self.quote != "`"
            if character == self.quote:
                self.quote = ""
        elif character in "\"'`":
            self.quote, self.regex, self._code = character, self._code in {"=~", "!~"}, ""
        elif character == "#":
            self._comment = True
        elif not character.isspace():
            self._code = (self._code + character)[-2:]


def _is_number(node: nodes.Node) -> bool:
    """Whether an expression's value can only be a number, or be missing."""
    from jinja2 import nodes  # noqa: PLC0415

    parts: list[nodes.Node] = []
    match node:
        case nodes.Const(value=value):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case nodes.Filter(name="round"):
            return True
        case nodes.Filter(name="float" | "int"):  # their argument is for what is no number
            parts = [*node.args, *(pair.value for pair in node.kwargs)]
        case nodes.Filter(name="default", node=nodes.Expr() as inner):
            parts = [inner, *node.args[:1]]
        case nodes.CondExpr(expr1=first, expr2=nodes.Expr() as second):
            parts = [first, second]
        case _:
            return _path(node) in {("value",), ("alert", "starts_at")}
    return all(map(_is_number, parts))


def _promql_escape(value: str) -> str:
    """Return *value* as it is written between quotes: Go's escapes, the same in ' and in "."""
    return _PROMQL_SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
