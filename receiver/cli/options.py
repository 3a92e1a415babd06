"""Flags that several commands share, named as in Prometheus' own tools."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receiver import log

if TYPE_CHECKING:  # 100 ms to import, and the commands that ask a server need none of it
    from receiver.bootstrap import Options

F = TypeVar("F", bound=Callable[..., Any])

config_file = click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("configs/promheal.yml"),
    show_default=True,
    help="promheal.yml; the strategies and services are found from it.",
)
storage_url = click.option(
    "--storage.url",
    "storage_url",
    default="sqlite:///data/promheal.db",
    show_default=True,
    metavar="URL",
    help="The journal: sqlite:///RELATIVE or sqlite:////ABSOLUTE path, or for many machines "
    "postgresql://USER@HOST/DATABASE.",
)
storage_path = click.option(
    "--storage.path",
    "storage_path",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the healing log and the snapshots go. [default: where the journal's file is, or "
    "data]",
)
web_config = click.option(
    "--web.config.file",
    "web_config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TLS, users, tokens and roles, in the format of Prometheus' own web configuration.",
)
dry_run = click.option("--dry-run", is_flag=True, help="Decide and record, never act.")
output = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="How the answer is printed.",
)


def logging_options(function: F) -> F:
    """Add --log.level and --log.format, and apply them before the command runs."""

    @click.option(
        "--log.level",
        "log_level",
        type=click.Choice(log.LEVELS),
        default="info",
        show_default=True,
        help="The least severe lines that are written.",
    )
    @click.option(
        "--log.format",
        "log_format",
        type=click.Choice(log.FORMATS),
        default="logfmt",
        show_default=True,
        help="One event a line, on standard error.",
    )
    @functools.wraps(function)
    def with_logging(*args: Any, log_level: str, log_format: str, **kwargs: Any) -> Any:
        log.configure(log_level, log_format)
        return function(*args, **kwargs)

    return with_logging  # type: ignore[return-value]  # the same call plus two options


def options(
    config_file: Path, storage_url: str, *, dry_run: bool = False, external_url: str = ""
) -> Options:
    from receiver.bootstrap import Options  # noqa: PLC0415  see above
    from receiver.redaction import learn_url  # noqa: PLC0415
    from receiver.settings.environment import environment  # noqa: PLC0415

    learn_url(storage_url)

    return Options(
        config_file=config_file,
        storage_url=storage_url,
        environ=environment(),
        external_url=external_url,
        dry_run=dry_run,
    )
