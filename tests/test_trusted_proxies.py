"""Who is believed about the client, and who is not."""

from __future__ import annotations

import pytest

from receiver.errors import ConfigError
from receiver.web.access.trusted_proxies import TrustedProxies

PROXIES = TrustedProxies(["127.0.0.1", "10.0.0.0/24", "fd00::/64"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("10.0.1.1", "198.51.100.1", "10.0.1.1"),
        ("10.0.0.5", "", "10.0.0.5"),
        ("10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.5", "198.51.100.1"),
        ("10.0.0.5", "127.0.0.1, 10.0.0.6", "127.0.0.1"),
        ("10.0.0.5", "198.51.100.1:4711", "198.51.100.1"),
        ("fd00::1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:10.0.0.5", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.5", "198.51.100.1, unknown", "10.0.0.5"),
        ("10.0.0.5", "198.51.100.1, somebody, 10.0.0.6", "10.0.0.6"),
        ("10.0.0.5", "198.51.100.1,", "10.0.0.5"),
        ("", "198.51.100.1", ""),
    ],
)
def test_the_client_is_the_last_whom_no_trusted_proxy_is(
    peer: str, forwarded_for: str, client: str
) -> None:
    assert PROXIES.client(peer, forwarded_for) == client
    assert TrustedProxies().client(peer, forwarded_for) == peer


@pytest.mark.parametrize(
    ("peer", "said", "scheme"),
    [
        ("10.0.0.5", "https", "https"),
        ("10.0.0.5", "http, HTTPS", "https"),
        ("10.0.0.5", "gopher", "http"),
        ("10.0.0.5", "", "http"),
        ("192.0.2.7", "https", "http"),
    ],
)
def test_only_a_trusted_proxy_says_the_scheme(peer: str, said: str, scheme: str) -> None:
    assert PROXIES.scheme(peer, said, "http") == scheme


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/24", "10.0.0.0/33", "", "0.0.0.0/0", "::/0"])
def test_who_is_nobody_or_everybody_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--web\.trust-proxy"):
        TrustedProxies([text])
