"""`http_config` in the files: where it may stand, what is wrong with it, what is shown of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
import yaml
from jsonschema import Draft7Validator

from receiver import bootstrap
from receiver.actions import discover
from receiver.actions.http import Http, HttpParams, Method
from receiver.clients.alertmanager import Alertmanager
from receiver.clients.llm import LlmKeys
from receiver.clients.prometheus import Prometheus
from receiver.config.files import LoadedConfig, load
from receiver.doctor.questions import examine
from receiver.errors import ActionError, UpstreamError
from receiver.policy.http_config import Authorization, BasicAuth, HTTPConfig, TLSConfig
from receiver.redaction import redact
from receiver.services import Inventory
from receiver.services.docker import Docker
from receiver.services.http_cache import HttpCache, Purge
from receiver.services.kubernetes import Kubernetes
from receiver.services.rabbitmq_queue import RabbitBroker, RabbitQueue
from receiver.settings import AlertmanagerSettings, LlmProvider, LlmSettings, PrometheusSettings
from receiver.yaml.diagnostics import DiagnosticSeverity, InvalidConfig, format_problem
from tests import factories
from tests.web_servers import Web, server_context, write_pem

SECRET = "v3ry-s3cret-value"
ACTIONS = discover()
SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"

EVERY_KEY = """\
basic_auth: {username: promheal, password_file: pw}
tls_config:
  ca_file: ca.pem
  cert_file: me.crt
  key_file: me.key
  server_name: prometheus.example
  min_version: TLS12
  max_version: TLS13
  insecure_skip_verify: false
http_headers:
  X-Other: {values: [a], secrets: [b-secret], files: [value]}
