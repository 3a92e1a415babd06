"""Whose fault is it?

PromhealError
├── ConfigError       the operator's file: exit code 2, or a reload that is rejected
├── PayloadError      the sender's request: 400, 413 or 415; retrying it is useless
├── RefusedError      an operator's request that cannot be granted: 400, 404 or 409
├── JournalError      our disk: 503, and Alertmanager retries
│   ├── AwayError     our database server cannot be reached; it may be back soon
│   └── UnsoundError  the journal is damaged, or not the one it was: a person decides
├── FencedError       our lease ended: another process holds the target now
├── ActionError       the service being healed, or the way to it: the run rolls back
│   └── TemplateError the operator's template got a value that it cannot take
└── UpstreamError     Prometheus or Alertmanager gave no usable answer: nothing is proven
"""

from __future__ import annotations


class PromhealError(Exception):
    """The base of everything that promheal raises on purpose."""


class ConfigError(PromhealError):
    """A configuration file is wrong. The text has one problem a line, with place and remedy."""


class PayloadError(PromhealError):
    """A request can never be read, however often it is retried."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status that says so: 400, 413 or 415."""


class RefusedError(PromhealError):
    """An operator asked for what cannot be done; the text says why, and what can."""

    def __init__(self, message: str, *, status: int, code: str = "", among: str = "") -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status that says so: 400, 404 or 409."""
        self.code = code
        """A code for programs, where the status is not enough."""
        self.among = among
        """The API list that has the existing ones, such as `runs`."""


class JournalError(PromhealError):
    """The journal cannot store it now; nothing was stored."""

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
        """What to do about it, if known."""


class CannotStore(Exception):  # noqa: N818  what is the case
    """The disk or the server failed, and not the work: the whole group fails."""


class AwayError(JournalError):
    """The journal's server cannot be reached; it may be back soon."""


class UnsoundError(JournalError):
    """The journal is damaged, emptied, older or another one; nothing acts on it."""


class FencedError(PromhealError):
    """Another process has taken over the target; nothing was stored.

    Not a JournalError, since retrying is useless.
    """


class ActionError(PromhealError):
    """An action failed. `output` is the head and the tail of what it printed."""

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class TemplateError(ActionError):
    """A template could not be rendered, or its value is not safe in its place."""


class UpstreamError(PromhealError):
    """Prometheus or Alertmanager gave no usable answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of the answer; 0 if there is none."""

    @property
    def unknown_path(self) -> bool:
        """Whether the upstream has no such API."""
        return self.status in {404, 405, 501}

    @property
    def refused(self) -> bool:
        """Whether it understood the question and rejected it: retrying is useless."""
        return self.status in {400, 422}
