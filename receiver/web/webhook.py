"""What does Alertmanager get for an answer? 202 once its alerts are committed.

Alertmanager sends every answer but 2xx again at each group_interval, for ever, and a 5xx also
within it (measured with 0.25, read up to 0.34). So 503 means "cannot store now" and nothing else,
400, 413 and 415 mean "can never be read", and whether a heal works is never in the answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from time import monotonic, perf_counter
from typing import IO, Any, Final

from flask import Blueprint, Response, request

from receiver.alert import parse_notification
from receiver.errors import JournalError, PayloadError
from receiver.web.answers import error
from receiver.wiring import Service

log: Final = logging.getLogger("promheal.webhook")

MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes; 50 alerts are some 27,000."""
LOG_AGAIN: Final = 3_600.0
"""Seconds until the same trouble with a sender is logged again: it is sent again for ever."""
_MAX_SENDERS: Final = 1_000

_CODES: Final = {400: "bad_request", 413: "too_large", 415: "unsupported_media_type"}


def blueprint(service: Service) -> Blueprint:
    routes = Blueprint("webhook", __name__)
    told: dict[tuple[str, int], float] = {}
    telling = threading.Lock()

    def tell(sender: str, status: int, message: str) -> None:
        """Log a refusal, once for each sender, kind and hour."""
        with telling:
            last = told.get((sender, status))
            if last is not None and monotonic() - last < LOG_AGAIN:
                return
            if len(told) >= _MAX_SENDERS:
                told.clear()
            told[sender, status] = monotonic()
        log.warning(
            "a notification was refused (logged once an hour): %s", message,
            extra={"sender": sender, "status": status},
        )  # fmt: skip

    @routes.post("/webhook")
    def receive() -> Response:
        start = perf_counter()
        try:
            admitted = service.intake.admit(parse_notification(_body(request.environ)))
        except PayloadError as problem:
            service.intake.reject(str(problem.status))
            tell(request.remote_addr or "", problem.status, str(problem))
            return error(_CODES[problem.status], str(problem), problem.status)
        except JournalError as problem:
            service.intake.reject("503")
            tell(request.remote_addr or "", 503, str(problem))
            return error("cannot_store", "the alerts cannot be stored now; send them again", 503)
        finally:
            service.metrics.notification_duration.observe(perf_counter() - start)
        repeated = admitted.repeated + admitted.late + admitted.not_open
        return Response(
            f'{{"opened":{admitted.opened},"repeated":{repeated},"closed":{admitted.closed}}}\n',
            status=202,
            content_type="application/json",
        )

    return routes


def _body(environ: Mapping[str, Any]) -> bytes:
    """Return the body, or raise PayloadError when it can never be read.

    Reads the WSGI environment itself: Flask's request objects cost as much as storing an alert.
    """
    encoding = environ.get("HTTP_CONTENT_ENCODING", "identity").lower()
    if encoding != "identity":
        raise PayloadError(f"Content-Encoding {encoding!r} is not read; send it plain", status=415)
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise PayloadError(
            f"Content-Type {kind!r} is not read; send application/json "
            "(curl: -H 'Content-Type: application/json' --data-binary @FILE)",
            status=415,
        )
    stream: IO[bytes] = environ["wsgi.input"]
    # The worker has judged Content-Length and chunks. One byte more than allowed tells a body that
    # is too long from one that just fits.
    body = stream.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise PayloadError(f"the body is larger than {MAX_BODY} bytes", status=413)
    return body
