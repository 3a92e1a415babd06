"""Which notifications could not be accepted lately?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from receiver.policy.duration import format_duration
from receiver.reporting.needs.need import Need, NeedReason, Severity
from receiver.reporting.present import Present
from receiver.reporting.refusals import SET_ASIDE, WITHIN


def of_notifications(present: Present) -> Iterator[Need]:
    lately = format_duration(WITHIN)
    for code, number in sorted(present.refused.items()):
        if code == SET_ASIDE:
            yield Need(
                severity=Severity.WARNING,
                reason=NeedReason.ALERTS_SET_ASIDE,
                title=f"{number} alerts could not be read in the last {lately}, and are set aside",
                advice="See in the log what is wrong with them, and mend their sender",
            )
            continue
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.NOTIFICATIONS_REFUSED,
            subject=code,
            title=f"{number} notifications were refused with {code} in the last {lately}",
            why=_REFUSED.get(code, "They cannot be read"),
            advice="See in the log who sent them, and mend the receiver in its alertmanager.yml",
            command="promheal doctor",
        )


_REFUSED: Final = {
    "401": "Their sender shows no user or token that is known here",
    "403": "Their sender may not post to the webhook",
}
