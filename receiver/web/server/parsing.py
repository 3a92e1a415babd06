"""The request in a run of bytes, as gunicorn's parser reads it.

The parser gets exactly the bytes that `Framing` found, must use all of them and must not ask for
more. So a request that two readers could understand differently is refused, never served.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

from gunicorn import http
from gunicorn.http import errors

from receiver.web.server.framing import Progress, Refusal

STATUS: Final = {
    errors.ExpectationFailed: 417,
    errors.LimitRequestHeaders: 431,
    errors.LimitRequestLine: 414,
    errors.UnsupportedTransferCoding: 501,
}
"""Everything else that the parser refuses is 400."""


def parse(
    cfg: Any, pieces: Iterator[bytes], client: Any, *, number: int, progress: Progress
) -> Any:
    """Return gunicorn's request, with its body in memory.

    *cfg* is gunicorn's configuration, *number* counts the requests of the connection from 1.
    Raises Refusal.
    """
    parser = http.get_parser(cfg, pieces, client)
    parser.req_count = number - 1
    try:
        req = next(parser)
        body = req.body.read()
        rest = parser.unreader.read()
    except (errors.ParseException, OSError, StopIteration, ValueError) as error:
        raise Refusal(STATUS.get(type(error), 400), "bad_request", str(error)) from error
    if rest or progress is Progress.DOUBTFUL:
        raise Refusal(400, "bad_request", "it is not clear where the request ends")
    req.body = io.BytesIO(body)
    req._expected_100_continue = False  # noqa: SLF001  answered already; gunicorn would repeat it
    return req
