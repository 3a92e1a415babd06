"""`promheal cancel`: end a run, and undo what it did."""

from __future__ import annotations

from receiver.cli.approve import saying

command = saying(
    "cancel",
    "End run ID. A step that acts now comes to its end; then all of them are undone.",
    listed="promheal runs",
)
