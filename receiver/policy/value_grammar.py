r"""Which regular expressions can be reasoned about? A small part of RE2, as a tree.

Each construct means what it means in RE2: characters, `\.`, `\d`, `\w`, `[…]`, groups, `|`, `*`,
`+`, `?` and `{m,n}`. Anything else is refused, with what to write instead.
"""

from __future__ import annotations

import re
import string
from typing import Final, NamedTuple

from receiver.policy.value_promise import WORD, fault_of

MAX_PATTERN: Final = 1_000  # characters
_MAX_REPEAT: Final = 1_000  # as RE2's
_MAX_DEPTH: Final = 50
_SPECIAL: Final = frozenset("\\.+*?()|[]{}^$")
_CLASSES: Final = {"d": frozenset(string.digits), "w": WORD}
_QUANTIFIER: Final = re.compile(r"[*+?]|\{(\d{1,4})(?:(,)(\d{1,4})?)?\}", re.ASCII)
_TIMES: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class PatternError(ValueError):
    """A pattern is refused; the text says why, and what to write instead."""

    def __init__(self, message: str, *, position: int = 0) -> None:
        super().__init__(message)
        self.position = position
        """The column, counted from 0, where it goes wrong."""


class OneOf(NamedTuple):
    """One character out of these."""

    characters: frozenset[str]


class Sequence(NamedTuple):
    parts: tuple[Tree, ...]


class Choice(NamedTuple):
    parts: tuple[Tree, ...]


class Repeat(NamedTuple):
    part: Tree
    least: int
    most: int | None


Tree = OneOf | Sequence | Choice | Repeat


def parse(text: str) -> Tree:
    """Return the tree of *text*. Raises PatternError."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> Tree:
        if len(self._text) > MAX_PATTERN:
            raise PatternError(f"{len(self._text)} characters; at most {MAX_PATTERN} are read")
        tree = self._choice(0)
        if self._at < len(self._text):
            raise self._error("a `)` closes nothing; write \\) for the character")
        return tree

    def _error(self, message: str) -> PatternError:
        return PatternError(f"{self._text!r}: {message}", position=self._at)

    def _taken(self, wanted: str) -> bool:
        if self._text.startswith(wanted, self._at):
            self._at += len(wanted)
            return True
        return False

    @property
    def _here(self) -> str:
        return self._text[self._at : self._at + 1]

    def _choice(self, depth: int) -> Tree:
        if depth > _MAX_DEPTH:
            raise self._error("nested too deeply")
        parts = [self._sequence(depth)]
        while self._taken("|"):
            parts.append(self._sequence(depth))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self, depth: int) -> Tree:
        parts = []
        while self._here not in {"", "|", ")"}:
            parts.append(self._repeated(depth))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, depth: int) -> Tree:
        part = self._atom(depth)
        found = _QUANTIFIER.match(self._text, self._at)
        if found is None:
            return part
        if found[0] in _TIMES:
            least, most = _TIMES[found[0]]
        else:
            least = int(found[1])
            most = (int(found[3]) if found[3] else None) if found[2] else least
        if max(least, most or 0) > _MAX_REPEAT or (most is not None and most < least):
            raise self._error(f"{found[0]} counts wrongly, or beyond {_MAX_REPEAT}")
        self._at = found.end()
        if self._here and self._here in "*+?{":
            raise self._error("one quantifier may not follow another")
        return Repeat(part, least, most)

    def _atom(self, depth: int) -> Tree:
        character = self._here
        if self._taken("("):
            if not self._taken("?:") and self._here == "?":
                raise self._error("of the groups that begin with (? only (?:…) may be used")
            part = self._choice(depth + 1)
            if not self._taken(")"):
                raise self._error("a `)` is missing")
            return part
        if self._taken("["):
            return self._class()
        if self._taken("\\"):
            return self._escape()
        if character in "^$":
            raise self._error(
                f"it is matched from the value's beginning to its end anyway; leave out the "
                f"{character}"
            )
        if character == ".":
            raise self._error(r"`.` lets everything through; write \. for a dot, or [a-z] for one "
                              "of these")  # fmt: skip
        if character in _SPECIAL:
            raise self._error(f"{character} has nothing before it; write \\{character} for the "
                              "character")  # fmt: skip
        return OneOf(frozenset(self._literal()))

    def _literal(self) -> str:
        character = self._here
        if not character.isascii() or not character.isprintable() or character == " ":
            raise self._error(f"a value {fault_of('a' + character)}")
        self._at += 1
        return character

    def _escape(self) -> OneOf:
        character = self._here
        self._at += 1
        if character in _CLASSES:
            return OneOf(_CLASSES[character])
        if not character or character in WORD or not character.isascii() or character == " ":
            self._at -= 1
            raise self._error(f"\\{character} may not be used; only \\d, \\w, and \\ before a sign")
        return OneOf(frozenset(character))

    def _class(self) -> OneOf:
        if self._here == "^":
            raise self._error("[^…] lets everything else through; list what may stand there")
        found: set[str] = set()
        first = True
        while not self._taken("]"):
            if self._here == "-" and not first and self._text[self._at + 1 : self._at + 2] != "]":
                raise self._error("write a - at the end of […], or as \\-")
            low = self._member()
            if (
                len(low) == 1
                and self._here == "-"
                and self._text[self._at + 1 : self._at + 2] not in {"]", ""}
            ):
                self._at += 1
                high = self._member()
                if len(high) != 1 or max(high) < max(low):
                    raise self._error("a range runs from one character to a later one")
                found |= {chr(code) for code in range(ord(min(low)), ord(max(high)) + 1)}
            else:
                found |= low
            first = False
        if not found:
            raise self._error("[] lets nothing through; write \\[ for the character")
        return OneOf(frozenset(found))

    def _member(self) -> frozenset[str]:
        if self._text.startswith("[:", self._at):
            raise self._error("[:…:] may not be used; write the characters, as a-z")
        if not self._here:
            raise self._error("a `]` is missing")
        if self._taken("\\"):
            return self._escape().characters
        return frozenset(self._literal())
