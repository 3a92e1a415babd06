"""What deploys promheal is held by the tools of those who run it; each check is seen to fail."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate import generated
from receiver.web.application import SHUTDOWN
from tests.tools import REPOSITORY, tool

DEPLOY = REPOSITORY / "deploy"
SYSTEMD = DEPLOY / "systemd"
KUBERNETES = DEPLOY / "kubernetes"
COMPONENT = "app.kubernetes.io/component"
GITHUB = REPOSITORY / ".github"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PINNED = re.compile(r"[\w./-]+:v?\d[\w.-]*@sha256:[0-9a-f]{64}")


def ran(*argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    program, *arguments = argv
    return subprocess.run(
        [tool(str(program)), *arguments], capture_output=True, text=True, check=False, **options
    )


def passes(*argv: str | Path, **options: Any) -> str:
    done = ran(*argv, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def fails(*argv: str | Path, **options: Any) -> str:
    done = ran(*argv, **options)
    assert done.returncode != 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


# --- what is locked -------------------------------------------------------------------------------


PIN = re.compile(
    r"^([a-z0-9-]+)(==\S+)(?: ; [^\\\n]+)? (\\\n(?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE
)


def locked(name: str) -> dict[str, str]:
    """The pins of a file, each with its hashes and whichever Python needs it."""
    return {name: pin + hashes for name, pin, hashes in PIN.findall((DEPLOY / name).read_text())}


@pytest.mark.parametrize("name", ["runtime", "build", "demo"])
def test_what_is_installed_is_what_the_tests_ran_with(name: str) -> None:
    ours, tested = locked(f"requirements-{name}.txt"), locked("requirements-dev.txt")
    assert ours
    assert {package: tested.get(package) for package in ours} == ours


def test_the_image_holds_what_promheal_needs() -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["postgres"]]
    needed = {re.split(r"[\[<>=~!]", text)[0] for text in wanted}
    assert needed <= set(locked("requirements-runtime.txt"))
    assert "psycopg-binary" in locked("requirements-runtime.txt"), "the image has no libpq"
    assert not {"pytest", "mypy", "ruff"} & set(locked("requirements-runtime.txt"))


def test_the_demo_needs_little_more() -> None:
    """Who wants to see it waits for no browser, no linter and no documentation."""
    more = set(locked("requirements-demo.txt")) - set(locked("requirements-runtime.txt"))
    assert more == {"supervisor"}
    assert len(locked("requirements-demo.txt")) < 45


def test_a_bill_of_materials_is_valid_and_lists_what_is_locked(tmp_path: Path) -> None:
    """It validates itself; what it must have beyond its schema is here."""
    subprocess.run([DEPLOY / "sbom", tmp_path / "bom.json"], check=True, capture_output=True)
    bom = json.loads((tmp_path / "bom.json").read_text())
    found = {part["name"]: part for part in bom["components"]}
    pins = locked("requirements-runtime.txt")
    assert {name: f"=={part['version']}" for name, part in found.items()} == {
        name: re.split(r"[\s\\]", pin)[0] for name, pin in pins.items()
    }
    assert all(part["purl"].startswith("pkg:pypi/") for part in found.values())
    assert bom["metadata"]["component"]["name"] == "promheal"


# --- the image ------------------------------------------------------------------------------------

DOCKERFILE = DEPLOY / "Dockerfile"


def image_problems(text: str) -> list[str]:
    """What hadolint does not look for."""
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    found = []
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        whole = re.sub(r"\$\{(\w+)\}", lambda name: arguments.get(name[1], ""), image)
        if not PINNED.fullmatch(whole):
            found.append(f"{whole} is not pinned by its digest")
    last = text.rpartition("\nFROM ")[2]
    if not re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE):
        found.append("the user is no number, or root")
    if not re.search(r"^HEALTHCHECK .*\\\n  CMD \[", last, re.MULTILINE):
        found.append("there is no health check without a shell")
    if re.search(r"^(ADD|RUN) ", last, re.MULTILINE):
        found.append("the last stage adds or runs something")
    return found


def test_the_image_is_pinned_and_runs_without_root() -> None:
    passes("hadolint", DOCKERFILE)
    assert image_problems(DOCKERFILE.read_text()) == []


def test_a_careless_image_is_found(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        "FROM python:latest\nRUN apt-get update && apt-get install tini\nUSER root\nCMD promheal\n"
    )
    said = fails("hadolint", path)
    assert {"DL3002", "DL3007", "DL3008", "DL3025"} <= set(re.findall(r"DL\d+", said))
    assert len(image_problems(path.read_text())) == 4


def test_ci_has_the_python_of_the_image() -> None:
    (version,) = re.findall(r"^ARG PYTHON=python:(\d+\.\d+)", DOCKERFILE.read_text(), re.MULTILINE)
    for name in ("ci.yml", "release.yml"):
        found = re.findall(r'python-version: "(.+)"', (GITHUB / "workflows" / name).read_text())
        assert set(found) == {version}


def test_the_build_sees_enough_for_a_whole_wheel_and_no_more(tmp_path: Path) -> None:
    let_in = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = re.findall(r"^COPY ((?!--).+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    assert sorted(let_in) == sorted(name for line in copied for name in line.split())
    for name in let_in:
        there = tmp_path / "src" / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, there)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--wheel-dir", tmp_path, "."),
        ],
        cwd=tmp_path / "src",
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "receiver").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours - packed == set()


# --- options --------------------------------------------------------------------------------------


def options(words: Iterable[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def unit_command(path: Path) -> list[str]:
    (line,) = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", path.read_text(), re.MULTILINE)
    return shlex.split(line.replace("\\\n", ""))[1:]


def unit_arguments(path: Path) -> list[str]:
    return shlex.split(re.findall(r'ARGS="(.+)"', path.read_text())[0])


def started_with() -> Iterator[tuple[str, list[str]]]:
    """The words after `promheal` in each file that starts it."""
    for path in sorted(SYSTEMD.glob("*.service")):
        command = unit_command(path)
        yield path.name, command
        yield f"{path.name}'s ARGS", [command[0], *unit_arguments(path)]
    (command,) = re.findall(r"^CMD (\[.+?\])", DOCKERFILE.read_text(), re.MULTILINE | re.DOTALL)
    yield "image", json.loads(command.replace("\\\n", ""))
    for name in ("receiver-1", "worker-1"):
        yield name, compose(SCALE)["services"][name]["command"]
    yield "Kubernetes", container(manifest("StatefulSet"))["args"]
    for name in ("receiver", "worker"):
        yield f"Kubernetes {name}", container(scaled("Deployment", name))["args"]


def test_everything_that_starts_it_knows_its_options() -> None:
    for where, (command, *words) in started_with():
        known = {
            option
            for parameter in import_module(f"receiver.cli.{command}").command.params
            for option in parameter.opts
        }
        assert options(words), where
        assert options(words) <= known, where


# --- compose --------------------------------------------------------------------------------------

COMPOSE = DEPLOY / "compose.yaml"
SCALE = DEPLOY / "compose-scale.yaml"
EACH_COMPOSE = pytest.mark.parametrize("path", [COMPOSE, SCALE], ids=lambda path: path.name)


def compose(path: Path = COMPOSE) -> dict[str, Any]:
    """The file, with what its services extend. Lists grow by that, as in Docker's own merging."""
    read: dict[str, Any] = yaml.safe_load(path.read_text())
    for name, service in read["services"].items():
        extended = service.pop("extends", None)
        if extended is None:
            continue
        base = compose(DEPLOY / extended["file"])["services"][extended["service"]]
        assert "depends_on" not in base, "what it depends on would have to be here as well"
        merged = {**base, **service}
        for key in ("networks", "volumes", "secrets", "ports"):
            if key in base and key in service:
                merged[key] = [*base[key], *service[key]]
        read["services"][name] = merged
    return read


