"""Where may promheal listen? Off loopback only with access control."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

from receiver.errors import ConfigError
from receiver.web.access.web_config import WebConfig
from receiver.web.access.web_config_file import LoadedWebConfig

_REMEDY: Final = """\
Have every caller say who it is:

    promheal config web --out web.yml
    promheal serve --web.config.file web.yml --web.listen-address {listen}

That writes tokens for Alertmanager, for Prometheus and for you into a file as this one, which you
can also write yourself:

    bearer_tokens:
      # A token: openssl rand -hex 32 > token. Its hash: tr -d '\\n' < token | sha256sum
      - {{name: alertmanager, role: webhook, sha256: ""}}
      - {{name: me, role: operator, sha256: ""}}
    tls_server_config:
      cert_file: server.crt
      key_file: server.key"""


class ListenAddress:
    """`--web.listen-address`. Raises ConfigError for anything but HOST:PORT with an IP address."""

    def __init__(self, text: str) -> None:
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise ConfigError(f"--web.listen-address {text!r}: write HOST:PORT, as 127.0.0.1:3001")
        self._text = text
        self.host = host.removeprefix("[").removesuffix("]")
        self.port = int(port)
        self.loopback = self._is_loopback()
        """Only this machine can reach it."""

    def __str__(self) -> str:
        return self._text

    def check(self, config: WebConfig, file: Path | None) -> None:
        """Raise ConfigError if anybody who reaches this machine could restart its services."""
        if config.restricts or self.loopback:
            return
        more = (
            "TLS alone keeps nobody out. " if config.tls else ""
        ) + f"{file} names no users, no tokens and no client certificates. "
        raise ConfigError(
            f"--web.listen-address {self._text!r} can be reached from other machines, and this "
            "server has no access control: whoever can post alerts there can restart your "
            f"services. {more if file else ''}{_REMEDY.format(listen=self._text)}"
        )

    def check_reload(self, old: LoadedWebConfig, new: LoadedWebConfig) -> None:
        """Raise ConfigError if a running server cannot apply *new*."""
        if (old.context is None) != (new.context is None):
            raise ConfigError("TLS is switched on and off by a restart; take it then, or undo it")
        if not (new.config.restricts or self.loopback):
            raise ConfigError(
                f"it would open {self._text} to everybody: it names no users, no tokens and no "
                "client certificates"
            )

    def _is_loopback(self) -> bool:
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            raise ConfigError(
                f"--web.listen-address {self._text!r}: {self.host!r} is no IP address; write "
                f"127.0.0.1:{self.port}, or 0.0.0.0:{self.port} for every address of this machine"
            ) from None
