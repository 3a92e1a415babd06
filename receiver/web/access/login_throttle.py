"""Locks out addresses that guess passwords.

After 10 wrong passwords within a minute an address is locked out for a minute, then two, up to 15.
Memory is bounded: an attacker with more addresses is slowed down by bcrypt alone.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from functools import lru_cache
from typing import Final

FAILURES: Final = 10
WITHIN: Final = 60.0  # seconds
FIRST: Final = 60.0  # seconds
MOST: Final = 900.0  # seconds
ADDRESSES: Final = 4096
"""Addresses that are remembered: those that failed last."""


class _Guesser:
    __slots__ = ("failures", "locks", "until")

    def __init__(self) -> None:
        self.failures: deque[float] = deque(maxlen=FAILURES)
        self.until = 0.0
        self.locks = 0
        """Lock-outs in a row, with less than MOST seconds between them."""


class LoginThrottle:
    """Not safe to use from several threads: its owner holds a lock."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Guesser] = OrderedDict()

    def locked(self, network: str, now: float) -> bool:
        guesser = self._known.get(network)
        return guesser is not None and now < guesser.until

    def failed(self, network: str, now: float) -> None:
        """Note a wrong password."""
        guesser = self._known.setdefault(network, _Guesser())
        self._known.move_to_end(network)
        if len(self._known) > ADDRESSES:
            self._known.popitem(last=False)
        guesser.failures.append(now)
        if len(guesser.failures) == FAILURES and now - guesser.failures[0] <= WITHIN:
            if now - guesser.until > MOST:
                guesser.locks = 0
            guesser.until = now + min(MOST, FIRST * 2.0**guesser.locks)
            guesser.locks += 1
            guesser.failures.clear()


@lru_cache(maxsize=1024)
def network(address: str) -> str:
    """Return what identifies one client: an IPv4 address, or the first 64 bits of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:  # an IPv4 client, on a socket of IPv6
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
