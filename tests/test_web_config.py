"""The web configuration: files written for Prometheus, our keys, and what no problem may show."""

from __future__ import annotations

import hashlib
import re
import ssl
import stat
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
import trustme
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization

from receiver.cli import root
from receiver.errors import ConfigError
from receiver.web.access import web_config_file
from receiver.web.access.web_config import ClientCertificate, RequestLimit, Role, Token
from receiver.web.access.web_config_file import LoadedWebConfig, load
from receiver.web.server.tls import Tls
from receiver.yaml.diagnostics import InvalidConfig
from tests.tools import REPOSITORY, tool

HASH = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze"
DIGEST = hashlib.sha256(b"a token").hexdigest()
PLAIN = "hunter2"
"""A password where a hash belongs."""


@pytest.fixture(scope="session")
def certificates() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert("localhost", "127.0.0.1")


@pytest.fixture
def folder(tmp_path: Path, certificates: tuple[trustme.CA, trustme.LeafCert]) -> Path:
    """With the certificates that exporter-toolkit's examples name."""
    authority, server = certificates
    authority.cert_pem.write_to_path(tmp_path / "client-ca.crt")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    server.private_key_pem.write_to_path(tmp_path / "server.key")
    return tmp_path


def read(folder: Path, text: str) -> LoadedWebConfig:
    (folder / "web.yml").write_text(text, encoding="utf-8")
    return load(folder / "web.yml")


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InvalidConfig) as caught:
        read(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


# ── a file that was written for Prometheus ──


def test_the_example_of_exporter_toolkit_is_taken_as_it_is(folder: Path) -> None:
    loaded = read(
        folder,
        f"""\
# TLS and basic authentication configuration example.
tls_server_config:
  cert_file: server.crt
  key_file: server.key
basic_auth_users:
  alice: {HASH}
  bob: $2y$10$hLqFl9jSjoAAy95Z/zw8Ye8wkdMBM8c5Bn1ptYqP/AXyV0.oy0S8m
rate_limit:
  interval: "1s"
  burst: 20
""",
    )
    assert set(loaded.config.users) == {"alice", "bob"}
    assert loaded.config.rate_limit == RequestLimit(interval=1.0, burst=20)
    assert loaded.config.roles == {}
    assert loaded.context is not None
    assert loaded.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert loaded.files == tuple(folder / n for n in ("web.yml", "server.crt", "server.key"))


def test_every_documented_key_of_exporter_toolkit_is_known(folder: Path) -> None:
    loaded = read(
        folder,
        """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: client-ca.crt
  client_allowed_sans:
    - client.example
  min_version: TLS12
  max_version: TLS13
  cipher_suites:
    - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    - TLS_AES_128_GCM_SHA256
  prefer_server_cipher_suites: true
  curve_preferences: [CurveP256]
http_server_config:
  http2: true
  headers:
    Content-Security-Policy: "frame-ancestors 'none'"
    X-Frame-Options: deny
    X-Content-Type-Options: nosniff
    X-XSS-Protection: ""
    Strict-Transport-Security: max-age=31536000; includeSubDomains
basic_auth_users:
rate_limit: {interval: 0, burst: 0}
""",
    )
    context = loaded.context
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    older = [c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"]
    assert older == ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]
    assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert dict(loaded.config.headers) == {
        "Content-Security-Policy": "frame-ancestors 'none'",
        "X-Frame-Options": "deny",
        "X-Content-Type-Options": "nosniff",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    }
    assert loaded.config.restricts
    assert loaded.config.needs_certificate


def test_certificates_may_stand_in_the_file_itself(folder: Path) -> None:
    def indented(name: str) -> str:
        return "".join(f"    {line}\n" for line in (folder / name).read_text().splitlines())

    inline = f"tls_server_config:\n  cert: |\n{indented('server.crt')}"
    inline += f"  key: |\n{indented('server.key')}"
    loaded = read(folder, inline)
    assert loaded.context is not None
    assert loaded.files == (folder / "web.yml",)
    shown = refusal(folder, inline + "  min_version: TLS9\n")
    assert "PRIVATE" not in shown
    assert "PRIVATE" not in repr(loaded)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "tls_server_config:\n", "{}\n"])
def test_a_file_without_settings_restricts_nobody(folder: Path, text: str) -> None:
    loaded = read(folder, text)
    assert loaded.context is None
    assert not loaded.config.restricts


