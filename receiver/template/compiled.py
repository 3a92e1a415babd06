"""A template, checked and compiled once: texts, and the expressions between them.

Jinja2 is imported when the first template is met: most processes never need it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.errors import TemplateError
from receiver.template.language import refusals_of
from receiver.template.values import FILTERS, MAX_OUTPUT, Fields, short, text_of

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SOURCE: Final = 16_384
"""Characters of a template."""
MAX_TOKENS: Final = 2_000
"""Words and signs of a template."""
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


def is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


class Compiled:
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
        # Imported here, so that a process without templates never loads Jinja2.
        from jinja2 import TemplateError as JinjaError  # noqa: PLC0415

        try:
            values = self._evaluate(
                {
                    "labels": Fields("the alert has no label", variables.labels),
                    "annotations": Fields("the alert has no annotation", variables.annotations),
                    "alert": Fields("`alert` has no", variables.alert),
                    "strategy": variables.strategy,
                    "target": variables.target,
                    "value": variables.value,
                }
            )
            for value in values:
                text_of(value)
        except JinjaError as error:
            raise TemplateError(f"{short(self._source)}: {error.message}") from None
        except TemplateError as error:
            raise TemplateError(f"{short(self._source)}: {error}") from None
        except (TypeError, ValueError, ArithmeticError) as error:
            raise TemplateError(f"{short(self._source)}: {error}") from None
        return values

    def join(self, values: list[str]) -> str:
        rest = iter(values)
        parts = [piece if isinstance(piece, str) else next(rest) for piece in self.pieces]
        size = sum(map(len, parts))
        if size > MAX_OUTPUT:
            raise TemplateError(
                f"{short(self._source)} became {size} characters; at most {MAX_OUTPUT} are taken"
            )
        return "".join(parts)


def _hint(text: str) -> str:
    meant = _DOLLAR.sub(r"\1", text)
    if meant == text:
        return _HINT
    return f"; did you mean {meant!r}? A name has no $ here, unlike in rules of Prometheus"


@lru_cache(maxsize=1024)
def compiled(text: str) -> Compiled:
    """Check and compile a template. Raises TemplateError."""
    from jinja2 import TemplateSyntaxError, nodes  # noqa: PLC0415

    if len(text) > MAX_SOURCE:
        raise TemplateError(
            f"{short(text)}: a template of {len(text)} characters; at most {MAX_SOURCE} are read"
        )
    if "\0" in text:
        raise TemplateError(f"{short(text)}: a template may not hold a NUL")
    environment = _environment()
    try:
        # Reading is linear; what comes after it is not.
        kinds = [kind for _, kind, _ in islice(environment.lex(text), MAX_TOKENS + 1)]
        if len(kinds) > MAX_TOKENS:
            raise TemplateError(f"{short(text)}: more than {MAX_TOKENS} words and signs")
        if not {"block_begin", "raw_begin"}.isdisjoint(kinds):
            raise TemplateError(
                f"{short(text)}: only {{{{ … }}}} may be used, no {{% … %}}; for the text {{% "
                "itself write {{ '{%' }}"
            )
        pieces = _pieces(text, environment.parse(text))
        body: list[nodes.Node] = [
            nodes.Assign(nodes.Name(f"value{index}", "store"), piece, lineno=1)
            for index, piece in enumerate(piece for piece in pieces if not isinstance(piece, str))
        ]
        template = environment.from_string(nodes.Template(body, lineno=1))
    except TemplateSyntaxError as error:
        raise TemplateError(f"{short(text)}: {error.message}{_hint(text)}") from None
    except RecursionError:
        raise TemplateError(f"{short(text)}: nested too deeply") from None
    except (ValueError, ArithmeticError) as error:  # a number with thousands of digits
        raise TemplateError(f"{short(text)}: {error}") from None

    def evaluate(names: Mapping[str, Any]) -> list[object]:
        context = template.new_context(dict(names))
        for _ in template.root_render_func(context):
            pass
        return [context.vars[f"value{index}"] for index in range(len(body))]

    return Compiled(pieces, evaluate, text)


def _pieces(text: str, tree: nodes.Template) -> tuple[str | nodes.Expr, ...]:
    from jinja2 import nodes  # noqa: PLC0415

    pieces: list[str | nodes.Expr] = []
    for output in tree.body:
        assert isinstance(output, nodes.Output), "without statements there is only output"
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                pieces.append(node.data)
                continue
            for problem in refusals_of(node):
                raise TemplateError(f"{short(text)}: {problem}")
            pieces.append(node)
    return tuple(pieces)


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
    environment.filters.update(FILTERS)
    return environment
