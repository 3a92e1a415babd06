"""What a template may say, how long it may take, and that a value stays text wherever it stands."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
import promql_parser
import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

import receiver.template
from receiver.actions.parameters import render_params
from receiver.errors import TemplateError
from receiver.template import (
    MAX_OUTPUT,
    MAX_SOURCE,
    ProseText,
    UrlText,
    Variables,
    names_in,
    problems_in,
    problems_in_promql,
    render,
    render_argument,
    render_promql,
    render_url,
    sample,
)

_LINES = r"""
; touch {f}
| touch {f}
|| touch {f}
& touch {f}
&& touch {f}
$(touch {f})
`touch {f}`
'; touch {f} #
"; touch {f} #
'"; touch {f} #
${IFS}touch${IFS}{f}
<(touch {f})
> {f}
>> {f}
2>{f}
{touch,{f}}
%0atouch {f}
$((x=1))
${x:-$(touch {f})}
!touch {f}
~root
*
?
[a-z]*
$HOME
$0
a b
'
"
\
\'
''
()
{}
#
;
&
-
--
-x
--help
--version
-rf
-e
-c
-oProxyCommand=touch {f}
--checkpoint-action=exec=touch {f}
-exec touch {f} ;
--upload-pack=touch {f}
-o{f}
--post-file=/etc/passwd
--=
-1
-0.5
..
../
../..
../../etc/passwd
..\..
/etc/passwd
/
//
.
./
....//
..;/
..;x/y
%2e%2e
%2e%2e%2f
%252e%252e%252f
..%2f
..%5c
..%c0%af
/..
a/../b
a/./b
\\host\share
file:///etc/passwd
@evil.example
evil.example
//evil.example/
http://evil.example/
:80@evil.example
#@evil.example
?@evil.example
\@evil.example
.evil.example
169.254.169.254
[::1]
127.0.0.1:22
?x=y
&x=y
#x
;x=y
%00
%0d%0aHost: evil.example
"} or vector(1) or up{x="
'} or vector(1) or up{x='
"
`
\"
\\"
\x22
\u0022
\042
"}
}
[5m]
) or (
=~".*"
.*
.+
a.c
^$
(a
[
\d
\pL
(?i)a
a{1000}
a|b
$1
${1}
x\y
{{ 7*7 }}
{{ labels }}
{{ ''.__class__.__mro__ }}
{{ value }}
{% for x in y %}
{# x #}
{{
}}
${7*7}
#{7*7}
%{7*7}
{0.__class__}
%s%n
%(x)s
null
true
NaN
1e999
-5.5e1
0
é
日本語
😀
"""
_CONTROLS = (
    "\n",
    "\r",
    "\t",
    "\0",
    "a\0b",
    "-\n",
    "\n-x",
    "\ntouch {f}",
    "\r\ntouch {f}\r\n",
    "\\\ntouch {f}",
    "\x0btouch {f}",
    "\r\nHost: evil.example",
    "\r\n\r\nGET /evil HTTP/1.1\r\n",
    '"}\n or up{x="',
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\uffff",
    "\U0010ffff",
    "A" * 9000,
)
HOSTILE = tuple(dict.fromkeys(["", " ", *_LINES.strip("\n").split("\n"), *_CONTROLS]))
"""Label values that want to be code, options, paths, hosts or queries; {f} is a file to create."""


def variables(value: float | None = 0.75, /, **labels: str) -> Variables:
    return Variables(
        labels=labels,
        annotations={"summary": "It is hot"},
        alert={
            "fingerprint": "0123456789abcdef",
            "starts_at": 1.5,
            "expression": None,
            "labels": labels,
            "annotations": {},
        },
        strategy="high-cpu",
        target='service="checkout"',
        value=value,
    )


def test_the_corpus_is_large_and_each_value_counts() -> None:
    assert len(HOSTILE) >= 150


class TestLanguage:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plain", "plain"),
            ("", ""),
            ("{ labels.service }", "{ labels.service }"),
            ("{{ labels.service }}", "checkout"),
            ("a{{ labels.service }}b\n", "acheckoutb\n"),
            ("{{ labels['service'] }}", "checkout"),
            ("{{ labels['dots.and spaces'] }}", "yes"),
            ("{{ labels.items }}", "a label that dict has a method for"),
            ("{{ labels.__name__ }}", "up"),
            ("{{ annotations.summary }}", "It is hot"),
            ("{{ alert.fingerprint }}", "0123456789abcdef"),
            ("{{ alert.starts_at }}", "1.5"),
            ("{{ alert.labels.service }}", "checkout"),
            ("{{ strategy }} {{ target }}", 'high-cpu service="checkout"'),
            ("{{ value }}", "0.75"),
            ("{{ value | round }}", "1"),
            ("{{ value | round(1) }}", "0.8"),
            ("{{ value > 0.5 }}", "true"),
            ("{{ 'hot' if value > 0.5 else 'cold' }}", "hot"),
            ("{{ 'a' if 'zone' in labels else 'b' }}", "b"),
            ("{{ 'a' if labels.zone is defined else 'b' }}", "b"),
            ("{{ 'a' if labels.service == 'checkout' and not labels.n == '1' else 'b' }}", "a"),
            ("{{ labels.zone | default('eu') }}", "eu"),
            ("{{ labels.empty | default('eu') }}", ""),
            ("{{ labels.empty | default('eu', true) }}", "eu"),
            ("{{ alert.expression | default('none') }}", "none"),
            ("{{ labels.n | int }} {{ labels.n | float }}", "42 42.5"),
            ("{{ labels.big | int }}", "123456789012345678"),
            ("{{ labels.service | int(7) }}", "7"),
            ("{{ labels.service | upper | lower | replace('check', 'pay') | trim }}", "payout"),
            ("{{ -1 }} {{ 1.0 }} {{ true }}", "-1 1 true"),
            ("{{ '{{' }}.State{{ '}}' }} {{ '{%' }}", "{{.State}} {%"),
            ("${#name} {# {{ strategy }} #}", "${#name} {# high-cpu #}"),
        ],
    )
    def test_what_it_becomes(self, text: str, expected: str) -> None:
        assert problems_in(text) is None
        labels = {
            "service": "checkout",
            "dots.and spaces": "yes",
            "items": "a label that dict has a method for",
            "__name__": "up",
            "empty": "",
            "n": "42.5",
            "big": "123456789012345678",
        }
        assert render(text, variables(**labels)) == expected

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                "{{ lables.service }}",
                "unknown name `lables`; did you mean `labels`? known: labels,",
            ),
            ("{{ range(5) }}", "a call"),
            ("{{ labels.service.upper() }}", "a call"),
            ("{{ labels.service.upper }}", "`labels.service` has no parts"),
            ("{{ strategy.__class__ }}", "`strategy` has no parts"),
            ("{{ ''.__class__ }}", "only a name may have parts"),
            ("{{ labels[target] }}", "constant"),
            ("{{ labels[0] }}", "constant"),
            ("{{ labels.service[1:] }}", "constant"),
            ("{{ labels }}", "holds many values"),
            ("{{ alert }}", "holds many values"),
            ("{{ alert.fingerprnt }}", "did you mean `fingerprint`?"),
            ("{{ 'a' * 3 }}", "`*`"),
            ("{{ 9 ** 9 }}", "`**`"),
            ("{{ 1 + 1 }}", "`+`"),
            ("{{ 'a' ~ 'b' }}", "`~`"),
            ("{{ '%1000000000d' % 1 }}", "`%`"),
            ("{{ [1] }}", "a list"),
            ("{{ {'a': 1} }}", "a dict"),
            ("{{ 1, 2 }}", "a list of values"),
            ("{{ 1e999 }}", "no number"),
            ("{{ labels.a | attr('x') }}", "unknown filter `attr`"),
            ("{{ labels.a | loower }}", "did you mean `lower`?"),
            ("{{ labels.a | replace(*labels) }}", "before an argument"),
            ("{{ labels.a is divisibleby 2 }}", "unknown test"),
            ("{{ 'x' if labels.a == 'b' }}", "needs an `else`"),
            ("{% for x in labels %}{% endfor %}", "only {{ … }}"),
            ("{% set x = 1 %}{{ x }}", "only {{ … }}"),
            ("{% raw %}x{% endraw %}", "only {{ … }}"),
            ("{% macro f() %}{% endmacro %}", "only {{ … }}"),
            ("{% include '/etc/passwd' %}", "only {{ … }}"),
            ("{{.State.Status}}", "for the text {{ itself write"),
            ("{{ labels.service", "for the text {{ itself write"),
            ("{{ self }}", "unknown name"),
            ("{{ labels.a }}\0", "NUL"),
        ],
    )
    def test_what_it_refuses(self, text: str, problem: str) -> None:
        assert problem in (problems_in(text) or "")
        with pytest.raises(TemplateError):
            render(text, variables(a="b"))

    def test_a_missing_label_is_named_with_those_there_are(self) -> None:
        with pytest.raises(TemplateError, match=r"no label 'servcie'; it has: 'pod', 'service'"):
            render("{{ labels.servcie }}", variables(service="a", pod="b"))

    @pytest.mark.parametrize("text", ["{{ value }}", "{{ value > 1 }}", "{{ value | round }}"])
    def test_a_value_that_is_not_known_is_no_text(self, text: str) -> None:
        with pytest.raises(TemplateError):
            render(text, variables(None))
        assert render("{{ value | default('?') }}", variables(None)) == "?"

    @pytest.mark.parametrize(
        "text", ["abc", "1_000", "٣", "nan", "inf", "0x10", "1e999x", "9" * 99]
    )
    def test_what_is_no_number_is_not_taken_for_one(self, text: str) -> None:
        for name in ("int", "float"):
            with pytest.raises(TemplateError, match="is no number"):
                render(f"{{{{ labels.n | {name} }}}}", variables(n=text))

    def test_a_template_in_a_value_is_text(self) -> None:
        for value in ("{{ 7*7 }}", "{% x %}", "{{", "{# x #}"):
            assert render("{{ labels.x }}", variables(x=value)) == value

    def test_sample_fills_the_gaps(self) -> None:
        assert sample("a{{ labels.x }}b{{ value }}") == "a1b1"
        assert sample("plain") == "plain"

    def test_jinja_is_not_imported_without_a_template(self) -> None:
        code = (
            "import sys, receiver.template as t;"
            "assert t.problems_in('plain') is None;"
            "print('jinja2' in sys.modules)"
        )
        root = Path(receiver.template.__file__).parents[2]
        told = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root)
        assert told == "False\n"


BOMBS = {
    "constant folding": "{{ 'a' * 2000000000 }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "padding": "{{ '%1000000000d' % 1 }}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "nots": "{{ " + "not " * 4000 + "1 }}",
    "minuses": "{{ " + "-" * 10000 + "1 }}",
    "parts": "{{ labels.a" + ".b" * 7000 + " }}",
    "filters": "{{ target" + "|lower" * 2600 + " }}",
    "ifs": "{{ target" + " if target else target" * 700 + " }}",
    "digits": "{{ " + "9" * 5000 + " }}",
    "braces": "{{" * 8000,
    "backslashes": "{{ '" + "\\" * 16000,
    "folded replace": "{{ 'a'" + "|replace('a', 'aaaaaaaaaa')" * 40 + " }}",
    "replace": "{{ target" + "|replace('e', 'eeeeeeeeee')" * 40 + " }}",
    "replace nothing": "{{ labels.x|replace('', '" + "a" * 8000 + "') }}",
    "repeated": "{{ labels.x }}" * 1000,
    "too long": "{{ target }}" + " " * MAX_SOURCE,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_at_once_with_an_error(name: str) -> None:
    text = BOMBS[name]
    began = time.monotonic()
    problem = problems_in(text)
    with pytest.raises(TemplateError):
        render(text, variables(x="x" * MAX_OUTPUT))
    assert time.monotonic() - began < 1.0
    assert problem is None or len(problem) < 500


class TestUrl:
    @pytest.mark.parametrize("value", [value for value in HOSTILE if value])
    def test_a_value_is_one_segment_and_nothing_else(self, value: str) -> None:
        url = render_url("http://host/a/{{ labels.x }}?q={{ labels.x }}", variables(x=value))
        head, _, query = url.partition("?")
        path = head.removeprefix("http://host/a/")
        assert url.isascii()
        assert url.isprintable()
        assert not set(path) & set("/?#\\@:&=;%") - {"%"}
        assert unquote(path) == value
        assert unquote(query.removeprefix("q=")) == value


class TestPromql:
    @pytest.mark.parametrize("value", HOSTILE)
    @pytest.mark.parametrize("quote", ['"', "'"])
    def test_a_value_stays_in_its_string(self, value: str, quote: str) -> None:
        text = f"up{{a={quote}{{{{ labels.x }}}}{quote}, b=~{quote}x{{{{ labels.x }}}}y{quote}}}"
        assert problems_in_promql(text) is None
        query = promql_parser.parse(render_promql(text, variables(x=value)))
        assert isinstance(query, promql_parser.VectorSelector)
        found = {matcher.name: matcher.value for matcher in query.matchers.matchers}
        assert found["a"] == value
        options = re2.Options()
        options.never_nl = False
        regex = re2.compile("(?s)" + found["b"], options)
        assert regex.fullmatch(f"x{value}y")
        assert not regex.fullmatch(f"x{value}zy")

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_any_text_stays_in_its_string(self, value: str) -> None:
        query = render_promql('up{a="{{ labels.x }}"}', variables(x=value))
        parsed = promql_parser.parse(query)
        assert isinstance(parsed, promql_parser.VectorSelector)
        assert [matcher.value for matcher in parsed.matchers.matchers] == [value]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("up", "up"),
            ("up > {{ value }}", "up > 0.75"),
            ("up > {{ labels.n | float }}", "up > -5.5"),
            ("up[{{ labels.m | default(5) | int }}m]", "up[5m]"),
            ("up > {{ 1 if value > 0.5 else 2 }}", "up > 1"),
            ("{{ alert.starts_at }} < time()", "1.5 < time()"),
            ('up{a!~"{{ labels.r }}|b"} # c\n > {{ value }}', 'up{a!~"x\\u005c.y|b"} # c\n > 0.75'),
            ("up{a='{{ labels.r }}'}", "up{a='x.y'}"),
            ('up{a="\\"{{ labels.r }}"}', 'up{a="\\"x.y"}'),
            ('vector(1) or up{a="{{ labels.r }}"}', 'vector(1) or up{a="x.y"}'),
        ],
    )
    def test_what_it_becomes(self, text: str, expected: str) -> None:
        assert problems_in_promql(text) is None
        assert render_promql(text, variables(n="-5.5", r="x.y")) == expected

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("{{ labels.n }}", "outside quotes"),
            ("up > {{ labels.n | default(1) }}", "outside quotes"),
            ("up > {{ labels.n | int('or up') }}", "outside quotes"),
            ("up > {{ 1 if value > 1 else labels.n }}", "outside quotes"),
            ('up{a="b"} == {{ strategy }}', "outside quotes"),
            ("up{a=`{{ labels.n }}`}", "which has no escapes"),
            ('up{a="\\{{ labels.n }}"}', "after a backslash"),
            ("up # {{ value }}\n", "in a comment"),
            ("up{a='\"{{ labels.n }}'} {{ labels.n }}", "outside quotes"),
            ("{% if x %}up", "only {{ … }}"),
        ],
    )
    def test_what_it_refuses(self, text: str, problem: str) -> None:
        assert problem in (problems_in_promql(text) or "")
        with pytest.raises(TemplateError):
            render_promql(text, variables(n="1"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("plain", []),
        ("{{ labels.a }}", ["labels.a"]),
        ("{{ alert.labels.a }} {{ alert.annotations.b }}", ["labels.a", "annotations.b"]),
        ("{{ labels['a.b'] }}", ["labels.a.b"]),
        ("{{ labels.a }}{{ labels.b }}{{ labels.a }}", ["labels.a", "labels.b"]),
        ("{{ labels.a | default(labels.b) }}", ["labels.a", "labels.b"]),
        ("{{ labels.a | default(default_value=labels.b) }}", ["labels.a", "labels.b"]),
        ("{{ labels.a | replace('x', labels.b) | upper }}", ["labels.a", "labels.b"]),
        ("{{ labels.a | int(labels.b) }}", ["labels.a", "labels.b"]),
        ("{{ labels.a if labels.c == 'x' else labels.b }}", ["labels.a", "labels.b"]),
        ("{{ (labels.a or labels.b) and labels.c }}", ["labels.a", "labels.b", "labels.c"]),
        ("{{ -value }}", ["value"]),
        ("{{ value | round }} {{ alert.starts_at }}", ["value", "alert.starts_at"]),
        ("{{ target }} {{ alert.expression }}", ["target", "alert.expression"]),
        ("{{ alert.fingerprint }}", ["alert.fingerprint"]),
        ("{{ strategy }} {{ 'x' }} {{ 1 }}", []),
        ("{{ labels.a == 'x' }} {{ 'x' in labels }} {{ labels.a is defined }}", []),
        ("{{ not labels.a }}", []),
    ],
)
def test_whose_values_a_text_is_made_of(text: str, names: list[str]) -> None:
    assert list(names_in(text)) == names


@pytest.mark.parametrize(
    ("text", "values", "argument"),
    [
        ("{{ labels.a }}", {"a": "x"}, "x"),
        ("--x={{ labels.a | upper }}.service", {"a": "x"}, "--x=X.service"),
        ("{{ labels.a | default('- $x') }}", {}, "- $x"),
        ("{{ labels.a | default('') }}", {}, ""),
        ("{{ labels.a if labels.b == '$' else '=' }}", {"a": "x", "b": "y"}, "="),
        ("{{ labels.a | replace('.', '-') }}", {"a": "x.y"}, "x-y"),
        ("{{ labels.a == '$' }}", {"a": "$"}, "true"),
        ("{{ labels.a | replace('x', '$') }}", {"a": "x"}, "may not hold '$'"),
        ("{{ labels.a | replace('x', ' ') }}", {"a": "xy"}, "may not hold white space"),
        ("{{ labels.a | replace('x', '') }}", {"a": "x"}, "may not be empty"),
        ("{{ labels.a | replace('x', '..') }}", {"a": "y/x"}, "may not lead out"),
        ("{{ labels.a | replace('x', '-') }}", {"a": "xy"}, "may not begin with '-'"),
        ("{{ labels.a or '-' }}", {"a": "-y"}, "may not begin with '-'"),
        ("x{{ labels.a }}", {"a": ""}, "may not be empty"),
    ],
)
def test_what_comes_with_an_alert_keeps_the_promise_after_its_filters_too(
    text: str, values: dict[str, str], argument: str
) -> None:
    try:
        assert render_argument(text, variables(**values)) == argument
    except TemplateError as error:
        assert f"and a value {argument}" in str(error)  # noqa: PT017  one of the two


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://h/a/{{ labels.a }}", None),
        ("http://h/{{ labels.b }}/{{ labels.a }}", None),
        ("http://h/a/{{ labels.a | default('') }}", None),
        ("http://h/a/{{ labels.c | default('') }}", "http://h/a/"),
        ("http://h/{{ labels.b }}?q={{ labels.a }}", "http://h/y?q="),
    ],
)
def test_no_empty_value_makes_another_path(url: str, sent: str | None) -> None:
    given = variables(a="", b="y")
    if sent is None and "default" not in url:
        with pytest.raises(TemplateError, match="a value is empty, so it would be another URL"):
            render_url(url, given)
    else:
        assert render_url(url, given) == (sent or "http://h/a/")


class Inner(msgspec.Struct, frozen=True):
    url: UrlText | None = None
    note: str = ""


class Params(msgspec.Struct, frozen=True):
    plain: str = ""
    prose: ProseText = ""
    url: UrlText = ""
    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("true",)
    pair: tuple[str, UrlText] = ("", "")
    json: dict[str, Any] | None = None
    headers: dict[str, UrlText] = {}
    inner: Inner | None = None
    number: int = 3


class TestParams:
    def test_every_text_is_rendered_by_its_kind(self) -> None:
        params = Params(
            plain="{{ labels.x }}",
            prose="{{ labels.x }}",
            url="http://h/{{ labels.x }}",
            argv=("echo", "{{ labels.x }}", "plain"),
            pair=("{{ labels.x }}", "{{ labels.x }}"),
            json={"{{ key }}": ["{{ labels.x }}", 1, None, {"a": "{{ labels.x }}"}], "b": 2},
            headers={"X-A": "{{ labels.x }}"},
            inner=Inner(url="http://h/{{ labels.x }}", note="{{ labels.x }}"),
        )
        assert render_params(params, variables(x="a/b"), undeclared=True) == Params(
            plain="a/b",
            prose="a/b",
            url="http://h/a%2Fb",
            argv=("echo", "a/b", "plain"),
            pair=("a/b", "a%2Fb"),
            json={"{{ key }}": ["a/b", 1, None, {"a": "a/b"}], "b": 2},
            headers={"X-A": "a%2Fb"},
            inner=Inner(url="http://h/a%2Fb", note="a/b"),
        )

    def test_without_templates_the_very_same_comes_back(self) -> None:
        params = Params(plain="-x\0", argv=("ls", "-l"), json={"a": ["-1"]}, inner=Inner())
        assert render_params(params, variables(), undeclared=True) is params

    @pytest.mark.parametrize(
        "params",
        [
            Params(plain="{{ labels.x }}"),
            Params(argv=("rm", "{{ labels.x }}")),
            Params(argv=("rm", "{{ labels.empty }}{{ labels.x }}")),
            Params(argv=("rm", "{{ labels.empty }}-x")),
            Params(pair=("{{ labels.x }}", "")),
            Params(inner=Inner(note="{{ labels.x }}")),
        ],
    )
    def test_a_value_starts_no_option(self, params: Params) -> None:
        with pytest.raises(TemplateError, match="may not start with '-'"):
            render_params(params, variables(x="-rf", empty=""), undeclared=True)

    def test_where_the_template_starts_an_option_it_may(self) -> None:
        params = Params(argv=("ls", "--color={{ labels.x }}", "-{{ labels.x }}"))
        assert render_params(params, variables(x="-a"), undeclared=True).argv == (
            "ls",
            "--color=-a",
            "--a",
        )

    def test_prose_and_json_may_start_with_a_minus(self) -> None:
        params = Params(prose="{{ labels.x }}", json={"a": "{{ labels.x }}"})
        rendered = render_params(params, variables(x="-5"), undeclared=True)
        assert (rendered.prose, rendered.json) == ("-5", {"a": "-5"})

    @pytest.mark.parametrize("field", ["plain", "prose"])
    def test_nul_is_refused(self, field: str) -> None:
        params = msgspec.structs.replace(Params(), **{field: "{{ labels.x }}"})
        with pytest.raises(TemplateError, match="NUL"):
            render_params(params, variables(x="a\0b"), undeclared=True)
