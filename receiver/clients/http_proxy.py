"""Which proxy is asked for a URL? That of `proxy_url`, or of the environment if it may say so.

The rules of NO_PROXY are Go's, so Prometheus': https://pkg.go.dev/golang.org/x/net/http/httpproxy.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

from receiver.clients.dial import PORTS
from receiver.policy.http_config import HTTPConfig
from receiver.redaction import learn_url

_VARIABLES: Final = {"http": "HTTP_PROXY", "https": "HTTPS_PROXY"}


def proxy_for(config: HTTPConfig, url: SplitResult) -> SplitResult | None:
    """Return the proxy through which *url* is asked, or None: it is asked directly."""
    proxy, no_proxy = config.proxy_url or "", config.no_proxy
    if config.proxy_from_environment:
        from receiver.settings.environment import environment  # noqa: PLC0415  costs 30 ms, and few want it

        variables = environment()
        name = _VARIABLES[url.scheme]
        proxy = variables.get(name) or variables.get(name.lower(), "")
        no_proxy = variables.get("NO_PROXY") or variables.get("no_proxy", "")
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"
    if not proxy:
        return None
    local = config.proxy_from_environment or no_proxy
    if local and (_is_local(url.hostname or "") or _is_exempt(url, no_proxy)):
        return None
    learn_url(proxy)
    return urlsplit(proxy)


def _is_local(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _is_exempt(url: SplitResult, no_proxy: str) -> bool:
    host, port = (url.hostname or "").lower().rstrip("."), url.port or PORTS[url.scheme]
    address = _address(host)
    for word in filter(None, (each.strip().lower() for each in no_proxy.split(","))):
        if word == "*":
            return True
        if "/" in word:
            if address is not None and _holds(word, address):
                return True
            continue
        name, wanted = _host_and_port(word)
        if wanted not in {None, port}:
            continue
        known = _address(name)
        if known is not None or address is not None:
            if known == address:
                return True
            continue
        name = name.removeprefix("*")
        if host == name or host.endswith(name if name.startswith(".") else f".{name}"):
            return True
    return False


def _host_and_port(word: str) -> tuple[str, int | None]:
    if _address(word.strip("[]")) is not None:
        return word.strip("[]"), None
    name, _, port = word.rpartition(":")
    return (name.strip("[]"), int(port)) if name and port.isdecimal() else (word, None)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
