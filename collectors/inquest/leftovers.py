"""What should have gone with its container and has not, told apart from what is just going. Pure.

Something that is wrongly called a leftover is worse than one that is not found: somebody will remove it.
"""

from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar

from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerId
from collectors.kernel.mounts import Overlay
from collectors.kernel.processes import DAEMON_NAMES, SHIM_NAMES, RuntimeProcess

K = TypeVar("K", bound=Hashable)

LEFTOVER_SECONDS = 60.0
"""A runtime starts and removes within seconds, also on a busy node, and a daemon is back by then from its restart."""

_NEEDED = {"docker": frozenset(("dockerd", "containerd")), "cri-o": frozenset(("crio",)), "podman": frozenset[str]()}
_OF_ALL_OTHERS = frozenset(("containerd",))


class Aged(Generic[K]):
    """Remembers since when it sees what it is shown."""

    def __init__(self) -> None:
        self._since: dict[K, float] = {}
        self._first: float | None = None

    def old(self, keys: Iterable[K], now: float) -> list[K] | None:
        """Take all that is there now; return what was there at every look for LEFTOVER_SECONDS, None while nobody has looked so long."""
        if self._first is None:
            self._first = now
        self._since = {key: self._since.get(key, now) for key in keys}
        if now - self._first < LEFTOVER_SECONDS:
            return None
        return [key for key, since in self._since.items() if now - since >= LEFTOVER_SECONDS]


class Overlays:
    """Overlays that were a container's and are still mounted though no container has them any more.

    Nothing in mountinfo says whose an overlay is: Docker names the directory by a number of its own, and a build, an export and a virtual
    machine mount overlays too that no process is in. So only those count that a container was seen to have, by the device, which is the
    same in the mount namespace of the container and in that of the node.
    """

    def __init__(self) -> None:
        self._aged: Aged[Overlay] = Aged()
        self._of_containers: frozenset[Overlay] = frozenset()

    def left(self, mounted: Collection[Overlay], used: Collection[bytes], now: float) -> int | None:
        """Return how many there are, of those mounted on the node while containers use these devices.

        None while nobody has looked long enough, and if the node has none of what containers use: a daemon with a mount namespace of its
        own (a snap) mounts out of sight.
        """
        before = self._of_containers
        self._of_containers = frozenset(overlay for overlay in mounted if overlay.device in used or overlay in before)
        old = self._aged.old((overlay for overlay in self._of_containers if overlay.device not in used), now)
        if old is None or (used and not self._of_containers):
            return None
        return len({overlay.device for overlay in old})


def childless(runtimes: Iterable[RuntimeProcess]) -> list[RuntimeProcess]:
    """Return the shims without a child. The init of each container that a shim is there for is its child, for the shim is the reaper."""
    return [each for each in runtimes if each.comm in SHIM_NAMES and not each.children]


def missing_daemons(runtimes: Iterable[RuntimeProcess]) -> list[str]:
    """Return the names of the daemons that do not run."""
    return [name.decode() for name in sorted(DAEMON_NAMES - {each.comm for each in runtimes})]


def needed_daemons(container: ContainerId) -> frozenset[str]:
    """Return the daemons of a container's runtime: none of Podman's, nor of one inside another, which are that one's own."""
    return frozenset() if container.host_id else _NEEDED.get(container.runtime, _OF_ALL_OTHERS)


def is_shims_own(cgroup: str | None) -> bool:
    """Whether a process that calls itself a shim is one of the node that has its containers for children, by its cgroup.

    What runs in a container can call itself so, and the shim of a virtual machine need not have a child: Kata's is in the sandbox's cgroup
    or in one of Kata's own.
    """
    return cgroup is not None and container_id.parse(cgroup) is None and "kata" not in cgroup
