"""A kubelet's list of pods, of those that run under containerd's CRI here: what it knows of them that the runtime does not."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import trustme

from tests.agent.fake_kubernetes import Kubernetes, pod_of, status_of, terminated
from tests.lab.guest.cri import Pod, PodContainer
from tests.lab.guest.node import in_parallel, wait_for


class Kubelet:
    """Lists pods on an address of its own, as they were when they were shown last. `flags` are those of an agent that asks it."""

    def __init__(self, cluster: Kubernetes, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        self._cluster = cluster
        self._loop = loop
        self.flags = (
            "--kubernetes.source=kubelet",
            f"--kubernetes.kubelet-url={cluster.url}",
            f"--kubernetes.token-file={directory}/token",
            f"--kubernetes.ca-file={directory}/ca.crt",
        )

    @property
    def asked(self) -> int:
        """How often it was asked."""
        return len(self._cluster.requests)

    def show(self, pod: Pod, **metadata: Any) -> None:
        """List a pod as it is now; a container that is removed has ended in a way that this kubelet has not seen."""
        listed = pod_of(pod.name, *map(_status, list(pod.containers.values())), namespace=pod.namespace, uid=pod.uid, **metadata)
        self._call(lambda: self._cluster.put(listed))

    def delete(self, pod: Pod, grace: int) -> None:
        """Delete a pod: all its containers are stopped with this grace, in seconds. It is listed until somebody has asked once more."""
        now = datetime.now(UTC)
        deletion = {
            "deletionTimestamp": (now + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "deletionGracePeriodSeconds": grace,
        }
        self.show(pod, **deletion)
        in_parallel(*(lambda each=each: each.stop(grace) for each in pod.containers.values()))
        before = self.asked
        self.show(pod, **deletion)
        wait_for(lambda: self.asked > before, 60, "nobody asks the kubelet")
        self._call(lambda: self._cluster.delete(pod.name))

    def babble(self, *answers: Any) -> None:
        """Give these answers instead, one to each request (fake_kubernetes.answer)."""
        self._call(lambda: self._cluster.instead.extend(answers))

    def _call(self, change: Callable[[], object]) -> None:
        async def changed() -> None:
            change()

        asyncio.run_coroutine_threadsafe(changed(), self._loop).result()


@contextlib.contextmanager
def kubelet(directory: Path) -> Iterator[Kubelet]:
    """Run one; its authority and the token for it are in this directory."""
    authority = trustme.CA()
    directory.mkdir()
    (directory / "token").write_text("first")
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    cluster = Kubernetes(authority)
    try:
        asyncio.run_coroutine_threadsafe(cluster.__aenter__(), loop).result()
        yield Kubelet(cluster, loop, directory)
    finally:
        asyncio.run_coroutine_threadsafe(cluster.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _status(container: PodContainer) -> dict[str, Any]:
    try:
        found = container.status
    except grpc.RpcError:
        return status_of(container.name, container.id, state=terminated(137, "ContainerStatusUnknown", container.id, at=""))
    if not found.finished_at:
        return status_of(container.name, container.id)
    at = datetime.fromtimestamp(found.finished_at // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return status_of(container.name, container.id, state=terminated(found.exit_code, found.reason, container.id, at=at))
