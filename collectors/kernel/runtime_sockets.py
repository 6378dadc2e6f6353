"""Whether a container can reach the socket of a runtime, by which it commands the node: from the mounts of both (mountinfo). Pure.

A mount shows which path of which file system it is of; that is the kernel's word, whatever it is called in the container. A read-only
mount keeps nobody from connecting.
"""

from collections.abc import Iterable, Mapping

from collectors.kernel.mount_table import Mount

_NAMES = frozenset((b"docker.sock", b"containerd.sock", b"crio.sock", b"podman.sock", b"cri-dockerd.sock", b"dockershim.sock"))
_CONTAINERD = b"/run/containerd/containerd.sock"
_PATHS = {"docker": (b"/run/docker.sock", _CONTAINERD), "containerd": (_CONTAINERD,), "cri-o": (b"/run/crio/crio.sock",)}
"""Where runtimes have their sockets on the node, if they are not told otherwise. Podman has none by default."""

Place = tuple[bytes, bytes]
"""A device (major:minor) and a path in its file system."""


def places(node: Iterable[Mount]) -> dict[str, tuple[Place, ...]]:
    """Return where the sockets of each runtime are, given the mounts of the node."""
    visible = {mount.point: mount for mount in node}  # of two at one point the later one covers
    return {runtime: tuple(place for path in paths if (place := _place(visible, path))) for runtime, paths in _PATHS.items()}


def _place(visible: Mapping[bytes, Mount], path: bytes) -> Place | None:
    point, rest = path, b""
    while point not in visible:
        if point == b"/":
            return None
        above = point.rpartition(b"/")[0]
        point, rest = above or b"/", path[len(above) :]
    return visible[point].device, (visible[point].root.rstrip(b"/") + rest) or b"/"


def is_reachable(container: Iterable[Mount], sockets: Iterable[Place]) -> bool:
    """Whether a mount of the container is one of a file with a socket's name, or of a directory that has such a socket below it."""
    visible = {mount.point: mount for mount in container}.values()
    return any(mount.root.rpartition(b"/")[2] in _NAMES for mount in visible) or any(
        mount.device == device and (path == mount.root or path.startswith(mount.root.rstrip(b"/") + b"/"))
        for device, path in sockets
        for mount in visible
    )
