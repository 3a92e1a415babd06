"""`promheal watch`: alerts from a file, through the whole way, whenever it has news."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any, Final

import click
import msgspec

from receiver.app import Promheal
from receiver.cli import FINE, values
from receiver.cli import options as shared
from receiver.cli.alert_file import AlertFile, read_alert_file
from receiver.cli.once import acting_service, carry, take, text
from receiver.cli.output import moment, show
from receiver.errors import ConfigError, JournalError
from receiver.policy.alert import Alert, Quarantined
from receiver.policy.duration import format_duration
from receiver.policy.run import State
from receiver.policy.target import Key

log: Final = logging.getLogger("promheal.watch")

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)

Results = list[dict[str, Any]]


@click.command("watch")
@click.option(
    "--alerts",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A payload of Alertmanager, or readings.",
)
@click.option(
    "--interval",
    type=values.SPAN,
    default="60s",
    show_default=True,
    help="From the start of one pass to the start of the next.",
)
@click.option(
    "--max-age",
    type=values.DURATION,
    default="5m",
    show_default=True,
    help="Leave out alerts that are older than this.",
)
@shared.config_file
@shared.storage_url
@click.option("--dry-run", is_flag=True, help="Say what would be done; do and record nothing.")
@shared.output
@shared.logging_options
def command(
    file: Path,
    interval: float,
    max_age: float,
    config_file: Path,
    storage_url: str,
    *,
    dry_run: bool,
    output: str,
) -> int:
    """Take the alerts of a file through the whole way, again and again: a service without a server.

    Each pass is as `promheal once`, and takes only what is new in the file. A file that is missing,
    broken, too old or unchanged is said once, and waited for. SIGINT and SIGTERM end it with exit
    code 0, as soon as an action that acts at that moment has ended.
    """
    with _signals() as ending, acting_service(config_file, storage_url, dry_run=dry_run) as service:
        if not dry_run:
            _tell(carry(service, _under_way(service), ending), output)
        watch = _Watch(service, file, max_age, dry_run=dry_run, ending=ending)
        while not ending.is_set():
            begun = time.monotonic()
            _tell(watch.look(), output)
            ending.wait(max(0.0, begun + interval - time.monotonic()))
    return FINE


class _Watch:
    """The file, and what of it was taken already."""

    def __init__(
        self, service: Promheal, file: Path, max_age: float, *, dry_run: bool, ending: Event
    ) -> None:
        self._service = service
        self._file = file
        self._max_age = max_age
        self._dry_run = dry_run
        self._ending = ending
        self._taken: set[tuple[str, float]] = set()  # fingerprint, and when it was said
        self._said = ""

    def look(self) -> Results | None:
        """Take what is new; return how each ended, or None when there is nothing to take."""
        try:
            alerts = read_alert_file(self._file)
        except ConfigError as error:
            self._say(logging.WARNING, str(error))
            return None
        oldest = time.time() - self._max_age  # noqa: TID251  a file's time is the wall clock's
        said = {(one.fingerprint, _said_at(one, alerts)): one for one in alerts.notification.alerts}
        new = {key: one for key, one in said.items() if key not in self._taken}
        fresh = {key: one for key, one in new.items() if key[1] >= oldest}
        if not fresh:
            self._say_why(new.values(), alerts.notification.quarantined)
            return None
        notification = msgspec.structs.replace(alerts.notification, alerts=tuple(fresh.values()))
        try:
            results = take(
                self._service, notification, dry_run=self._dry_run, ending=self._ending
            )  # fmt: skip
        except JournalError as error:
            self._say(logging.ERROR, f"taken again at the next pass: {error}")
            return None
        # What is older needs no place here: its age keeps it out.
        self._taken = {key for key in self._taken if key[1] >= oldest} | fresh.keys()
        self._said = ""
        log.info("alerts taken", extra={"new": len(fresh), "too_old": len(new) - len(fresh)})
        return results

    def _say_why(self, new: Collection[Alert], unreadable: Sequence[Quarantined]) -> None:
        """Say why there is nothing to take."""
        if new:
            self._say(
                logging.WARNING,
                f"{self._file}: what is new is older than {format_duration(self._max_age)}, and "
                "left out, since it may be over (--max-age)",
            )
        elif unreadable:
            self._say(logging.WARNING, f"{self._file}: {unreadable[0].problem}")
        else:
            self._say(logging.INFO, f"{self._file}: nothing new; waiting")

    def _say(self, level: int, message: str) -> None:
        """Say it, if it is not what was said last."""
        if message != self._said:
            log.log(level, "%s", message)
        self._said = message


def _said_at(alert: Alert, alerts: AlertFile) -> float:
    """Return when it was said, seconds since the epoch.

    A reading says it itself, and is not older than the file's oldest. Alertmanager's payload as a
    whole says that all of it fires at the file's time, since whenever.
    """
    return max(alert.starts_at, alerts.said_at)


def _under_way(service: Promheal) -> list[Key]:
    """Return what whoever acted here before us has begun and not ended."""
    return service.journal.read(
        lambda t: [
            key
            for key in sorted(t.keys())
            if (run := t.unfinished(key)) is not None and run.state is not State.PENDING
        ]
    )


def _tell(results: Results | None, output: str) -> None:
    if results:
        at = time.time()  # noqa: TID251  when people see it
        if output == "yaml":
            click.echo("---")
        show({"at": at, "results": results}, output, lambda: f"{moment(at)}\n{text(results)}")


@contextmanager
def _signals() -> Iterator[Event]:
    """Yield what the first SIGINT or SIGTERM sets; a second one ends it at once."""
    ending = Event()
    before: dict[int, Any] = {}

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in _ENDING:
        before[number] = signal.signal(number, end)
    try:
        yield ending
    finally:
        restore()
