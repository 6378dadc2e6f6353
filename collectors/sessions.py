"""Exec sessions: processes that entered a container from outside, by docker exec, kubectl exec or a probe."""

from collections import Counter
from collections.abc import Iterable

from collectors.base import Node, Sample, gauge
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.pid_namespaces import NO_CONTAINER, container_of

SESSIONS = gauge(
    "coroner_container_exec_sessions",
    "Processes that entered the container's PID namespace from outside and run: docker exec, kubectl exec, nsenter, and health checks and "
    "exec probes while they run (/proc/PID/stat parent, /proc/PID/ns/pid); absent where the container has no PID namespace of its own.",
)


class Sessions:
    """Counts, in one scan of /proc, processes whose parent is outside of their PID namespace and which are not its init.

    The children of such a process have their parent inside, also when it has ended: they are no sessions.
    """

    name = "sessions"
    metrics = (SESSIONS,)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield a count for each container whose PID namespace is its own."""
        processes = node.processes
        owner_of = node.own_namespaces
        counts: Counter[ContainerKey] = Counter()
        for entered in processes.entered:
            owner = owner_of.get(entered.namespace, NO_CONTAINER)
            # A container that was put into the namespace of another one (docker run --pid=container:, kubectl debug) is no session in it.
            if container_of(entered.cgroup) in (owner, NO_CONTAINER):
                counts[owner] += 1
        own = set(owner_of.values()) - node.sandboxes.keys()
        for container in node.containers:
            if container.id.key in own:
                yield SESSIONS, container.labels, counts[container.id.key]
