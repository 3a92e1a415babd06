"""Which migrations are there, and which are missing?"""

from __future__ import annotations

from importlib.resources import files


def scripts(dialect: str) -> list[str]:
    """Return the SQL of every migration of `sqlite` or `postgres`; the first makes schema 1."""
    folder = files("receiver.journal").joinpath("migrations").joinpath(dialect)
    found = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [entry.read_text(encoding="utf-8") for entry in found]