def test_a_suite_of_tls_1_3_alone_leaves_tls_1_3_alone(folder: Path) -> None:
    """As in Go: the list names what older versions may use, and it names nothing."""
    files = "  cert_file: server.crt\n  key_file: server.key\n"
    suites = "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n"
    context = read(folder, f"tls_server_config:\n{files}{suites}").context
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    shown = refusal(folder, f"tls_server_config:\n{files}{suites}  max_version: TLS12\n")
    assert "web.yml:4:18: all are of TLS 1.3, which max_version bars" in shown


# ── problems ──


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("basic_auth_user: {}\n", "1:1: unknown key 'basic_auth_user'; did you mean 'basic_auth_"),
        ("- 1\n", "1:1: expected a mapping with tls_server_config"),
        (f"basic_auth_users: {{'a:b': {HASH}}}\n", "1:20: a user's name is not empty and has no"),
        (f"basic_auth_users: {{a: {HASH}x}}\n", "1:23: expected a bcrypt hash; make one"),
        (f"basic_auth_users: {{a: '$2y$31{HASH[6:]}'}}\n", "a bcrypt cost from 4 to 18, not 31"),
        ("basic_auth_users: [a]\n", "1:19: expected a mapping of users to bcrypt hashes"),
        (
            f"basic_auth_users:\n  alice: {HASH}\nroles:\n  alcie: operator\n",
            "4:3: no user of basic_auth_users; did you mean 'alice'?\n 4 |   alcie…\n   |   ^^^^^",
        ),
        (
            f"basic_auth_users:\n  alice: {HASH}\nroles:\n  alice: admin\n",
            "4:10: 'admin' is none of webhook, viewer, operator",
        ),
        ("bearer_tokens: [{name: a, role: viewer}]\n", "missing key 'sha256'"),
        (f"bearer_tokens: [{{name: a, role: viewer, sha256: {DIGEST[1:]}}}]\n", "64 hexadecimal"),
        (
            f"bearer_tokens: [{{name: a, role: viewer, sha256: {hashlib.sha256().hexdigest()}}}]\n",
            "this is the SHA-256 of nothing",
        ),
        (
            (
                f"bearer_tokens:\n- {{name: a, role: viewer, sha256: {DIGEST}}}\n"
                f"- {{name: b, role: viewer, sha256: {DIGEST.upper()}}}\n"
            ),
            "another token has this SHA-256",
        ),
        (
            (
                f"basic_auth_users: {{a: {HASH}}}\n"
                f"bearer_tokens: [{{name: a, role: viewer, sha256: {DIGEST}}}]\n"
            ),
            "another user or token has this name",
        ),
        (
            "client_certificates: [{san: a.example, role: webhook}]\n",
            "no certificate is asked for: tls_server_config needs client_ca_file",
        ),
        ("rate_limit: {interval: 1s}\n", "without a burst nobody would be served"),
        ("rate_limit: {interval: soon, burst: 1}\n", "'soon' is not a duration"),
        (
            "http_server_config: {headers: {Server: x}}\n",
            "this header cannot be set; known: Content-Security-Policy",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n",
            "3:22: expected deny or sameorigin\n 3 |     X-Frame-Options: allow\n",
        ),
        (
            'http_server_config: {headers: {Content-Security-Policy: "a\\r\\nSet-Cookie: b"}}\n',
            "a header takes printable ASCII on one line",
        ),
        ("http_server_config: {http3: true}\n", "unknown key 'http3'; did you mean 'http2'?"),
        ("tls_server_config: {min_version: TLS12}\n", "missing key 'cert_file'"),
    ],
)
def test_a_problem_says_where_and_what_to_write(folder: Path, text: str, says: str) -> None:
    assert says in refusal(folder, text)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("cert_file: no.crt, key_file: server.key", "no.crt cannot be read: No such file"),
        ("cert_file: server.key, key_file: server.key", "holds no certificate in PEM"),
        ("cert_file: server.crt, key_file: server.crt", "holds no private key in PEM"),
        ("cert_file: server.crt, key_file: other.key", "is not the certificate's key"),
        ("cert_file: server.crt, key_file: locked.key", "the key has a passphrase"),
        ("cert_file: server.crt", "missing key 'key_file'"),
        ("cert: x, cert_file: server.crt, key_file: server.key", "there is cert_file too"),
        ("client_auth_type: RequestClientCert", "certificates that nobody has verified"),
        ("client_auth_type: RequireAnyClientCert", "certificates that nobody has verified"),
        ("client_auth_type: Requireandverify", "did you mean 'RequireAndVerifyClientCert'?"),
        ("client_auth_type: VerifyClientCertIfGiven", "needs client_ca_file"),
        ("client_ca_file: client-ca.crt", "needs client_auth_type: RequireAndVerifyClientCert"),
        (
            "client_auth_type: RequireAndVerifyClientCert, client_ca_file: server.key",
            "holds no certificate in PEM",
        ),
        (
            (
                "client_auth_type: VerifyClientCertIfGiven, client_ca_file: client-ca.crt, "
                "client_allowed_sans: [a]"
            ),
            "needs client_auth_type: RequireAndVerifyClientCert",
        ),
        ("min_version: TLS10", "TLS10 is not safe and not served"),
        ("min_version: TLS13, max_version: TLS12", "TLS12 is below min_version"),
        ("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "is unknown; did you mean"),
        ("curve_preferences: [X25519, CurveP256]", "Python takes one curve"),
        ("curve_preferences: [P256]", "did you mean 'CurveP256'?"),
    ],
)
def test_a_problem_with_tls_names_the_key(
    folder: Path, certificates: tuple[trustme.CA, trustme.LeafCert], keys: str, says: str
) -> None:
    if "cert_file" not in keys:
        keys = f"cert_file: server.crt, key_file: server.key, {keys}"
    other = certificates[0].issue_cert("other.example")
    other.private_key_pem.write_to_path(folder / "other.key")
    (folder / "locked.key").write_bytes(locked(other.private_key_pem.bytes()))
    assert says in refusal(folder, f"tls_server_config: {{{keys}}}\n")


