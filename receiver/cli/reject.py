"""`promheal reject`: what does a person say about one run? No, not as long as this fires."""

from __future__ import annotations

from receiver.cli.approve import saying

command = saying(
    "reject",
    "Say no to run ID, which waits for approval; what fires for it now is not asked for again.",
)
