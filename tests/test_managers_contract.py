"""Contract tests: systemd, Docker and Kubernetes as their documents describe them.

What stands in for them here speaks over real pipes and sockets, keeps state, and answers in the
shapes of their published references. It can be put into states that the real ones pass through too
quickly, or never here. The real ones are in test_systemd_live.py, test_podman_live.py and, where
its binary is, test_kubernetes_live.py; docs/how-to/check-managers.md is the check by hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

import receiver.services.systemd
from receiver.errors import ActionError
from receiver.services import ServiceState
from receiver.services.docker import Docker
from receiver.services.kubernetes import Kubernetes
from receiver.services.rollout import Workload, state_of
from receiver.services.systemd import Systemd, systemctl
from receiver.services.workers.kubernetes import Replicas
from receiver.services.workers.systemd import SystemdTemplate
from tests.hostile import values
from tests.test_workers import Step

# -- systemd

SYSTEMCTL = """#!/usr/bin/python3
# Speaks as systemctl 252 does: show prints the properties that were asked for, in a block a unit.
import json, pathlib, sys
state = pathlib.Path(__file__).with_suffix(".json")
units = json.loads(state.read_text())
args = sys.argv[1:]
with open(str(state) + ".argv", "a") as log: log.write(json.dumps(args) + "\\n")
at = args.index("--")
names = args[at + 1:]
command = next(a for a in args if not a.startswith("-"))
if command == "show":
    wanted = args[args.index("--property") + 1].split(",")
    blocks = []
    for name in names:
        unit = units.get(name, {"LoadState": "not-found", "ActiveState": "inactive"})
        known = {"Id": name, "LoadState": "loaded", "SubState": "dead", "Result": "success",
                 "MainPID": "0", "NRestarts": "0", "StatusText": "", **unit}
        if "then" in known:
            later = known.pop("then")
            units[name] = later.pop(0) | ({"then": later} if later else {})
        blocks.append("\\n".join(f"{k}={known[k]}" for k in wanted if k in known))
    state.write_text(json.dumps(units))
    print("\\n\\n".join(blocks))
else:
    for name in names:
        unit = units.get(name)
        if unit is None:
            if command == "restart":
                sys.exit(f"Failed to restart {name}: Unit {name} not found.")
        elif "refuse" in unit:
            print(unit["refuse"], file=sys.stderr); sys.exit(unit.get("code", 1))
        else:
            units[name] = unit.get("after", {}).get(command, unit)
    state.write_text(json.dumps(units))
