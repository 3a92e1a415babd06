"""What does `{{ labels.service }}` become? Labels into parameters, sandboxed and bounded.

A template is the operator's, from a file; what it names is the alert's, hostile text that stays
text. The language is the expressions of Jinja2 that cannot run long: names, their parts, constants,
comparisons, `if … else …` and a few filters; statements, calls and arithmetic are refused
(language.py). Text, output and every filter's result have a limit.

Where a value stands decides what it may be:

- in an argument: it matches the pattern that is declared for it, see actions/parameters.py;
- in a URL (`UrlText`): it is percent-encoded, so that it adds no segment, query or host;
- in PromQL (`render_promql`): inside quotes, escaped, after `=~` as a regular expression that only
  matches itself; outside quotes only as a number.
"""

from __future__ import annotations

from receiver.template.compiled import MAX_SOURCE, Variables, is_template
from receiver.template.language import KNOWN
from receiver.template.params import (
    NUMBERS,
    RESERVED,
    VARIABLES,
    NameText,
    PromqlText,
    ProseText,
    UrlText,
    name_of_value,
    names_in,
    problems_in,
    render,
    render_argument,
    render_url,
    sample,
    value_of,
)
from receiver.template.promql import problems_in_promql, render_promql
from receiver.template.values import FILTERS, MAX_OUTPUT

__all__ = [
    "FILTERS",
    "KNOWN",
    "MAX_OUTPUT",
    "MAX_SOURCE",
    "NUMBERS",
    "RESERVED",
    "VARIABLES",
    "NameText",
    "PromqlText",
    "ProseText",
    "UrlText",
    "Variables",
    "is_template",
    "name_of_value",
    "names_in",
    "problems_in",
    "problems_in_promql",
    "render",
    "render_argument",
    "render_promql",
    "render_url",
    "sample",
    "value_of",
]
