"""656 hostile label values, through every action: each is data, and chooses at most a service.

The table below has an entry for each registered action: a new one without its entry fails the first
test. A label comes to an action as a rendered parameter, so that is how it comes here.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from receiver.actions import Action, discover
from receiver.actions.command import Command, CommandParams
from receiver.actions.http import Http, HttpParams
from receiver.actions.log import Log, LogParams
from receiver.actions.notify import Notify, NotifyParams
from receiver.actions.parameters import render_params
from receiver.actions.silence import SilenceAlerts
from receiver.clients.alertmanager import Alertmanager
from receiver.clients.channels import Channels
from receiver.errors import ActionError, TemplateError
from receiver.services import Inventory, Service, ServiceState, ServiceStatus
from receiver.services.settings_file import SettingsFile
from receiver.settings import AlertmanagerSettings, NotifyChannel, NotifySettings
from tests import factories
from tests.chain import start_alertmanager
from tests.figures import Record
from tests.hostile import CORPUS, values
from tests.listener import Listener
from tests.test_template import variables

LABEL = "{{ labels.value }}"
OURS = {
    name: action
    for name in discover().names
    if type(action := discover().get(name)).__module__.startswith("receiver.")
}
CHOOSES_A_SERVICE = {
    "clear_cache", "enable_cache", "fallback_llm", "rate_limit", "redistribute_tasks",
    "restart_if_critical", "restart_service", "scale_workers", "snapshot",
}  # fmt: skip
HAS_TEXTS = {"command", "http", "log", "notify", "silence"}
HAS_NO_TEXT = {"wait"}
MORE: dict[str, dict[str, Any]] = {"rate_limit": {"limit": 1.0}, "scale_workers": {"by": 1}}


def test_every_action_is_in_the_table() -> None:
    assert set(OURS) == CHOOSES_A_SERVICE | HAS_TEXTS | HAS_NO_TEXT


def test_the_corpus_is_large(record_property: Record) -> None:
    record_property("values", len(CORPUS))
    assert len(CORPUS) >= 500


class Untouchable:
    """A manager, workers, a cache and a queue that nobody may reach."""

    min, max = 0, 9

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"{name} was called")

    def status(self, *, timeout: float) -> ServiceStatus:
        return ServiceStatus(state=ServiceState.RUNNING)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists()


def rendered(params: Any, value: str) -> Any:
    return render_params(params, variables(value=value), undeclared=True)


@pytest.mark.parametrize("name", sorted(CHOOSES_A_SERVICE))
def test_a_label_that_names_no_service_touches_nothing(
    name: str, canary: Path, tmp_path: Path
) -> None:
    if name not in OURS:
        pytest.fail(f"{name} is not there")
    action: Action = OURS[name]
    settings = tmp_path / "settings.yml"
    settings.write_text("rate_limit: 100\n")
    nobody: Any = Untouchable()
    inventory = Inventory(
        {
            "checkout": Service(
                name="checkout", manager=nobody, workers=nobody, cache=nobody, queue=nobody,
                settings=SettingsFile(file=str(settings)),
            )
        }
    )  # fmt: skip
    alert = {"fingerprint": "0", "labels": {"severity": "critical"}, "annotations": {}}
    errors: list[Exception] = []
    for value in values(str(canary)):
        try:
            params = rendered(action.Params(service=LABEL, **MORE.get(name, {})), value)
            action.run(params, factories.context(inventory=inventory, alert=alert, folder=tmp_path))
        except (ActionError, TemplateError) as error:
            errors.append(error)
    assert len(errors) == len(CORPUS)
    ours = [str(error) for error in errors if not isinstance(error, TemplateError)]
    assert len(ours) > 500
    assert all("nothing was touched" in error for error in ours)
    assert settings.read_text() == "rate_limit: 100\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.yml"]


def test_a_spy_sees_exactly_the_argv_and_no_value_starts_an_option(
    canary: Path, tmp_path: Path
) -> None:
    """With `undeclared_values: warn`; without it none of them gets so far."""
    spy = (sys.executable, "-I", "-S", "-c")
    code = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))"
    expected: list[str] = []
    refused = []
    for value in values(str(canary)):
        try:
            argv = rendered(CommandParams(argv=("x", LABEL, f"--service={LABEL}")), value).argv
        except TemplateError:
            refused.append(value)
            continue
        assert argv == ("x", value, f"--service={value}")
        assert not argv[1].startswith("-")
        expected += argv[1:]
    assert len(refused) > 50
    assert all(value.startswith("-") or "\0" in value or len(value) > 60_000 for value in refused)
    seen = tmp_path / "seen"
    Command().run(CommandParams(argv=(*spy, code, str(seen), *expected)), factories.context())
    assert json.loads(seen.read_text()) == expected


def test_no_value_leads_a_request_to_another_place(canary: Path) -> None:
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.path, self.headers["X-Value"] or ""))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}/admin"
        inventory = Inventory({}, [f"{base}/"])
        sent = 0
        for value in values(str(canary)):
            params = HttpParams(url=f"{base}/{LABEL}?q={LABEL}", json={"why": LABEL})
            try:
                Http().run(rendered(params, value), factories.context(inventory=inventory))
                sent += 1
            except (ActionError, TemplateError):
                continue
        server.shutdown()
        thread.join()
    assert sent > 200
    assert len(asked) == sent
    for path, _ in asked:
        assert path.startswith("/admin/"), path
        assert "/" not in path.removeprefix("/admin/").partition("?")[0], path


def test_a_value_is_one_line_of_the_log(canary: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "promheal.action"):
        for value in values(str(canary)):
            try:
                Log().run(rendered(LogParams(message=f"it is {LABEL}"), value), factories.context())
            except TemplateError:
                continue
    assert len(caplog.records) > 500
    assert all(record.getMessage().startswith("it is ") for record in caplog.records)


def test_people_are_told_just_what_it_said(canary: Path) -> None:
    """Many in one message, since each is a process."""
    with Listener() as listener:
        settings = NotifySettings(channels={"team": NotifyChannel(url=listener.url)})
        context = factories.context(channels=Channels(settings, {}), timeout=30.0)
        bodies = []
        for value in values(str(canary)):
            try:
                bodies.append(rendered(NotifyParams(channel="team", message=LABEL), value).message)
            except TemplateError:
                continue
        assert len(bodies) > 500
        for part in range(0, len(bodies), 100):
            text = "\n".join(body[:30] for body in bodies[part : part + 100])
            Notify().run(NotifyParams(channel="team", title=text, message=text), context)
        assert set(listener.paths) == {"/told"}
        assert len(listener.told) == len(range(0, len(bodies), 100))
        assert all(told["type"] == "info" for told in listener.told)
        assert all("\n" not in told["title"] for told in listener.told)


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    with start_alertmanager(tmp_path_factory.mktemp("alertmanager")) as program:
        yield Alertmanager(AlertmanagerSettings(url=program.url))


def test_a_silence_is_for_exactly_its_alert(canary: Path, alertmanager: Alertmanager) -> None:
    action = SilenceAlerts()
    params = action.Params(duration=300.0)
    made = 0
    for value in values(str(canary))[::3]:
        labels = {"alertname": "HighCPU", "service": value}
        context = factories.context(
            alertmanager=alertmanager,
            alert={"fingerprint": "0", "labels": labels, "annotations": {}},
            target_labels=("service",),
            started_at=time.time(),
            now=time.time(),
        )
        try:
            result = action.run(params, context)
        except ActionError:
            continue
        made += 1
        assert result["matchers"] == labels
    assert made > 150
