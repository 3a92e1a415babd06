"""Kubernetes' own API server: what it says, whom it lets in, and what promheal makes of it.

No controller runs, so each test writes the status that one would write. See tests/kube.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest

from receiver.errors import ActionError
from receiver.services import ServiceState
from receiver.services.kubernetes import Kubernetes
from receiver.services.workers.kubernetes import Replicas
from tests.kube import Cluster, Shop, cluster
from tests.test_workers import Step


@pytest.fixture(scope="module")
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kube")) as found:
        yield found


@pytest.fixture
def shop(one_cluster: Cluster) -> Shop:
    """A namespace in which promheal may do what deploy/kubernetes/heal allows."""
    found = Shop(one_cluster)
    found.allow("get", "patch", names=["web"])
    return found


class Controller(threading.Thread):
    """Rolls a Deployment out as its controller does; `broken` of its pods are never ready."""

    def __init__(self, shop: Shop, broken: int = 0) -> None:
        super().__init__(daemon=True)
        self.shop = shop
        self.broken = broken
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            wanted = self.shop.read("deployments", "web")["spec"]["replicas"]
            self.say(wanted)

    def say(self, pods: int) -> None:
        ready = pods - self.broken
        self.shop.say(
            "deployments", "web", replicas=pods, updatedReplicas=pods, readyReplicas=ready,
            availableReplicas=ready, unavailableReplicas=self.broken,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.say(self.shop.read("deployments", "web")["spec"]["replicas"])
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def wanted(shop: Shop) -> int:
    return int(shop.read("deployments", "web")["spec"]["replicas"])


def replicas(shop: Shop, least: int = 2) -> Replicas:
    return Replicas(deployment="web", min=least, max=10, **shop.place)


# -- the number of pods


def test_one_more_of_six_is_seven_while_a_pod_is_not_ready(shop: Shop) -> None:
    """It was 2: the pod that was not ready made the number before a -1."""
    shop.make("deployments", "web", replicas=6)
    step = Step(replicas(shop))
    with Controller(shop, broken=1):
        assert step.run(by=1) == {"service": "shop", "before": 6, "workers": 7, "ready": 6}
        assert wanted(shop) == 7
        assert step.undo() == {"restored": True, "workers": 6, "ready": 5}
        assert wanted(shop) == 6


def test_pods_that_a_rollout_has_too_many_of_are_not_counted(shop: Shop) -> None:
    shop.make("deployments", "web", replicas=4)
    shop.say("deployments", "web", replicas=5, updatedReplicas=2, readyReplicas=3)
    assert (
        replicas(shop).count(timeout=5).wanted,
        replicas(shop).count(timeout=5).lacking,
        replicas(shop).count(timeout=5).leaving,
    ) == (4, 1, 0)


def test_a_change_that_its_controller_has_not_seen_is_counted(shop: Shop) -> None:
    """Somebody has just asked for 5: one more is 6, and not 4."""
    shop.make("deployments", "web", replicas=3)
    shop.say("deployments", "web", replicas=3, updatedReplicas=3, readyReplicas=3)
    path = shop.path("deployments", "web")
    shop.cluster.ask("PATCH", f"{path}/scale", {"spec": {"replicas": 5}})
    found = replicas(shop).count(timeout=5)
    assert (found.wanted, found.stale) == (5, True)


def test_what_somebody_has_scaled_to_0_stays_off(shop: Shop) -> None:
    shop.make("deployments", "web", replicas=0)
    with pytest.raises(ActionError, match=r"is scaled to 0, so somebody has switched it off"):
        Step(replicas(shop)).run(by=1)
    assert wanted(shop) == 0
    with Controller(shop):
        assert Step(replicas(shop, least=0)).run(by=1)["workers"] == 1, "where 0 is a number too"


# -- restarts


def test_a_restart_is_done_when_its_controller_says_so(shop: Shop) -> None:
    shop.make("deployments", "web", replicas=2)
    web = Kubernetes(deployment="web", **shop.place)
    with Controller(shop):
        status = web.restart(timeout=30)
    assert (status.state, status.detail) == (ServiceState.RUNNING, "2 pods are ready")
    template = shop.read("deployments", "web")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


RECREATED = {"updateStrategy": {"type": "OnDelete"}}


def kept(partition: int) -> dict[str, Any]:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}


@pytest.mark.parametrize(
    ("resource", "spec", "says"),
    [
        ("deployments", {"replicas": 2, "paused": True}, "it is paused; `kubectl rollout resume`"),
        ("deployments", {"replicas": 0}, "it is scaled to 0, so there is no pod to restart"),
        ("statefulsets", {"replicas": 2, **RECREATED}, "its updateStrategy is OnDelete"),
        ("statefulsets", {"replicas": 0}, "it is scaled to 0"),
        ("statefulsets", {"replicas": 3, **kept(3)}, "its partition keeps all 3 pods"),
        ("daemonsets", RECREATED, "its updateStrategy is OnDelete"),
        ("daemonsets", {}, "no node of the cluster is to run it"),
    ],
)
def test_a_restart_that_brings_no_new_pod_writes_nothing(
    shop: Shop, resource: str, spec: dict[str, Any], says: str
) -> None:
    shop.make(resource, "web", **spec)
    shop.say(resource, "web", **_numbers(resource))
    names: dict[str, Any] = {
        "deployments": "deployment",
        "statefulsets": "stateful_set",
        "daemonsets": "daemon_set",
    }
    web = Kubernetes(**shop.place | {names[resource]: "web"})
    before = shop.read(resource, "web")
    with pytest.raises(ActionError, match=f"{says}.*; nothing was touched"):
        web.restart(timeout=10)
    assert shop.read(resource, "web") == before
    (problem,) = web.probe(timeout=10)
    assert "cannot be restarted now" in problem
    assert says in problem


def _numbers(resource: str) -> dict[str, int]:
    if resource == "daemonsets":  # the API wants these
        return {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0,
                "numberReady": 0}  # fmt: skip
    return {"replicas": 0}


def test_a_partition_is_honoured(shop: Shop) -> None:
    """Three of five pods are new, the others are not waited for."""
    shop.make("statefulsets", "web", replicas=5, **kept(2))
    web = Kubernetes(stateful_set="web", **shop.place)

    def new(pods: int) -> None:
        shop.say(
            "statefulsets", "web", replicas=5, readyReplicas=5, updatedReplicas=pods,
            currentRevision="web-1", updateRevision="web-2",
        )  # fmt: skip

    new(2)
    found = web.status(timeout=5)
    assert (found.state, found.detail) == (ServiceState.STARTING, "2 of 3 pods are new")
    timer = threading.Timer(1.0, new, (3,))
    timer.start()
    status = web.restart(timeout=30)
    timer.join()
    assert status.detail == "5 pods are ready; partition keeps 2 as they are"


# -- whom it lets in


def test_a_role_by_name_is_asked_for_by_name(shop: Shop) -> None:
    """The role that deploy/kubernetes ships lists names: without one, the answer was no."""
    shop.make("deployments", "web", replicas=2)
    shop.say("deployments", "web", replicas=2, updatedReplicas=2, readyReplicas=2)
    web = Kubernetes(deployment="web", **shop.place)
    assert list(web.probe(timeout=10)) == []
    assert list(replicas(shop).probe(timeout=10)) == []
    other = Kubernetes(deployment="wbe", **shop.place)
    problems = list(other.probe(timeout=10))
    assert len(problems) == 2
    assert "may not get deployments 'wbe'" in problems[0]
    assert "`resourceNames`" in problems[0]


def test_one_that_its_role_names_and_is_not_there_is_told_as_such(shop: Shop) -> None:
    web = Kubernetes(deployment="web", **shop.place)
    (problem,) = web.probe(timeout=10)
    assert "the cluster has no" in problem
    (problem,) = replicas(shop).probe(timeout=10)
    assert "the cluster has no" in problem
    with pytest.raises(ActionError, match=r"the cluster has no .*web, nothing was touched"):
        web.restart(timeout=5)


def test_a_name_that_its_role_does_not_list_may_not_exist(shop: Shop) -> None:
    """The API server says 403 for it, there or not."""
    other = Kubernetes(deployment="wbe", **shop.place)
    with pytest.raises(ActionError, match="every other name is refused like this, one that does"):
        other.restart(timeout=5)


def test_a_role_that_only_reads_is_found_before_a_restart(one_cluster: Cluster) -> None:
    reader = Shop(one_cluster)
    reader.allow("get")
    reader.make("deployments", "web", replicas=2)
    web = Kubernetes(deployment="web", **reader.place)
    (problem,) = web.probe(timeout=10)
    assert "may not patch deployments 'web'" in problem
    with pytest.raises(ActionError, match="service account may not patch"):
        web.restart(timeout=5)
