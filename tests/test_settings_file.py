"""Settings of real services: changed whole, told by signal, command or HTTP, and taken back."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from receiver.actions.settings import (
    EnableCache,
    FallbackLlm,
    RateLimitParams,
    SetRateLimit,
    SettingParams,
)
from receiver.clients.llm import LlmKeys
from receiver.errors import ActionError
from receiver.services import Inventory, Llm, Service, ServiceState, ServiceStatus
from receiver.services.process import Process
from receiver.services.reload import HttpReload, Reload
from receiver.services.settings_file import SettingsFile
from receiver.settings import LlmProvider, LlmSettings
from tests import factories

TEXT = """\
# Ask Mara before you change the limit.
rate_limit: 100   # requests a second
cache:
  enabled: false
llm: {provider: openai}
"""
SHOP = SettingParams(service="shop")
FIFTY = RateLimitParams(service="shop", limit=50)


class Nobody:
    """A manager that is never asked."""

    def status(self, *, timeout: float) -> ServiceStatus:
        raise AssertionError

    def restart(self, *, timeout: float) -> ServiceStatus:
        return ServiceStatus(state=ServiceState.RUNNING)


class Step:
    """A step of a run, with what it has saved."""

    def __init__(self, service: Service, **more: Any) -> None:
        self.saved: dict[str, Any] = {}
        self.more = more
        self.inventory = Inventory({service.name: service})

    @property
    def context(self) -> Any:
        def save(saved: Any) -> None:
            self.saved = json.loads(msgspec.json.encode(saved))

        return factories.context(inventory=self.inventory, save=save, saved=self.saved, **self.more)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yml"
    path.write_text(TEXT)
    return path


def service(file: Path, **more: Any) -> Service:
    reload = more.pop("reload", None)
    settings = SettingsFile(file=str(file), reload=reload)
    return Service(name="shop", settings=settings, **{"manager": Nobody(), **more})


def value(file: Path, *path: str) -> Any:
    found = yaml.safe_load(file.read_text())
    for key in path:
        found = found[key]
    return found


# -- the three actions


def test_a_limit_is_lowered_and_the_file_is_otherwise_as_it_was(file: Path) -> None:
    step = Step(service(file))
    result = SetRateLimit().run(FIFTY, step.context)
    assert file.read_text() == TEXT.replace("100", "50")
    assert (result["before"], result["after"]) == (100, 50)

    assert SetRateLimit().rollback(FIFTY, step.context, result)["restored"] is True
    assert file.read_text() == TEXT


def test_a_limit_that_is_lower_already_is_not_raised(file: Path) -> None:
    step = Step(service(file))
    result = SetRateLimit().run(RateLimitParams(service="shop", limit=200), step.context)
    assert result == {"skipped": "the limit of 'shop' is 100 already"}
    assert file.read_text() == TEXT
    assert step.saved == {}


def test_a_cache_is_switched_on_and_off_again(file: Path) -> None:
    step = Step(service(file))
    EnableCache().run(SHOP, step.context)
    assert value(file, "cache", "enabled") is True
    EnableCache().rollback(SHOP, step.context, None)
    assert file.read_text() == TEXT
    file.write_text(TEXT.replace("false", "true"))
    assert "already" in EnableCache().run(SHOP, Step(service(file)).context)["skipped"]


def test_a_key_that_was_not_there_is_gone_after_the_rollback(file: Path) -> None:
    file.write_text("name: shop\n")
    step = Step(service(file))
    EnableCache().run(SHOP, step.context)
    assert value(file, "cache", "enabled") is True
    EnableCache().rollback(SHOP, step.context, None)
    assert file.read_text() == "name: shop\n"


def test_what_somebody_else_put_beside_it_stays(file: Path) -> None:
    file.write_text("name: shop\n")
    step = Step(service(file))
    EnableCache().run(SHOP, step.context)
    file.write_text("name: new\ncache: {enabled: true, size: 5}\n")
    EnableCache().rollback(SHOP, step.context, None)
    assert value(file) == {"name": "new", "cache": {"size": 5}}


class Providers:
    """Their model lists, for keys that work."""

    def __init__(self) -> None:
        working = self.working = {"good"}
        asked = self.asked = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = (self.headers["Authorization"] or "").removeprefix("Bearer ")
                asked.append(key)
                self.send_response(200 if key in working else 401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,)).start()

    def keys(self, **secrets: str) -> LlmKeys:
        url = f"http://127.0.0.1:{self.server.server_port}/v1"
        providers = {
            name: LlmProvider(base_url=url, keys=(f"{name.upper()}_KEY",)) for name in secrets
        }
        environ = {f"{name.upper()}_KEY": secret for name, secret in secrets.items()}
        return LlmKeys(LlmSettings(providers=providers), environ, lambda: 0.0)


@pytest.fixture
def providers() -> Iterator[Providers]:
    found = Providers()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_the_next_provider_whose_key_works_is_taken(file: Path, providers: Providers) -> None:
    shop = service(file, llm=Llm(providers=("openai", "anthropic", "mistral", "local")))
    keys = providers.keys(openai="good", anthropic="expired", mistral="good")
    step = Step(shop, keys=keys)
    result = FallbackLlm().run(SHOP, step.context)
    assert (result["before"], result["after"]) == ("openai", "mistral")
    assert providers.asked == ["expired", "good"], "tried now, in their order"
    assert value(file, "llm", "provider") == "mistral"
    FallbackLlm().rollback(SHOP, step.context, result)
    assert file.read_text() == TEXT
    assert "good" not in json.dumps([step.saved, result]), "a key is no one's business"


def test_one_without_keys_is_usable_and_the_list_is_a_ring(
    file: Path, providers: Providers
) -> None:
    file.write_text(TEXT.replace("openai", "local"))
    shop = service(file, llm=Llm(providers=("openai", "anthropic", "local")))
    keys = providers.keys(openai="expired", anthropic="good")
    assert FallbackLlm().run(SHOP, Step(shop, keys=keys).context)["after"] == "anthropic"
    shop = service(file, llm=Llm(providers=("openai", "anthropic", "local")))
    keys = providers.keys(openai="expired", anthropic="expired")
    assert FallbackLlm().run(SHOP, Step(shop, keys=keys).context)["after"] == "local"


def test_without_a_provider_that_works_nothing_is_touched(file: Path, providers: Providers) -> None:
    shop = service(file, llm=Llm(providers=("openai", "anthropic")))
    step = Step(shop, keys=providers.keys(openai="good", anthropic="expired"))
    with pytest.raises(ActionError, match=r"none of the other providers .* anthropic; nothing"):
        FallbackLlm().run(SHOP, step.context)
    assert file.read_text() == TEXT


# -- what cannot be done


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rate_limit: [1\n", "line 2 column 1"),
        ("rate_limit: many\n", "the text 'many', and no number"),
        ("rate_limit: {a: 1}\n", "rate_limit is no plain value"),
        (
            "rate_limit: 100\nrate_limit: 90\n",
            "line 2 column 1: the key .* is there twice",
        ),
        ("x" * 2_000_000, "larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_not_understood_is_not_touched(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(ActionError, match=says):
        SetRateLimit().run(FIFTY, Step(service(file)).context)
    assert file.read_text() == text
    assert [each.name for each in file.parent.iterdir()] == ["settings.yml"]


def test_what_is_no_plain_file_is_not_touched(file: Path) -> None:
    file.unlink()
    with pytest.raises(ActionError, match="cannot be read"):
        SetRateLimit().run(FIFTY, Step(service(file)).context)
    os.mkfifo(file)
    with pytest.raises(ActionError, match="no plain file"):
        SetRateLimit().run(FIFTY, Step(service(file)).context)
    file.unlink()
    file.write_text(TEXT)
    os.link(file, file.with_name("other.yml"))
    with pytest.raises(ActionError, match="several names"):
        SetRateLimit().run(FIFTY, Step(service(file)).context)


def test_a_service_without_settings_fails_clearly_and_at_load() -> None:
    bare = Service(name="shop", manager=Nobody())
    with pytest.raises(ActionError, match=r"'shop' has no `settings:` in services\.yml; nothing"):
        SetRateLimit().run(FIFTY, Step(bare).context)
    inventory = Inventory({"shop": bare})
    assert list(SetRateLimit().problems(FIFTY, inventory)) == [
        "service: 'shop' has no `settings:` in services.yml"
    ]
    assert len(list(FallbackLlm().problems(SHOP, inventory))) == 2
    label = RateLimitParams(service="{{ labels.service }}", limit=50)
    two = Inventory({name: Service(name=name, manager=Nobody()) for name in ("a", "b")})
    assert list(SetRateLimit().problems(label, two)) == [
        "service: 'a', 'b' have no `settings:` in services.yml"
    ]
    unknown = SettingParams(service="shpo")
    assert len(list(FallbackLlm().problems(unknown, inventory))) == 1
    assert "did you mean 'shop'" in next(iter(EnableCache().problems(unknown, inventory)))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"file": "settings.yml"}, "write the whole path"),
        ({"file": "/etc/shop.conf"}, "does not tell it; write yaml, json, toml or env"),
    ],
)
def test_settings_are_checked_at_load(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SettingsFile(**fields)
    with pytest.raises(ValueError, match="one of signal, command, http and restart"):
        Reload()
    with pytest.raises(ValueError, match="unknown signal 'HUPP'"):
        Reload(signal="HUPP")


# -- who else is there


def test_a_rollback_leaves_what_somebody_else_has_set(file: Path) -> None:
    step = Step(service(file))
    SetRateLimit().run(FIFTY, step.context)
    theirs = TEXT.replace("100", "75")
    file.write_text(theirs)
    with pytest.raises(
        ActionError, match=r"changed by someone else.* was 100, promheal wrote 50, now it is 75"
    ):
        SetRateLimit().rollback(FIFTY, step.context, None)
    assert file.read_text() == theirs


def test_a_repetition_leaves_it_too(file: Path) -> None:
    step = Step(service(file))
    SetRateLimit().run(FIFTY, step.context)
    file.write_text(TEXT.replace("100", "75"))
    with pytest.raises(ActionError, match="changed by someone else"):
        SetRateLimit().run(FIFTY, step.context)


def test_other_changes_survive_the_rollback(file: Path) -> None:
    step = Step(service(file))
    SetRateLimit().run(FIFTY, step.context)
    file.write_text(file.read_text() + "new: 1\n")
    SetRateLimit().rollback(FIFTY, step.context, None)
    assert file.read_text() == TEXT + "new: 1\n"


def test_a_rollback_before_anything_was_written_does_nothing(file: Path) -> None:
    step = Step(service(file))
    assert SetRateLimit().rollback(FIFTY, step.context, None)["restored"] is False
    SetRateLimit().run(FIFTY, step.context)
    file.write_text(TEXT)  # as when it had been saved and not yet written
    assert SetRateLimit().rollback(FIFTY, step.context, None)["restored"] is False
    assert file.read_text() == TEXT


def test_mode_owner_attributes_and_the_link_to_it_are_kept(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    owner = (1234, 2345) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(file, *owner)
    os.setxattr(file, "user.team", b"shop")
    link = tmp_path / "link.yml"
    link.symlink_to(file)
    SetRateLimit().run(FIFTY, Step(service(link)).context)
    facts = file.stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o640, *owner)
    assert os.getxattr(file, "user.team") == b"shop"
    assert link.is_symlink()
    assert value(link, "rate_limit") == 50


def test_what_a_killed_one_had_begun_is_removed(file: Path) -> None:
    draft = file.with_name(".settings.yml.promheal-abc")
    draft.write_text("rate_li")
    SetRateLimit().run(FIFTY, Step(service(file)).context)
    assert not draft.exists()


def test_two_never_interleave_on_one_file(file: Path) -> None:
    """Each process counts in a key of its own: with a lost update, one of them would go back."""
    file.write_text("a: 0\nb: 0\nc: 0\n")
    code = (
        "import sys\n"
        "from receiver.services.settings_file import SettingKeys, SettingsFile\n"
        "s = SettingsFile(file=sys.argv[1], keys=SettingKeys(rate_limit=sys.argv[2]))\n"
        "for n in range(1, 41):\n"
        "    c = s.change('rate_limit', n, timeout=60, about_to=lambda _: None)\n"
        "    assert c.before == n - 1, c\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(file), key]) for key in "abc"]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert value(file) == {"a": 40, "b": 40, "c": 40}


def test_a_lock_is_not_waited_for_beyond_the_time(file: Path) -> None:
    settings = SettingsFile(file=str(file))
    with settings._alone(1.0):
        began = time.monotonic()
        with pytest.raises(ActionError, match="locked by another change"):
            settings.change("rate_limit", 5, timeout=0.2, about_to=lambda _: None)
        assert time.monotonic() - began < 5


# -- death in the middle


def _flip(file: str) -> None:
    """Change it for ever, as runs and rollbacks would."""
    step = Step(service(Path(file)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        step.saved = {}
        SetRateLimit().run(FIFTY, step.context)
        SetRateLimit().rollback(FIFTY, step.context, None)


def test_killed_at_any_moment_it_is_the_old_file_or_the_new_one(file: Path) -> None:
    file.chmod(0o604)
    both = {TEXT, TEXT.replace("100", "50")}
    seen = set()
    dice = random.Random(4)
    code = f"from tests.test_settings_file import _flip; _flip({str(file)!r})"
    for _ in range(20):
        file.write_text(TEXT)
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(dice.uniform(0, 0.02))
            process.kill()
        assert file.read_text() in both
        assert stat.S_IMODE(file.stat().st_mode) == 0o604
        seen.add(file.read_text())
    EnableCache().run(SHOP, Step(service(file)).context)
    assert [each.name for each in file.parent.iterdir()] == ["settings.yml"]


@pytest.mark.parametrize("written", [False, True])
def test_a_step_that_was_cut_is_repeated_with_what_it_had_saved(file: Path, written: bool) -> None:
    step = Step(service(file))
    SetRateLimit().run(FIFTY, step.context)
    if not written:
        file.write_text(TEXT)
    result = SetRateLimit().run(FIFTY, step.context)
    assert (result["before"], result["after"], value(file, "rate_limit")) == (100, 50, 50)
    SetRateLimit().rollback(FIFTY, step.context, result)
    assert file.read_text() == TEXT


# -- the service reads it

DAEMON = """
import os, signal, sys, time
settings, seen, pidfile = sys.argv[1:]
def read(*_):
    limit = open(settings).read().split("rate_limit: ")[1].split()[0]
    with open(seen, "a") as f: f.write(limit + " ")
