"""What does Alertmanager get for an answer? 202 once its alerts are committed.

Alertmanager sends every answer but 2xx again at each group_interval, for ever, and a 5xx also
within it (measured with 0.25, read up to 0.34). So 503 means "cannot store now" and nothing else,
400, 413 and 415 mean "can never be read", and whether a heal works is never in the answer.

The answer comes when the journal has committed, and nobody needs to wait for it: promheal's worker
gives its thread back meanwhile (`Webhook.answer`). Under any other server Flask's route waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import IO, Final

import msgspec
from flask import Blueprint, Response, request

from receiver.app import Promheal
from receiver.errors import JournalError, PayloadError
from receiver.journal import Admitted, Stored, not_stored
from receiver.policy.alert import Notification, Quarantined, parse_notification
from receiver.web.access.auth import USER
from receiver.web.sparing import Sparing

log: Final = logging.getLogger("promheal.webhook")

PATH: Final = "/webhook"
MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes; 50 alerts are some 27,000."""
LOG_AGAIN: Final = 3_600.0
"""Seconds until the same trouble with a sender is logged again: it is sent again for ever."""
MAX_PROBLEM: Final = 1_000
"""Characters of the reason for which an alert was set aside, in an answer."""

_CODES: Final = {400: "bad_request", 413: "too_large", 415: "unsupported_media_type"}
_CANNOT_STORE: Final = "the alerts cannot be stored now; send them again"

Tell = Callable[[int, bytes], None]
"""Takes the status and the JSON of an answer; called once, from any thread."""


class Webhook:
    """`POST /webhook`, whoever serves it."""

    def __init__(self, service: Promheal) -> None:
        self._service = service
        self._sparing = Sparing(monotonic, LOG_AGAIN)

    def answer(
        self,
        kind: str,
        encoding: str,
        stream: IO[bytes],
        sender: str,
        tell: Tell,
        *,
        user: str = "",
    ) -> None:
        """Read a body, and have *tell* called once its alerts are committed, or refused.

        *kind* and *encoding* are its Content-Type and Content-Encoding, "" when it has none; *user*
        is who has shown who it is.
        """
        start = perf_counter()

        def tell_timed(status: int, body: bytes) -> None:
            self._service.metrics.notification_duration.observe(perf_counter() - start)
            tell(status, body)

        def stored(became: Stored[Admitted]) -> None:
            try:
                body = _accepted(became.value, notification.quarantined)
            except Exception as error:  # noqa: BLE001  whatever it was, it is told and sent again
                fault = None if isinstance(error, JournalError) else error
                self._refuse(503, "cannot_store", f"{error}", sender, fault)
                tell_timed(503, _error("cannot_store", _CANNOT_STORE))
            else:
                tell_timed(202, body)

        try:
            notification = _read(kind, encoding, stream)
            if user:
                notification = msgspec.structs.replace(notification, user=user)
            self._service.intake.submit(notification, stored)
        except PayloadError as problem:
            code = _CODES[problem.status]
            self._refuse(problem.status, code, str(problem), sender)
            tell_timed(problem.status, _error(code, str(problem)))
        except JournalError as problem:
            stored(not_stored(problem))

    def _refuse(
        self, status: int, code: str, message: str, sender: str, fault: Exception | None = None
    ) -> None:
        """Count a refusal, and log it once for each sender, kind and hour; *fault*: it is ours."""
        self._service.intake.reject(str(status))
        if not self._sparing.due(f"{sender} {status}"):
            return
        log.warning(
            "a notification was refused (logged once an hour): %s",
            message,
            extra={"sender": sender, "status": status, "code": code},
            exc_info=fault,
        )


def blueprint(webhook: Webhook) -> Blueprint:
    routes = Blueprint("webhook", __name__)

    @routes.post(PATH)
    def receive() -> Response:
        answers: SimpleQueue[tuple[int, bytes]] = SimpleQueue()
        webhook.answer(
            request.headers.get("Content-Type", ""),
            request.headers.get("Content-Encoding", ""),
            request.environ["wsgi.input"],
            request.remote_addr or "",
            lambda status, body: answers.put((status, body)),
            user=request.environ.get(USER, ""),
        )
        status, body = answers.get()
        return Response(body, status=status, content_type="application/json")

    return routes


def _read(kind: str, encoding: str, stream: IO[bytes]) -> Notification:
    """Raises PayloadError when it can never be read."""
    if encoding.lower() not in {"", "identity"}:
        raise PayloadError(f"Content-Encoding {encoding!r} is not read; send it plain", status=415)
    media = kind.partition(";")[0].strip().lower()
    if media and media != "application/json" and not media.endswith("+json"):
        raise PayloadError(
            f"Content-Type {kind!r} is not read; send application/json "
            "(curl: -H 'Content-Type: application/json' --data-binary @FILE)",
            status=415,
        )
    # One byte more than allowed tells a body that is too long from one that just fits.
    body = stream.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise PayloadError(f"the body is larger than {MAX_BODY} bytes", status=413)
    return parse_notification(body)


def _accepted(admitted: Admitted, set_aside: Sequence[Quarantined]) -> bytes:
    repeated = admitted.repeated + admitted.late + admitted.not_open
    counts = b'{"opened":%d,"repeated":%d,"closed":%d' % (
        admitted.opened, repeated, admitted.closed,
    )  # fmt: skip
    if set_aside:
        problem = msgspec.json.encode(set_aside[0].problem[:MAX_PROBLEM])
        counts += b',"setAside":%d,"problem":%b' % (len(set_aside), problem)
    return counts + b"}\n"


def _error(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}}) + b"\n"
