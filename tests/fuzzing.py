"""What reads bytes or texts of others, as functions that may refuse with an error of their own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from receiver.errors import PayloadError
from receiver.policy import promql
from receiver.policy.matcher import MatcherError
from receiver.policy.matcher_syntax import parse_matchers
from receiver.policy.payload import parse_notification
from receiver.template.params import problems_in
from receiver.yaml.diagnostics import Report
from receiver.yaml.nodes import parse as parse_yaml


def payload(data: bytes) -> None:
    with suppress(PayloadError):
        parse_notification(data)


def matchers(data: bytes) -> None:
    with suppress(MatcherError):
        parse_matchers(text(data))


def expression(data: bytes) -> None:
    with suppress(ValueError):
        promql.parse(text(data))


def template(data: bytes) -> None:
    problems_in(text(data))


def yaml(data: bytes) -> None:
    parse_yaml(text(data), Report("fuzzed.yml", text(data)))


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


TARGETS: Final[dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]]] = {
    "payload": (
        payload,
        (
            (
                b'{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"A"},'
                b'"startsAt":"2026-01-31T12:00:00Z","annotations":{"a":"\\u00fc"}}]}'
            ),
        ),
    ),
    "matchers": (matchers, (b'{a="b", c!~"d.*", "e f"=~`g`}', b"a=b,c!=\\d")),
    "expression": (
        expression,
        (b'sum by (a) (rate(x{b="c",d=~"e|f"}[5m] offset 1m)) / 2 > bool 0.5 unless on() y',),
    ),
    "template": (template, (b'{{ labels.a | default("x") | upper }} {{ value > 1 }}',)),
    "yaml": (yaml, (b"a: {b: [1, 'c', \"\\u00fc\"]}\nd:\n  - |\n    e\n  - !!str f  # g\n",)),
}
"""Functions, and what they are first fed."""


def damaged(seeds: Sequence[bytes], number: int) -> bytes:
    """Return one of *seeds* after some cuts, doublings, flips and foreign pieces."""
    dice = random.Random(number)
    body = bytearray(dice.choice(seeds))
    for _ in range(dice.choice((1, 1, 2, 5))):
        at = dice.randrange(len(body))
        end = min(len(body), at + dice.choice((1, 1, 4, 40)))
        match dice.randrange(5):
            case 0:
                del body[at:end]
            case 1:
                body[at:at] = body[at:end]
            case 2:
                body[at] = dice.randrange(256)
            case 3:
                body[at:end] = dice.choice(PIECES)
            case _:
                del body[at:]
                body += b"}" * dice.randrange(3)
        body = body or bytearray(b" ")
    return bytes(body)


PIECES: Final = (
    b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b"\\ud800", b"\0", b"\xff\xfe",
    b'"0001-01-01T00:00:00Z"', b'"9999-99-99T99:99:99Z"', b'"labels":{"a":null}',
    b'","', b"}]", b"[" * 5_000, b"9" * 5_000,
)  # fmt: skip
"""What stands in the place of something else."""