signal.signal(signal.SIGHUP, read)
read()
open(pidfile, "w").write(str(os.getpid()))
while True: time.sleep(60)
"""


def eventually(holds: Callable[[], object], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_real_daemon_reads_its_settings_by_signal_and_again_after_the_rollback(
    file: Path, tmp_path: Path
) -> None:
    seen, pidfile = tmp_path / "seen", tmp_path / "pid"
    argv = (sys.executable, "-I", "-S", "-c", DAEMON, str(file), str(seen), str(pidfile))
    shop = service(
        file, manager=Process(pidfile=str(pidfile), start=argv), reload=Reload(signal="HUP")
    )
    with subprocess.Popen(argv) as process:
        try:
            eventually(lambda: pidfile.exists() and pidfile.read_text())
            step = Step(shop)
            result = SetRateLimit().run(FIFTY, step.context)
            assert result["reload"] == f"SIGHUP to process {process.pid}"
            eventually(lambda: seen.read_text() == "100 50 ")
            SetRateLimit().rollback(FIFTY, step.context, result)
            eventually(lambda: seen.read_text() == "100 50 100 ")
        finally:
            process.kill()


def test_a_signal_without_a_process_fails_and_the_setting_is_taken_back(
    file: Path, tmp_path: Path
) -> None:
    manager = Process(pidfile=str(tmp_path / "none"), start=("true",))
    step = Step(service(file, manager=manager, reload=Reload(signal="HUP")))
    with pytest.raises(ActionError, match="names no process that could get the signal"):
        SetRateLimit().run(FIFTY, step.context)
    with pytest.raises(ActionError, match="names no process"):
        SetRateLimit().rollback(FIFTY, step.context, None)
    assert file.read_text() == TEXT, "what can be undone is undone"


def test_a_reload_command_that_fails_is_told_with_its_output(file: Path) -> None:
    reload = Reload(command=("sh", "-c", "echo no such unit; exit 5"))
    with pytest.raises(ActionError, match="has it read its settings, ended with 5") as e:
        SetRateLimit().run(FIFTY, Step(service(file, reload=reload)).context)
    assert "no such unit" in e.value.output
    good = Step(service(file, reload=Reload(command=("true",))))
    file.write_text(TEXT)
    assert SetRateLimit().run(FIFTY, good.context)["reload"] == "its reload command succeeded"


def test_a_reload_by_http_and_by_restart(file: Path, providers: Providers) -> None:
    url = f"http://127.0.0.1:{providers.server.server_port}/reload"
    ours = Step(service(file, reload=Reload(http=HttpReload(url=url, method="GET"))))
    with pytest.raises(ActionError, match="answered 401"):
        SetRateLimit().run(FIFTY, ours.context)
    providers.working.add("")
    assert "answered 200" in SetRateLimit().run(FIFTY, ours.context)["reload"], "and it is repeated"
    step = Step(service(file, reload=Reload(restart=True)))
    EnableCache().run(SHOP, step.context)
    assert EnableCache().rollback(SHOP, step.context, None)["reload"] == "restarted"


def test_signals_reach_only_the_process_that_the_manager_names(file: Path) -> None:
    class Changing(Nobody):
        asked = 0

        def status(self, *, timeout: float) -> ServiceStatus:
            self.asked += 1
            return ServiceStatus(
                state=ServiceState.RUNNING, pid=os.getpid() if self.asked == 1 else 1
            )

    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, lambda *_: pytest.fail("signalled"))
    try:
        with pytest.raises(ActionError, match="restarted by someone else"):
            SetRateLimit().run(
                FIFTY,
                Step(service(file, manager=Changing(), reload=Reload(signal="HUP"))).context,
            )
    finally:
        signal.signal(signal.SIGHUP, before)