headers: {X-Scope-OrgID: team-a}
proxy_url: http://proxy.example:3128
no_proxy: 10.0.0.0/8,.internal
follow_redirects: true
"""


def write(
    folder: Path, promheal: Any = None, services: Any = None, actions: list[Any] | None = None
) -> Path:
    step = {"action": "log", "message": "x"}
    strategy = {"match": ['alertname="X"'], "actions": actions or [step]}
    for name, value in (
        ("promheal.yml", promheal or {}),
        ("services.yml", {"services": services or {}}),
        ("healing_strategies.yml", {"strategies": {"any": strategy}}),
    ):
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / name).write_text(text)
    return folder / "promheal.yml"


def loaded(*args: Any, **kwargs: Any) -> LoadedConfig:
    return load(write(*args, **kwargs), ACTIONS, {})


def refused(folder: Path, prometheus: str) -> tuple[str, int, int]:
    """What is said of a `prometheus:` section, and where."""
    file = write(folder, f"prometheus:\n  url: http://p.example\n{prometheus}")
    with pytest.raises(InvalidConfig) as raised:
        load(file, ACTIONS, {})
    (problem,) = (it for it in raised.value.problems if it.severity is DiagnosticSeverity.ERROR)
    assert SECRET not in format_problem(problem)
    return problem.message, problem.line, problem.column


# --- the keys -------------------------------------------------------------------------------------


def test_every_key_is_read_and_is_in_the_published_schema(tmp_path: Path) -> None:
    keys = yaml.safe_load(EVERY_KEY)
    promheal = {
        "prometheus": {"url": "https://p.example", **keys},
        "alertmanager": {"url": "https://a.example", **keys},
        "llm": {
            "providers": {
                "one": {
                    "base_url": "https://l.example",
                    "keys": ["A"],
                    "header": "x-api-key",
                    **keys,
                }
            }
        },
        "http": {"allow": ["https://c.example", "https://h.example"]},
    }
    manager = {"docker": {"container": "web", "url": "https://d.example", **keys}}
    broker = {"url": "https://r.example", "queue": "q", "stuck_after": "1h", **keys}
    services = {
        "one": {
            "manager": manager,
            "cache": {"http": {"url": "https://c.example/", **keys}},
            "queue": {"rabbitmq": broker},
        },
        "two": {"manager": {"kubernetes": {"namespace": "n", "deployment": "d", **keys}}},
    }
    step = {"action": "http", "url": "https://h.example/", **keys}
    step["http_headers"] = {"X-Other": {"values": ["a"], "files": ["value"]}}
    found = loaded(tmp_path, promheal, services, [step])
    assert found.problems == ()
    one = found.inventory.get("one")
    strategy = found.strategies.get("any")
    assert strategy is not None
    for config in (
        found.settings.prometheus,
        found.settings.alertmanager,
        found.settings.llm.providers["one"],
        one.manager,
        found.inventory.get("two").manager,
        getattr(one.cache, "http"),  # noqa: B009  it is one of several kinds
        getattr(one.queue, "rabbitmq"),  # noqa: B009
        strategy.actions[0].params,
    ):
        assert isinstance(config, HTTPConfig)
        # Relative to the file in which it stands, as Prometheus has it.
        folder = str(tmp_path)
        assert config.login == BasicAuth(username="promheal", password_file=f"{folder}/pw")
        assert (config.tls.ca_file, config.tls.key_file) == (f"{folder}/ca.pem", f"{folder}/me.key")
        assert config.http_headers["X-Other"].files == (f"{folder}/value",)
        assert config.tls.server_name == "prometheus.example"
        assert config.follow_redirects
    for name in ("promheal", "services", "healing_strategies"):
        schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        document = yaml.safe_load((tmp_path / f"{name}.yml").read_text())
        assert not list(Draft7Validator(schema).iter_errors(document)), name


@pytest.mark.parametrize(
    ("section", "line", "column", "says"),
    [
        (
            f"  basic_auth: {{username: a, password: {SECRET}, password_file: b}}\n",
            3, 15, "at most one of basic_auth password & password_file must be configured; remove",
        ),
        (
            "  basic_auth: {username: a, username_file: b}\n",
            3, 15, "at most one of basic_auth username & username_file must be configured",
        ),
        ("  basic_auth: {}\n", 3, 15, "basic_auth is empty; write `username`"),
        (
            "  authorization: {type: Basic, credentials_file: a}\n",
            3, 18, 'authorization type cannot be set to "basic", use "basic_auth" instead',
        ),
        ("  authorization: {type: Bearer}\n", 3, 18, "authorization is empty; write `credentials_"),
        (
            f"  authorization: {{credentials: {SECRET}, credentials_file: a}}\n",
            3, 18, "at most one of authorization credentials & credentials_file",
        ),
        (
            "  basic_auth: {username: a}\n  authorization: {credentials_file: b}\n",
            2, 3, "at most one of basic_auth & authorization must be configured; remove basic_auth",
        ),
        (
            "  tls_config: {ca: x, ca_file: y}\n",
            3, 15, "at most one of tls_config ca & ca_file must be configured",
        ),
        ("  tls_config: {cert_file: x}\n", 3, 15, "go together; write `key_file`"),
        (
            "  tls_config: {min_version: TLS13, max_version: TLS12}\n",
            3, 15, "tls_config.max_version must be greater than or equal to tls_config.min_version",
        ),
        ("  tls_config: {min_version: TLSv1.2}\n", 3, 29, "TLS12"),
        ("  tls_config: {cafile: x}\n", 3, 16, "unknown key 'cafile'; did you mean 'ca_file'?"),
        ("  headers: {Authorization: x}\n", 2, 3, "setting header 'Authorization' is not allowed"),
        ("  http_headers: {Host: {values: [a]}}\n", 2, 3, "setting header 'Host' is not allowed"),
        (
            "  headers: {X-A: a}\n  http_headers: {x-a: {values: [b]}}\n",
            2, 3, "header 'X-A' is defined in multiple sections; write it once",
        ),
        ("  headers: {'X A': a}\n", 2, 3, "'X A' is no name of a header; write for example"),
        (
            f"  http_headers: {{X-A: {{secrets: [{SECRET}], other: 1}}}}\n",
            3, 54, "unknown key 'other'",
        ),
        (f"  proxy_url: socks5://u:{SECRET}@p\n", 3, 14, "expected the URL of a proxy; write for"),
        (
            "  proxy_url: http://p\n  proxy_from_environment: true\n",
            2, 3, "if proxy_from_environment is configured, proxy_url must not be configured",
        ),
        (
            "  no_proxy: a\n", 2, 3, "if no_proxy is configured, proxy_url must also be configured",
        ),
        (
            "  bearer_token_file: a\n  basic_auth: {username: b}\n",
            2, 3, "at most one of basic_auth & authorization & bearer_token_file",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_place_and_a_remedy(
    tmp_path: Path, section: str, line: int, column: int, says: str
) -> None:
    message, *place = refused(tmp_path, section)
    assert says in message
    assert place == [line, column]


# --- the keys of today ----------------------------------------------------------------------------


def test_older_keys_work_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    token = str(tmp_path / "token")
    found = loaded(
        tmp_path,
        {
            "prometheus": {"url": "http://p.example", "bearer_token_file": token},
            "http": {"allow": ["http://h.example"]},
        },
        {
            "one": {
                "manager": {
                    "docker": {
                        "container": "web",
                        "url": "https://d.example",
                        "ca_file": "/ca",
                        "cert_file": "/crt",
                        "key_file": "/key",
                    }
                },
                "queue": {
                    "rabbitmq": {
                        "url": "http://r.example",
                        "queue": "q",
                        "username": "u",
                        "password_file": token,
                        "stuck_after": "1h",
                    }
                },
            },
            "two": {
                "manager": {
                    "kubernetes": {"namespace": "n", "deployment": "d", "token_file": token}
                }
            },
        },
        [{"action": "http", "url": "http://h.example/", "bearer_token_file": token}],
    )
    assert {problem.severity for problem in found.problems} == {DiagnosticSeverity.WARNING}
    notes = [problem.message for problem in found.problems]
    bearer = "'bearer_token_file' is deprecated; write authorization: {credentials_file: …}"
    login = "basic_auth: {username: …, password_file: …}"
    assert sorted(notes) == sorted(
        [
            bearer,
            bearer,
            "'cert_file' is deprecated; write tls_config: {cert_file: …}",
            "'key_file' is deprecated; write tls_config: {key_file: …}",
            "'token_file' is deprecated; write authorization: {credentials_file: …}",
            f"'username' is deprecated; write {login}",
            f"'password_file' is deprecated; write {login}",
        ]
    )
    assert all(problem.line and problem.column for problem in found.problems)
    assert found.settings.prometheus is not None
    assert found.settings.prometheus.login == Authorization(credentials_file=token)
    docker = found.inventory.get("one").manager
    assert isinstance(docker, Docker)
    assert docker.tls == TLSConfig(ca_file="/ca", cert_file="/crt", key_file="/key")
    kubernetes = found.inventory.get("two").manager
    assert isinstance(kubernetes, Kubernetes)
    assert kubernetes.login == Authorization(credentials_file=token)
    assert kubernetes.tls.ca_file == "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    queue = found.inventory.get("one").queue
    assert isinstance(queue, RabbitQueue)
    assert queue.rabbitmq.login == BasicAuth(username="u", password_file=token)


def test_the_newer_keys_win_over_the_defaults_of_a_pod() -> None:
    config = Kubernetes(
        namespace="n",
        deployment="d",
        authorization=Authorization(credentials_file="/t"),
        tls_config=TLSConfig(ca_file="/c"),
    )
    assert config.login == Authorization(credentials_file="/t")
    assert config.tls == TLSConfig(ca_file="/c")
    blind = msgspec.structs.replace(config, tls_config=TLSConfig(insecure_skip_verify=True))
    assert blind.tls.ca_file is None


def test_ca_file_is_short_for_that_of_tls_config(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"prometheus": {"url": "https://p.example", "ca_file": "ca.pem"}})
    assert found.problems == ()
    assert found.settings.prometheus is not None
    assert found.settings.prometheus.tls.ca_file == str(tmp_path / "ca.pem")


# --- who is asked like that -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def config(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    """Own CA, a password from a file and a tenant."""
    (tmp_path / "pw").write_text(f"{SECRET}\n")
    return {
        "basic_auth": BasicAuth(username="promheal", password_file=str(tmp_path / "pw")),
        "tls_config": TLSConfig(ca_file=write_pem(tmp_path / "ca.pem", authority.cert_pem)),
        "headers": {"X-Scope-OrgID": "team-a"},
    }


@pytest.fixture
def web(authority: trustme.CA) -> Iterator[Web]:
    with Web(server_context(authority)) as one:
        yield one


def seen(web: Web) -> tuple[str, str, bool]:
    """How the last one came: method, path, and whether as promheal of team-a."""
    asked = web.asked[-1]
    login = asked.headers.get("Authorization") == "Basic cHJvbWhlYWw6djNyeS1zM2NyZXQtdmFsdWU="
    return asked.method, asked.target, login and asked.headers.get("X-Scope-OrgID") == "team-a"


def test_prometheus_and_alertmanager(web: Web, config: dict[str, Any]) -> None:
    url = f"{web.url}/prometheus"
    web.answers["/prometheus/-/ready"] = (200, {}, b"")
    assert Prometheus(PrometheusSettings(url=url, **config)).ready()
    assert seen(web) == ("GET", "/prometheus/-/ready", True)
    assert Alertmanager(AlertmanagerSettings(url=web.url, **config)).ready()
    assert seen(web) == ("GET", "/-/ready", True)


def test_a_provider_of_language_models(web: Web, config: dict[str, Any]) -> None:
    provider = LlmProvider(base_url=f"{web.url}/v1", keys=("KEY",), header="x-api-key", **config)
    keys = LlmKeys(LlmSettings(providers={"one": provider}), {"KEY": "a-key-of-ours"}, lambda: 1.0)
    keys.probe("one")
    assert keys.usable("one")
    assert seen(web) == ("GET", "/v1/models", True)
    assert web.asked[-1].headers["x-api-key"] == "a-key-of-ours"
    with pytest.raises(ValueError, match="the key is the `Authorization`"):
        msgspec.structs.replace(provider, header="authorization")
    with pytest.raises(ValueError, match="header 'X-Scope-OrgID' carries the key"):
        msgspec.structs.replace(provider, header="X-Scope-OrgID")


def test_docker_over_tls(web: Web, config: dict[str, Any]) -> None:
    docker = Docker(container="web", url=web.url, **config)
    web.answers["/containers/web/json"] = (200, {}, b'{"State": {"Status": "running", "Pid": 1}}')
    assert docker.status(timeout=5).pid == 1
    assert seen(web) == ("GET", "/containers/web/json", True)


def test_kubernetes(web: Web, config: dict[str, Any]) -> None:
    web.answers["/x"] = (200, {}, b"{}")
    Kubernetes(api=web.url, namespace="n", deployment="d", **config).ask(
        "GET", "/x", dict[str, Any], timeout=5
    )
    assert seen(web) == ("GET", "/x", True)


def test_a_cache(web: Web, config: dict[str, Any]) -> None:
    made = HttpCache(http=Purge(url=f"{web.url}/all", **config))
    assert made.clear(timeout=5)["status"] == 200
    assert seen(web) == ("PURGE", "/all", True)
    assert not list(made.probe(timeout=5))


def test_rabbitmq(web: Web, config: dict[str, Any]) -> None:
    web.answers["/api/whoami"] = (200, {}, b'{"tags": "administrator"}')
    web.answers["/api/queues/%2F/q"] = (200, {}, b"{}")
    broker = RabbitBroker(url=web.url, queue="q", stuck_after=1.0, **config)
    queue = RabbitQueue(rabbitmq=broker)
    assert not list(queue.probe(timeout=5))
    assert seen(web) == ("GET", "/api/whoami", True)


# --- the action http ------------------------------------------------------------------------------


def test_the_action(web: Web, config: dict[str, Any]) -> None:
    context = factories.context(inventory=Inventory({}, [f"{web.url}/a"]), timeout=5.0)
    params = HttpParams(url=f"{web.url}/a", method=Method.GET, **config)
    assert Http().run(params, context)["status"] == 200
    assert seen(web) == ("GET", "/a", True)
    # A redirect is followed only to what is allowed.
    follows = msgspec.structs.replace(params, follow_redirects=True)
    web.answers["/a"] = (302, {"Location": "/a/b"}, b"")
    assert Http().run(follows, context)["status"] == 200
    assert seen(web) == ("GET", "/a/b", True)
    web.answers["/a"] = (302, {"Location": "/elsewhere"}, b"")
    with pytest.raises(ActionError, match=r"'.*/elsewhere' is refused: `http.allow`"):
        Http().run(follows, context)
    assert seen(web)[1] == "/a"


def test_the_login_wins_over_a_header_of_the_step(web: Web, config: dict[str, Any]) -> None:
    context = factories.context(inventory=Inventory({}, [web.url]), timeout=5.0)
    headers = {"authorization": "of the step", "X-Scope-OrgID": "team-a"}
    Http().run(HttpParams(url=f"{web.url}/a", **{**config, "headers": headers}), context)
    assert seen(web) == ("POST", "/a", True)


def test_doctor_reaches_what_a_step_calls_as_the_step_does(
    web: Web, config: dict[str, Any], tmp_path: Path
) -> None:
    config.pop("headers")
    found = loaded(
        tmp_path,
        {"http": {"allow": [web.url]}},
        actions=[{"action": "http", "url": f"{web.url}/a", **msgspec.to_builtins(config)}],
    )
    options = bootstrap.Options(config_file=tmp_path / "promheal.yml", storage_url="sqlite:///x")
    findings = examine(found, options, timeout=5.0, done=int)
    findings = [each for each in findings if each.subject.startswith("http")]
    assert [str(each.state) for each in findings] == ["ok"], findings
    assert "Authorization" not in web.asked[-1].headers


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"proxy_url": f"http://u:{SECRET}@proxy.example"}, "no secret may stand in them"),
        ({"basic_auth": {"username": "a", "password": SECRET}}, "no secret may stand in them"),
        ({"authorization": {"credentials": SECRET}}, "no secret may stand in them"),
        ({"http_headers": {"X-A": {"secrets": [SECRET]}}}, "no secret may stand in them"),
        ({"basic_auth": {"username": "{{ labels.x }}"}}, "basic_auth: a label may not choose it"),
        ({"tls_config": {"ca_file": "{{ labels.x }}"}}, "tls_config: a label may not choose it"),
        ({"http_headers": {"X-A": {"values": ["{{ labels.x }}"]}}}, "http_headers: a label may"),
        ({"no_proxy": "{{ labels.x }}", "proxy_url": "http://p"}, "no_proxy: a label may not"),
    ],
)
def test_a_label_chooses_nothing_of_it_and_no_secret_gets_into_the_journal(
    tmp_path: Path, keys: dict[str, Any], says: str
) -> None:
    step = {"action": "http", "url": "http://h.example/", **keys}
    with pytest.raises(InvalidConfig) as raised:
        loaded(tmp_path, {"http": {"allow": ["http://h.example"]}}, actions=[step])
    messages = [format_problem(problem) for problem in raised.value.problems]
    assert any(says in message for message in messages), messages
    assert SECRET not in "".join(messages)


# --- secrets --------------------------------------------------------------------------------------


def test_secrets_are_known_from_when_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("pw-in-a-file\n")
    (tmp_path / "value").write_text("header-in-a-file\n")
    loaded(
        tmp_path,
        {
            "prometheus": {
                "url": "http://p.example",
                "basic_auth": {"username": "a", "password_file": "pw"},
                "http_headers": {"X-A": {"secrets": ["header-secret"], "files": ["value"]}},
            },
            "alertmanager": {
                "url": "http://a.example",
                "authorization": {"credentials": "inline-credentials"},
                "proxy_url": "http://me:proxy-password@p.example",
            },
        },
    )
    for text in (
        *("pw-in-a-file", "header-in-a-file", "header-secret", "inline-credentials"),
        "proxy-password",
    ):
        assert redact(f"it said {text}!") == "it said REDACTED!"


def test_what_an_upstream_repeats_is_not_passed_on(web: Web, config: dict[str, Any]) -> None:
    """Neither the password of a file nor what became of it later."""
    file = Path(config["basic_auth"].password_file)
    prometheus = Prometheus(PrometheusSettings(url=web.url, **config))
    for secret in (SECRET, "the-rotated-password"):
        file.write_text(secret)
        web.answers["/api/v1/query"] = (403, {}, f"no {secret} here".encode())
        with pytest.raises(UpstreamError) as raised:
            prometheus.query("up")
        assert str(raised.value) == "/api/v1/query: 403 no REDACTED here"


def test_many_threads_read_the_files(web: Web, config: dict[str, Any]) -> None:
    prometheus = Prometheus(PrometheusSettings(url=web.url, **config))
    threads = [threading.Thread(target=prometheus.ready) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(web.asked) == 16