"""
OLD = {"ActiveState": "active", "SubState": "running", "MainPID": "4710", "InvocationID": "1"}
ACTIVE = {"ActiveState": "active", "SubState": "running", "MainPID": "4711", "InvocationID": "2"}
ACTIVATING = {"ActiveState": "activating", "SubState": "start"}
FAILED = {
    "InvocationID": "2",
    "ActiveState": "failed",
    "SubState": "failed",
    "Result": "exit-code",
    "NRestarts": "5",
}


class Units:
    """What the stand-in for systemd knows."""

    def __init__(self, program: Path) -> None:
        self.program = program
        program.write_text(SYSTEMCTL)
        program.chmod(0o755)
        self.set()

    def set(self, **units: Any) -> None:
        named = {f"{name}.service": unit for name, unit in units.items()}
        self.program.with_suffix(".json").write_text(json.dumps(named))

    @property
    def asked(self) -> list[list[str]]:
        log = self.program.with_suffix(".json.argv")
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Units:
    found = Units(tmp_path / "systemctl")
    monkeypatch.setattr(receiver.services.systemd, "_SYSTEMCTL", str(found.program))
    return found


WEB = Systemd(unit="web.service")


class TestSystemdContract:
    @pytest.mark.parametrize(
        ("properties", "state"),
        [
            (ACTIVE, ServiceState.RUNNING),
            (ACTIVATING, ServiceState.STARTING),
            ({"ActiveState": "reloading"}, ServiceState.RUNNING),
            ({"ActiveState": "inactive"}, ServiceState.STOPPED),
            ({"ActiveState": "deactivating"}, ServiceState.STOPPED),
            (FAILED, ServiceState.FAILED),
            ({"ActiveState": "a state of tomorrow"}, ServiceState.FAILED),
        ],
    )
    def test_a_state_is_told(self, units: Units, properties: Any, state: ServiceState) -> None:
        units.set(web=properties)
        assert WEB.status(timeout=10).state is state

    def test_what_an_operator_wants_to_know_is_told(self, units: Units) -> None:
        units.set(web=FAILED)
        detail = WEB.status(timeout=10).detail
        assert detail == (
            "web.service is failed (failed), result exit-code, systemd has restarted it 5 times"
        )
        units.set(web=ACTIVE)
        assert WEB.status(timeout=10).pid == 4711

    def test_a_restart_is_done_when_it_is_active_and_stays(self, units: Units) -> None:
        # The old one is active while the job waits in the queue.
        after = {**OLD, "then": [OLD, OLD, ACTIVATING, ACTIVE]}
        units.set(web={**OLD, "after": {"restart": after}})
        status = WEB.restart(timeout=30)
        assert (status.state, status.pid) == (ServiceState.RUNNING, 4711)
        (restart,) = [argv for argv in units.asked if "restart" in argv]
        assert restart[-4:] == ["restart", "--no-block", "--", "web.service"]

    def test_active_for_a_moment_is_not_active(self, units: Units) -> None:
        units.set(web={**OLD, "after": {"restart": {**ACTIVE, "then": [FAILED]}}})
        with pytest.raises(ActionError, match=r"was restarted and failed: .*result exit-code"):
            WEB.restart(timeout=30)

    def test_one_that_does_not_come_up_in_time(self, units: Units) -> None:
        units.set(web={**OLD, "after": {"restart": ACTIVATING}})
        began = time.monotonic()
        with pytest.raises(ActionError, match=r"not active in time: .*activating \(start\)"):
            WEB.restart(timeout=2)
        assert time.monotonic() - began < 10

    @pytest.mark.parametrize(
        ("unit", "says"),
        [
            ({"LoadState": "not-found", "ActiveState": "inactive"}, "systemd has no unit"),
            ({"LoadState": "masked", "ActiveState": "inactive"}, "systemctl unmask web.service"),
            ({"LoadState": "bad-setting", "ActiveState": "inactive"}, "unit file of web.service"),
        ],
    )
    def test_a_unit_that_cannot_run_says_why(self, units: Units, unit: Any, says: str) -> None:
        units.set(web=unit)
        for ask in (WEB.status, WEB.restart):
            with pytest.raises(ActionError, match=says):
                ask(timeout=10)
        assert not any("restart" in argv for argv in units.asked)

    def test_who_may_not_is_told_what_to_mend(self, units: Units) -> None:
        refuse = "Failed to restart web.service: Interactive authentication required."
        units.set(web={**ACTIVE, "refuse": refuse})
        with pytest.raises(ActionError, match=r"polkit rule for org\.freedesktop\.systemd1"):
            WEB.restart(timeout=10)

    def test_no_unit_is_an_option(self) -> None:
        for bad in (
            "--help.service",
            "web",
            "../x.service",
            "a b.service",
            "web.service\n",
            "*.service",
        ):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert({"unit": bad}, Systemd)
        msgspec.convert({"unit": "web@eu-1.service"}, Systemd)

    @pytest.mark.skipif(
        shutil.which("systemctl", path=os.defpath) is None, reason="systemctl is not installed"
    )
    def test_the_real_systemctl_says_that_there_is_no_systemd(self) -> None:
        """Or, where it runs, that there is no such unit."""
        with pytest.raises(ActionError, match=r"systemd does not run here|no unit|not found"):
            Systemd(unit="promheal-test-no-such.service").status(timeout=10)
        with pytest.raises(ActionError):
            systemctl(["show", "--no-such-option"], user=False, timeout=10)


# -- Docker


class Engine:
    """A container of the engine, and what its API says of it, over HTTP."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.name = "web"
        self.state: dict[str, Any] = {"Status": "running", "Pid": 4711}
        self.after: list[dict[str, Any]] = []
        """The states after a restart, one a question."""
        self.refuse: tuple[int, str] | None = None
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: Any = None) -> None:
                raw = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def handle_any(self) -> None:
                engine.asked.append(f"{self.command} {self.path}")
                if engine.refuse is not None:
                    status, message = engine.refuse
                    return self.answer(status, {"message": message})
                if not re.fullmatch(rf"/containers/{engine.name}/(json|restart\?t=\d+)", self.path):
                    return self.answer(404, {"message": f"No such container: {self.path}"})
                if self.command == "POST":
                    engine.state = engine.after.pop(0) if engine.after else engine.state
                    return self.answer(204)
                state = engine.state
                if engine.after and len(engine.asked) > 2:
                    engine.state = engine.after.pop(0)
                return self.answer(200, {"Id": "a" * 64, "State": state, "RestartCount": 0})

            do_GET = do_POST = handle_any  # noqa: N815  the base class's names

            def log_message(self, *args: object) -> None:
                pass

            def address_string(self) -> str:
                return "socket"

        self.handler = Handler


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[Engine, Docker]]:
    found = Engine()
    path = str(tmp_path / "docker.sock")
    with UnixServer(path, found.handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield found, Docker(container="web", socket=path)
        server.shutdown()


class TestDockerContract:
    def test_a_restart_is_done_when_it_is_healthy(self, engine: tuple[Engine, Docker]) -> None:
        there, web = engine
        starting = {"Status": "running", "Pid": 5, "Health": {"Status": "starting"}}
        healthy = {"Status": "running", "Pid": 5, "Health": {"Status": "healthy"}}
        there.after = [starting, starting, healthy]
        status = web.restart(timeout=20)
        assert (status.state, status.pid) == (ServiceState.RUNNING, 5)
        assert there.asked[0] == "POST /containers/web/restart?t=10"

    def test_without_a_health_check_running_is_enough(self, engine: tuple[Engine, Docker]) -> None:
        assert engine[1].restart(timeout=20).state is ServiceState.RUNNING

    @pytest.mark.parametrize(
        ("state", "says"),
        [
            ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, "killed it for its memory"),
            ({"Status": "exited", "ExitCode": 3}, "exit code 3"),
            ({"Status": "dead"}, "web is dead"),
            (
                {
                    "Status": "running",
                    "Health": {"Status": "unhealthy", "Log": [{"Output": "connection refused"}]},
                },
                "health unhealthy, connection refused",
            ),
        ],
    )
    def test_one_that_does_not_stay_up_says_why(
        self, engine: tuple[Engine, Docker], state: Any, says: str
    ) -> None:
        engine[0].after = [state]
        with pytest.raises(ActionError, match=says):
            engine[1].restart(timeout=20)

    def test_one_that_runs_for_a_moment_does_not_run(self, engine: tuple[Engine, Docker]) -> None:
        running = {"Status": "running", "Pid": 5}
        engine[0].after = [running, running, {"Status": "exited", "ExitCode": 1}]
        with pytest.raises(ActionError, match=r"was restarted, but web is exited, exit code 1"):
            engine[1].restart(timeout=20)

    def test_each_time_another_process_does_not_run(self, engine: tuple[Engine, Docker]) -> None:
        """A restart policy starts it again between any two looks."""
        engine[0].after = [{"Status": "running", "Pid": pid} for pid in range(5, 99)]
        with pytest.raises(ActionError, match="web is not ready in time: web is running"):
            engine[1].restart(timeout=3)

    @pytest.mark.parametrize("container", ["health", "web"])
    def test_no_health_check_is_none_that_passed(
        self, engine: tuple[Engine, Docker], container: str
    ) -> None:
        """Neither by the empty one that Podman tells, nor by its name."""
        empty = {"Status": "running", "Pid": 5, "Health": {"Status": "", "Log": None}}
        engine[0].after = [empty, empty, {"Status": "exited", "ExitCode": 1}]
        engine[0].name = container
        with pytest.raises(ActionError, match=f"was restarted, but {container} is exited"):
            msgspec.structs.replace(engine[1], container=container).restart(timeout=20)

    def test_one_that_is_not_there(self, engine: tuple[Engine, Docker], tmp_path: Path) -> None:
        there, web = engine
        with pytest.raises(ActionError, match=r"no container 'wbe'; `docker ps"):
            msgspec.structs.replace(web, container="wbe").status(timeout=5)
        there.refuse = (500, "cannot restart container: port is already allocated")
        with pytest.raises(ActionError, match=r"answered 500 .*port is already allocated"):
            web.restart(timeout=5)
        with pytest.raises(ActionError, match="got no answer"):
            Docker(container="web", socket=str(tmp_path / "none")).status(timeout=5)

    def test_no_name_leads_elsewhere(self) -> None:
        for bad in ("../images", "a/b", "-x", "", "a?b", "a b"):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert({"container": bad}, Docker)


