"""TLS of an authority of our own and basic auth, in front of a Prometheus and an Alertmanager."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any, Final

import bcrypt
import trustme

from tests.web_servers import write_pem

USER: Final = "promheal"


class Guard:
    """`--web.config.file` for both, and how others are let in; the password may change."""

    def __init__(self, folder: Path, password: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.web_config = folder / "web.yml"
        self.password_file = folder / "password"
        authority = trustme.CA()
        server = authority.issue_cert("localhost")
        self.ca_file = write_pem(folder / "ca.pem", authority.cert_pem)
        self._cert_file = write_pem(folder / "server.crt", *server.cert_chain_pems)
        self._key_file = write_pem(folder / "server.key", server.private_key_pem)
        self._context = ssl.create_default_context(cafile=self.ca_file)
        self.set_password(password)

    def set_password(self, password: str) -> None:
        """Let in with this one only, from the next request on."""
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        content = {
            "tls_server_config": {"cert_file": self._cert_file, "key_file": self._key_file},
            "basic_auth_users": {USER: hashed},
        }
        for path, text in (
            (self.web_config, json.dumps(content)),
            (self.password_file, f"{password}\n"),
        ):
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").replace(path)
        self._password = password

    @property
    def http_config(self) -> dict[str, Any]:
        """As Prometheus and promheal have it in their files."""
        return {
            "basic_auth": {"username": USER, "password_file": str(self.password_file)},
            "tls_config": {"ca_file": self.ca_file},
        }

    def open(self, url: str) -> bytes:
        """Ask as they are asked; raises what urllib does."""
        login = base64.b64encode(f"{USER}:{self._password}".encode()).decode()
        request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
        with urllib.request.urlopen(request, timeout=5, context=self._context) as answer:
            content: bytes = answer.read()
            return content
