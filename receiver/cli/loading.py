"""Loads the configuration, or opens the journal, for a command that needs a sound one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from receiver.cli import BROKEN
from receiver.cli.output import say
from receiver.errors import ConfigError

if TYPE_CHECKING:  # 100 ms to import, which --help does not need
    from receiver.config.files import LoadedConfig
    from receiver.journal import Journal


def loaded(file: Path, instead: Mapping[Path, str] = {}, *, but: str = "") -> LoadedConfig:
    """Return the configuration at *file*; prints the problems of a broken one, and exits with 2.

    *instead* has texts that are taken for those of files, and *but* is said of their problems.
    """
    from receiver.actions import discover  # noqa: PLC0415  see above
    from receiver.config.files import load  # noqa: PLC0415
    from receiver.settings.environment import environment  # noqa: PLC0415
    from receiver.yaml.diagnostics import InvalidConfig, format_problem  # noqa: PLC0415

    try:
        return load(file, discover(), environment(), instead=instead)
    except InvalidConfig as invalid:
        if but:
            say(but, err=True)
        for problem in invalid.problems:
            say(format_problem(problem), err=True)
        sys.exit(BROKEN)


@contextmanager
def there(url: str) -> Iterator[Journal]:
    """Open the journal at *url*, which must be there."""
    from receiver.journal import file_of, open_journal  # noqa: PLC0415  see above
    from receiver.redaction import learn_url  # noqa: PLC0415

    learn_url(url)
    if not url.startswith("postgres") and not file_of(url).exists():
        raise ConfigError(f"there is no journal {file_of(url)}; name it with --storage.url")
    with closing(open_journal(url)) as journal:
        yield journal
