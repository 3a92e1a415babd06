"""Real programs and a real HTTP server: what actions do, and what no label can make them do."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import pytest

from receiver.actions import Actions, Context, Later
from receiver.actions.command import Command, CommandParams
from receiver.actions.http import Http, HttpParams, Method, Undo
from receiver.actions.log import Level, Log, LogParams
from receiver.actions.parameters import Values, render_params
from receiver.actions.restart import RestartIfCritical, RestartParams, RestartService
from receiver.actions.wait import Wait, WaitParams
from receiver.clients.url import refuse_unless_allowed
from receiver.config.undeclared import undeclared
from receiver.errors import ActionError, TemplateError
from receiver.policy.value_pattern import ValuePattern
from receiver.services import Health, Inventory, Service, ServiceState, ServiceStatus
from tests import factories
from tests.test_template import HOSTILE, variables

PYTHON: Final = (sys.executable, "-I", "-S", "-c")
ACTIONS: Final = (Command(), Http(), Log(), RestartIfCritical(), RestartService(), Wait())


def context(
    *,
    timeout: float = 10.0,
    now: float = 1000.0,
    inventory: Inventory | None = None,
    allowed_urls: tuple[str, ...] = (),
    labels: dict[str, str] | None = None,
) -> Context:
    return factories.context(
        alert={"fingerprint": "0123456789abcdef", "labels": labels or {}, "annotations": {}},
        timeout=timeout,
        now=now,
        inventory=inventory or Inventory({}, allowed_urls),
    )


def stored(result: Any) -> dict[str, Any]:
    """What the journal gives back: the result must survive it unchanged."""
    assert isinstance(result, dict)
    again = msgspec.json.decode(msgspec.json.encode(result))
    assert again == result
    assert isinstance(again, dict)
    return again


def test_each_action_has_a_name_of_its_own_and_strict_parameters() -> None:
    assert Actions(ACTIONS).names == (
        "command",
        "http",
        "log",
        "restart_if_critical",
        "restart_service",
        "wait",
    )
    for action in ACTIONS:
        with pytest.raises(msgspec.ValidationError, match="unknown field `typo`"):
            msgspec.convert({"typo": 1}, action.Params)


# ── log, wait ──


class TestLog:
    def test_one_line_with_fields(self, caplog: pytest.LogCaptureFixture) -> None:
        params = LogParams(message="100% of {{ x }}\n%s", level=Level.WARNING)
        with caplog.at_level(logging.INFO, "promheal.action"):
            result = Log().run(params, context())
        (record,) = caplog.records
        assert record.getMessage() == "100% of {{ x }}\n%s"
        assert (record.name, record.levelno) == ("promheal.action", logging.WARNING)
        assert vars(record)["run_id"] == 7
        assert vars(record)["fingerprint"] == "0123456789abcdef"
        assert stored(result) == {"message": "100% of {{ x }}\n%s"}
        assert Log().idempotent(params)
        assert not Log().undoable(params)

    def test_its_result_is_bounded(self) -> None:
        result = Log().run(LogParams(message="x" * 1_000_000), context())
        assert len(result["message"]) == 65_536


class TestWait:
    def test_it_waits_from_the_start_of_the_step(self) -> None:
        params = WaitParams(duration=30.0)
        for now in (900.0, 1000.0, 1029.9):
            assert Wait().run(params, context(now=now)) == Later(1030.0)
        for now in (1030.0, 9999.0):
            assert stored(Wait().run(params, context(now=now))) == {"waited": 30.0}
        assert Wait().run(WaitParams(duration=0.0), context()) == {"waited": 0.0}
        assert Wait().idempotent(params)


# ── command ──


def problems(params: CommandParams, values: Values | None = None) -> list[str]:
    """What check says of a step."""
    command = Command()
    found = list(command.problems(params, Inventory({})))
    return found + [
        each.message for each in undeclared(params, command.readings(params), values or {})
    ]


class TestCommand:
    def test_a_program_runs_in_a_clean_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET_TOKEN", "hunter2")
        params = CommandParams(argv=("env",))
        result = stored(Command().run(params, context()))
        assert result["argv"] == ["env"]
        assert result["exit_code"] == 0
        assert result["seconds"] < 10.0
        assert set(result["output"].splitlines()) >= {
            "PROMHEAL_RUN_ID=7",
            "PROMHEAL_STRATEGY=high-cpu",
            'PROMHEAL_TARGET=service="checkout"',
            "PROMHEAL_FINGERPRINT=0123456789abcdef",
        }
        assert "hunter2" not in result["output"]

    @pytest.mark.parametrize(
        ("argv", "problem", "output"),
        [
            (("sh", "-c", "echo oops >&2; exit 3"), "'sh' ended with exit code 3, not 0", "oops"),
            (("sh", "-c", "echo bye; kill -9 $$"), "was ended by signal 9", "bye"),
            (("sh", "-c", "echo slow; sleep 1000"), "did not end within 0.5 s", "slow"),
        ],
    )
    def test_a_failure_says_how_and_shows_the_output(
        self, argv: tuple[str, ...], problem: str, output: str
    ) -> None:
        with pytest.raises(ActionError, match=problem) as error:
            Command().run(CommandParams(argv=argv), context(timeout=0.5))
        assert output in error.value.output

    def test_another_exit_code_may_be_expected(self) -> None:
        params = CommandParams(argv=("sh", "-c", "exit 3"), expect_exit=3)
        assert Command().run(params, context())["exit_code"] == 3
        with pytest.raises(ActionError, match="exit code 0, not 3"):
            Command().run(CommandParams(argv=("true",), expect_exit=3), context())

    def test_its_undo_knows_how_it_ended(self) -> None:
        params = CommandParams(
            argv=("true",), undo=("sh", "-c", "echo ${PROMHEAL_STEP_EXIT-unknown} $PROMHEAL_RUN_ID")
        )
        command = Command()
        assert command.undoable(params)
        result = command.run(params, context())
        assert stored(command.rollback(params, context(), result))["output"] == "0 7\n"
        assert command.rollback(params, context(), None)["output"] == "unknown 7\n"
        with pytest.raises(ActionError):
            command.rollback(CommandParams(argv=("true",), undo=("false",)), context(), result)
        assert not command.undoable(CommandParams(argv=("true",)))

    def test_its_directory(self, tmp_path: Path) -> None:
        params = CommandParams(argv=("pwd",), cwd=str(tmp_path))
        assert Command().run(params, context())["output"].strip() == str(tmp_path)

    def test_what_it_leaves_running_ends_unless_it_may_stay(self, tmp_path: Path) -> None:
        script = "sleep 0.4 && touch $0 & exit 0"
        for stays in (False, True):
            mark = tmp_path / str(stays)
            params = CommandParams(argv=("sh", "-c", script, str(mark)), leave_running=stays)
            Command().run(params, context())
        time.sleep(1.5)
        assert not (tmp_path / "False").exists()
        assert (tmp_path / "True").exists()

    def test_only_its_author_knows_whether_it_may_be_repeated(self) -> None:
        assert not Command().idempotent(CommandParams(argv=("true",)))
        assert Command().idempotent(CommandParams(argv=("true",), idempotent=True))

    @pytest.mark.parametrize(
        ("argv", "problem"),
        [
            (("{{ labels.x }}",), "may not choose the program"),
            (("/usr/bin/{{ labels.x }}",), "may not choose the program"),
            (("./restart",), "is relative"),
            (("no-such-program",), "there is no program"),
            (("/nonexistent/program",), "there is no program"),
            (("/etc/passwd",), "there is no program"),
            (("",), "empty"),
            (("sh", "-c", "restart {{ labels.x }}"), "labels never become code"),
            (("bash", "-ec", "restart {{ labels.x }}"), "code"),
            (("bash", "-c", "--", "restart {{ labels.x }}"), "code"),
            (("bash", "-o", "pipefail", "-c", "restart {{ labels.x }}"), "code"),
            (("/bin/sh", "-c", "restart {{ labels.x }}"), "code"),
            (("sh", "{{ labels.x }}"), "code"),
            (("python3", "-c", "print('{{ labels.x }}')"), "code"),
            (("python3", "-Ic", "print('{{ labels.x }}')"), "code"),
            (("python3", "-cprint('{{ labels.x }}')"), "code"),
            (("python3", "-m", "{{ labels.x }}"), "code"),
            (("perl", "-ne", "print '{{ labels.x }}'"), "code"),
            (("env", "A=b", "sh", "-c", "restart {{ labels.x }}"), "code"),
            (("env", "-S", "sh -c {{ labels.x }}"), "code"),
            (("timeout", "5", "bash", "-c", "restart {{ labels.x }}"), "code"),
            (("xargs", "/bin/zsh", "-c", "restart {{ labels.x }}"), "code"),
            (("sh", "-c", 'exec "$@"', "sh", "bash", "-c", "restart {{ labels.x }}"), "code"),
            (("awk", "BEGIN { print {{ labels.x }} }"), "code"),
            (("sed", "s/a/{{ labels.x }}/"), "code"),
            (("sed", "-n", "-e", "/{{ labels.x }}/p"), "code"),
            (("sed", "--expression=/{{ labels.x }}/p"), "code"),
            (("su", "-", "nobody", "-c", "restart {{ labels.x }}"), "code"),
            (("env", "su", "-", "nobody", "-c", "restart {{ labels.x }}"), "code"),
            (("su", "nobody", "--command", "restart {{ labels.x }}"), "code"),
            (("env", "ssh", "host", "restart {{ labels.x }}"), "code"),
        ],
    )
    def test_labels_never_become_code(self, argv: tuple[str, ...], problem: str) -> None:
        (told, *_) = problems(CommandParams(argv=argv))
        assert told.startswith("argv[")
        # What is not installed here is told first; the rule must hold all the same.
        assert problem in " ".join(problems(CommandParams(argv=argv)))
        assert problem in " ".join(problems(CommandParams(argv=("true",), undo=argv)))

    @pytest.mark.parametrize(
        "argv",
        [
            ("true",),
            (sys.executable, "--version"),
            ("sh", "-c", 'restart "$1"', "sh", "{{ labels.x }}"),
            ("sh", "-c", 'restart "$1"', "--", "{{ labels.x }}"),
            ("sh", "/dev/stdin", "{{ labels.x }}"),
            ("env", "X={{ labels.x }}", "true"),
            ("sed", "-n", "p", "{{ labels.x }}"),
            ("true", "cordon", "node", "{{ labels.x }}"),
            ("true", "--unit={{ labels.x }}", "script", "{{ labels.x }}"),
            ("timeout", "-k", "1", "5", "true", "{{ labels.x }}"),
            ("nice", "-n", "5", "env", "A=1", "true", "{{ labels.x }}"),
            ("flock", "-n", "/run/lock/x", "true", "{{ labels.x }}"),
            ("find", "/var/cache/x", "-name", "{{ labels.x }}", "-exec", "rm", "{}", ";"),
        ],
    )
    def test_as_data_they_need_a_pattern(self, argv: tuple[str, ...]) -> None:
        declared = {"labels.x": ValuePattern("[a-z]+")}
        assert problems(CommandParams(argv=argv), declared) == []
        templated = [word for word in argv if "{{" in word]
        found = problems(CommandParams(argv=argv))
        assert len(found) == len(templated)
        assert all("labels.x can be any text that somebody sends" in each for each in found)

    @pytest.mark.parametrize(
        "argv",
        [
            ("timeout", "5", "{{ labels.x }}"),
            ("timeout", "--kill-after=1", "5", "--", "{{ labels.x }}"),
            ("env", "{{ labels.x }}"),
            ("env", "A=1", "-u", "B", "/opt/{{ labels.x }}"),
            ("env", "{{ labels.x }}=1", "true"),
            ("nice", "-n", "5", "nohup", "{{ labels.x }}"),
            ("flock", "/run/lock/x", "-c", "{{ labels.x }}"),
            ("flock", "/run/lock/x", "--command", "systemctl restart {{ labels.x }}"),
            ("xargs", "-n1", "{{ labels.x }}"),
            ("find", "/", "-exec", "{{ labels.x }}", ";"),
            ("sudo", "-n", "-u", "nobody", "{{ labels.x }}"),
        ],
    )
    def test_behind_a_program_that_runs_one_only_a_listed_value_may_stand(
        self, argv: tuple[str, ...]
    ) -> None:
        said = "runs what stands here, and a label may not choose the program"
        for values in (None, {"labels.x": ValuePattern("[a-z]+")}):
            assert said in " ".join(problems(CommandParams(argv=argv), values))
        listed = {"labels.x": ValuePattern("checkout|cart")}
        assert [each for each in problems(CommandParams(argv=argv), listed) if said in each] == []

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("LD_PRELOAD", "may not be set"),
            ("PATH", "may not be set"),
            ("promheal_x", "may not be set"),
            ("PROMHEAL_X=1", "may not be set"),
            ("PROMHEAL_", "may not be set"),
            ("PROMHEAL_{{ labels.x }}", "may not be set"),
            ("PROMHEAL_TARGET", "promheal's own; write another name, as PROMHEAL_TARGET_LABEL"),
            ("PROMHEAL_URL", "promheal's own"),
            ("PROMHEAL_STEP_EXIT", "promheal's own"),
        ],
    )
    def test_variables_are_those_that_no_program_takes_code_from(
        self, name: str, problem: str
    ) -> None:
        params = CommandParams(argv=("true",), env={name: "{{ labels.x }}"})
        (told,) = problems(params)
        assert told.startswith("env: ")
        assert problem in told
        good = CommandParams(argv=("true",), env={"PROMHEAL_X": "{{ labels.x }} of {{ target }}"})
        assert problems(good) == []

    def test_argv_and_undo_find_the_variables(self) -> None:
        shown = ("sh", "-c", 'printf "%s" "$PROMHEAL_X"')
        params = CommandParams(argv=shown, undo=shown, env={"PROMHEAL_X": "{{ labels.x }}"})
        for value in HOSTILE:
            if "\0" in value:
                with pytest.raises(TemplateError, match="NUL"):
                    render_params(params, variables(x=value))
                continue
            rendered = render_params(params, variables(x=value))
            result = Command().run(rendered, context())
            assert result["output"] == value
            assert Command().rollback(rendered, context(), result)["output"] == value

    def test_the_directory_is_checked_too(self) -> None:
        for cwd in ("{{ labels.x }}", "/nonexistent"):
            params = CommandParams(argv=("true",), cwd=cwd)
            (problem,) = Command().problems(params, Inventory({}))
            assert problem.startswith("cwd: ")


class TestInjection:
    def test_a_spy_sees_each_value_as_the_one_argument_that_it_is(self, tmp_path: Path) -> None:
        canary = tmp_path / "canary"
        values = [value.replace("{f}", str(canary)) for value in HOSTILE]
        spy = (*PYTHON, "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))")
        kept, refused = [], []
        for value in values:
            params = CommandParams(argv=("x", "{{ labels.x }}", "--option={{ labels.x }}"))
            try:
                kept.append(render_params(params, variables(x=value), undeclared=True).argv[1:])
            except TemplateError:
                refused.append(value)
        assert all(value.startswith("-") or "\0" in value for value in refused)
        assert len(refused) > 20
        assert not any(bare.startswith("-") for bare, _ in kept)
        expected = [word for words in kept for word in words]
        seen = tmp_path / "seen"
        Command().run(CommandParams(argv=(*spy, str(seen), *expected)), context())
        assert json.loads(seen.read_text()) == expected
        assert expected[::2] == [value for value in values if value not in refused]
        assert not canary.exists()

    def test_in_the_environment_they_are_data_too(self, tmp_path: Path) -> None:
        canary = tmp_path / "canary"
        for value in HOSTILE[:6]:
            hostile = value.replace("{f}", str(canary))
            if "\0" in hostile:
                continue
            about = msgspec.structs.replace(context(), target=hostile)
            params = CommandParams(argv=("sh", "-c", 'printf %s "$PROMHEAL_TARGET"'))
            assert Command().run(params, about)["output"] == hostile
        assert not canary.exists()

    def test_in_a_url_they_are_one_segment_of_the_same_host(self, server: Server) -> None:
        sent = 0
        for value in filter(None, HOSTILE):
            params = HttpParams(
                url=f"{server.url}/echo/{{{{ labels.x }}}}?q={{{{ labels.x }}}}", method=Method.GET
            )
            rendered = render_params(params, variables(x=value))
            server.requests.clear()
            try:
                Http().run(rendered, context(allowed_urls=(f"{server.url}/echo/",)))
            except ActionError as error:
                assert "is refused" in str(error)  # noqa: PT017  both are right, by the value
                assert server.requests == []
                continue
            sent += 1
            (request,) = server.requests
            path, _, query = request.target.partition("?")
            assert path.split("/")[:2] == ["", "echo"]
            assert [unquote(part) for part in path.split("/")[2:]] == [value]
            assert unquote(query) == f"q={value}"
            assert request.headers["Host"] == urlsplit(server.url).netloc
            assert (request.method, request.body) == ("GET", b"")
        assert sent > 100

    def test_in_json_they_are_strings(self, server: Server) -> None:
        for value in HOSTILE:
            if "\0" in value:
                continue
            params = HttpParams(
                url=f"{server.url}/echo", json={"a": ["{{ labels.x }}"], "b": {"c": 1}}
            )
            rendered = render_params(params, variables(x=value))
            server.requests.clear()
            Http().run(rendered, context(allowed_urls=(server.url,)))
            (request,) = server.requests
            assert json.loads(request.body) == {"a": [value], "b": {"c": 1}}
            assert request.headers["Content-Type"] == "application/json"

    def test_in_a_header_they_end_no_line(self, server: Server) -> None:
        for value in HOSTILE:
            if "\0" in value:
                continue
            params = HttpParams(url=f"{server.url}/echo", headers={"X-Label": "{{ labels.x }}"})
            rendered = render_params(params, variables(x=value))
            server.requests.clear()
            with suppress(ActionError):
                Http().run(rendered, context(allowed_urls=(server.url,)))
            for request in server.requests:
                assert request.target == "/echo"
                assert request.headers.get_all("Host") == [urlsplit(server.url).netloc]
                shown = request.headers["X-Label"].encode("latin-1").decode()
                assert shown.strip() == value.strip()


# ── http ──


class Request(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: Any
    body: bytes


class Server(ThreadingHTTPServer):
    """Answers by its path, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []
        self.unready = 0
        """How often /ready answers 503 yet."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Tests are silent."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.requests.append(Request(self.command, self.path, self.headers, body))
        match self.path.split("?")[0].split("/")[1:]:
            case ["status", code]:
                self._answer(int(code), f"answer {code}".encode())
            case ["redirect"]:
                self._answer(302, b"", Location="/echo")
            case ["large"]:
                self._answer(200, b"x" * 1_000_000)
            case ["binary"]:
                self._answer(200, b"\xff\0\xfe")
            case ["mute"]:
                time.sleep(3.0)
            case ["dribble"]:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                self._dribble(b"X")
            case ["endless"]:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                self._dribble(b"x")
            case ["ready"] if self.server.unready > 0:
                self.server.unready -= 1
                self._answer(503, b"warming up")
            case _:
                self._answer(200, b"done")

    def _dribble(self, data: bytes) -> None:
        for _ in range(60):
            self.wfile.write(data)
            self.wfile.flush()
            time.sleep(0.05)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.requests.clear()
    one_server.unready = 0
    return one_server


EVERYWHERE = Inventory({}, ["http://host", "http://h", "https://h:1"])


class TestHttp:
    def test_it_answers(self, server: Server) -> None:
        here = Inventory({}, [server.url])
        params = HttpParams(url=f"{server.url}/echo", json={"a": 1}, headers={"X-Über": "é"})
        assert list(Http().problems(params, here))
        params = HttpParams(url=f"{server.url}/echo", json={"a": 1}, headers={"X-A": "é"})
        assert list(Http().problems(params, here)) == []
        result = stored(Http().run(params, context(allowed_urls=(server.url,))))
        assert (result["status"], result["body"]) == (200, "done")
        (request,) = server.requests
        assert (request.method, json.loads(request.body)) == ("POST", {"a": 1})
        assert "Authorization" not in request.headers

    def test_a_token_comes_from_a_file(self, server: Server, tmp_path: Path) -> None:
        token = tmp_path / "token"
        params = HttpParams(url=server.url, bearer_token_file=str(token))
        about = context(allowed_urls=(server.url,))
        with pytest.raises(ActionError, match="bearer_token_file"):
            Http().run(params, about)
        token.write_text("hunter2\n")
        result = Http().run(params, about)
        assert server.requests[-1].headers["Authorization"] == "Bearer hunter2"
        assert "hunter2" not in str(result)

    @pytest.mark.parametrize("status", [199 + 101, 301, 400, 404, 500, 503])
    def test_what_is_no_2xx_is_a_failure(self, server: Server, status: int) -> None:
        params = HttpParams(url=f"{server.url}/status/{status}")
        about = context(allowed_urls=(server.url,))
        with pytest.raises(ActionError, match=f"answered {status} .*not 2xx") as error:
            Http().run(params, about)
        assert error.value.output == f"answer {status}"
        expected = msgspec.structs.replace(params, expect_status=(418, status))
        assert Http().run(expected, about)["status"] == status

    def test_an_expected_status_is_the_only_one(self, server: Server) -> None:
        params = HttpParams(url=f"{server.url}/echo", expect_status=(202, 204))
        with pytest.raises(ActionError, match="answered 200 OK, not 202 or 204"):
            Http().run(params, context(allowed_urls=(server.url,)))

    def test_a_redirect_is_not_followed(self, server: Server) -> None:
        params = HttpParams(url=f"{server.url}/redirect", method=Method.GET)
        with pytest.raises(
            ActionError, match=r"302 Found to '/echo', .*redirects are not followed"
        ):
            Http().run(params, context(allowed_urls=(server.url,)))
        assert [request.target for request in server.requests] == ["/redirect"]

    def test_neither_proxies_nor_netrc_are_asked(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password hunter2\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        Http().run(HttpParams(url=server.url), context(allowed_urls=(server.url,)))
        assert "Authorization" not in server.requests[-1].headers

    @pytest.mark.parametrize("path", ["mute", "dribble", "endless"])
    def test_the_deadline_is_for_the_whole_call(self, server: Server, path: str) -> None:
        began = time.monotonic()
        with pytest.raises(ActionError, match=r"got no answer: not within 0\.5 s"):
            Http().run(
                HttpParams(url=f"{server.url}/{path}"),
                context(allowed_urls=(server.url,), timeout=0.5),
            )
        assert time.monotonic() - began < 2.0

    def test_an_answer_is_kept_in_part(self, server: Server) -> None:
        about = context(allowed_urls=(server.url,))
        large = stored(Http().run(HttpParams(url=f"{server.url}/large"), about))
        assert large["body"] == "x" * 2000
        binary = stored(Http().run(HttpParams(url=f"{server.url}/binary"), about))
        assert binary["body"] == "\ufffd" * 3

    def test_nobody_there(self) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            with pytest.raises(ActionError, match="Connection refused"):
                Http().run(HttpParams(url=url), context(allowed_urls=(url,)))
        url = "http://name.invalid/"
        with pytest.raises(ActionError, match="got no answer"):
            Http().run(HttpParams(url=url), context(allowed_urls=(url,)))

    def test_tls_is_verified(self, server: Server) -> None:
        url = server.url.replace("http:", "https:")
        with pytest.raises(ActionError, match=r"got no answer: .*SSL"):
            Http().run(HttpParams(url=url), context(allowed_urls=(url,)))
        assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED

    def test_by_its_method_it_may_be_repeated(self) -> None:
        for method in Method:
            params = HttpParams(url="http://h/", method=method)
            assert Http().idempotent(params) is (method in {"GET", "PUT", "DELETE"})
        assert Http().idempotent(HttpParams(url="http://h/", idempotent=True))
        assert not Http().idempotent(
            HttpParams(url="http://h/", method=Method.PUT, idempotent=False)
        )

    def test_its_undo(self, server: Server) -> None:
        about = context(allowed_urls=(server.url,))
        params = HttpParams(
            url=f"{server.url}/drain",
            headers={"X-A": "b"},
            undo=Undo(url=f"{server.url}/drain", method=Method.DELETE, json={"a": 1}),
        )
        assert Http().undoable(params)
        assert Http().rollback(params, about, None)["status"] == 200
        (request,) = server.requests
        assert (request.method, request.body) == ("DELETE", b'{"a":1}')
        assert request.headers["X-A"] == "b"
        assert not Http().undoable(HttpParams(url=server.url))
        elsewhere = msgspec.structs.replace(params, undo=Undo(url="http://evil.example/"))
        with pytest.raises(ActionError, match="is refused"):
            Http().rollback(elsewhere, about, None)

    @pytest.mark.parametrize(
        "url",
        [
            "{{ labels.x }}",
            "http://{{ labels.x }}/",
            "http://{{ labels.x }}.example/",
            "http://host{{ labels.x }}/",
            "http://host:{{ labels.x }}/",
            "http://host{{ labels.x }}",
            "http{{ labels.x }}://host/",
            "//host/{{ labels.x }}",
            "ftp://host/{{ labels.x }}",
            "http://user@host/{{ labels.x }}",
            "http://host/../{{ labels.x }}",
            "http://host/#{{ labels.x }}",
            "http://host/ {{ labels.x }}",
            "http://ho st/",
            "host/path",
            "",
        ],
    )
    def test_a_label_chooses_no_host(self, url: str) -> None:
        for params in (
            HttpParams(url=url),
            HttpParams(url="http://host/", undo=Undo(url=url)),
        ):
            (problem,) = Http().problems(params, EVERYWHERE)
            assert problem.startswith(("url: ", "undo.url: "))

    def test_what_is_not_allowed_is_said_when_it_is_loaded(self) -> None:
        params = HttpParams(url="http://other/{{ labels.x }}", undo=Undo(url="http://h.other/"))
        problems = list(Http().problems(params, EVERYWHERE))
        assert [problem.partition(":")[0] for problem in problems] == ["url", "undo.url"]
        assert all("http.allow" in problem for problem in problems)

    @pytest.mark.parametrize(
        "url",
        ["http://h/{{ labels.x }}", "https://h:1/a?b={{ labels.x }}", "http://h?{{ labels.x }}"],
    )
    def test_elsewhere_it_may_stand(self, url: str) -> None:
        assert list(Http().problems(HttpParams(url=url), EVERYWHERE)) == []

    @pytest.mark.parametrize(
        "params",
        [
            HttpParams(url="http://h/", headers={"Host": "evil.example"}),
            HttpParams(url="http://h/", headers={"Content-Length": "0"}),
            HttpParams(url="http://h/", headers={"A B": "c"}),
            HttpParams(url="http://h/", headers={"A": "b\r\nC: d"}),
            HttpParams(url="http://h/", bearer_token_file="/run/{{ labels.x }}"),
        ],
    )
    def test_headers_are_checked(self, params: HttpParams) -> None:
        assert len(list(Http().problems(params, EVERYWHERE))) == 1


ALLOWED = ("http://api.example:8080/v1/heal", "https://hooks.example/", "http://[2001:db8::1]/x")


class TestAllowList:
    @pytest.mark.parametrize(
        "url",
        [
            "http://api.example:8080/v1/heal",
            "http://api.example:8080/v1/heal/",
            "http://api.example:8080/v1/heal/web?x=http://evil.example/../",
            "HTTP://API.example:8080/v1/heal/a%2Fb",
            "http://api.example:8080/v1/heal/...",
            "https://hooks.example",
            "https://hooks.example:443/any",
            "https://hooks.example?x=y",
            "http://[2001:db8::1]:80/x/y",
        ],
    )
    def test_what_is_below_it_may_be_called(self, url: str) -> None:
        refuse_unless_allowed(url, ALLOWED)

    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:169.254.169.254]/",
            "http://2852039166/",
            "http://0xA9FEA9FE/",
            "http://0251.0376.0251.0376/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0/",
            "http://[::]/",
            "http://[::1]:8080/v1/heal",
            "http://localhost:8080/v1/heal",
            "http://api.example/v1/heal",
            "http://api.example:80/v1/heal",
            "http://api.example:08081/v1/heal",
            "https://api.example:8080/v1/heal",
            "http://hooks.example/",
            "https://hooks.example:8443/",
            "http://api.example:8080/",
            "http://api.example:8080/v1",
            "http://api.example:8080/v1/healing",
            "http://api.example:8080/v1/heal;x",
            "http://api.example:8080//v1/heal",
            "http://api.example:8080/V1/heal",
            "http://api.example:8080/v1%2Fheal",
            "http://api.example:8080/v1/heal/../admin",
            "http://api.example:8080/v1/heal/./x",
            "http://api.example:8080/v1/heal/..",
            "http://api.example:8080/v1/heal/%2e%2e/admin",
            "http://api.example:8080/v1/heal/%2E./admin",
            "http://api.example:8080/v1/heal/%252e%252e/admin",
            "http://api.example:8080/v1/heal/%25252e%25252e%25252fadmin",
            "http://api.example:8080/v1/heal/..%2fadmin",
            "http://api.example:8080/v1/heal/..%5cadmin",
            "http://api.example:8080/v1/heal/..;/admin",
            "http://api.example:8080/v1/heal/..%3b/admin",
            "http://api.example:8080/v1/heal/..\\admin",
            "http://api.example:8080/v1/heal/%5c..%5cadmin",
            "http://api.example:8080/v1/heal/%00",
            "http://api.example:8080/v1/heal/%0d%0aHost:%20evil.example",
            "http://api.example:8080/v1/heal/\r\nHost: evil.example",
            "http://api.example:8080/v1/heal/\tx",
            "http://api.example:8080/v1/heal/ x",
            "http://api.example:8080/v1/heal/é",
            "http://api.example:8080/v1/heal/%zz",
            "http://api.example:8080/v1/heal#x",
            "http://api.example:8080#@evil.example/v1/heal",
            "http://api.example:8080@evil.example/v1/heal",
            "http://evil.example@api.example:8080/v1/heal",
            "http://user:pass@api.example:8080/v1/heal",
            "http://api.example:8080\\@evil.example/v1/heal",
            "http://api.example:8080.evil.example/v1/heal",
            "http://api.example.evil.example:8080/v1/heal",
            "http://api.example.:8080/v1/heal",
            "http://api.example%2eevil.example:8080/v1/heal",
            "http://api.example%00.evil.example:8080/v1/heal",
            "http://api。example:8080/v1/heal",
            "http://ⓐpi.example:8080/v1/heal",
            "http:api.example:8080/v1/heal",
            "http:/api.example:8080/v1/heal",
            "http:///api.example:8080/v1/heal",
            "//api.example:8080/v1/heal",
            "http://:8080/v1/heal",
            "http://api.example:/v1/heal",
            "http://api.example:99999/v1/heal",
            "http://api.example:-1/v1/heal",
            "http://api.example:0/v1/heal",
            "http://[2001:db8::2]/x",
            "http://[2001:db8::1/x",
            "http://[2001:db8::1%25eth0]/x",
            "file:///etc/passwd",
            "gopher://api.example:8080/v1/heal",
            "ftp://hooks.example/",
            "unix:///run/docker.sock",
            "javascript:alert(1)",
            " https://hooks.example/",
            "https://hooks.example/\n",
            "",
        ],
    )
    def test_everything_else_is_refused(self, url: str) -> None:
        with pytest.raises(ActionError, match="is refused"):
            refuse_unless_allowed(url, ALLOWED)
        with pytest.raises(ActionError, match="is refused"):
            Http().run(HttpParams(url=url), context(allowed_urls=ALLOWED))

    @pytest.mark.parametrize("allowed", [(), ("",), ("*",), ("http://",), ("http://h/?a=b",)])
    def test_a_list_that_names_nothing_allows_nothing(self, allowed: tuple[str, ...]) -> None:
        with pytest.raises(ActionError, match="is refused"):
            refuse_unless_allowed("http://h/", allowed)


# ── restart ──


class Recorder:
    """A manager that remembers, and takes the time that it is told to."""

    def __init__(self, problem: str = "", seconds: float = 0.0) -> None:
        self.problem = problem
        self.seconds = seconds
        self.timeouts: list[float] = []

    def status(self, *, timeout: float) -> ServiceStatus:
        raise NotImplementedError

    def restart(self, *, timeout: float) -> ServiceStatus:
        self.timeouts.append(timeout)
        time.sleep(self.seconds)
        if self.problem:
            raise ActionError(self.problem)
        return ServiceStatus(state=ServiceState.RUNNING, detail="RUNNING", pid=4242)


def inventory(manager: Recorder, health: Health | None = None) -> Inventory:
    return Inventory({"checkout": Service(name="checkout", manager=manager, health=health)})


class TestRestart:
    def test_through_the_manager(self) -> None:
        manager = Recorder()
        params = RestartParams(service="checkout")
        result = RestartService().run(params, context(inventory=inventory(manager), timeout=9.0))
        assert stored(result) == {
            "service": "checkout",
            "state": "running",
            "detail": "RUNNING",
            "pid": 4242,
            "seconds": result["seconds"],
            "health": None,
        }
        assert manager.timeouts == [9.0]
        assert RestartService().idempotent(params)
        assert not RestartService().undoable(params)

    def test_an_unknown_service_touches_nothing(self) -> None:
        manager = Recorder()
        with pytest.raises(ActionError, match=r"no service 'chekout' .*nothing was touched"):
            RestartService().run(
                RestartParams(service="chekout"), context(inventory=inventory(manager))
            )
        assert manager.timeouts == []

    def test_the_managers_reason_is_told(self) -> None:
        with pytest.raises(ActionError, match="spawn error"):
            RestartService().run(
                RestartParams(service="checkout"),
                context(inventory=inventory(Recorder(problem="spawn error"))),
            )

    def test_it_waits_until_the_health_url_answers(self, server: Server) -> None:
        server.unready = 3
        healthy = inventory(Recorder(), Health(url=f"{server.url}/ready"))
        result = RestartService().run(RestartParams(service="checkout"), context(inventory=healthy))
        assert result["health"] == {"status": 200, "asked": 4}
        assert result["seconds"] >= 0.6  # 0.1, 0.2 and 0.4 between them

    @pytest.mark.parametrize(
        ("path", "asking", "problem"),
        [
            ("/status/503", 9.0, "answered 503 Service Unavailable"),
            ("/redirect", 9.0, "answered 302 Found to '/echo'"),
            ("/mute", 0.3, "not within"),
        ],
    )
    def test_one_that_is_never_healthy_has_failed(
        self, server: Server, path: str, asking: float, problem: str
    ) -> None:
        ill = inventory(Recorder(), Health(url=f"{server.url}{path}", timeout=asking))
        began = time.monotonic()
        with pytest.raises(ActionError, match=f"'checkout' was restarted .*{problem}"):
            RestartService().run(
                RestartParams(service="checkout"), context(inventory=ill, timeout=0.8)
            )
        assert 0.7 < time.monotonic() - began < 3.0
        assert "/echo" not in [request.target for request in server.requests]

    def test_the_managers_time_counts(self, server: Server) -> None:
        slow = inventory(Recorder(seconds=0.5), Health(url=f"{server.url}/status/503"))
        began = time.monotonic()
        with pytest.raises(ActionError, match="not healthy in time"):
            RestartService().run(
                RestartParams(service="checkout"), context(inventory=slow, timeout=0.7)
            )
        assert time.monotonic() - began < 2.0

    @pytest.mark.parametrize("severity", ["warning", "Critical", "", None])
    def test_only_if_critical(self, severity: str | None) -> None:
        manager = Recorder()
        labels = {} if severity is None else {"severity": severity}
        action = RestartIfCritical()
        params = RestartParams(service="checkout")
        skipped = action.run(params, context(inventory=inventory(manager), labels=labels))
        assert stored(skipped) == {"skipped": f"severity is {severity or ''!r}, not 'critical'"}
        assert manager.timeouts == []
        done = action.run(
            params, context(inventory=inventory(manager), labels={"severity": "critical"})
        )
        assert done["state"] == "running"

    def test_a_name_is_checked_at_load_unless_a_label_chooses(self) -> None:
        known = inventory(Recorder())
        action = RestartService()
        assert list(action.problems(RestartParams(service="checkout"), known)) == []
        assert list(action.problems(RestartParams(service="{{ labels.service }}"), known)) == []
        (problem,) = action.problems(RestartParams(service="chekout"), known)
        assert "did you mean 'checkout'? known: checkout" in problem

    def test_no_label_reaches_further_than_the_inventory(self) -> None:
        manager = Recorder()
        for value in HOSTILE:
            about = context(inventory=inventory(manager))
            with pytest.raises(ActionError):
                RestartService().run(
                    render_params(
                        RestartParams(service="{{ labels.service }}"), variables(service=value)
                    ),
                    about,
                )
        assert manager.timeouts == []
