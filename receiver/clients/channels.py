"""Notification channels: each `notify.channels` entry is an Apprise URL.

Title and body are plain text: whole, bounded, without control characters, and without the words
that make chat systems call everybody. A URL may hold secrets and never gets into an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from receiver import process
from receiver.errors import ActionError
from receiver.redaction import learn_url, redact
from receiver.settings import NotifyChannel, NotifySettings

MAX_TITLE: Final = 250
"""Characters of a title; the least that the services we know take."""
MAX_BODY: Final = 4_000
"""Characters of a body; what a service cannot take, Apprise cuts off or sends in parts."""
_MAX_URL: Final = 8_192  # characters
_DELIVER: Final = str(Path(__file__).with_name("apprise_child.py").resolve())
_LINES: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and what turns the direction of writing."""
_CALLS: Final = re.compile(r"@(?=everyone|here|channel|all\b)|<(?=[!@#])", re.IGNORECASE)
"""What calls everybody in Discord, Slack, Mattermost and Teams."""


class Channels:
    """The channels of one configuration. Safe to use from many threads."""

    def __init__(
        self, settings: NotifySettings, environ: Mapping[str, str], folder: Path | None = None
    ) -> None:
        """*environ*: where `url_env` is looked up. *folder*: what `url_file` is relative to."""
        self._channels = dict(settings.channels)
        self._folder = folder or Path()
        self._secrets = {
            channel.url_env: environ.get(channel.url_env, "")
            for channel in settings.channels.values()
            if channel.url_env is not None
        }
        for url in self._secrets.values():
            learn_url(url, entirely=True)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._channels)

    def send(self, name: str, title: str, body: str, *, timeout: float) -> None:
        """Tell it, within *timeout* seconds. Raises ActionError when it was not taken."""
        told = {
            "title": plain(redact(title), MAX_TITLE).replace("\n", " "),
            "body": plain(redact(body), MAX_BODY),
        }
        self._deliver(name, told, timeout)

    def probe(self, name: str, *, timeout: float) -> None:
        """Raise ActionError when nothing could be sent, as far as that shows without sending."""
        self._deliver(name, {}, timeout)

    def _deliver(self, name: str, told: Mapping[str, str], timeout: float) -> None:
        channel = self._channels.get(name)
        if channel is None:
            known = ", ".join(self._channels) or "none"
            raise ActionError(f"no channel {name!r} in `notify.channels`; known: {known}")
        message = {"url": self._url(name, channel), "timeout": timeout, **told}
        finished = process.run(
            [sys.executable, "-I", _DELIVER],
            timeout=timeout,
            env={"PROMHEAL_MESSAGE": msgspec.json.encode(message).decode()},
            output_limit=1_000,
        )
        if finished.timed_out:
            raise ActionError(f"channel {name!r}: not within {timeout:g} s")
        if finished.exit_code == 1:
            raise ActionError(redact(f"channel {name!r}: {finished.output}"))
        if not finished.ok:
            how = finished.exit_code if finished.signal is None else f"signal {finished.signal}"
            raise ActionError(f"channel {name!r}: the delivery ended with {how}")

    def _url(self, name: str, channel: NotifyChannel) -> str:
        where, text = "`url`", channel.url or ""
        if channel.url_env is not None:
            where, text = f"variable {channel.url_env}", self._secrets[channel.url_env]
        elif channel.url_file is not None:
            path = self._folder / channel.url_file
            where = f"url_file {path}"
            try:
                with path.open(encoding="utf-8") as opened:
                    text = opened.read(_MAX_URL + 1)
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "is no text"
                raise ActionError(f"channel {name!r}: {where}: {why}") from None
        text = text.strip()
        if not text or len(text) > _MAX_URL or not text.isprintable():
            what = "is empty or not set" if not text else "holds no URL"
            raise ActionError(f"channel {name!r}: {where} {what}")
        learn_url(text, entirely=channel.url is None)
        return text


def plain(text: str, most: int) -> str:
    """Return *text* as it may be shown to people: at most *most* characters, nobody is called."""
    shown = _CALLS.sub(
        "\\g<0>\u200b", _LINES.sub("\ufffd", text.encode("utf-8", "replace").decode())
    )
    return shown if len(shown) <= most else shown[: most - 1] + "…"
