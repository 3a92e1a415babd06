"""What the commands share that ask a running server: ask, understand the answer, print it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from receiver.cli import client, options
from receiver.cli.client import Server, segment, understood
from receiver.cli.output import show

__all__ = ["Api", "api", "segment", "understood"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Api:
    """A running server, whose answers are printed as `--output` says.

    *shape* is what the table needs of an answer, and *text* makes the table. JSON and YAML are
    printed as the server sent them. Raises as `Server` does, and UpstreamError for an answer that
    has another shape.
    """

    def __init__(self, server: Server, output: str) -> None:
        self._server = server
        self._output = output

    def get(self, path: str, shape: type[T], text: Callable[[T], str], **query: Any) -> Any:
        """Print what is there; return it as JSON says it. Parameters that are None are left out."""
        return self._show(self._server.get(path, **query), shape, text)

    def post(self, path: str, shape: type[T], text: Callable[[T], str], **fields: Any) -> None:
        """Change something, and print the answer. Fields that are None are left out."""
        self._show(self._server.post(path, **fields), shape, text)

    def delete(self, path: str, shape: type[T], text: Callable[[T], str], **query: Any) -> None:
        self._show(self._server.delete(path, **query), shape, text)

    def look(self, path: str, shape: type[T]) -> T:
        """Return what is there, without printing it."""
        return understood(self._server.get(path), shape)

    def _show(self, answer: Any, shape: type[T], text: Callable[[T], str]) -> Any:
        show(answer, self._output, lambda: text(understood(answer, shape)))
        return answer


def api(function: F) -> F:
    """Add the options that say where the server is, who asks, and how the answer is printed."""

    @client.server
    @options.output
    @functools.wraps(function)
    def with_api(*args: Any, server: Server, output: str, **kwargs: Any) -> Any:
        return function(*args, api=Api(server, output), **kwargs)

    return with_api  # type: ignore[return-value]  # the same call, with options for `api`
