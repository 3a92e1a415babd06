"""How are the templates in a parameter rendered? Where a value stands decides what it may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import quote

import msgspec

from receiver.errors import TemplateError
from receiver.policy.value_promise import fault_of
from receiver.template.compiled import Variables, compiled, is_template
from receiver.template.language import KNOWN, constants_of, names_of
from receiver.template.values import short, text_of

NUMBERS: Final = ("value", "alert.starts_at")
"""Those of the names that are numbers."""
VARIABLES: Final = {
    "strategy": "PROMHEAL_STRATEGY",
    "target": "PROMHEAL_TARGET",
    "alert.fingerprint": "PROMHEAL_FINGERPRINT",
}
"""Variables in the environment of every program that a step starts."""
RESERVED: Final = frozenset(
    {*VARIABLES.values(), "PROMHEAL_RUN_ID", "PROMHEAL_STEP_EXIT"}
    | {"PROMHEAL_MESSAGE", "PROMHEAL_TOKEN", "PROMHEAL_URL"}
)
"""All variables that promheal itself sets there, or that its own programs read."""
UrlText = Annotated[str, msgspec.Meta(extra={"type": "URL", "template": "url"})]
"""A parameter that is a URL: values in it are percent-encoded."""
ProseText = Annotated[str, msgspec.Meta(extra={"template": "prose"})]
"""A parameter that no program reads as an argument: any value may stand in it."""
NameText = Annotated[str, msgspec.Meta(extra={"type": "name", "template": "name"})]
"""A parameter that only looks up something that the operator has written: a label chooses."""
PromqlText = Annotated[str, msgspec.Meta(extra={"type": "PromQL", "template": "promql"})]
"""A parameter that is a query: no value can end the string that it stands in."""


def problems_in(text: str) -> str | None:
    """Return what is wrong with a template, with its remedy, or None."""
    try:
        if is_template(text):
            compiled(text)
    except TemplateError as error:
        return str(error)
    return None


def names_in(text: str) -> tuple[str, ...]:
    """Return the values that a good template's text is made of, as `labels.service` or `value`.

    A value that is only compared is not among them, nor is the strategy's name, which is the
    operator's.
    """
    if not is_template(text):
        return ()
    pieces = [piece for piece in compiled(text).pieces if not isinstance(piece, str)]
    return tuple(dict.fromkeys(name for piece in pieces for name in names_of(piece)))


def name_of_value(text: str) -> str:
    """Return the canonical spelling of a value's name: `labels.service` for `service`.

    Raises ValueError for what names no value, or one that no pattern can describe.
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
            f"{short(text)} names no value; write the name of a label, as service, or "
            f"annotations.NAME, {', '.join(NUMBERS)} or alert.fingerprint"
        )
    return f"labels.{text}"


def value_of(name: str, variables: Variables) -> str | None:
    """Return the text of the value *name*, spelt as by `names_in`; None where it is missing."""
    first, _, rest = name.partition(".")
    found = getattr(variables, first)
    value = found.get(rest) if rest else found
    return None if value is None else text_of(value)


def sample(text: str, value: str = "1") -> str:
    """Return a good template's text with each of its expressions replaced by *value*."""
    if not is_template(text):
        return text
    return "".join([piece if isinstance(piece, str) else value for piece in compiled(text).pieces])


def render(text: str, variables: Variables, *, escape: Callable[[str], str] | None = None) -> str:
    """Return *text* with its expressions replaced by their values, each passed through *escape*.

    A text without templates is returned as it is. Raises TemplateError.
    """
    if not is_template(text):
        return text
    template = compiled(text)
    values = [text_of(value) for value in template.values(variables)]
    return template.join(values if escape is None else [escape(value) for value in values])


def render_url(text: str, variables: Variables) -> str:
    """Return a URL in which every value is percent-encoded, `/` too.

    No value in the path may be empty: an item's path would become its collection's, and DELETE
    would be for all. Raises TemplateError.
    """
    _refuse_empty(text, variables)
    try:
        return render(text, variables, escape=lambda value: quote(value, safe=""))
    except UnicodeEncodeError as error:
        raise TemplateError(f"{short(text)}: a value is not valid Unicode: {error}") from None


def _refuse_empty(url: str, variables: Variables) -> None:
    if not is_template(url):
        return
    template = compiled(url)
    values = iter(template.values(variables))
    for piece in template.pieces:
        if isinstance(piece, str):
            if "?" in piece:
                return
        elif not text_of(next(values)) and "" not in constants_of(piece):
            raise TemplateError(f"{short(url)}: a value is empty, so it would be another URL")


def render_argument(text: str, variables: Variables) -> str:
    """Return an argument of a program: values from an alert keep the promise of every pattern.

    That they match their declared pattern was checked before; a filter could have changed them. A
    constant that the operator wrote may be anything. Raises TemplateError.
    """
    if not is_template(text):
        return text
    template = compiled(text)
    shown = [text_of(value) for value in template.values(variables)]
    expressions = [piece for piece in template.pieces if not isinstance(piece, str)]
    for value, expression in zip(shown, expressions, strict=True):
        if any(names_of(expression)) and value not in set(constants_of(expression)):
            fault = fault_of(value)
            if fault:
                raise TemplateError(f"{short(text)}: {short(value)}, and a value {fault}")
    return template.join(shown)
