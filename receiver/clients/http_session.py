"""A session of requests that connects by our own sockets. Importing it takes 60 ms.

Only what requests and urllib3 offer to subclasses is used: an adapter gives the pool for a request,
a pool is told its class of connections and what they are made with, and a connection connects.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from receiver.clients.dial import PORTS, PlainSocket, Socket, dial, wrap_tls
from receiver.redaction import known

_KEPT: Final = 64
"""Connections to one host that are kept for the next request."""

FAILURES: Final = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, UnicodeError)
"""What a session raises when there is no reply; the errors of requests are OSErrors."""

# Of headers that it cannot read it logs the text, which may repeat a secret.
logging.getLogger("urllib3").setLevel(logging.ERROR)


class HTTPRoute:
    """How to get to a host: itself, a Unix socket or a proxy, and TLS over it."""

    def __init__(
        self,
        url: SplitResult,
        *,
        context: ssl.SSLContext | None,
        server_name: str = "",
        proxy: SplitResult | None = None,
        socket_path: str = "",
    ) -> None:
        self._url = url
        self._context = context
        self._server_name = server_name
        self._socket_path = socket_path
        self.proxy = None if socket_path else proxy

    @property
    def key(self) -> tuple[object, ...]:
        """What two requests have in common that may share a connection."""
        proxy = self.proxy and self.proxy.geturl()
        return (self._url.scheme, self._url.netloc, proxy, self._context)

    @property
    def tunnels(self) -> bool:
        return self.proxy is not None and self._context is not None

    def connect(self, deadline: float) -> Socket:
        host, port = _host_and_port(self._url)
        if self.proxy is None:
            sock = dial(host, port, deadline, socket_path=self._socket_path)
        else:
            sock = dial(*_host_and_port(self.proxy), deadline)
            if self.tunnels:
                _open_tunnel(sock, f"{_bracketed(host)}:{port}", self.proxy)
        if self._context is None:
            return sock
        return wrap_tls(sock, self._context, self._server_name or host)

    def pool(self) -> HTTPConnectionPool:
        near = self._url if self.proxy is None or self.tunnels else self.proxy
        host, port = _host_and_port(near)
        pool = HTTPConnectionPool(host, port, maxsize=_KEPT, way=self)
        pool.ConnectionCls = _Connection
        return pool


def proxy_authorization(proxy: SplitResult) -> str | None:
    """Return the header with which a proxy lets us in, if its URL has a user."""
    if proxy.username is None:
        return None
    login = f"{unquote(proxy.username)}:{known(unquote(proxy.password or ''))}"
    return f"Basic {known(b64encode(login.encode()).decode())}"


def _open_tunnel(sock: PlainSocket, address: str, proxy: SplitResult) -> None:
    try:
        login = proxy_authorization(proxy)
        more = "" if login is None else f"Proxy-Authorization: {login}\r\n"
        sock.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{more}\r\n".encode())
        with http.client.HTTPResponse(sock, method="CONNECT") as response:
            response.begin()
    except BaseException:
        sock.close()
        raise
    if not 200 <= response.status < 300:
        sock.close()
        raise OSError(f"the proxy answered {response.status} to CONNECT {address}")


class _Connection(HTTPConnection):
    """A connection whose `timeout` is for the whole exchange."""

    sock: Socket | None

    def __init__(
        self, host: str, port: int | None = None, *, way: HTTPRoute, **options: Any
    ) -> None:
        super().__init__(host, port, **options)
        self._way = way
        self._deadline = 0.0
        if way.key[0] == "https":
            self.default_port = PORTS["https"]  # type: ignore[misc]  # else `Host` has the port

    def connect(self) -> None:
        self.sock = self._way.connect(self._deadline)

    def request(self, method: str, url: str, *args: Any, **options: Any) -> None:
        assert self.timeout is not None
        self._deadline = time.monotonic() + self.timeout
        if self.sock is not None:
            self.sock.deadline = self._deadline
        super().request(method, url, *args, **options)


class _Adapter(HTTPAdapter):
    def __init__(self, way: Callable[[SplitResult], HTTPRoute]) -> None:
        super().__init__()
        self._way = way
        self._lock = threading.Lock()
        self._pools: dict[tuple[object, ...], HTTPConnectionPool] = {}

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Any,  # noqa: ARG002  the way knows
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
    ) -> HTTPConnectionPool:
        way = self._way(urlsplit(request.url or ""))
        with self._lock:
            found = self._pools.get(way.key)
            if found is None:
                # Files of TLS were changed: what was made with the older ones is of no use.
                for key in [key for key in self._pools if key[:3] == way.key[:3]]:
                    self._pools.pop(key).close()
                found = self._pools[way.key] = way.pool()
            return found

    def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:
        """Let a proxy that is sent the request itself know who asks."""
        way = self._way(urlsplit(request.url or ""))
        if way.proxy is not None and not way.tunnels:
            login = proxy_authorization(way.proxy)
            if login is not None:
                request.headers["Proxy-Authorization"] = login

    def cert_verify(self, *_: Any) -> None:
        """Say nothing of certificates to the pool: the way knows."""

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        del proxies
        way = self._way(urlsplit(request.url or ""))
        whole = way.proxy is not None and not way.tunnels
        return (request.url or "") if whole else request.path_url

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()
        super().close()


class Session(requests.Session):
    """One that takes nothing from the environment, keeps no cookies and follows nothing."""

    def __init__(self, way: Callable[[SplitResult], HTTPRoute]) -> None:
        super().__init__()
        self.trust_env = False
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        for scheme in PORTS:
            self.mount(f"{scheme}://", _Adapter(way))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing: requests would read all of a redirect to prepare what it may not send."""
        del resp


def _host_and_port(url: SplitResult) -> tuple[str, int]:
    return url.hostname or "", url.port or PORTS[url.scheme]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
