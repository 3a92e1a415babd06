from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from receiver import log

HOSTILE = 'a\nlevel=error msg="forged"\r\x1b[31m\x00\x7f\x85\u2028\u202e"\\ end'


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = True


def lines(form: str, level: str = "info") -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    log.configure(level, form, stream)
    return logging.getLogger("promheal.test"), stream


@pytest.mark.parametrize("form", log.FORMATS)
def test_a_value_can_neither_forge_a_line_nor_steer_a_terminal(form: str) -> None:
    logger, stream = lines(form)

    logger.info("said %s", HOSTILE, extra={"label": HOSTILE, "nested": {"deep": [HOSTILE]}})

    written = stream.getvalue()
    assert written.count("\n") == 1
    assert written.endswith("\n")
    assert not any(
        ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u2028\u202e" for char in written[:-1]
    )


def test_json_gives_the_very_text_back() -> None:
    logger, stream = lines("json")

    logger.warning("said %s", HOSTILE, extra={"run": 7, "until": 1.5, "gone": None})

    found = json.loads(stream.getvalue())
    assert found["msg"] == f"said {HOSTILE}"
    assert (found["level"], found["logger"], found["run"], found["until"]) == (
        "warn", "promheal.test", 7, 1.5,
    )  # fmt: skip
    assert "gone" not in found


def test_logfmt_quotes_what_needs_it() -> None:
    logger, stream = lines("logfmt")

    logger.info("two words", extra={"plain": "a/b:c", "quoted": 'say "x"', "flag": True})

    assert 'level=info logger=promheal.test msg="two words"' in stream.getvalue()
    assert r'plain=a/b:c quoted="say \"x\"" flag=true' in stream.getvalue()


@pytest.mark.parametrize("form", log.FORMATS)
def test_what_no_encoder_takes_is_written_all_the_same(form: str) -> None:
    logger, stream = lines(form)

    logger.info("lone \ud800", extra={"long": "x" * 100_000, "other": object()})

    assert 8_000 < len(stream.getvalue()) < 10_000


@pytest.mark.parametrize("form", log.FORMATS)
def test_an_error_stays_on_one_line(form: str) -> None:
    logger, stream = lines(form)
    try:
        int("a\nb")
    except ValueError:
        logger.exception("it failed")

    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in stream.getvalue()


def test_what_is_less_severe_is_not_written() -> None:
    logger, stream = lines("json", "warn")

    logger.info("quiet")
    logger.warning("loud")

    assert [json.loads(line)["msg"] for line in stream.getvalue().splitlines()] == ["loud"]
