"""A real server is told through a real Apprise, and no secret comes back."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import trustme

from receiver import process
from receiver.actions.notify import Notify, NotifyParams
from receiver.actions.parameters import render_params
from receiver.clients.channels import Channels, plain
from receiver.errors import ActionError, TemplateError
from receiver.services import Inventory
from receiver.settings import NotifyChannel, NotifyEvents, NotifySettings
from tests import factories
from tests.listener import Listener
from tests.test_template import HOSTILE, variables
from tests.web_servers import Raw, Web, server_context, write_pem

SECRET = "s3cr3t-t0k3n"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as one:
        yield one


def team(url: str) -> Channels:
    return Channels(NotifySettings(channels={"team": NotifyChannel(url=url)}), {})


def test_a_message_arrives_as_it_is(listener: Listener) -> None:
    team(listener.url).send("team", "é <b>", "one\n*two* {{ x }} &amp; :smile: \\n", timeout=20)
    assert listener.messages == [("é <b>", "one\n*two* {{ x }} &amp; :smile: \\n")]
    assert listener.told[0]["attachments"] == []


def test_the_secret_stands_in_a_file_or_the_environment(listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "team.url").write_text(f"{listener.url}/file\n")
    settings = NotifySettings(
        channels={
            "file": NotifyChannel(url_file="team.url"),
            "env": NotifyChannel(url_env="TEAM_URL"),
        }
    )
    told = Channels(settings, {"TEAM_URL": f"{listener.url}/env"}, tmp_path)
    told.send("file", "t", "b", timeout=20)
    told.send("env", "t", "b", timeout=20)
    assert listener.paths == ["/told/file", "/told/env"]


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        (NotifyChannel(url_env="TEAM_URL"), "variable TEAM_URL is empty or not set"),
        (NotifyChannel(url_file="none.url"), "none.url: No such file"),
        (NotifyChannel(url=f"nosuch://{SECRET}"), "not one that Apprise understands"),
        (NotifyChannel(url=f"json://a/{SECRET}\0"), "holds no URL"),
        (NotifyChannel(url="syslog://"), "Syslog does not speak HTTP"),
        (NotifyChannel(url=f"mailto://user:{SECRET}@example.com"), "does not speak HTTP"),
        (NotifyChannel(url=f"json://127.0.0.1:1/{SECRET}"), "no answer: ConnectionError"),
    ],
    ids=["variable", "file", "unknown", "nul", "syslog", "mail", "refused"],
)
def test_what_is_wrong_is_said_without_the_secret(
    channel: NotifyChannel, message: str, tmp_path: Path
) -> None:
    told = Channels(NotifySettings(channels={"team": channel}), {}, tmp_path)
    with pytest.raises(ActionError, match=message) as raised:
        told.send("team", "t", "b", timeout=20)
    assert SECRET not in str(raised.value)


def test_a_refusal_is_told_by_its_status_and_a_redirect_is_not_followed(listener: Listener) -> None:
    listener.statuses = [503, 302]
    listener.headers = {"Location": "/elsewhere", "X-Echo": SECRET}
    for status in ("503 Service Unavailable", "302 Found"):
        with pytest.raises(ActionError, match=f"^channel 'team': it answered {status}$"):
            team(listener.url).send("team", "t", "b", timeout=20)
    assert listener.paths == ["/told", "/told"]


def test_an_answer_that_drips_ends_at_the_deadline(listener: Listener) -> None:
    listener.delay = 0.2
    began = time.monotonic()
    with pytest.raises(ActionError, match="not within 3 s"):
        team(listener.url).send("team", "t", "b", timeout=3)
    assert time.monotonic() - began < 6


def test_an_answer_without_end_has_little_memory() -> None:
    def endless(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 1_048_576)

    with Raw(endless) as server, pytest.raises(ActionError, match="MemoryError"):
        team(server.url.replace("http:", "json:")).send("team", "t", "b", timeout=30)


def test_a_redirect_is_not_followed_either_when_the_url_says_so(listener: Listener) -> None:
    listener.statuses = [302]
    listener.headers = {"Location": "/elsewhere"}
    with pytest.raises(ActionError, match="it answered 302 Found"):
        team(f"{listener.url}?redirect=yes").send("team", "t", "b", timeout=20)
    assert listener.paths == ["/told"]


def test_whom_the_system_trusts_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    with Web(server_context(authority)) as web:
        url = web.url.replace("https:", "jsons:")
        with pytest.raises(ActionError, match="no answer: SSLError"):
            team(url).send("team", "t", "b", timeout=20)
        bundle = write_pem(tmp_path / "system.pem", authority.cert_pem)
        monkeypatch.setitem(process.ENVIRONMENT, "SSL_CERT_FILE", bundle)
        team(url).send("team", "t", "b", timeout=20)
        assert len(web.asked) == 1


def test_no_proxy_of_the_environment_is_asked(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    team(listener.url).send("team", "t", "b", timeout=20)
    assert listener.messages == [("t", "b")]


def test_texts_are_bounded_and_call_nobody() -> None:
    assert plain("x" * 5_000, 4_000) == "x" * 3_999 + "…"
    assert plain("a\0b\x1b[31m\u202e\ud800", 99) == "a\ufffdb\ufffd[31m\ufffd?"
    assert plain("@everyone <!here> <@U1> a@b.c", 99) == (
        "@\u200beveryone <\u200b!here> <\u200b@U1> a@b.c"
    )


# ── the action ──


def test_the_action_tells_the_channel(listener: Listener) -> None:
    context = factories.context(channels=team(listener.url), timeout=20.0)
    params = NotifyParams(channel="team", title="t", message="m")
    assert Notify().run(params, context) == {"channel": "team", "title": "t", "sent": True}
    assert listener.messages == [("t", "m")]
    assert Notify().idempotent(params)
    assert not Notify().heals
    assert not Notify().undoable(params)


def test_hostile_labels_are_only_text(listener: Listener) -> None:
    """All in one message: a delivery costs half a second."""
    params = NotifyParams(channel="team", message="{{ labels.value }}")
    bodies = []
    for value in HOSTILE:
        with suppress(TemplateError):  # a NUL
            rendered = render_params(params, variables(value=value))
            assert isinstance(rendered, NotifyParams)
            bodies.append(rendered.message)
    team(listener.url).send("team", bodies[0][:100], "\n".join(bodies)[:4_000], timeout=20)
    assert listener.paths == ["/told"]
    assert listener.told[0]["type"] == "info"


def test_an_unknown_channel_is_found_at_load() -> None:
    inventory = Inventory({}, channels=("team",))
    assert not list(Notify().problems(NotifyParams(channel="team", message="m"), inventory))
    for name in ("taem", "{{ labels.team }}"):
        (problem,) = Notify().problems(NotifyParams(channel=name, message="m"), inventory)
        assert problem.endswith(f"has no {name!r}; known: team")


def test_a_message_that_does_not_arrive_spoils_no_heal_unless_it_must() -> None:
    settings = NotifySettings(channels={"team": NotifyChannel(url_env="GONE")})
    context = factories.context(channels=Channels(settings, {}))
    result = Notify().run(NotifyParams(channel="team", message="m"), context)
    assert result["sent"] is False
    assert result["problem"]
    with pytest.raises(ActionError):
        Notify().run(NotifyParams(channel="team", message="m", must_arrive=True), context)


def test_settings_refuse_what_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="has one of"):
        NotifyChannel()
    with pytest.raises(ValueError, match="has one of"):
        NotifyChannel(url="json://a", url_env="TEAM_URL")
    with pytest.raises(ValueError, match=r"`on\.failed` names no channel 'team'; known: none"):
        NotifySettings(on=NotifyEvents(failed=("team",)))
    assert msgspec.json.encode(NotifySettings())
