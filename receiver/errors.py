"""Whose fault is it?

PromhealError
├── ConfigError       the operator's file: exit code 2, or a reload that is refused
├── PayloadError      the sender's request: 400, 413 or 415; the same body can never be read
├── RefusedError      an operator's wish that cannot be granted: 400, 404 or 409
├── JournalError      our disk: 503, and Alertmanager sends it again
│   ├── AwayError     our database server cannot be reached; it may be back soon
│   └── UnsoundError  the journal is damaged, or not the one that was here: a person decides
├── FencedError       a lease of ours that ended: somebody else has the target in hand now
├── ActionError       the thing being healed, or the way to it: the run rolls back
│   └── TemplateError the operator's template met a value that it cannot take
└── UpstreamError     Prometheus or Alertmanager did not answer usefully: nothing is proven
"""

from __future__ import annotations


class PromhealError(Exception):
    """The root: everything that promheal raises on purpose."""


class ConfigError(PromhealError):
    """A configuration file is wrong. The text names each place and remedy, one problem a line."""


class PayloadError(PromhealError):
    """A request can never be understood, however often it is sent again."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status that says so: 400, 413 or 415."""


class RefusedError(PromhealError):
    """An operator wants what cannot be done; the text says why, and what can."""

    def __init__(self, message: str, *, status: int, code: str = "", among: str = "") -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status that says so: 400, 404 or 409."""
        self.code = code
        """What it is for programs, where the status does not say it all."""
        self.among = among
        """What lists those that there are, as `runs`; how to ask for it says whoever tells."""


class JournalError(PromhealError):
    """The journal cannot take it now; nothing was stored."""

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
        """What there is to do about it, where that is known."""


class AwayError(JournalError):
    """The journal's server cannot be reached; it may be back soon."""


class UnsoundError(JournalError):
    """The journal is damaged, another, emptied or older; nothing acts on it."""


class FencedError(PromhealError):
    """Somebody else has taken over the target that is being considered; nothing was stored.

    No JournalError, for it is no use to try again.
    """


class ActionError(PromhealError):
    """An action failed. `output` is what it printed, head and tail, for the operator."""

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class TemplateError(ActionError):
    """A template could not be rendered, or its value is not safe where it stands."""


class UpstreamError(PromhealError):
    """Prometheus or Alertmanager was asked and gave no usable answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status that it refused the question with; 0 when there is none."""

    @property
    def unknown_path(self) -> bool:
        """Whether it has no such API."""
        return self.status in {404, 405, 501}

    @property
    def refused(self) -> bool:
        """Whether it understood the question, and cannot answer this one, however often asked."""
        return self.status in {400, 422}