def locked(key: bytes) -> bytes:
    """The same key with a passphrase."""
    private = serialization.load_pem_private_key(key, None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a passphrase"),
    )


def test_a_missing_file_says_what_writes_one(folder: Path) -> None:
    with pytest.raises(InvalidConfig, match="no such file; `promheal config web` writes one"):
        load(folder / "none.yml")


@pytest.mark.parametrize(
    "text",
    [
        f"basic_auth_users:\n  alice: {PLAIN}\n",
        f"basic_auth_users: {{alice: {HASH}, bob: {PLAIN}, carol: {HASH}}}\n",
        f"basic_auth_users: {{alice: {HASH},\n  alice: {PLAIN}, bob: x}}\n",
        f"basic_auth_users:\n  alice: {HASH}\n  alice: {PLAIN}\n",
        f"basic_auth_users:\n  alice: !{PLAIN}\n",
        f"basic_auth_users:\n  alice: &{PLAIN} x\n",
        f"basic_auth_users:\n  alice: *{PLAIN}\n",
        f"basic_auth_users:\n  alice: {HASH} # {PLAIN}\n  alice: x # {PLAIN}\n",
        f"basic_auth_users: {PLAIN}\n",
        f"basic_auth_users:\n- {PLAIN}\n",
        f"basic_auth_users:\n  alice: [{PLAIN}]\n",
        f"basic_auth_users:\n  alice: |\n    {PLAIN}\n",
        f"basic_auth_user:\n  alice: {PLAIN}\n",
        f"basic_auth_user: {{alice: {PLAIN}}}\n",
        f"basic_auth_users:\n  alice: {PLAIN}\n bob: {PLAIN}\n",
        f"basic_auth_users: {{alice: {PLAIN}\n",
        f"bearer_tokens:\n- {PLAIN}\n",
        f"bearer_tokens: {PLAIN}\n",
        f"bearer_tokens:\n- {{name: a, token: {PLAIN}, role: x}}\n",
        f"bearer_tokens:\n- name: a\n  sha256: {PLAIN}\n  role: x\n",
        f"bearer_tokens:\n- name: a\n  sha256: x\n  sha256: {PLAIN}\n  role: x\n",
        f"tls_server_config:\n  key: {PLAIN}\n  cert_file: server.crt\n",
        f"tls_server_config: {{key: {PLAIN}, min_version: x}}\n",
        f"tokens: [{PLAIN}]\n",
        f"{PLAIN}\n",
    ],
)
def test_no_problem_shows_what_could_be_a_secret(folder: Path, text: str) -> None:
    shown = refusal(folder, text)
    assert PLAIN not in shown
    assert HASH[:20] not in shown
    assert "web.yml:" in shown


def test_no_value_shows_its_secrets(folder: Path) -> None:
    loaded = read(
        folder,
        f"basic_auth_users: {{alice: {HASH}}}\n"
        f"bearer_tokens: [{{name: am, role: webhook, sha256: {DIGEST}}}]\n",
    )
    for shown in (repr(loaded), str(loaded.config), repr(loaded.config.tokens[DIGEST])):
        assert HASH not in shown
        assert "am" not in shown or DIGEST not in shown
    assert DIGEST not in repr(loaded)


