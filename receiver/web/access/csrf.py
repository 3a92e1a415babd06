"""Was somebody's browser made to ask us? By the page of another site, or by a name that it forged.

A page may send simple requests to wherever it likes, this machine included, with the passwords and
the certificates that the browser knows. And a name of its own that it has led to 127.0.0.1 makes
promheal its own site (DNS rebinding). Programs send none of the headers that are looked at here.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit


def is_our_page(site: str, origin: str, host: str, external: SplitResult) -> bool:
    """Whether a request comes from a page of ours, or from no page.

    *site* is Sec-Fetch-Site, which no page can forge, but which browsers send only over TLS and on
    this machine. *external* is the URL by which we are known, in lower case.
    """
    if site.lower() in {"cross-site", "same-origin"}:
        return site.lower() == "same-origin"
    if not origin:
        return True
    try:
        asking = urlsplit(origin.lower()).netloc
    except ValueError:
        return False
    return asking != "" and asking in {host.lower(), external.netloc}


@lru_cache(maxsize=64)
def is_here(host: str, external: SplitResult) -> bool:
    """Whether a Host header names this machine as it is called from within, or is *external*'s.

    Without one, no browser asks.
    """
    if not host:
        return True
    try:
        there = urlsplit(f"//{host}")
        name = (there.hostname or "").removesuffix(".")
    except ValueError:
        return False
    if there.netloc != host or "@" in host:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name != "" and name == external.hostname
