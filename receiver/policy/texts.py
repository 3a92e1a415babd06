"""What may a text of the configuration be? Types for it, with the words of the reference."""

from __future__ import annotations

from typing import Annotated

import msgspec

from receiver.policy.duration import Duration as Duration  # noqa: PLC0414  most who need one need both

FilePath = Annotated[str, msgspec.Meta(extra={"type": "path"})]
Argv = Annotated[tuple[str, ...], msgspec.Meta(extra={"type": "argv"})]
"""A program and its arguments; no shell reads them."""
Url = Annotated[
    str,
    msgspec.Meta(
        pattern="^https?://",
        examples=["http://127.0.0.1:9090"],
        extra={"type": "URL", "amend": "http://{}"},
    ),
]
Name = Annotated[str, msgspec.Meta(extra={"type": "name"})]
KeyName = Annotated[str, msgspec.Meta(extra={"type": "key"})]
"""Of a mapping or a database."""
Pattern = Annotated[str, msgspec.Meta(extra={"type": "pattern"})]
AnyUrl = Annotated[str, msgspec.Meta(extra={"type": "URL"})]
"""Its form is checked by who uses it."""
