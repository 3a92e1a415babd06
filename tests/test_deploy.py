"""What deploys promheal is held by the tools of those who run it; each check is seen to fail."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate import generated
from receiver.cli.serve import command as serve
from tests.tools import REPOSITORY, tool

DEPLOY = REPOSITORY / "deploy"
SYSTEMD = DEPLOY / "systemd"
KUBERNETES = DEPLOY / "kubernetes"
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


def locked(name: str) -> dict[str, str]:
    """The pins of a file, each with its hashes."""
    text = (DEPLOY / name).read_text()
    pins = re.findall(r"^([a-z0-9-]+)(==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
    return dict(pins)


@pytest.mark.parametrize("name", ["requirements-runtime.txt", "requirements-build.txt"])
def test_the_image_holds_what_the_tests_ran_with(name: str) -> None:
    ours, tested = locked(name), locked("requirements.txt")
    assert ours
    assert {package: tested.get(package) for package in ours} == ours


def test_the_image_holds_what_promheal_needs() -> None:
    needed = {re.split(r"[\[<>=~!]", text)[0] for text in PROJECT["dependencies"]}
    assert needed <= set(locked("requirements-runtime.txt"))
    assert not {"pytest", "mypy", "ruff"} & set(locked("requirements-runtime.txt"))


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


def serve_options(words: Iterable[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def started_with() -> Iterator[tuple[str, set[str]]]:
    """The options of `promheal serve` in each file that starts it."""
    unit = (SYSTEMD / "promheal.service").read_text()
    (line,) = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", unit, re.MULTILINE)
    yield "systemd", serve_options(shlex.split(line.replace("\\\n", "")))
    yield "systemd's ARGS", serve_options(shlex.split(re.findall(r'ARGS="(.+)"', unit)[0]))
    (command,) = re.findall(r"^CMD (\[.+?\])", DOCKERFILE.read_text(), re.MULTILINE | re.DOTALL)
    yield "image", serve_options(json.loads(command.replace("\\\n", "")))
    yield "Kubernetes", serve_options(container(manifest("StatefulSet"))["args"])


def test_everything_that_starts_it_knows_its_options() -> None:
    known = {option for parameter in serve.params for option in parameter.opts}
    for where, options in started_with():
        assert options, where
        assert options <= known, where


# --- compose --------------------------------------------------------------------------------------

COMPOSE = DEPLOY / "compose.yaml"


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return read


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
            if "PASSWORD" in key
        ]
    return found


def test_compose_is_valid_and_hardened() -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert compose_problems(compose()) == []


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


def test_compose_mounts_what_exists() -> None:
    read = compose()
    mounted = [
        volume.split(":")[0]
        for service in read["services"].values()
        for volume in service.get("volumes", [])
    ]
    for source in mounted:
        assert source in read["volumes"] or (DEPLOY / source).exists(), source


def test_nobody_can_log_in_to_grafana() -> None:
    environment = compose()["services"]["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


@pytest.mark.parametrize("folder", ["compose", "kubernetes/promheal/config"])
def test_the_shipped_configurations_are_taken(folder: str) -> None:
    passes("promheal", "check", "--config.file", DEPLOY / folder / "promheal.yml")


def test_the_configurations_of_others_are_taken_by_them(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    shutil.copy(REPOSITORY / "receiver/demo/rules.yml", tmp_path / "demo.yml")
    shutil.copytree(REPOSITORY / "rules", tmp_path / "rules")
    for name in ("prometheus.yml", "alertmanager.yml"):
        text = (DEPLOY / "compose" / name).read_text()
        (tmp_path / name).write_text(
            text.replace("/run/secrets/promheal.token", str(tmp_path / "token"))
        )
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


def exposed(path: Path, threshold: int) -> tuple[str, ...]:
    """*threshold* in tenths."""
    return (
        *("systemd-analyze", "security", "--offline=true", "--no-pager"),
        *(f"--threshold={threshold}", str(path)),
    )


def verify(path: Path) -> str:
    """What systemd says to a unit whose program is here: it is only called wrong by exit code."""
    path.write_text(path.read_text().replace("/opt/promheal/bin/promheal", "/bin/true"))
    done = ran("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path)
    return done.stdout + done.stderr


UNIT = (SYSTEMD / "promheal.service").read_text()


def test_the_unit_is_known_to_systemd_and_exposes_little(tmp_path: Path) -> None:
    path = unit(tmp_path, UNIT)
    passes(*exposed(path, 15))
    assert verify(path) == ""


def test_the_unit_that_may_call_sudo_exposes_little_more(tmp_path: Path) -> None:
    path = unit(tmp_path, UNIT, SYSTEMD / "sudo.conf")
    passes(*exposed(path, 25))
    fails(*exposed(path, 15))
    assert verify(path) == ""


def test_a_careless_unit_is_found(tmp_path: Path) -> None:
    hardening = re.compile(r"^(Protect|Private|Restrict|SystemCall|Capability).*\n", re.MULTILINE)
    careless = hardening.sub("", UNIT)
    fails(*exposed(unit(tmp_path, careless), 25))
    assert "Unknown key" in verify(unit(tmp_path, UNIT.replace("ProtectHome=", "ProtectHom=")))


def test_systemd_waits_for_what_promheal_promises() -> None:
    said = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))
    assert said["Type"] == "notify"
    assert said["NotifyAccess"] == "all"
    assert said["WatchdogSec"] == "2min"  # above gunicorn's 60 s
    assert said["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert said["KillMode"] == "mixed"
    assert "ProcSubset" not in said, "the clock reads /proc/sys/kernel/random/boot_id"


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


def pod() -> dict[str, Any]:
    template: dict[str, Any] = manifest("StatefulSet")["spec"]["template"]
    return template


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


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


def test_the_pod_is_restricted() -> None:
    assert pod_problems(pod()["spec"]) == []
    labels = manifest("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_careless_pod_is_found() -> None:
    careless = {
        "hostPID": True,
        "volumes": [{"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}}],
        "containers": [{"name": "promheal", "ports": [{"hostPort": 3001}]}],
    }
    assert len(pod_problems(careless)) == 8


def test_the_manifests_mean_the_same_pod_and_port() -> None:
    template, own = pod(), container(manifest("StatefulSet"))
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


def test_what_is_mounted_exists_and_files_are_looked_for_where_it_is() -> None:
    spec, own = pod()["spec"], container(manifest("StatefulSet"))
    claims = manifest("StatefulSet")["spec"]["volumeClaimTemplates"]
    there = {one["name"] for one in spec["volumes"]} | {one["metadata"]["name"] for one in claims}
    assert {mount["name"] for mount in own["volumeMounts"]} == there
    mounted = [mount["mountPath"] for mount in own["volumeMounts"]]
    files = re.findall(r"(?:=|sqlite:///)(/[\w./-]+)", " ".join(own["args"]))
    assert len(files) == 3
    for file in files:
        assert str(Path(file).parent) in mounted


def test_the_network_is_open_for_what_the_configuration_names() -> None:
    read = yaml.safe_load((KUBERNETES / "promheal/config/promheal.yml").read_text())
    urls = [read[name]["url"] for name in ("prometheus", "alertmanager")]
    (out,) = (
        rule
        for rule in manifest("NetworkPolicy")["spec"]["egress"]
        if "monitoring" in str(rule.get("to"))
    )
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
    assert subject["name"] == pod()["spec"]["serviceAccountName"]
    assert subject["namespace"] == manifest("StatefulSet")["metadata"]["namespace"]


@pytest.mark.parametrize("folder", ["promheal", "heal", "monitoring"])
def test_kustomize_has_all_files_and_the_version(folder: str) -> None:
    (read,) = documents(KUBERNETES / folder / "kustomization.yaml")
    there = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in read["resources"] if "/" not in name} == there
    for generator in read.get("configMapGenerator", []):
        assert all((KUBERNETES / folder / file).exists() for file in generator["files"])
    for image in read.get("images", []):
        assert image["newTag"] == PROJECT["version"]


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
