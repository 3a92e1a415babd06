"""What --web.route-prefix and --web.external-url mean together."""

from __future__ import annotations

import pytest

from receiver.errors import ConfigError
from receiver.web.route_prefix import route_prefix

URL = "https://tools.example"


@pytest.mark.parametrize(
    ("given", "external_url", "routes", "links"),
    [
        (None, "", "", ""),
        (None, URL, "", ""),
        (None, f"{URL}/", "", ""),
        (None, f"{URL}/promheal/", "/promheal", "/promheal"),
        ("/", f"{URL}/promheal", "", "/promheal"),
        ("/promheal", "", "/promheal", "/promheal"),
        ("promheal/", "", "/promheal", "/promheal"),
        ("/inside", f"{URL}/outside/of", "/inside", "/outside/of"),
        ("/inside", URL, "/inside", ""),
    ],
)
def test_as_prometheus_reads_them(
    given: str | None, external_url: str, routes: str, links: str
) -> None:
    prefix = route_prefix(given, external_url)
    assert (prefix.routes, prefix.links) == (routes, links)


@pytest.mark.parametrize(
    "path", ["/a b", "/a//b", "/../a", "/.", '/"', "/a?b", "/%2e", "/ä", "//x"]
)
def test_what_others_may_read_in_another_way_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"--web\.route-prefix"):
        route_prefix(path, "")


def test_what_is_below_it() -> None:
    prefix = route_prefix("/promheal", "")
    paths = {path: prefix.below(path) for path in ("/promheal/", "/promheal/runs/1", "/promheal//")}
    assert paths == {"/promheal/": "/", "/promheal/runs/1": "/runs/1", "/promheal//": "//"}
    for other in ("", "/", "/promheal", "/promhealing/", "/Promheal/", "/runs"):
        assert prefix.below(other) is None
    assert route_prefix(None, "").below("/runs") == "/runs"
