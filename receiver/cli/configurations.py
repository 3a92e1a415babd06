"""`promheal config history`, `diff` and `rollback`: what was loaded, and the way back to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.cli import FINDINGS, FINE, client, paging, values
from receiver.cli import options as shared
from receiver.cli.loading import loaded, there
from receiver.cli.output import colored, moment, say, show
from receiver.errors import ConfigError, PromhealError, RefusedError
from receiver.log import escape

if TYPE_CHECKING:  # what they import takes 100 ms, and --help does not need it
    from receiver.cli.client import Server
    from receiver.config.rollback import Return
    from receiver.config.stored import StoredConfig
    from receiver.journal import ConfigLoad, Journal

SHORT: Final = 12
"""Digits of a hash that are shown in a table."""
_PREFIX: Final = re.compile(r"[0-9a-f]{4,64}")
_BY: Final = "command line"


@click.command("history")
@paging.by_id("loads")
@shared.storage_url
@shared.output
def history(limit: int, before: int | None, storage_url: str, output: str) -> None:
    """List which configurations were loaded, when, by whom, and which were refused; newest first.

    It reads the journal at --storage.url, and needs no promheal that runs.
    """
    with there(storage_url) as journal:
        loads, newest = journal.read(
            lambda t: (t.loads(limit=limit, before=before), t.load_in_force())
        )
    following = loads[-1].id if len(loads) == limit else None
    listed = [_listed(one, newest) for one in loads]
    show({"loads": listed, "next": following}, output, lambda: _table(listed, following))


@click.command("diff")
@click.argument("one", metavar="HASH")
@click.argument("other", metavar="[HASH]", required=False)
@click.option("--files", is_flag=True, help="Compare with the files as they are now.")
@shared.config_file
@shared.storage_url
def diff(one: str, other: str | None, config_file: Path, storage_url: str, *, files: bool) -> int:
    """Show what has changed from one configuration to another, file by file.

    HASH is one of `promheal config history`, or its first digits; the second is the configuration
    in force if it is left out. Secrets are not kept, so a change of one is not seen. Exit code 1
    when they differ, 2 when one of them is not there.
    """
    from receiver.config import stored  # noqa: PLC0415  see above

    if files and other is not None:
        raise click.UsageError("--files is in place of the second HASH; give one of them")
    with there(storage_url) as journal:
        try:
            first, old = _found(journal, one)
            if files:
                second, new = "files", stored.of(loaded(config_file))
            else:
                second, new = _found(journal, _in_force(journal) if other is None else other)
        except RefusedError as error:
            raise ConfigError(str(error)) from None  # exit code 1 says that they differ
    lines = list(_differences(first[:SHORT], old, second[:SHORT], new))
    for line in lines:
        say(line)
    return FINDINGS if lines else FINE


@click.command("rollback")
@click.argument("hashed", metavar="HASH")
@values.reason
@click.option(
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Only write the old files there; secrets that cannot be filled in stay REDACTED.",
)
@click.option("--no-reload", is_flag=True, help="Leave the running promheal as it is.")
@shared.config_file
@shared.storage_url
@client.perhaps
def rollback(
    hashed: str,
    reason: str,
    folder: Path | None,
    config_file: Path,
    storage_url: str,
    server: Callable[[], Server],
    *,
    no_reload: bool,
) -> int:
    """Put the files back as they were in a configuration, and have the running promheal reload.

    HASH is one of `promheal config history`, or its first digits. Secrets are those of the present
    files, each from the same place and only for the same address; where there is none, nothing is
    written. The old files are checked before, and what was there is kept beside each.
    """
    from receiver.config import rollback as back  # noqa: PLC0415  see above

    with there(storage_url) as journal:
        full, old = _found(journal, hashed)
        files = back.returns(old, config_file)
        if folder is not None:
            _write_out(files, folder)
            return FINE
        back.refuse_missing(files)
        if not any(file.changes for file in files):
            say(f"the files are those of {full[:SHORT]} already")
            return FINE
        back.refuse_unwritable(files)
        changed = _put_back(files, full, config_file)
        _audit(journal, reason, f"{full[:SHORT]} in {', '.join(changed)}")
    if no_reload:
        return FINE
    try:
        server().post("/-/reload")
    except PromhealError as error:
        text = f"not reloaded: {error}\nthe files are in force from the next start or reload"
        say(text, err=True)
        return FINDINGS
    say("reloaded")
    return FINE


def _write_out(files: Sequence[Return], folder: Path) -> None:
    from receiver.config import rollback as back  # noqa: PLC0415  see above

    for path in back.write_out(files, folder):
        say(f"written: {path}")
    for file in files:
        for one in file.missing:
            say(f"fill in: {file.path.name}:{one.line}: {one.place}", err=True)


def _put_back(files: Sequence[Return], full: str, config_file: Path) -> list[str]:
    """Put the files back once they have been checked; return the paths of those that changed."""
    from receiver.clock import wall  # noqa: PLC0415  see above
    from receiver.config import rollback as back  # noqa: PLC0415

    texts = {file.path: file.text for file in files}
    new = loaded(config_file, texts, but="it is not accepted any more; nothing was changed").hash
    stamp = f"{datetime.fromtimestamp(wall(), UTC):%Y%m%dT%H%M%SZ}"
    aside = back.put_back(files, stamp)
    for path, kept in aside.items():
        say(f"put back: {path}" + (f"; what was there: {kept}" if kept else ""))
    for file in files:
        for place in file.kept if file.changes else ():
            say(f"secret kept as it is now: {place}")
    if new != full:
        say(f"the hash is {new[:SHORT]}: a secret, a comment or a flag is another than then")
    return [str(path) for path in aside]


def _found(journal: Journal, prefix: str) -> tuple[str, StoredConfig]:
    """Return the hash that begins so, and its configuration. Raises RefusedError."""
    from receiver.config.stored import unpack  # noqa: PLC0415  see above

    low = prefix.lower()
    if not _PREFIX.fullmatch(low):
        raise click.UsageError(f"{prefix!r} is no hash: write 4 of its digits, or more")
    found = journal.read(lambda t: t.configurations(low))
    if not found:
        raise RefusedError(
            f"no configuration {prefix} is kept; promheal config history lists them", status=404
        )
    if len(found) > 1:
        both = ", ".join(one.hash for one in found)
        raise RefusedError(f"{prefix} is the beginning of several: {both}", status=409)
    return found[0].hash, unpack(found[0].body)


def _in_force(journal: Journal) -> str:
    newest = journal.read(lambda t: t.load_in_force())
    if newest is None or newest.hash is None:
        raise RefusedError("nothing was loaded yet", status=404)
    return newest.hash


def _listed(load: ConfigLoad, newest: ConfigLoad | None) -> dict[str, Any]:
    return {
        "id": load.id,
        "at": load.at,
        "lastAt": load.last_at,
        "times": load.times,
        "how": load.how,
        "by": load.by,
        "hash": load.hash,
        "version": load.version,
        "error": load.error,
        "inForce": newest is not None and load.id == newest.id,
    }


def _table(loads: list[dict[str, Any]], following: int | None) -> str:
    rows = [
        [
            one["id"],
            moment(one["at"]),
            one["times"] if one["times"] > 1 else "",
            one["how"],
            one["by"] or "-",
            (one["hash"] or "refused")[:SHORT],
            "in force" if one["inForce"] else one["error"].split("\n")[0],
        ]
        for one in loads
    ]
    header = ["ID", "AT", "TIMES", "HOW", "BY", "HASH", ""]
    return paging.listing(
        rows, header, empty="nothing was loaded yet", option="--before", following=following
    )


def _differences(first: str, old: StoredConfig, second: str, new: StoredConfig) -> Iterator[str]:
    """Yield the lines of a unified diff, one file after another, and then of the flags."""
    color = colored()
    pairs = [
        (was.name, was.text, now.name, now.text)
        for was, now in zip(old.files, new.files, strict=True)
    ]
    flags = [
        "\n".join(f"{name}: {str(on).lower()}" for name, on in sorted(of.flags.items()))
        for of in (old, new)
    ]
    pairs.append(("flags", flags[0], "flags", flags[1]))
    for was, before, now, after in pairs:
        for line in unified_diff(
            before.splitlines(),
            after.splitlines(),
            f"{first}/{was}",
            f"{second}/{now}",
            lineterm="",
        ):
            text = escape(line)
            yield _colored(text) if color else text


def _colored(line: str) -> str:
    if line.startswith(("---", "+++")):
        return click.style(line, bold=True)
    color = {"-": "red", "+": "green", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=color) if color else line


def _audit(journal: Journal, reason: str, detail: str) -> None:
    from receiver.clock import steady_clock  # noqa: PLC0415  see above

    now = steady_clock(not_before=journal.read(lambda t: t.newest()))()
    journal.atomically(
        lambda t: t.put_audit(
            "rollback", "configuration", by=_BY, reason=reason, detail=detail, now=now
        )
    )
