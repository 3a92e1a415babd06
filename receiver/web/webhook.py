"""POST /webhook: 202 once the alerts are committed.

Alertmanager retries every answer but 2xx at each group_interval, for ever, and a 5xx also within it
(measured with 0.25, read up to 0.34). So 503 means "cannot store now" and nothing else, 400, 413
and 415 mean "can never be read", and the answer never depends on whether a heal works.

No thread waits for the commit under promheal's own worker (`Webhook.answer`); Flask's route, under
any other server, does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import IO, Final

import msgspec
from flask import Blueprint, Response, request

from receiver.app import Promheal
from receiver.errors import JournalError, PayloadError
from receiver.journal import Admitted, Stored, not_stored
from receiver.policy.alert import Notification
from receiver.policy.payload import parse_notification
from receiver.web.access.auth import USER
from receiver.web.log_throttle import LogThrottle

log: Final = logging.getLogger("promheal.webhook")

PATH: Final = "/webhook"
MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes; 50 alerts are some 27,000."""
LOG_AGAIN: Final = 3_600.0
"""Seconds until the same problem of a sender is logged again: Alertmanager retries for ever."""
MAX_PROBLEM: Final = 1_000
"""Characters of the problem of a quarantined alert in an answer."""

_CODES: Final = {400: "bad_request", 413: "too_large", 415: "unsupported_media_type"}
_CANNOT_STORE: Final = "the alerts cannot be stored now; send them again"

Reply = Callable[[int, bytes], None]
"""Sends an answer: status and JSON. Called once, from any thread."""


class Webhook:
    """`POST /webhook`, under any server."""

    def __init__(self, service: Promheal) -> None:
        self._service = service
        self._throttle = LogThrottle(monotonic, LOG_AGAIN)

    def answer(
        self,
        content_type: str,
        content_encoding: str,
        stream: IO[bytes],
        sender: str,
        reply: Reply,
        *,
        user: str = "",
    ) -> None:
        """Read a body, and call *reply* once its alerts are committed, or rejected.

        *content_type* and *content_encoding* are "" if the header is missing; *user* is the
        authenticated sender.
        """
        start = perf_counter()

        def reply_timed(status: int, body: bytes) -> None:
            self._service.metrics.notification_duration.observe(perf_counter() - start)
            reply(status, body)

        def stored(became: Stored[Admitted]) -> None:
            try:
                body = _accepted(became.value, notification)
            except Exception as error:  # noqa: BLE001  whatever it was, Alertmanager retries
                fault = None if isinstance(error, JournalError) else error
                self._refuse(503, "cannot_store", f"{error}", sender, fault)
                reply_timed(503, _error("cannot_store", _CANNOT_STORE))
            else:
                reply_timed(202, body)

        try:
            notification = _read(content_type, content_encoding, stream)
            if user:
                notification = msgspec.structs.replace(notification, user=user)
            self._service.intake.submit(notification, stored)
        except PayloadError as problem:
            code = _CODES[problem.status]
            self._refuse(problem.status, code, str(problem), sender)
            reply_timed(problem.status, _error(code, str(problem)))
        except JournalError as problem:
            stored(not_stored(problem))

    def _refuse(
        self, status: int, code: str, message: str, sender: str, fault: Exception | None = None
    ) -> None:
        """Count a rejected notification; log it once an hour for each sender and status.

        *fault*: the exception, if it is our own bug.
        """
        self._service.intake.reject(str(status))
        if not self._throttle.due(f"{sender} {status}"):
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


def _read(content_type: str, content_encoding: str, stream: IO[bytes]) -> Notification:
    """Raises PayloadError for a body that can never be read."""
    if content_encoding.lower() not in {"", "identity"}:
        raise PayloadError(
            f"Content-Encoding {content_encoding!r} is not read; send it plain", status=415
        )
    media = content_type.partition(";")[0].strip().lower()
    if media and media != "application/json" and not media.endswith("+json"):
        raise PayloadError(
            f"Content-Type {content_type!r} is not read; send application/json "
            "(curl: -H 'Content-Type: application/json' --data-binary @FILE)",
            status=415,
        )
    # One byte more than allowed: a body that just fits is not too long.
    body = stream.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise PayloadError(f"the body is larger than {MAX_BODY} bytes", status=413)
    return parse_notification(body)


def _accepted(admitted: Admitted, notification: Notification) -> bytes:
    repeated = admitted.repeated + admitted.late + admitted.not_open
    counts = b'{"opened":%d,"repeated":%d,"closed":%d' % (
        admitted.opened, repeated, admitted.closed,
    )  # fmt: skip
    if notification.quarantined:
        problem = msgspec.json.encode(notification.quarantined[0].problem[:MAX_PROBLEM])
        counts += b',"setAside":%d,"problem":%b' % (notification.set_aside, problem)
    return counts + b"}\n"


def _error(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}}) + b"\n"
