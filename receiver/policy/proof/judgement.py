"""Does the alert fire? One Prometheus' answer, for a decision and for a proof."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.errors import UpstreamError
from receiver.policy.proof.binding import Binding
from receiver.policy.signal import Signal, SignalDoubt


class Judgement(msgspec.Struct, frozen=True):
    signal: Signal
    value: float | None = None
    """Of the series that is returned; may be NaN or infinite."""
    detail: str = ""
    """For the operator: what is returned, what is missing."""
    suspect: str = ""
    """Why the rule's own state makes the answer unreliable."""
    doubt: SignalDoubt = SignalDoubt.DATA
    """Why, if the signal is unknown."""
    expression: str | None = None
    """The expression that was asked: the rule's, or one that somebody vouches for."""
    binding: Binding | None = None
    """The alert's series, where it is returned now or was when the alert began."""
    lag: float = 0.0
    """Seconds by which the moment that was asked about lies before it."""

    @property
    def unasked(self) -> bool:
        """Prometheus could not be asked: it says nothing of the target."""
        return self.signal is Signal.UNKNOWN and self.doubt in {
            SignalDoubt.BLIND,
            SignalDoubt.NOBODY,
        }


UNBOUND_ALERT: Final = Judgement(
    Signal.UNKNOWN,
    None,
    "it could not be told which series of Prometheus is this alert's: give a `verify.query`",
)
"""Of an alert that was acted on although no series, or more than one, may be its."""


def unanswered(error: UpstreamError) -> Judgement:
    doubt = SignalDoubt.DATA if error.refused else SignalDoubt.BLIND
    return Judgement(Signal.UNKNOWN, None, str(error), doubt=doubt)


def undecided(detail: str, value: float | None = None) -> Judgement:
    return Judgement(signal=Signal.UNKNOWN, value=value, detail=detail)
