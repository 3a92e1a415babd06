"""A real API server of Kubernetes, over a real etcd: no controllers run, so tests are those.

It runs where its binary is: `kube-apiserver` and `etcd` on PATH, or in KUBE_APISERVER and ETCD. No
registry of packages has the first one, so elsewhere these tests are skipped, and show nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from receiver.clients.http_exchange import fetch
from receiver.errors import ActionError
from receiver.policy.http_config import HTTPConfig, TLSConfig
from tests.brokers import eventually, free_ports, running

NAMESPACE = "shop"
_PATCHES = {"PATCH": "application/merge-patch+json"}
_POD = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "image": "web"}]},
}


def binary(name: str, variable: str) -> str:
    """The path of a program of Kubernetes; without it the test is skipped."""
    found = os.environ.get(variable) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: put it on PATH, or its path into {variable}")
    return found


class Cluster:
    """The API server as its administrator sees it, and as the account `promheal` is let in."""

    def __init__(self, url: str, ca: Path, folder: Path) -> None:
        self.url = url
        self.ca_file = str(ca)
        self.token_file = str(folder / "promheal.token")
        self.made = 0
        """Namespaces: each test has one of its own."""
        self._config = HTTPConfig(tls_config=TLSConfig(ca_file=self.ca_file))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask as the administrator, and return the object. Raises ActionError when refused."""
        reply = fetch(
            method, self.url + path, timeout=10, most=1 << 22, config=self._config,
            body=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": "Bearer admin-token",
                "Content-Type": _PATCHES.get(method, "application/json"),
            },
        )  # fmt: skip
        if reply.status >= 300:
            raise ActionError(f"{method} {path}: {reply.status} {reply.body[:500]!r}")
        return json.loads(reply.body or b"null")

    def ready(self) -> bool:
        try:
            return fetch("GET", f"{self.url}/readyz", timeout=2, config=self._config).status == 200
        except ActionError:
            return False


class Shop:
    """A namespace with workloads, and what `promheal` may do there."""

    def __init__(self, cluster: Cluster) -> None:
        cluster.made += 1
        self.cluster = cluster
        self.namespace = f"{NAMESPACE}-{cluster.made}"
        cluster.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    @property
    def place(self) -> dict[str, Any]:
        """What services.yml says of where it is."""
        return {
            "namespace": self.namespace,
            "api": self.cluster.url,
            "token_file": self.cluster.token_file,
            "ca_file": self.cluster.ca_file,
        }

    def path(self, resource: str, name: str = "") -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/{resource}/{name}".rstrip("/")

    def make(self, resource: str, name: str, **spec: Any) -> None:
        kind = {"deployments": "Deployment", "statefulsets": "StatefulSet"}
        whole = {"selector": {"matchLabels": {"app": "web"}}, "template": _POD, **spec}
        if resource == "statefulsets":
            whole = {"serviceName": "web", **whole}
        self.cluster.ask(
            "POST",
            self.path(resource),
            {
                "apiVersion": "apps/v1",
                "kind": kind.get(resource, "DaemonSet"),
                "metadata": {"name": name},
                "spec": whole,
            },
        )

    def read(self, resource: str, name: str) -> Any:
        return self.cluster.ask("GET", self.path(resource, name))

    def say(self, resource: str, name: str, **status: Any) -> None:
        """Write its status, as its controller would, of its newest generation."""
        seen = {"observedGeneration": self.read(resource, name)["metadata"]["generation"]}
        path = f"{self.path(resource, name)}/status"
        self.cluster.ask("PATCH", path, {"status": {**seen, **status}})

    def allow(self, *verbs: str, names: list[str] | None = None) -> None:
        """Let `promheal` do that with workloads and their scale, of these names or of all."""
        rule: dict[str, Any] = {
            "apiGroups": ["apps"],
            "resources": [
                "deployments", "deployments/scale", "statefulsets", "statefulsets/scale",
                "daemonsets",
            ],
            "verbs": list(verbs),
        }  # fmt: skip
        if names is not None:
            rule["resourceNames"] = names
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        self.cluster.ask("POST", f"{rbac}/roles", {"metadata": {"name": "heal"}, "rules": [rule]})
        self.cluster.ask(
            "POST",
            f"{rbac}/rolebindings",
            {
                "metadata": {"name": "heal"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "Role",
                    "name": "heal",
                },
                "subjects": [
                    {
                        "kind": "User",
                        "name": "promheal",
                        "apiGroup": "rbac.authorization.k8s.io",
                    }
                ],
            },
        )


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster without nodes and controllers, in a folder; it ends with the block."""
    server, etcd = binary("kube-apiserver", "KUBE_APISERVER"), binary("etcd", "ETCD")
    client, peer, port = free_ports(3)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    ca = folder / "ca.crt"
    authority.cert_pem.write_to_path(ca)
    certificate.private_key_pem.write_to_path(folder / "key")
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(folder / "crt", append=number > 0)
    (folder / "tokens.csv").write_text(
        "admin-token,admin,1,system:masters\npromheal-token,promheal,2\n"
    )
    (folder / "promheal.token").write_text("promheal-token\n")
    store = [
        etcd,
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    ]
    api = [
        server,
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder}/certs",
        f"--tls-cert-file={folder}/crt",
        f"--tls-private-key-file={folder}/key",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/key",
        f"--service-account-signing-key-file={folder}/key",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",
        "--disable-admission-plugins=ServiceAccount",
    ]
    with running(store, folder / "etcd.log"), running(api, folder / "api.log"):
        found = Cluster(f"https://127.0.0.1:{port}", ca, folder)
        eventually(found.ready, f"the API server answers, see {folder}/api.log")
        yield found