# ── promheal config web, the example and the pages ──


def config_web(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["config", "web", *arguments])


def shown_secrets(text: str) -> list[str]:
    return re.findall(r"^    ([\w-]{20,})   ", text, re.MULTILINE)


def test_config_web_writes_hashes_and_shows_the_tokens_once(folder: Path) -> None:
    out = folder / "new.yml"
    done = config_web("--user", "o'neil", "--tls", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert done.stdout == ""
    *tokens, password = shown_secrets(done.stderr)
    text = out.read_text()
    config = load(out).config
    assert [config.tokens[hashlib.sha256(t.encode()).hexdigest()].role for t in tokens] == [
        Role.WEBHOOK,
        Role.VIEWER,
        Role.OPERATOR,
    ]
    assert not [secret for secret in (*tokens, password) if secret in text]
    assert config.roles == {"o'neil": Role.OPERATOR}
    assert config.tls is not None
    assert "https://HOST:3001/webhook" in done.stderr
    assert "credentials_file" in done.stderr
    again = config_web("--out", str(out))
    assert isinstance(again.exception, ConfigError)
    assert "the file exists" in str(again.exception)
    assert out.read_text() == text


def test_config_web_prints_the_file_alone_on_standard_output(folder: Path) -> None:
    first, second = config_web(), config_web()
    config = read(folder, first.stdout).config
    assert len(config.tokens) == 3
    assert config.users == {}
    assert config.tls is None
    assert set(shown_secrets(first.stderr)).isdisjoint(shown_secrets(second.stderr))
    assert "http://HOST:3001/webhook" in first.stderr


@pytest.mark.parametrize("name", ["", " ", "a:b", "a\nb", "operator"])
def test_config_web_refuses_a_user_that_could_not_log_in(name: str) -> None:
    assert isinstance(config_web("--user", name).exception, ConfigError)


def test_the_example_that_ships_opens_nothing_and_is_right_when_switched_on(folder: Path) -> None:
    text = (REPOSITORY / "configs/web.yml").read_text()
    assert not read(folder, text).config.restricts
    # What is switched off has one mark less than what explains it.
    switched_on = re.sub(r"^# ((?:[a-z_]+:|  ).*)$", r"\1", text, flags=re.MULTILINE)
    config = read(folder, switched_on).config
    assert len(config.tokens) == 3
    assert set(config.users) == {"alice", "bob"}
    assert len(config.certificates) == 1
    assert config.headers


def test_every_web_configuration_of_the_pages_is_taken(folder: Path) -> None:
    found = 0
    for page in (REPOSITORY / "docs").rglob("*.md"):
        for block in re.findall(
            r"^```yml\n(# web\.yml\n.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            assert read(folder, block).config.restricts, page
            found += 1
    assert found


def taken_by_promtool(folder: Path, text: str) -> str:
    """What promtool finds in a prometheus.yml; the files that it names exist."""
    for name in ("promheal.token", "promheal.crt"):
        (folder / name).write_bytes((folder / "server.crt").read_bytes())
    (folder / "prometheus.yml").write_text(text.replace("/etc/prometheus", str(folder)))
    done = subprocess.run(
        [tool("promtool"), "check", "config", folder / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_what_is_to_be_written_for_prometheus_is_taken_by_it(folder: Path) -> None:
    page = (REPOSITORY / "docs/how-to/secure.md").read_text()
    (block,) = re.findall(r"^```yml\n(# prometheus\.yml\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert taken_by_promtool(folder, block) == ""
    for arguments in ((), ("--tls",)):
        shown = config_web(*arguments).stderr.split("In prometheus.yml:\n\n")[1]
        assert taken_by_promtool(folder, dedent(shown)) == ""


def documented(heading: str) -> set[str]:
    """The keys of the table below *heading* of docs/reference/access.md."""
    text = (REPOSITORY / "docs/reference/access.md").read_text()
    part = text.split(f" {heading}\n")[1].split("\n#")[0]
    return {
        key
        for row in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", row)
    }


def test_every_key_is_documented() -> None:
    assert documented("The file") == set(web_config_file._KEYS)
    assert documented("TLS") == set(Tls.__struct_fields__)
    assert documented("Tokens") == set(Token.__struct_fields__)
    assert documented("Client certificates") == set(ClientCertificate.__struct_fields__)
    assert documented("Roles") == set(Role)
