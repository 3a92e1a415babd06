"""`promheal watch`: alerts from a file, through the whole way, whenever it changes."""

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
from receiver.cli import FINE, passes, values
from receiver.cli.alert_file import AlertFile, read_alert_file
from receiver.cli.output import moment, show
from receiver.cli.passes import Results
from receiver.errors import ConfigError, JournalError
from receiver.policy.alert import Alert, Quarantined
from receiver.policy.duration import format_duration
from receiver.policy.run import State
from receiver.policy.target import Key
from receiver.process.launching import LAUNCHING

log: Final = logging.getLogger("promheal.watch")

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


@click.command("watch")
@click.option(
    "--interval",
    type=values.SPAN,
    default="60s",
    show_default=True,
    help="From the start of one pass to the start of the next.",
)
@passes.options(too_old="Leave out", must_exist=False)
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
    with (
        _signals() as ending,
        passes.acting_service(config_file, storage_url, dry_run=dry_run) as service,
    ):
        if not dry_run:
            LAUNCHING.start()  # unlike `once`, which acts too seldom for it to gain anything
            _show(passes.carry(service, _under_way(service), ending), output)
        watch = _Watch(service, file, max_age, dry_run=dry_run, ending=ending)
        while not ending.is_set():
            begun = time.monotonic()
            _show(watch.look(), output)
            ending.wait(max(0.0, begun + interval - time.monotonic()))
    return FINE


class _Watch:
    """The file, and which of its alerts were taken already."""

    def __init__(
        self, service: Promheal, file: Path, max_age: float, *, dry_run: bool, ending: Event
    ) -> None:
        self._service = service
        self._file = file
        self._max_age = max_age
        self._dry_run = dry_run
        self._ending = ending
        self._taken: set[tuple[str, float]] = set()  # fingerprint, and when it was said
        self._logged = ""

    def look(self) -> Results | None:
        """Take new alerts; return each result, or None if there is nothing to take."""
        try:
            alerts = read_alert_file(self._file)
        except ConfigError as error:
            self._log(logging.WARNING, str(error))
            return None
        oldest = time.time() - self._max_age  # noqa: TID251  a file's time is the wall clock's
        said = {(one.fingerprint, _said_at(one, alerts)): one for one in alerts.notification.alerts}
        new = {key: one for key, one in said.items() if key not in self._taken}
        fresh = {key: one for key, one in new.items() if key[1] >= oldest}
        if not fresh:
            self._log_why(new.values(), alerts.notification.quarantined)
            return None
        notification = msgspec.structs.replace(alerts.notification, alerts=tuple(fresh.values()))
        try:
            results = passes.take(
                self._service, notification, dry_run=self._dry_run, ending=self._ending
            )  # fmt: skip
        except JournalError as error:
            self._log(logging.ERROR, f"taken again at the next pass: {error}")
            return None
        # Older ones need not be remembered: their age keeps them out.
        self._taken = {key for key in self._taken if key[1] >= oldest} | fresh.keys()
        self._logged = ""
        log.info("alerts taken", extra={"new": len(fresh), "too_old": len(new) - len(fresh)})
        return results

    def _log_why(self, new: Collection[Alert], unreadable: Sequence[Quarantined]) -> None:
        """Log why there is nothing to take."""
        if new:
            self._log(
                logging.WARNING,
                f"{self._file}: what is new is older than {format_duration(self._max_age)}, and "
                "left out, since it may be over (--max-age)",
            )
        elif unreadable:
            self._log(logging.WARNING, f"{self._file}: {unreadable[0].problem}")
        else:
            self._log(logging.INFO, f"{self._file}: nothing new; waiting")

    def _log(self, level: int, message: str) -> None:
        """Log *message*, unless it was the last one."""
        if message != self._logged:
            log.log(level, "%s", message)
        self._logged = message


def _said_at(alert: Alert, alerts: AlertFile) -> float:
    """Return when the alert was reported, seconds since the epoch.

    A reading has its own timestamp, which is not older than the file's oldest. Alertmanager's
    payload reports all of its alerts as firing at the file's time, whenever they started.
    """
    return max(alert.starts_at, alerts.said_at)


def _under_way(service: Promheal) -> list[Key]:
    """Return the keys of the runs that an earlier process began and did not end."""
    return service.journal.read(
        lambda t: [
            key
            for key in sorted(t.keys())
            if (run := t.unfinished(key)) is not None and run.state is not State.PENDING
        ]
    )


def _show(results: Results | None, output: str) -> None:
    if results:
        at = time.time()  # noqa: TID251  for people
        if output == "yaml":
            click.echo("---")
        show(
            {"at": at, "results": results}, output, lambda: f"{moment(at)}\n{passes.text(results)}"
        )


@contextmanager
def _signals() -> Iterator[Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second one kills us."""
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
