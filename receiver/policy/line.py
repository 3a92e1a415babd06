"""One line of text by a person: no control, no invisible character, no space but the usual one.

The contract has the same class of characters, `Reason` in receiver/web/openapi.yaml: a standard
pattern, which `str.isprintable` could not be.
"""

from __future__ import annotations

import re
from typing import Final

LINE: Final = re.compile(
    r"^[^\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    r"\u3000\ufeff\ufff9-\uffff]*$"
)
_NO_TEXT: Final = re.compile("[\ud800-\udfff]")
"""Halves of characters, which JSON cannot carry, but the command line can."""


def is_line(text: str) -> bool:
    return LINE.fullmatch(text) is not None and _NO_TEXT.search(text) is None
