"""Whose limit was hit: the label `scope`, decided here alone. Pure."""

from collectors.kernel.container_id import ContainerId, ancestors, is_pod
from collectors.kernel.oom_log import OomKill

SCOPES = ("container", "pod", "ancestor", "node")
"""`ancestor` is any other cgroup, and one that neither the kernel log nor a rise of `oom` tells; `node`: no cgroup's."""


def scope_of_limit(path: str, container: ContainerId) -> str:
    """Say whose limit the one of the cgroup at path is to a container: its own (or of what is nested in it), its pod's, or another's."""
    if f"{path}/".startswith(f"{container.container_path}/"):
        return "container"
    return "pod" if is_pod(path) and path == next(ancestors(container.container_path), "") else "ancestor"


def scope_of_kill(kill: OomKill, container: ContainerId | None) -> str:
    """Say whose limit was hit, by what the kernel log says (oom_memcg); `container` is the victim's, None if it was in none."""
    if kill.is_global:
        return "node"
    if container is None or kill.oom_memcg is None:
        return "ancestor"
    return scope_of_limit(kill.oom_memcg.decode(errors="backslashreplace"), container)
