"""Does a request come from a page of another site? Against CSRF and DNS rebinding.

A page may make its browser send simple requests anywhere, this machine included, with the passwords
and certificates that the browser knows. And if the page's own host name resolves to 127.0.0.1,
promheal is the same site to the browser. Programs other than browsers send none of the headers that
are checked here.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit


def is_our_page(site: str, origin: str, host: str, external: SplitResult) -> bool:
    """Whether a request comes from our own page, or from no page.

    *site* is Sec-Fetch-Site, which no page can forge, but which browsers send only over TLS and to
    this machine. *external* is --web.external-url in lower case.
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
    """Whether a Host header is a loopback name, or the host of *external*.

    A request without one is not a browser's.
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