def secrets(service: dict[str, Any]) -> dict[str, str]:
    """The secrets of a service by the files that they are there."""
    found = {}
    for secret in service.get("secrets", []):
        source, target = (
            (secret["source"], secret["target"]) if isinstance(secret, dict) else (secret, secret)
        )
        found[str(Path("/run/secrets") / target)] = source
    return found


def compose_problems(read: dict[str, Any]) -> list[str]:
    found = []
    for name, service in read["services"].items():
        if service["image"] != "promheal" and not PINNED.fullmatch(service["image"]):
            found.append(f"{name}: {service['image']} is not pinned by its digest")
        if not service.get("read_only"):
            found.append(f"{name}: it can write its own files")
        if service.get("cap_drop") != ["ALL"] or "cap_add" in service:
            found.append(f"{name}: it has capabilities")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            found.append(f"{name}: it can gain privileges")
        found += [
            f"{name}: {port} is open to other machines"
            for port in service.get("ports", [])
            if not port.startswith("127.0.0.1:")
        ]
        found += [
            f"{name}: {volume} is Docker, and so root"
            for volume in service.get("volumes", [])
            if "docker.sock" in volume
        ]
        found += [
            f"{name}: {key} is for everybody to read"
            for key in service.get("environment", {})
            if "PASSWORD" in key and not key.endswith("_FILE")
        ]
    return found


@EACH_COMPOSE
def test_compose_is_valid_and_hardened(path: Path) -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    assert compose_problems(compose(path)) == []


