"""`promheal reject`: decline a run that waits for approval, as long as its alert fires."""

from __future__ import annotations

from receiver.cli.approve import saying

command = saying(
    "reject",
    "Say no to run ID, which waits for approval; what fires for it now is not asked for again.",
)
