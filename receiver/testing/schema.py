"""The JSON Schema of test files, for editors to complete and check."""

from __future__ import annotations

import sys
from pathlib import Path

from receiver.actions import Actions, discover
from receiver.config.kinds import Schema
from receiver.config.schemas import file_schema, render_schema, schemas
from receiver.testing.file import InlineServices, InlineStrategies, StrategyTests

NAME = "tests.schema.json"


def schema_of_tests(actions: Actions) -> Schema:
    """Return the schema of a test file, or of the second document of one of promtool's."""
    known = schemas(actions)
    return file_schema(
        "a test file of promheal",
        StrategyTests,
        {
            InlineStrategies: known["healing_strategies"]["properties"]["strategies"],
            InlineServices: known["services"]["properties"]["services"],
        },
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / NAME).write_text(render_schema(schema_of_tests(discover())), encoding="utf-8")
