"""Who guesses passwords, and for how long is he not listened to?

After 10 wrong passwords within a minute an address is not asked for a minute, then two, up to 15.
What is remembered is bounded: whoever has more addresses than that is slowed down by bcrypt alone.
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
"""Those that are remembered; the ones that failed last."""


class _Guesser:
    __slots__ = ("failures", "locks", "until")

    def __init__(self) -> None:
        self.failures: deque[float] = deque(maxlen=FAILURES)
        self.until = 0.0
        self.locks = 0
        """How often it was locked out without a break of MOST seconds between."""


class LoginThrottle:
    """The addresses that gave wrong passwords. Used under its owner's lock."""

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
    """Return what one client may have for its own: an IPv4 address, or 64 bits of IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:  # an IPv4 client, on a socket of IPv6
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