# -- Kubernetes


class Api:
    """Workloads of apps/v1, and a controller that is as slow as the test says."""

    def __init__(self) -> None:  # noqa: C901  it is the server
        self.asked: list[tuple[str, str, Any]] = []
        self.token = "t0ken"
        self.allowed = True
        self.failing = 0
        """How many questions after a change it does not answer: it is just being restarted."""
        self.workload: dict[str, Any] = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "generation": 3},
            "spec": {"replicas": 2, "template": {"metadata": {}}},
            "status": self.done(3),
        }
        self.progress: list[dict[str, Any]] = []
        """The statuses after a change, one a question."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: Any) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def refuse(self, status: int, message: str) -> None:
                self.answer(
                    status,
                    {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message},
                )

            def handle_any(self) -> None:  # noqa: PLR0911
                length = int(self.headers.get("Content-Length") or 0)
                body: Any = json.loads(self.rfile.read(length)) if length else None
                kind = self.headers.get("Content-Type") or ""
                api.asked.append((self.command, self.path, body))
                if self.headers["Authorization"] != f"Bearer {api.token}":
                    return self.refuse(401, "Unauthorized")
                if self.path.endswith("/selfsubjectaccessreviews"):
                    return self.answer(201, {**body, "status": {"allowed": api.allowed}})
                if not self.path.startswith("/apis/apps/v1/namespaces/shop/deployments/web"):
                    return self.refuse(404, f'deployments.apps "{self.path}" not found')
                if self.command == "GET" and api.changed and api.failing:
                    api.failing -= 1
                    return self.refuse(503, "etcdserver: request timed out")
                if self.path.endswith("/scale"):
                    return self.scale(body)
                if self.command == "PATCH":
                    if kind != "application/strategic-merge-patch+json":
                        return self.refuse(415, "the body of the request was in an unknown format")
                    if not api.allowed:
                        return self.refuse(403, 'cannot patch resource "deployments"')
                    template = body["spec"]["template"]["metadata"]["annotations"]
                    api.workload["spec"]["template"]["metadata"]["annotations"] = template
                    api.workload["metadata"]["generation"] += 1
                elif api.progress and api.changed:
                    api.workload["status"] = api.progress.pop(0)
                return self.answer(200, api.workload)

            def scale(self, body: Any) -> None:
                if self.command == "PATCH":
                    api.workload["spec"]["replicas"] = body["spec"]["replicas"]
                    api.workload["metadata"]["generation"] += 1
                return self.answer(
                    200,
                    {
                        "kind": "Scale",
                        "apiVersion": "autoscaling/v1",
                        "spec": {"replicas": api.workload["spec"]["replicas"]},
                        "status": {"replicas": api.workload["status"].get("replicas", 0)},
                    },
                )

            do_GET = do_PATCH = do_POST = handle_any  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def changed(self) -> bool:
        return bool(self.workload["metadata"]["generation"] > 3)

    @staticmethod
    def done(generation: int, replicas: int = 2) -> dict[str, Any]:
        return {
            "observedGeneration": generation,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [{"type": "Progressing", "reason": "NewReplicaSetAvailable"}],
        }


@pytest.fixture
def api() -> Iterator[Api]:
    found = Api()
    threading.Thread(target=found.server.serve_forever, args=(0.02,)).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def web(api: Api, tmp_path: Path) -> Kubernetes:
    (tmp_path / "token").write_text("t0ken\n")
    return Kubernetes(
        namespace="shop", deployment="web", api=api.url, token_file=str(tmp_path / "token")
    )


TWO_REVISIONS = {"readyReplicas": 2, "currentRevision": "a", "updateRevision": "b"}
KEEPS_ONE = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}
ON_DELETE = {"updateStrategy": {"type": "OnDelete"}}


class TestKubernetesContract:
    def test_a_restart_is_done_when_the_rollout_is(self, api: Api, web: Kubernetes) -> None:
        api.progress = [
            api.done(3),  # not yet seen by the controller: the numbers are those of before
            {**api.done(4), "updatedReplicas": 1, "replicas": 3},
            {**api.done(4), "replicas": 3},  # an old one still ends
            {**api.done(4), "availableReplicas": 1},
            api.done(4),
        ]
        status = web.restart(timeout=30)
        assert (status.state, status.detail) == (ServiceState.RUNNING, "2 pods are ready")
        assert api.progress == [], "it was not believed before"
        method, path, body = next(asked for asked in api.asked if asked[0] != "GET")
        assert (method, path) == ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/web")
        (stamp,) = body["spec"]["template"]["metadata"]["annotations"].items()
        assert stamp[0] == "kubectl.kubernetes.io/restartedAt"

    def test_a_hostile_name_is_no_path_of_the_api(self, api: Api, web: Kubernetes) -> None:
        """Those that could be a name are asked for by it, and there is none."""
        taken = 0
        for value in (*values("/tmp/canary"), "web/scale", "web?x=", "web\n", "../secrets"):
            try:
                found = structs.replace(web, deployment=value)
                msgspec.convert(msgspec.to_builtins(found), Kubernetes)
            except msgspec.ValidationError:
                continue
            taken += 1
            with pytest.raises(ActionError):
                found.restart(timeout=5)
        paths = {path for _, path, _ in api.asked}
        assert taken < 20
        assert all(re.fullmatch(r"/apis/[a-z0-9./-]+", path) for path in paths), paths
        assert not [path for path in paths if ".." in path]

    def test_a_late_answer_is_no_failed_restart(self, api: Api, web: Kubernetes) -> None:
        api.failing = 2
        api.progress = [api.done(4)]
        assert web.restart(timeout=30).state is ServiceState.RUNNING
        assert api.failing == 0
        api.failing = 99
        with pytest.raises(ActionError, match=r"answered 503: etcdserver: request timed out"):
            web.restart(timeout=1.5)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"paused": True}, "it is paused; `kubectl rollout resume`"),
            ({"replicas": 0}, "it is scaled to 0, so there is no pod to restart"),
        ],
    )
    def test_one_that_would_bring_no_new_pod_is_not_written(
        self, api: Api, web: Kubernetes, change: Any, says: str
    ) -> None:
        api.workload["spec"] |= change
        with pytest.raises(ActionError, match=f"{says}.*nothing was touched"):
            web.restart(timeout=5)
        assert all(method == "GET" for method, *_ in api.asked)
        (problem,) = web.probe(timeout=5)
        assert says in problem

    def test_one_that_makes_no_progress_has_failed(self, api: Api, web: Kubernetes) -> None:
        words = 'ReplicaSet "web-1" has timed out progressing.'
        api.progress = [
            {
                **api.done(4),
                "updatedReplicas": 1,
                "conditions": [
                    {
                        "type": "Progressing",
                        "status": "False",
                        "reason": "ProgressDeadlineExceeded",
                        "message": words,
                    }
                ],
            }
        ]
        with pytest.raises(ActionError, match="timed out progressing"):
            web.restart(timeout=30)

    def test_one_that_is_not_done_in_time(self, api: Api, web: Kubernetes) -> None:
        api.progress = [{**api.done(4), "availableReplicas": 0}] * 99
        with pytest.raises(ActionError, match="not rolled out in time: 2 of 2 pods are new, 0 are"):
            web.restart(timeout=1.5)

    def test_a_token_is_read_anew_at_each_call(
        self, api: Api, web: Kubernetes, tmp_path: Path
    ) -> None:
        web.status(timeout=5)
        api.token = "rotated"
        with pytest.raises(ActionError, match="does not know our token"):
            web.status(timeout=5)
        (tmp_path / "token").write_text("rotated")
        assert web.status(timeout=5).state is ServiceState.RUNNING

    def test_refusals_say_what_to_mend(self, api: Api, web: Kubernetes) -> None:
        missing = msgspec.structs.replace(web, deployment="wbe")
        with pytest.raises(ActionError, match=r"the cluster has no .*wbe, nothing was touched"):
            missing.restart(timeout=5)
        api.allowed = False
        with pytest.raises(ActionError, match=r"service account may not patch .*deployments/web"):
            web.restart(timeout=5)
        assert web.may("patch", "deployments", "shop", "web", timeout=5) is False
        with pytest.raises(ActionError, match="outside a pod, write `token_file`"):
            msgspec.structs.replace(web, token_file="/nonexistent").status(timeout=5)

    @pytest.mark.parametrize(
        ("fields", "status", "state", "spec"),
        [
            ({"stateful_set": "db"}, {"readyReplicas": 2}, ServiceState.RUNNING, None),
            ({"stateful_set": "db"}, {"readyReplicas": 1}, ServiceState.STARTING, None),
            ({"stateful_set": "db"}, {**TWO_REVISIONS}, ServiceState.STARTING, None),
            # Its partition keeps two revisions for good.
            ({"stateful_set": "db"}, {**TWO_REVISIONS}, ServiceState.STARTING, KEEPS_ONE),
            (
                {"stateful_set": "db"},
                {**TWO_REVISIONS, "updatedReplicas": 1},
                ServiceState.RUNNING,
                KEEPS_ONE,
            ),
            ({"stateful_set": "db"}, {**TWO_REVISIONS}, ServiceState.RUNNING, ON_DELETE),
            ({"daemon_set": "log"}, {}, ServiceState.STOPPED, None),
            (
                {"daemon_set": "log"},
                {"desiredNumberScheduled": 3, "updatedNumberScheduled": 1, "numberAvailable": 3},
                ServiceState.RUNNING,
                ON_DELETE,
            ),
            (
                {"daemon_set": "log"},
                {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3},
                ServiceState.RUNNING,
                None,
            ),
            (
                {"daemon_set": "log"},
                {"desiredNumberScheduled": 3, "updatedNumberScheduled": 2, "numberAvailable": 3},
                ServiceState.STARTING,
                None,
            ),
        ],
    )
    def test_other_kinds_have_their_own_numbers(
        self, fields: Any, status: Any, state: ServiceState, spec: Any
    ) -> None:
        made = Kubernetes(namespace="shop", **fields)
        workload = msgspec.convert(
            {"metadata": {"generation": 1}, "spec": {"replicas": 2, **(spec or {})},
             "status": {"observedGeneration": 1, **status}},
            Workload,
        )  # fmt: skip
        assert state_of(made.resource, workload).state is state

    def test_it_is_one_of_three(self) -> None:
        with pytest.raises(ValueError, match="write one of deployment, stateful_set and"):
            Kubernetes(namespace="shop")
        for bad in ("../x", "Web", "-web", "web/scale", "we b"):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert({"namespace": "shop", "deployment": bad}, Kubernetes)


# -- workers


class TestWorkersContract:
    def test_instances_of_a_template_are_started_and_stopped(self, units: Units) -> None:
        def instance(state: dict[str, str]) -> dict[str, Any]:
            active = {**state}
            active["after"] = {"stop": {"ActiveState": "inactive"}}  # type: ignore[assignment]
            return active

        idle = {"ActiveState": "inactive", "after": {"start": ACTIVE}}
        units.set(**{f"mail@{n}": instance(ACTIVE) if n < 3 else idle for n in range(1, 6)})
        workers = SystemdTemplate(template="mail@.service", min=1, max=5)
        assert workers.count(timeout=10).wanted == 2
        assert workers.scale(4, timeout=30).ready == 4
        (start,) = [argv for argv in units.asked if "start" in argv]
        assert start[-4:] == ["--no-block", "--", "mail@3.service", "mail@4.service"]
        units.set(**{f"mail@{n}": instance(ACTIVE) for n in range(1, 6)})
        assert workers.scale(3, timeout=30).ready == 3
        (stop,) = [argv for argv in units.asked if "stop" in argv]
        assert stop[-3:] == ["--", "mail@4.service", "mail@5.service"]

    def test_replicas_are_scaled_and_done_when_ready(self, api: Api, web: Kubernetes) -> None:
        replicas = Replicas(
            namespace="shop", deployment="web", api=web.api, token_file=web.token_file, min=1, max=6
        )
        assert replicas.count(timeout=5).wanted == 2
        api.progress = [
            api.done(3),
            {**api.done(4), "replicas": 4},  # two are not ready yet
            api.done(4, 4),
        ]
        assert replicas.scale(4, timeout=30).ready == 4
        patches = [asked for asked in api.asked if asked[0] == "PATCH"]
        assert patches == [
            (
                "PATCH",
                "/apis/apps/v1/namespaces/shop/deployments/web/scale",
                {"spec": {"replicas": 4}},
            )
        ]
        api.allowed = False
        assert len(list(replicas.probe(timeout=5))) == 2

    def test_a_pod_that_is_not_ready_is_counted(self, api: Api, web: Kubernetes) -> None:
        """Six are wanted and five ready: one more is seven, and was two."""
        replicas = Replicas(
            namespace="shop", deployment="web", api=web.api, token_file=web.token_file, min=2, max=9
        )
        api.workload["spec"]["replicas"] = 6
        api.workload["status"] = {**api.done(3, 6), "readyReplicas": 5}
        api.failing = 1
        api.progress = [
            {**api.done(4, 7), "readyReplicas": 5},  # the new one is not there yet
            {**api.done(4, 7), "readyReplicas": 6},
        ]
        step = Step(replicas)
        result = step.run(by=1)
        assert result == {"service": "shop", "before": 6, "workers": 7, "ready": 6}
        assert api.workload["spec"]["replicas"] == 7
        assert step.saved == {"before": 6, "wanted": 7, "lacking": 1}

    def test_a_daemon_set_is_not_scaled(self) -> None:
        with pytest.raises(ValueError, match="a pod on every node"):
            Replicas(namespace="shop", daemon_set="log", min=1, max=2)