def test_a_careless_compose_is_found(tmp_path: Path) -> None:
    careless = {
        "image": "grafana/grafana:latest",
        "ports": ["3000:3000"],
        "volumes": ["/var/run/docker.sock:/var/run/docker.sock"],
        "environment": {"GF_SECURITY_ADMIN_PASSWORD": "admin"},
    }
    assert len(compose_problems({"services": {"grafana": careless}})) == 7
    path = tmp_path / "compose.yaml"
    path.write_text(json.dumps({"services": {"grafana": {**careless, "port": 1}}}))
    fails("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


@EACH_COMPOSE
def test_compose_names_what_exists(path: Path, tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "compose/demo", tmp_path)
    subprocess.run([tmp_path / "demo", "secrets"], check=True)
    read = compose(path)
    used: dict[str, set[str]] = {"networks": set(), "volumes": set(), "secrets": set()}
    for service in read["services"].values():
        used["networks"] |= set(service["networks"])
        used["secrets"] |= set(secrets(service).values())
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
            else:
                used["volumes"].add(source)
        assert set(service.get("depends_on", ())) <= set(read["services"])
    for kind, names in used.items():
        assert names == set(read[kind])
    for secret in read["secrets"].values():
        assert (tmp_path / secret["file"].removeprefix("compose/")).stat().st_size, secret


def test_nobody_can_log_in_to_grafana() -> None:
    environment = compose()["services"]["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


MANY = compose(SCALE)["services"]
RECEIVERS = [name for name in MANY if name.startswith("receiver-")]
WORKERS = [name for name in MANY if name.startswith("worker-")]


def on(network: str) -> set[str]:
    """The services on a network of compose-scale.yaml."""
    return {name for name, service in MANY.items() if network in service["networks"]}


def test_many_machines_are_three_receivers_and_two_workers_around_one_database() -> None:
    assert (len(RECEIVERS), len(WORKERS)) == (3, 2)
    assert on("database") == {"postgres", *RECEIVERS, *WORKERS}
    assert MANY["postgres"]["networks"] == ["database"]
    assert not {"alertmanager", *RECEIVERS} & on("shop"), "only workers reach what is healed"
    networks = compose(SCALE)["networks"]
    assert {name for name, one in networks.items() if not one.get("internal")} == {"outside"}
    assert not {"postgres", *RECEIVERS, *WORKERS} & {*on("outside")}
    for name in (*RECEIVERS, *WORKERS):
        assert MANY[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
        assert "ports" not in MANY[name]
    for receiver in RECEIVERS:
        assert "--receive-only" in MANY[receiver]["command"]
    assert [name for name, service in MANY.items() if "build" in service] == ["receiver-1"]


def test_alertmanager_reaches_every_receiver_by_one_name() -> None:
    config = yaml.safe_load((DEPLOY / "compose/alertmanager.yml").read_text())
    (webhook,) = config["receivers"][0]["webhook_configs"]
    assert webhook["url"] == "http://promheal:3001/webhook"
    named = {
        name
        for name, service in MANY.items()
        if isinstance(service["networks"], dict)
        and "promheal" in (service["networks"].get("inside") or {}).get("aliases", [])
    }
    assert named == set(RECEIVERS)
    assert {*RECEIVERS, "alertmanager"} <= on("inside")
    assert compose(SCALE)["services"]["alertmanager"] == compose()["services"]["alertmanager"]


def test_prometheus_scrapes_every_receiver_and_worker_and_else_the_same() -> None:
    one, many = (
        yaml.safe_load((DEPLOY / name).read_text())
        for name in ("compose/prometheus.yml", "compose/scale/prometheus.yml")
    )
    (job,) = (job for job in many["scrape_configs"] if job["job_name"] == "promheal")
    listens = {
        f"{name}:{word.rpartition(':')[2]}"
        for name in (*RECEIVERS, *WORKERS)
        for word in MANY[name]["command"]
        if word.startswith("--web.listen-address=")
    }
    assert set(job["static_configs"][0]["targets"]) == listens
    assert {*RECEIVERS, *WORKERS} <= on("inside") & {*MANY}
    assert "prometheus" in on("inside")
    for config in (one, many):
        for each in config["scrape_configs"]:
            if each["job_name"] == "promheal":
                del each["static_configs"]
    assert one == many


def test_the_password_of_the_database_is_read_from_a_file_that_is_there(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "compose/demo", tmp_path)
    subprocess.run([tmp_path / "demo", "secrets"], check=True)
    password = (tmp_path / "secrets/database.password").read_text()
    files = compose(SCALE)["secrets"]
    for name in (*RECEIVERS, *WORKERS):
        service = MANY[name]
        environment = service["environment"]
        read = files[secrets(service)[environment["PGSERVICEFILE"]]]["file"]
        text = (tmp_path / read.removeprefix("compose/")).read_text()
        assert text == f"[{environment['PGSERVICE']}]\npassword={password}\n"
        assert re.search(r"--storage.url=postgresql://promheal@postgres:5432/promheal$",
                         "\n".join(service["command"]), re.MULTILINE)  # fmt: skip
    postgres = MANY["postgres"]
    assert postgres["environment"]["POSTGRES_PASSWORD_FILE"] in secrets(postgres)
    ((read,),) = (
        re.findall(
            r"^\\set password `cat (\S+)`$",
            (DEPLOY / "compose/scale/promheal.sql").read_text(),
            re.MULTILINE,
        ),
    )
    assert files[secrets(postgres)[read]]["file"] == "compose/secrets/database.password"


def test_the_health_of_a_worker_is_asked_where_it_listens() -> None:
    for name in WORKERS:
        (port,) = (word.rpartition(":")[2] for word in MANY[name]["command"] if ".0.0:" in word)
        assert MANY[name]["environment"]["PROMHEAL_URL"] == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("folder", ["compose", "kubernetes/promheal/config"])
def test_the_shipped_configurations_are_taken(folder: str) -> None:
    passes("promheal", "check", "--config.file", DEPLOY / folder / "promheal.yml")


def test_the_configurations_of_others_are_taken_by_them(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    shutil.copy(REPOSITORY / "receiver/demo/rules.yml", tmp_path / "demo.yml")
    shutil.copytree(REPOSITORY / "rules", tmp_path / "rules")
    for name in ("prometheus.yml", "scale/prometheus.yml", "alertmanager.yml"):
        text = (DEPLOY / "compose" / name).read_text()
        (tmp_path / Path(name).name).write_text(
            text.replace("/run/secrets/promheal.token", str(tmp_path / "token"))
        )
        if name.endswith("prometheus.yml"):
            passes("promtool", "check", "config", tmp_path / "prometheus.yml")
    passes("amtool", "check-config", tmp_path / "alertmanager.yml")


# --- systemd --------------------------------------------------------------------------------------


def unit(folder: Path, text: str, *drop_ins: Path) -> Path:
    path = folder / "promheal.service"
    path.write_text(text)
    for drop_in in drop_ins:
        (folder / "promheal.service.d").mkdir(exist_ok=True)
        shutil.copy(drop_in, folder / "promheal.service.d")
    return path


def systemd_analyze(*argv: str) -> tuple[str, ...]:
    """It makes /run/systemd where no systemd runs, as a user in a /run that is nobody else's."""
    command = (tool("systemd-analyze"), *argv)
    if os.geteuid() == 0 or Path("/run/systemd").exists():
        return command
    apart = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    return (*apart, 'mount -t tmpfs tmpfs /run && exec "$@"', "sh", *command)


def exposed(path: Path, threshold: int) -> tuple[str, ...]:
    """*threshold* in tenths."""
    return systemd_analyze(
        *("security", "--offline=true", "--no-pager"),
        *(f"--threshold={threshold}", str(path)),
    )


def verify(path: Path) -> str:
    """What systemd says to a unit whose programs are here: it is only called wrong by exit code."""
    text = path.read_text()
    for program in ("/opt/promheal/bin/promheal", "/bin/kill"):  # a small Debian has no procps
        text = text.replace(program, "/bin/true")
    path.write_text(text)
    done = ran(*systemd_analyze("verify", "--man=no", "--recursive-errors=no", str(path)))
    return done.stdout + done.stderr


UNIT = (SYSTEMD / "promheal.service").read_text()
WORK = (SYSTEMD / "promheal-work.service").read_text()
EACH_UNIT = pytest.mark.parametrize("text", [UNIT, WORK], ids=["serve", "work"])


@EACH_UNIT
def test_the_unit_is_known_to_systemd_and_exposes_little(text: str, tmp_path: Path) -> None:
    path = unit(tmp_path, text)
    passes(*exposed(path, 15))
    assert verify(path) == ""


@EACH_UNIT
def test_the_unit_that_may_call_sudo_exposes_little_more(text: str, tmp_path: Path) -> None:
    path = unit(tmp_path, text, SYSTEMD / "sudo.conf")
    passes(*exposed(path, 25))
    fails(*exposed(path, 15))
    assert verify(path) == ""


def test_a_careless_unit_is_found(tmp_path: Path) -> None:
    hardening = re.compile(r"^(Protect|Private|Restrict|SystemCall|Capability).*\n", re.MULTILINE)
    careless = hardening.sub("", UNIT)
    fails(*exposed(unit(tmp_path, careless), 25))
    assert "Unknown key" in verify(unit(tmp_path, UNIT.replace("ProtectHome=", "ProtectHom=")))


def test_a_worker_is_in_the_sandbox_of_promheal() -> None:
    def sandbox(text: str) -> list[str]:
        _, _, rest = text.partition("CapabilityBoundingSet=")
        return [line for line in rest.splitlines() if not line.startswith("#")]

    assert sandbox(WORK) == sandbox(UNIT) != []


@EACH_UNIT
def test_systemd_waits_for_what_promheal_promises(text: str) -> None:
    said = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert said["Type"] == "notify"
    assert said["NotifyAccess"] == "all"
    assert said["WatchdogSec"] == "2min"  # above gunicorn's 60 s
    assert said["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert said["KillMode"] == "mixed"
    assert int(said["TimeoutStopSec"].removesuffix("s")) > SHUTDOWN
    assert "ProcSubset" not in said, "the clock reads /proc/sys/kernel/random/boot_id"


@EACH_UNIT
def test_it_has_its_share_of_a_machine_in_trouble(text: str) -> None:
    said = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert int(said["CPUWeight"]) > 100 < int(said["IOWeight"])  # 100 is what others have
    assert int(said["OOMScoreAdjust"]) < 0
    assert said["MemorySwapMax"] == "0"
    assert not {"Nice", "CPUSchedulingPolicy"} & said.keys(), "its actions would inherit it"


def test_what_needs_a_database_is_started_until_it_is_there(tmp_path: Path) -> None:
    for text in (WORK, (SYSTEMD / "postgres.conf").read_text()):
        said = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
        assert said["StartLimitIntervalSec"] == "0"
        assert said.get("RestartPreventExitStatus", "") == ""
    path = unit(tmp_path, UNIT, SYSTEMD / "postgres.conf")
    assert verify(path) == ""


def test_a_worker_finds_its_variables_in_the_file_of_the_how_to() -> None:
    text = (REPOSITORY / "docs/how-to/scale-out.md").read_text()
    (block,) = re.findall(
        r"^; /etc/default/promheal-work\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    given = dict(line.split("=", 1) for line in block.splitlines())
    used = set(
        re.findall(r"\$\{?(\w+)\}?", "\n".join(unit_command(SYSTEMD / "promheal-work.service")))
    )
    assert used | {"PGPASSFILE"} == set(given)
    assert WORK.count("EnvironmentFile=/etc/default/promheal-work\n") == 1


SUDO = re.compile(r'promheal ALL=\(root:root\) NOPASSWD: /[\w/.-]+ ""')


def test_sudoers_names_whole_programs() -> None:
    lines = (SYSTEMD / "sudoers.promheal").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith(("#", "Defaults:promheal "))]
    assert rules
    assert all(SUDO.fullmatch(line) for line in rules)


@pytest.mark.parametrize(
    "line",
    [
        "promheal ALL=(ALL) NOPASSWD: ALL",
        "promheal ALL=(root:root) NOPASSWD: /usr/bin/systemctl restart *",
        "promheal ALL=(root:root) NOPASSWD: /usr/bin/systemctl",
    ],
)
def test_a_wide_line_of_sudoers_is_found(line: str) -> None:
    assert not SUDO.fullmatch(line)


# --- Kubernetes -----------------------------------------------------------------------------------

MANIFESTS = sorted(
    path
    for path in KUBERNETES.rglob("*.yaml")
    if path.name not in {"kustomization.yaml", "podmonitor.yaml", "prometheusrules.yaml"}
)


def manifest(kind: str, folder: str = "promheal") -> dict[str, Any]:
    found = [
        document
        for path in (KUBERNETES / folder).glob("*.yaml")
        for document in documents(path)
        if document["kind"] == kind
    ]
    assert len(found) == 1, kind
    return found[0]


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    template: dict[str, Any] = workload["spec"]["template"]
    return template


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def files_of(words: Iterable[str]) -> list[str]:
    """The files that a command line and an environment name."""
    return re.findall(r"(?:^|=|sqlite:///)(/[\w./-]+)", "\n".join(words), re.MULTILINE)


def rendered(folder: str) -> list[dict[str, Any]]:
    """What Kustomize makes of a folder, as far as the folders here go."""
    (read,) = documents(KUBERNETES / folder / "kustomization.yaml")
    found: list[dict[str, Any]] = []
    for name in read["resources"]:
        path = KUBERNETES / folder / name
        found += documents(path) if path.is_file() else rendered(name.removeprefix("../"))
    for patch in read.get("patches", []):
        target, change = patch["target"], yaml.safe_load(patch["patch"])
        hit = [
            one
            for one in found
            if re.fullmatch(target["kind"], one["kind"])
            and one["metadata"]["name"] == target["name"]
        ]
        assert {one["kind"] for one in hit} == set(target["kind"].split("|"))
        if isinstance(change, dict):
            assert change["$patch"] == "delete"
            found = [one for one in found if one not in hit]
            continue
        ((one,), (step,)) = hit, change
        *way, last = (part.replace("~1", "/") for part in step["path"].strip("/").split("/"))
        assert step["op"] == "add"
        for part in way:
            one = one[part]
        one[last] = step["value"]
    return found


SCALED = rendered("scale")
ONE = {"one": manifest("StatefulSet")}
SEVERAL = {
    one["spec"]["template"]["metadata"]["labels"][COMPONENT]: one
    for one in SCALED
    if one["kind"] == "Deployment"
}
POSTGRES = {"postgres": manifest("StatefulSet", "postgres")}


def scaled(kind: str, name: str) -> dict[str, Any]:
    (found,) = (
        one
        for one in SCALED
        if one["kind"] == kind and one["metadata"]["name"].removeprefix("promheal-") == name
    )
    return found


def each(workloads: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("workload", workloads.values(), ids=list(workloads))


def pod_problems(spec: dict[str, Any]) -> list[str]:
    """What the Pod Security Standard `restricted` refuses, and a root that can be written."""
    found = [
        f"{key} is of the host" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)
    ]
    whole = spec.get("securityContext", {})
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
    allowed |= {"persistentVolumeClaim"}
    for volume in spec.get("volumes", []):
        found += [f"a volume is a {kind}" for kind in set(volume) - {"name"} - allowed]
    for one in [*spec["containers"], *spec.get("initContainers", [])]:
        context = {**whole, **one.get("securityContext", {})}
        if context.get("runAsNonRoot") is not True or context.get("runAsUser", 1) == 0:
            found.append("it may be root")
        if context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            found.append("every system call is allowed")
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            found.append("it can gain privileges")
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            found.append("it has capabilities")
        if context.get("readOnlyRootFilesystem") is not True:
            found.append("it can write its own files")
        if any("hostPort" in port for port in one.get("ports", [])):
            found.append("a port is the host's")
    return found


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_every_manifest_is_known_to_kubernetes(path: Path) -> None:
    passes("kubernetes-validate", "--strict", path)


def test_a_manifest_with_a_typing_error_is_found(tmp_path: Path) -> None:
    workload = manifest("StatefulSet")
    workload["spec"]["template"]["spec"]["terminationGracePeriod"] = 40
    path = tmp_path / "statefulset.yaml"
    path.write_text(json.dumps(workload))
    assert "terminationGracePeriod" in fails("kubernetes-validate", "--strict", path)


@each({**ONE, **SEVERAL, **POSTGRES})
def test_the_pod_is_restricted(workload: dict[str, Any]) -> None:
    assert pod_problems(pod(workload)["spec"]) == []
    labels = manifest("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert workload["metadata"]["namespace"] == manifest("Namespace")["metadata"]["name"]


def test_a_careless_pod_is_found() -> None:
    careless = {
        "hostPID": True,
        "volumes": [{"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}}],
        "containers": [{"name": "promheal", "ports": [{"hostPort": 3001}]}],
    }
    assert len(pod_problems(careless)) == 8


def test_the_manifests_mean_the_same_pod_and_port() -> None:
    workload = manifest("StatefulSet")
    template, own = pod(workload), container(workload)
    labels, ports = template["metadata"]["labels"], {port["name"] for port in own["ports"]}
    for selector in (
        manifest("StatefulSet")["spec"]["selector"]["matchLabels"],
        manifest("Service")["spec"]["selector"],
        manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifest("PodMonitor", "monitoring")["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    (scraped,) = manifest("PodMonitor", "monitoring")["spec"]["podMetricsEndpoints"]
    (ingress,) = manifest("NetworkPolicy")["spec"]["ingress"]
    (service,) = manifest("Service")["spec"]["ports"]
    probes = [own[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    named = {scraped["port"], ingress["ports"][0]["port"], service["targetPort"]}
    assert named | {probe["port"] for probe in probes} == ports == {"http"}
    assert {probe["path"] for probe in probes} == {"/-/healthy", "/-/ready"}
    assert f":{service['port']}" in str(own["args"])
    assert manifest("Service")["metadata"]["name"] == manifest("StatefulSet")["spec"]["serviceName"]


@each({**ONE, **SEVERAL, **POSTGRES})
def test_what_is_mounted_exists_and_files_are_looked_for_where_it_is(
    workload: dict[str, Any],
) -> None:
    spec, own = pod(workload)["spec"], container(workload)
    claims = workload["spec"].get("volumeClaimTemplates", [])
    there = {one["name"] for one in spec["volumes"]} | {one["metadata"]["name"] for one in claims}
    assert {mount["name"] for mount in own["volumeMounts"]} == there
    mounted = [mount["mountPath"] for mount in own["volumeMounts"]]
    named = [one["value"] for one in own.get("env", [])]
    files = files_of([*own.get("args", []), *named])
    assert len(files) >= 2
    for file in files:
        assert {file, str(Path(file).parent)} & {*mounted}, file


@each(SEVERAL)
def test_receivers_and_workers_read_the_password_of_the_database(workload: dict[str, Any]) -> None:
    own = container(workload)
    environment = {one["name"]: one["value"] for one in own["env"]}
    assert environment == {
        "PGSERVICEFILE": "/etc/promheal-database/pg_service.conf",
        "PGSERVICE": "promheal",
    }
    service, port = manifest("Service", "postgres"), 5432
    assert service["spec"]["ports"][0]["port"] == port
    url = f"postgresql://promheal@{service['metadata']['name']}:{port}/promheal"
    assert f"--storage.url={url}" in own["args"]


@each(SEVERAL)
def test_the_manifests_of_receivers_and_of_workers_mean_the_same_pods(
    workload: dict[str, Any],
) -> None:
    template, own = pod(workload), container(workload)
    labels = template["metadata"]["labels"]
    role = labels[COMPONENT]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    assert scaled("PodDisruptionBudget", role)["spec"]["selector"]["matchLabels"] == labels
    assert scaled("NetworkPolicy", role)["spec"]["podSelector"]["matchLabels"] == labels
    for spread in template["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == labels
        # Without it, pods of the old version would say where those of the new may be.
        assert spread["matchLabelKeys"] == ["pod-template-hash"]
    monitor = manifest("PodMonitor", "monitoring")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (port,) = own["ports"]
    (scraped,) = monitor["podMetricsEndpoints"]
    (ingress,) = scaled("NetworkPolicy", role)["spec"]["ingress"]
    probes = [own[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert {scraped["port"], ingress["ports"][0]["port"], *(one["port"] for one in probes)} == {
        port["name"]
    }
    assert f"--web.listen-address=0.0.0.0:{port['containerPort']}" in own["args"]


def test_receivers_and_workers_are_in_the_place_of_the_one_pod() -> None:
    assert sorted((one["kind"], one["metadata"]["name"]) for one in SCALED) == [
        ("Deployment", "promheal-receiver"),
        ("Deployment", "promheal-worker"),
        ("Namespace", "promheal"),
        ("NetworkPolicy", "promheal-receiver"),
        ("NetworkPolicy", "promheal-worker"),
        ("PodDisruptionBudget", "promheal-receiver"),
        ("PodDisruptionBudget", "promheal-worker"),
        ("Service", "promheal"),
        ("ServiceAccount", "promheal"),
        ("ServiceAccount", "promheal-receiver"),
    ]


def test_the_service_leads_to_every_receiver_and_to_no_worker() -> None:
    service = scaled("Service", "promheal")
    assert service["spec"]["selector"] == pod(SEVERAL["receiver"])["metadata"]["labels"]
    assert service["spec"]["clusterIP"] == "None"  # Alertmanager is given all addresses
    (port,) = container(SEVERAL["receiver"])["ports"]
    assert service["spec"]["ports"] == [
        {"name": "http", "port": port["containerPort"], "targetPort": port["name"]}
    ]


@each(SEVERAL)
def test_a_rolling_update_replaces_one_after_the_other_and_lets_it_end(
    workload: dict[str, Any],
) -> None:
    assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    budget = scaled("PodDisruptionBudget", pod(workload)["metadata"]["labels"][COMPONENT])
    assert budget["spec"]["maxUnavailable"] == 1 < workload["spec"]["replicas"]
    before = container(workload).get("lifecycle", {}).get("preStop", {}).get("exec", {})
    waits = int(before.get("command", ["sleep", "0"])[1])
    patience = pod(workload)["spec"]["terminationGracePeriodSeconds"]
    assert waits + SHUTDOWN < patience


def test_receivers_have_no_right_to_act_and_workers_have_that_of_the_one_pod() -> None:
    receiver, worker = (pod(SEVERAL[role])["spec"] for role in ("receiver", "worker"))
    subjects = [one["name"] for one in manifest("RoleBinding", "heal")["subjects"]]
    assert [worker["serviceAccountName"]] == subjects
    assert receiver["serviceAccountName"] not in subjects
    assert receiver["automountServiceAccountToken"] is False
    accounts = [one for one in SCALED if one["kind"] == "ServiceAccount"]
    assert {one["metadata"]["name"] for one in accounts} == {
        receiver["serviceAccountName"],
        worker["serviceAccountName"],
    }
    assert all(one["automountServiceAccountToken"] is False for one in accounts)
    assert "--receive-only" in container(SEVERAL["receiver"])["args"]


def reaches(policy: dict[str, Any]) -> set[int]:
    """The ports that a policy lets pods go out to."""
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


def test_the_network_lets_alertmanager_to_receivers_and_workers_to_what_they_heal() -> None:
    receiver, worker = (scaled("NetworkPolicy", role) for role in ("receiver", "worker"))
    assert reaches(receiver) == {53, 5432, 9090, 9093}
    assert reaches(worker) == {53, 443, 5432, 6443, 9090, 9093}
    assert "alertmanager" in str(receiver["spec"]["ingress"])
    assert "alertmanager" not in str(worker["spec"]["ingress"])
    database = manifest("NetworkPolicy", "postgres")["spec"]
    labels = pod(POSTGRES["postgres"])["metadata"]["labels"]
    assert database["podSelector"]["matchLabels"] == labels
    assert database["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in database
    (rule,) = database["ingress"]
    (client,) = rule["from"]
    for policy in (receiver, worker):
        own = policy["spec"]["podSelector"]["matchLabels"]
        assert client["podSelector"]["matchLabels"].items() <= own.items()
        (out,) = (rule for rule in policy["spec"]["egress"] if {"port": 5432} in rule["ports"])
        assert out["to"] == [{"podSelector": {"matchLabels": labels}}]


def test_postgres_is_the_same_everywhere_and_is_no_promheal() -> None:
    workload = POSTGRES["postgres"]
    image = container(workload)["image"]
    assert PINNED.fullmatch(image)
    assert image == MANY["postgres"]["image"]
    labels = pod(workload)["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    assert manifest("Service", "postgres")["spec"]["selector"] == labels
    monitor = manifest("PodMonitor", "monitoring")["spec"]["selector"]["matchLabels"]
    assert not monitor.items() <= labels.items()
    ours, theirs = (
        re.sub(
            r"^--.*\n|`cat .*`",
            "",
            (DEPLOY / folder / "promheal.sql").read_text(),
            flags=re.MULTILINE,
        )
        for folder in ("compose/scale", "kubernetes/postgres")
    )
    assert ours == theirs


@pytest.mark.parametrize(
    "policy",
    [manifest("NetworkPolicy"), *(scaled("NetworkPolicy", role) for role in SEVERAL)],
    ids=["one", *SEVERAL],
)
def test_the_network_is_open_for_what_the_configuration_names(policy: dict[str, Any]) -> None:
    read = yaml.safe_load((KUBERNETES / "promheal/config/promheal.yml").read_text())
    urls = [read[name]["url"] for name in ("prometheus", "alertmanager")]
    (out,) = (rule for rule in policy["spec"]["egress"] if "monitoring" in str(rule.get("to")))
    assert {int(url.rpartition(":")[2]) for url in urls} == {port["port"] for port in out["ports"]}


def test_it_may_touch_what_the_inventory_names_and_nothing_else() -> None:
    (rule,) = manifest("Role", "heal")["rules"]
    assert set(rule["verbs"]) == {"get", "patch"}
    read = yaml.safe_load((KUBERNETES / "promheal/config/services.yml").read_text())
    managers = [service["manager"]["kubernetes"] for service in read["services"].values()]
    assert rule["resourceNames"] == [manager["deployment"] for manager in managers]
    assert {manager["namespace"] for manager in managers} == {
        manifest("Role", "heal")["metadata"]["namespace"]
    }
    (subject,) = manifest("RoleBinding", "heal")["subjects"]
    assert subject["name"] == pod(manifest("StatefulSet"))["spec"]["serviceAccountName"]
    assert subject["namespace"] == manifest("StatefulSet")["metadata"]["namespace"]


@pytest.mark.parametrize("folder", ["promheal", "heal", "monitoring", "scale", "postgres"])
def test_kustomize_has_all_files_and_the_version(folder: str) -> None:
    (read,) = documents(KUBERNETES / folder / "kustomization.yaml")
    there = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in read["resources"] if "/" not in name} == there
    for generator in read.get("configMapGenerator", []):
        assert all((KUBERNETES / folder / file).exists() for file in generator["files"])
    # An overlay's images are its own: those of its base are only for what the base has.
    ours = [one for name in there for one in documents(KUBERNETES / folder / name)]
    tags = [one["newTag"] for one in read.get("images", []) if one["name"] == "promheal"]
    assert tags == [PROJECT["version"]] * ("'image': 'promheal'" in str(ours))


def test_what_is_generated_is_new() -> None:
    for path, text in generated(REPOSITORY):
        assert path.read_text() == text, f"{path}: make generate"


def test_the_rules_are_still_rules(tmp_path: Path) -> None:
    made = documents(KUBERNETES / "monitoring/prometheusrules.yaml")
    assert len(made) == len(list((REPOSITORY / "rules").glob("*.yml")))
    for document in made:
        path = tmp_path / "rules.yml"
        path.write_text(json.dumps(document["spec"]))
        passes("promtool", "check", "rules", path)


# --- GitHub ---------------------------------------------------------------------------------------

SCHEMAS = {
    "workflows/*.yml": "vendor.github-workflows",
    "dependabot.yml": "vendor.dependabot",
    "ISSUE_TEMPLATE/[!c]*.yml": "vendor.github-issue-forms",
    "ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
}
USES = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


@pytest.mark.parametrize("pattern", SCHEMAS)
def test_what_github_reads_is_valid(pattern: str) -> None:
    found = sorted(GITHUB.glob(pattern))
    assert found
    passes("check-jsonschema", "--builtin-schema", SCHEMAS[pattern], *found)


def test_ci_takes_one_generation_of_prometheus_by_the_commit(tmp_path: Path) -> None:
    run = tmp_path / ".ci/run"
    run.parent.mkdir()
    shutil.copy(REPOSITORY / ".ci/run", run)
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text('#!/bin/sh\necho "$1 with $UPSTREAMS"\n')
    make.chmod(0o755)
    env = {**os.environ, "PATH": f"{make.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    env.pop("UPSTREAMS", None)

    def git(*argv: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return passes("git", "-C", tmp_path, *who, *argv, env=env).strip()

    def told(**more: str) -> list[str]:
        done = subprocess.run(
            [run], env={**env, **more}, check=True, capture_output=True, text=True
        )
        return done.stdout.splitlines()

    git("init", "--quiet")
    seen = set()
    for number in range(40):
        git("commit", "--quiet", "--allow-empty", f"--message={number}")
        wanted = ("old", "new")[int(git("rev-parse", "HEAD")[-1], 16) % 2]
        if wanted not in seen:
            assert told() == [
                f"With the {wanted} Prometheus and Alertmanager",
                f"check with {wanted}",
                f"test with {wanted}",
            ]
        seen.add(wanted)
    assert seen == {"old", "new"}
    assert told(UPSTREAMS="new")[0] == "With the new Prometheus and Alertmanager"
    assert told(UPSTREAMS="old")[1] == "check with old"


def test_the_workflows_are_safe() -> None:
    passes("zizmor", "--offline", "--persona=pedantic", REPOSITORY / ".github")
    for path in (GITHUB / "workflows").glob("*.yml"):
        lines = [line for line in path.read_text().splitlines() if "uses:" in line]
        assert all(USES.search(line) for line in lines), path


def test_a_careless_workflow_is_found(tmp_path: Path) -> None:
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    (folder / "ci.yml").write_text(
        "on: pull_request_target\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n"
        "      - uses: actions/checkout@v7\n"
        "      - run: echo ${{ github.event.pull_request.title }}\n"
    )
    said = fails("zizmor", "--offline", "--persona=pedantic", tmp_path)
    for problem in ("template-injection", "unpinned-uses", "artipacked", "dangerous-triggers"):
        assert problem in said


def test_the_bill_of_materials_has_all_that_is_in_it(tmp_path: Path) -> None:
    out = tmp_path / "promheal.cdx.json"
    passes(
        *("cyclonedx-py", "requirements", "--pyproject", REPOSITORY / "pyproject.toml"),
        *("--output-reproducible", "--of", "JSON", "-o", out),
        DEPLOY / "requirements-runtime.txt",
    )
    bill = json.loads(out.read_text())
    assert {part["name"] for part in bill["components"]} == set(locked("requirements-runtime.txt"))
    assert bill["metadata"]["component"]["name"] == "promheal"
    assert out.name in (GITHUB / "workflows/release.yml").read_text()


def test_release_notes_are_a_section_of_the_changelog() -> None:
    def notes(version: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DEPLOY / "release-notes", version], capture_output=True, text=True, check=False
        )

    said = notes("Unreleased")
    assert said.returncode == 0
    assert said.stdout.startswith("* [")
    assert said.stdout.strip() in (REPOSITORY / "CHANGELOG.md").read_text()
    assert notes("99.9").returncode == 1
