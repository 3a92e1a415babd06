from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from receiver.cli.access import FLAGS, Access, Given, contradiction, resolve
from receiver.errors import ConfigError

SECRET = "s3cr3t-t0ken"
ELSEWHERE = "https://heal.example:8443"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of config.yml, with a secret in it."""
    folder = tmp_path / "xdg/promheal"
    folder.mkdir(parents=True)
    secret(folder / "token", SECRET)
    return folder


def secret(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def found(
    home: Path, saved: str = "", flags: Given | None = None, **environ: str
) -> tuple[Access, list[str]]:
    """What is found, and the warnings."""
    if saved:
        (home / "config.yml").write_text(saved)
    warnings: list[str] = []
    environ = {"XDG_CONFIG_HOME": str(home.parent), **environ}
    return resolve(flags or Given(), environ, warnings.append), warnings


def problem(home: Path, saved: str = "", flags: Given | None = None, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        found(home, saved, flags, **environ)
    return str(refused.value)


# -- where


@pytest.mark.parametrize(
    ("saved", "environ", "flags", "url"),
    [
        ("", {}, {}, "http://127.0.0.1:3001"),
        ("url: http://localhost:1\n", {}, {}, "http://localhost:1"),
        ("url: http://localhost:1\n", {"PROMHEAL_URL": "http://localhost:2"}, {},
         "http://localhost:2"),
        ("url: http://localhost:1\n", {"PROMHEAL_URL": "http://localhost:2"},
         {"url": "http://localhost:3"}, "http://localhost:3"),
        ("url: http://localhost:1\n", {"PROMHEAL_URL": ""}, {}, "http://localhost:1"),
        ("# nothing yet\n", {}, {}, "http://127.0.0.1:3001"),
        ("", {}, {"url": "HTTPS://Heal.Example/promheal/"}, "https://heal.example/promheal"),
        ("", {}, {"url": "http://[::1]:3001"}, "http://[::1]:3001"),
    ],
)  # fmt: skip
def test_flags_win_over_the_environment_and_it_wins_over_the_file(
    home: Path, saved: str, environ: dict[str, str], flags: dict[str, str], url: str
) -> None:
    assert found(home, saved, Given(**flags), **environ)[0].url == url


def test_without_xdg_config_home_the_file_is_below_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".config/promheal").mkdir(parents=True)
    (tmp_path / ".config/promheal/config.yml").write_text("url: http://localhost:7\n")
    monkeypatch.setenv("HOME", str(tmp_path))

    for environ in ({}, {"XDG_CONFIG_HOME": "relative/paths/do/not/count"}):
        assert resolve(Given(), environ, pytest.fail).url == "http://localhost:7"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:3001", "ftp://127.0.0.1", "http://", "http://:3001", "http://a:b",
        "http://a:65536", "http://a:", "http://a/?x=1", "http://a/#x", "http://a\\b", "http://a b",
        "http://\u0430.example", "http://[::1", "http://a\n", "//a",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused_with_its_place_and_an_example(home: Path, url: str) -> None:
    said = problem(home, flags=Given(url=url))

    assert said.startswith("--url: ")
    assert "http://127.0.0.1:3001" in said


@pytest.mark.parametrize("url", [f"https://me:{SECRET}@heal.example", f"http://{SECRET}@127.0.0.1"])
def test_a_password_in_a_url_is_refused_and_not_repeated(home: Path, url: str) -> None:
    said = problem(home, PROMHEAL_URL=url)

    assert said.startswith("PROMHEAL_URL: a URL holds no user and no password; ")
    assert SECRET not in said


# -- who

BASIC = "Basic " + base64.b64encode("ann:pässword ".encode()).decode()


@pytest.mark.parametrize(
    ("saved", "environ", "flags", "authorization"),
    [
        ("", {}, {}, None),
        ("bearer_token_file: token\n", {}, {}, f"Bearer {SECRET}"),
        ("{username: ann, password_file: password}\n", {}, {}, BASIC),
        ("bearer_token_file: token\n", {"PROMHEAL_TOKEN": "theirs"}, {}, "Bearer theirs"),
        ("bearer_token_file: token\n", {"PROMHEAL_TOKEN": ""}, {}, f"Bearer {SECRET}"),
        ("", {"PROMHEAL_TOKEN": "theirs"}, {"bearer_token_file": "token"}, f"Bearer {SECRET}"),
        ("bearer_token_file: token\n", {"PROMHEAL_TOKEN": "theirs"},
         {"username": "ann", "password_file": "password"}, BASIC),
    ],
)  # fmt: skip
def test_the_credentials_of_the_first_place_that_has_any_are_taken_whole(
    home: Path,
    saved: str,
    environ: dict[str, str],
    flags: dict[str, str],
    authorization: str | None,
) -> None:
    secret(home / "password", "pässword \n")
    given = Given(**{k: str(home / v) if k.endswith("_file") else v for k, v in flags.items()})

    access, warnings = found(home, saved, given, **environ)

    assert (access.authorization, warnings) == (authorization, [])
    assert authorization is None or authorization not in repr(access)


def test_a_secret_that_everybody_can_read_is_told(home: Path) -> None:
    (home / "token").chmod(0o644)

    _, warnings = found(home, "bearer_token_file: token\n")

    path = home / "token"
    assert warnings == [
        f"{path} holds a secret, and every user of this machine can read it; chmod 600 {path}"
    ]


def test_a_secret_may_come_through_a_pipe(home: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, SECRET.encode())
    os.close(writing)

    access, warnings = found(home, flags=Given(bearer_token_file=f"/dev/fd/{reading}"))

    os.close(reading)
    assert (access.authorization, warnings) == (f"Bearer {SECRET}", [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory"),
        (b"", "holds no token"),
        (b"two words", "holds no token"),
        (b"one\ntwo\n", "holds no token"),
        ("tökén".encode(), "holds no token"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * 65_537, "larger than 65536 bytes"),
    ],
)
def test_a_token_that_cannot_be_one_is_refused_with_its_file(
    home: Path, content: bytes | None, says: str
) -> None:
    path = home / "other"
    if content is not None:
        path.write_bytes(content)

    said = problem(home, flags=Given(bearer_token_file=str(path)))

    assert said.startswith(f"{path}: {says}")


def test_a_broken_token_of_the_environment_is_not_repeated(home: Path) -> None:
    said = problem(home, PROMHEAL_TOKEN=f"{SECRET} {SECRET}")

    assert said.startswith("PROMHEAL_TOKEN: holds no token")
    assert SECRET not in said


@pytest.mark.parametrize(
    ("saved", "environ", "flags"),
    [
        ("bearer_token_file: token\n", {}, {}),
        ("{username: ann, password_file: token}\n", {}, {}),
        ("{cert_file: token, key_file: token}\n", {}, {}),
        ("", {"PROMHEAL_TOKEN": SECRET}, {}),
        ("", {}, {"bearer_token_file": "/no/such"}),
        ("", {}, {"username": "ann", "password_file": "/no/such"}),
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        "http://heal.example", "http://192.0.2.1:3001", "http://[2001:db8::1]",
        "http://localhost.example", "http://2130706433", "http://0.0.0.0",
    ],
)  # fmt: skip
def test_credentials_are_not_sent_in_the_open_to_another_machine(
    home: Path, saved: str, environ: dict[str, str], flags: dict[str, str], url: str
) -> None:
    said = problem(home, saved, Given(url=url, **flags), **environ)

    assert said.startswith(f"{url}: credentials are not sent to another machine over plain http")
    assert "write https://" in said
    assert SECRET not in said


@pytest.mark.parametrize("url", ["http://127.1.2.3", "http://localhost:1", "http://[::1]:1"])
def test_on_this_machine_plain_http_is_fine(home: Path, url: str) -> None:
    access, _ = found(home, "bearer_token_file: token\n", Given(url=url))

    assert access.authorization == f"Bearer {SECRET}"


def test_who_has_no_credentials_may_ask_anybody(home: Path) -> None:
    assert found(home, flags=Given(url="http://heal.example"))[0].authorization is None


# -- config.yml


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        (f"bearer_token: {SECRET}\n",
         "1:1: unknown key 'bearer_token'; did you mean 'bearer_token_file'?"),
        ("url: http://a\nuser: ann\n", "2:1: unknown key 'user'"),
        ("url: ''\n", "1:6: must not be empty"),
        ("username: ann\n", "1:1: username needs password_file as well"),
        ("password_file: token\n", "1:1: password_file needs username as well"),
        ("cert_file: token\n", "1:1: cert_file needs key_file as well"),
        ("key_file: token\n", "1:1: key_file needs cert_file as well"),
        ("{username: a, password_file: token, bearer_token_file: token}\n",
         "1:1: username and bearer_token_file: one of them is enough"),
        ("{username: 'a:b', password_file: token}\n", "1:1: username: a user name has no colon"),
        (f"{SECRET}\n", "1:1: expected a mapping of url, bearer_token_file, username"),
        (f"bearer_token_file: !{SECRET}\n", "1:20: YAML tags, aliases and anchors are not read"),
        (f"bearer_token_file: *{SECRET}\n", "1:20: YAML tags, aliases and anchors are not read"),
        (f"bearer_token_file: [{SECRET}\n", "no YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_told_with_its_place_and_without_secrets(
    home: Path, saved: str, says: str
) -> None:
    said = problem(home, saved)

    assert said.startswith(f"{home}/config.yml:")
    assert says in said
    assert SECRET not in said


def test_a_file_that_cannot_be_read_is_told(home: Path) -> None:
    (home / "config.yml").mkdir()

    assert problem(home) == f"{home}/config.yml: cannot be read: Is a directory"


def test_halves_are_told_in_the_words_of_the_command_line() -> None:
    halves: list[tuple[dict[str, Any], str]] = [
        ({"username": "ann"}, "--user needs --password-file as well"),
        ({"password_file": "p"}, "--password-file needs --user as well"),
        ({"cert_file": "c"}, "--cert-file needs --key-file as well"),
        ({"key_file": "k"}, "--key-file needs --cert-file as well"),
    ]
    for given, says in halves:
        assert contradiction(Given(**given), FLAGS) == says


# -- the files of TLS


@pytest.fixture
def pems(home: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(home / "ca.pem")
    for name in ("mine", "other"):
        issued = authority.issue_cert(f"{name}.example")
        issued.cert_chain_pems[0].write_to_path(home / f"{name}.crt")
        secret(home / f"{name}.key", issued.private_key_pem.bytes().decode())
    key = load_pem_private_key((home / "mine.key").read_bytes(), None)
    locked = BestAvailableEncryption(b"password")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, locked)
    secret(home / "locked.key", pem.decode())
    return home


def test_the_files_of_tls_are_found_beside_the_file_that_names_them(pems: Path) -> None:
    saved = f"{{url: '{ELSEWHERE}', ca_file: ca.pem, cert_file: mine.crt, key_file: mine.key}}\n"

    access, warnings = found(pems, saved)

    assert (access.ca_file, access.cert_file, access.key_file, warnings) == (
        str(pems / "ca.pem"), str(pems / "mine.crt"), str(pems / "mine.key"), [],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"ca_file": "none.pem"}, "none.pem: No such file or directory"),
        ({"ca_file": "token"}, "token: holds no certificate in PEM form"),
        ({"cert_file": "none.crt", "key_file": "mine.key"}, "none.crt: No such file or directory"),
        ({"cert_file": "mine.crt", "key_file": "none.key"}, "none.key: No such file or directory"),
        ({"cert_file": "mine.crt", "key_file": "other.key"}, "other.key: no certificate and its"),
        ({"cert_file": "mine.crt", "key_file": "locked.key"}, "locked.key: no certificate and its"),
        ({"cert_file": "token", "key_file": "mine.key"}, "mine.key: no certificate and its key"),
    ],
)
def test_files_that_tls_cannot_use_are_told_and_nobody_is_asked_for_a_password(
    pems: Path, flags: dict[str, str], says: str
) -> None:
    given = Given(url=ELSEWHERE, **{name: str(pems / file) for name, file in flags.items()})

    assert f"{pems}/{says}" in problem(pems, flags=given)


def test_a_key_that_everybody_can_read_is_told(pems: Path) -> None:
    (pems / "mine.key").chmod(0o644)
    given = Given(
        url=ELSEWHERE, cert_file=str(pems / "mine.crt"), key_file=str(pems / "mine.key")
    )  # fmt: skip

    (warning,) = found(pems, flags=given)[1]

    assert warning.startswith(f"{pems}/mine.key holds a secret")
