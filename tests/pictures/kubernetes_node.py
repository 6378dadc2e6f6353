"""The node kube-1 of the pictures: pods of several namespaces, with troubles as users have them. Runs in the lab (record.py)."""

import itertools
import random
import string
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab.guest.cri import Pod, Program, StartPod
from tests.lab.guest.kubelet import Kubelet, kubelet
from tests.lab.guest.node import PYTHON_TREES, StartAgent, in_parallel, python_command, wait_for
from tests.pictures import programs
from tests.pictures.day import Day, watched

BACK_OFF = 20
"""Seconds after which the kubelet starts again what has ended."""
EXITS = "/run/containerd-data/io.containerd.grpc.v1.cri/containers"


def python(program: str, **options: Any) -> Program:
    """Return what runs this with the machine's own Python."""
    return Program(python_command(program), mounts=PYTHON_TREES, **options)


def shell(script: str, **options: Any) -> Program:
    """Return what runs this with busybox' shell."""
    return Program(["sh", "-c", script], **options)


class Workload:
    """A controller with one pod, whose containers are started again when they end."""

    def __init__(self, start: StartPod, lists: Kubelet, *, namespace: str, kind: str, name: str, containers: Mapping[str, Program]) -> None:
        self._start, self._lists = start, lists
        self._namespace, self._kind, self._name, self._containers = namespace, kind, name, containers
        self._numbers = itertools.count()
        self.pod = self._new()

    def _new(self) -> Pod:
        template = "".join(random.choices(string.digits + "bcdf", k=9))
        suffix = "".join(random.choices(string.ascii_lowercase, k=5))
        of_deployment = self._kind == "Deployment"
        name = {"Deployment": f"{self._name}-{template}-{suffix}", "StatefulSet": f"{self._name}-0"}.get(
            self._kind, f"{self._name}-{suffix}"
        )
        owner = {"kind": "ReplicaSet", "name": f"{self._name}-{template}"} if of_deployment else {"kind": self._kind, "name": self._name}
        self._metadata = {
            "labels": {"pod-template-hash": template} if of_deployment else {},
            "ownerReferences": [owner | {"controller": True}],
        }
        pod = self._start(name, namespace=self._namespace, containers=self._containers)
        (pod.cgroup / "pids.max").write_text("200")
        self._lists.show(pod, **self._metadata)
        return pod

    def look(self) -> None:
        """Start again what has ended, as the kubelet does."""
        for name, container in list(self.pod.containers.items()):
            if container.status.finished_at:
                self._lists.show(self.pod, **self._metadata)
                container.remove()
                self.pod.run(name, self._containers[name])
                self._lists.show(self.pod, **self._metadata)

    def replace(self, grace: int) -> None:
        """Delete the pod and have another."""
        self._lists.delete(self.pod, grace)
        self.pod.remove()
        self.pod = self._new()


def test_a_day_of_a_kubernetes_node(pod: StartPod, agent: StartAgent, tmp_path: Path) -> None:
    """A day."""
    day = Day()
    with kubelet(tmp_path / "kubelet") as lists:
        coroner = agent("--docker.url=", f"--path.exits={EXITS}", *lists.flags)
        with watched(coroner, tmp_path, "kube-1") as server:
            wait_for(lambda: server.query("count_over_time(coroner_build_info[1m]) > 1"), 60, "no scrape")
            indexer = python(programs.LEAK.format(pause=4), memory=72 << 20)
            ledger = python(programs.CARELESS.format(pause=40), memory=64 << 20)
            export = python(programs.PARENT.format(most=30), memory=80 << 20)
            storefront = {
                "app": python(programs.SERVER.format(period=700), memory=96 << 20),
                "proxy": shell("trap exit TERM; while :; do sleep 3; done"),
            }

            def workload(kind: str, namespace: str, name: str, **containers: Program) -> Callable[[], Workload]:
                return partial(Workload, pod, lists, kind=kind, namespace=namespace, name=name, containers=containers)

            *others, notifier = in_parallel(
                workload("Deployment", "shop", "storefront", **storefront),
                workload("Deployment", "shop", "search", indexer=indexer),
                workload("StatefulSet", "payments", "ledger", ledger=ledger),
                workload("Deployment", "payments", "gateway", gateway=shell("sleep 150; exit 1", memory=32 << 20)),
                workload("Job", "batch", "nightly-export", export=export),
                workload("Deployment", "shop", "notifier", notifier=shell(programs.DEAF, memory=32 << 20)),
            )
            for each in others:
                day.every(BACK_OFF, each.look, first=BACK_OFF)
            day.every(480, partial(notifier.replace, 3), first=100)
            day.go_by()
