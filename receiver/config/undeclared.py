"""Which values are used in arguments without a declared pattern, and what should be written?

Each message ends with a remedy that can be pasted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from receiver.actions.parameters import Path, Values, arguments
from receiver.policy.value_pattern import DEFAULT, LISTED
from receiver.process.interpreters import Reading
from receiver.template import KNOWN, NUMBERS, RESERVED, VARIABLES, name_of_value, names_in

_PLAIN: Final = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
_PATTERNS: Final = {
    "value": r"[0-9]{1,12}(?:\.[0-9]{1,6})?",
    "alert.starts_at": r"[0-9]{1,12}(?:\.[0-9]{1,9})?",
    "alert.fingerprint": "[0-9a-f]{16}",
    "labels.instance": "[a-zA-Z0-9][a-zA-Z0-9.:-]{0,99}",
}
"""Proposed patterns for values whose form is known."""
_READ: Final = {
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), 'ENVIRON["{}"]'),
    **dict.fromkeys(("python", "pypy"), 'os.environ["{}"]'),
    **dict.fromkeys(("node", "nodejs"), "process.env.{}"),
    "lua": 'os.getenv("{}")',
    "perl": "$ENV{{{}}}",
    "php": 'getenv("{}")',
    "ruby": 'ENV["{}"]',
}
"""How code of an interpreter reads a variable; a shell is the default."""


class Undeclared(msgspec.Struct, frozen=True):
    """A value that is not declared for the place where it is used."""

    path: Path
    message: str
    tolerable: bool
    """Whether `undeclared_values: warn` may let it through."""


def undeclared(
    params: msgspec.Struct, readings: Iterable[tuple[Path, Reading]], values: Values
) -> Iterator[Undeclared]:
    """Yield the undeclared values of *params*; *readings* says how programs read each text."""
    known = dict(readings)
    for path, text in arguments(params):
        names = names_in(text)
        reading = known.get(path)
        variables = hasattr(params, "env")
        if reading is not None:
            names = tuple(name for name in names if name not in values or not values[name].listed)
            if names:
                code = reading.what == "code"
                message = f"{_place(path)}: {_told(reading, names, variables=variables)}"
                yield Undeclared(path, message, tolerable=not code)
        elif missing := tuple(name for name in names if name not in values):
            message = (
                f"{_place(path)}: {' and '.join(missing)} can be any text that somebody sends, and "
                "the program that reads it here may take it for an option or for code; "
                + _or(_declared(missing), _handed_over(missing) if variables else "")
            )
            yield Undeclared(path, message, tolerable=True)


def _told(reading: Reading, names: tuple[str, ...], *, variables: bool) -> str:
    listed = _declared(names, listed=True)
    if reading.what == "program":
        return (
            f"{reading.reader!r} runs what stands here, and a label may not choose the program; "
            + _or("write it out", listed)
        )
    read = _READ.get(re.sub(r"[\d.]+$", "", reading.reader), '"${}"')
    use = " and ".join(read.format(_variable(name)) for name in names)
    return f"to {reading.reader!r} this is code, and labels never become code; " + _or(
        f"{_handed_over(names)}, and write {use} here" if variables else "", listed
    )


def _or(*remedies: str) -> str:
    return "; or ".join(filter(None, remedies))


def _declared(names: tuple[str, ...], *, listed: bool = False) -> str:
    pairs = []
    for name in names:
        try:
            name_of_value(name)
        except ValueError:
            return ""  # no pattern could ever match it
        pattern = _PATTERNS.get(name, DEFAULT)
        if listed:
            pattern = "1|2" if name in NUMBERS else LISTED
        pairs.append(f"{_key(name)}: '{pattern}'")
    what = "list what may stand here" if listed else "say what it may be"
    return f"{what}, by values: {{{', '.join(pairs)}}} in the strategy"


def _handed_over(names: tuple[str, ...]) -> str:
    new = [name for name in names if name not in VARIABLES]
    pairs = ", ".join(f"{_variable(name)}: {_quoted(name)}" for name in new)
    ours = " and ".join(VARIABLES[name] for name in names if name in VARIABLES)
    return " and ".join(
        filter(
            None,
            (
                f"hand it over as a variable, by env: {{{pairs}}} in this step" if new else "",
                f"take {ours}, which promheal sets" if ours else "",
            ),
        )
    )


def _variable(name: str) -> str:
    """Return the variable in which a program is to find a value."""
    if name in VARIABLES:
        return VARIABLES[name]
    own = re.sub("[^A-Z0-9_]", "_", name.rpartition(".")[2].upper())[:50]
    found = f"PROMHEAL_{own}"
    return f"{found}_LABEL" if found in RESERVED else found


def _key(name: str) -> str:
    """Return *name* as it is written in `values`."""
    short = name.removeprefix("labels.")
    if _PLAIN.fullmatch(short) and short not in KNOWN:
        return short
    return name if all(map(_PLAIN.fullmatch, name.split("."))) else f'"{name}"'


def _quoted(name: str) -> str:
    """Return the template of *name* as it is written in YAML."""
    first, _, rest = name.partition(".")
    if not rest or _PLAIN.fullmatch(rest):
        return f'"{{{{ {name} }}}}"'
    return f"""'{{{{ {first}["{rest}"] }}}}'"""


def _place(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
