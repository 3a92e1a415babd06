"""Who is the client behind a proxy? What a trusted proxy says in X-Forwarded-For and -Proto.

Anybody can send these headers, so they count from the addresses that the operator names, and from
nobody else. No other header of this kind is read: neither X-Forwarded-Host, which would get around
the checks of `csrf`, nor any that names a user or a path.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from receiver.errors import ConfigError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_SCHEMES: Final = frozenset({"http", "https"})


class TrustedProxies:
    """*networks* are addresses and CIDRs. Raises ConfigError for what is none, or is everybody."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [_network(text) for text in networks]

    def client(self, peer: str, forwarded_for: str) -> str:
        """Return the client's address: the last in X-Forwarded-For that is no trusted proxy's.

        Each proxy adds its peer at the end; what stands before an address that we do not trust is
        that one's word. An entry that is no address is the end of what can be known.
        """
        if not self._networks or not self._trusts(peer):
            return peer
        client = peer
        for entry in reversed(forwarded_for.split(",")):
            address = _address(entry.strip())
            if address is None:
                break
            client = str(address)
            if not self._trusts(client):
                break
        return client

    def scheme(self, peer: str, forwarded_proto: str, scheme: str) -> str:
        """Return the scheme that the client used, by a trusted proxy's word; else *scheme*."""
        said = forwarded_proto.rpartition(",")[2].strip().lower()
        return said if said in _SCHEMES and self._trusts(peer) else scheme

    def _trusts(self, peer: str) -> bool:
        address = _address(peer)
        return address is not None and any(address in network for network in self._networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"--web.trust-proxy {text!r}: {error}; write the address of the proxy, as 10.0.0.5, or "
            "its network, as 10.0.0.0/24"
        ) from error
    if network.prefixlen == 0:
        raise ConfigError(
            f"--web.trust-proxy {text!r}: that is everybody, and each client could say that it is "
            "another; write the address of the proxy"
        )
    return network


@lru_cache(maxsize=1024)
def _address(text: str) -> _Address | None:
    """Read an address, without the port that some proxies add."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
