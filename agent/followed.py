"""The sources that an agent follows, by its configuration, each joined with whom it tells and whom it asks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.config import Config
from agent.identities import Identities
from agent.register import Register
from agent.sources import Source, Tell
from agent.sources.cgroup import CgroupSource
from agent.sources.exit_files import ExitFilesSource
from agent.sources.exits import ExitsSource
from agent.sources.kmsg import KernelLog
from agent.sources.oci import OciSource
from collectors.base import Node
from collectors.inquest.execs import Execs
from collectors.inquest.kills import KillLedger

if TYPE_CHECKING:
    from agent.sources.layers import LayersSource
    from agent.sources.signals import SignalsSource


@dataclass(slots=True)
class Followed:
    """All sources, and those of them that others must know. `names` tell what containers are called."""

    kernel_log: KernelLog
    execs: Execs
    cgroup: CgroupSource | None = None
    layers: "LayersSource | None" = None
    names: list[Source] = field(default_factory=list)
    kernel: list[Source] = field(default_factory=list)
    """What tells of the lives of containers, and asks nobody."""
    compares: list[Callable[[Node], None]] = field(default_factory=list)
    """Of those that compare each census with what notifications told."""

    @property
    def all(self) -> list[Source]:
        """In the order of the status page."""
        return [self.kernel_log, *self.names, *self.kernel]


def follow(
    config: Config, register: Register, identities: Identities, ledger: KillLedger, *, cgroup_root: str | None, since: float
) -> Followed:
    """Make the sources; none runs yet. `since`: the wall clock up to which the agent before this one has been told all."""
    tell = register.tell
    kernel_log = KernelLog(path=config.kmsg, cgroup_root=cgroup_root, tell=tell, cursor=ledger.cursor, was_here=ledger.knows)
    followed = Followed(kernel_log, Execs(identities.lives))
    _names(followed, config, register, identities, since)
    if cgroup_root is not None:
        followed.cgroup = cgroup = CgroupSource(root=cgroup_root, tell=tell)
        signals = _signals(config, tell) if config.signals else None
        exits = ExitsSource(proc_root=config.procfs, tell=signals.overhear if signals else tell)
        register.when_born(exits.born)
        followed.compares += [cgroup.compare, exits.compare, *([signals.compare] if signals else [])]
        followed.kernel += [cgroup, exits, *([signals] if signals else [])]
    if config.exits:
        followed.kernel.append(ExitFilesSource(directories=config.exits, tell=tell))
    if config.layers:
        from agent.sources.layers import LayersSource  # noqa: PLC0415 - few nodes have it

        followed.layers = layers = LayersSource(proc_root=config.procfs, tell=tell)
        register.when_born(layers.ends.born)
        register.when_ended(layers.ends.ended)
        followed.compares.append(layers.compare)
        followed.kernel.append(layers)
    return followed


def _signals(config: Config, tell: Tell) -> "SignalsSource":
    from agent.sources.signals import SignalsSource  # noqa: PLC0415 - few nodes have it

    return SignalsSource(root=config.tracefs, proc_root=config.procfs, tell=tell)


def _names(followed: Followed, config: Config, register: Register, identities: Identities, since: float) -> None:
    """Add the sources that tell what containers are called."""
    tell = register.tell
    if config.docker_url:
        from agent.sources.docker import DockerSource  # noqa: PLC0415 - a node of Kubernetes has none, and it holds 0.3 MiB

        followed.names.append(DockerSource(url=config.docker_url, tell=tell, identities=identities, execs=followed.execs, since=since))
    if config.bundles:
        followed.names.append(OciSource(bundles=config.bundles, tell=tell, identities=identities))
    if config.kubernetes.access:
        from agent.sources.kubernetes import KubernetesSource  # noqa: PLC0415 - not every node is one of Kubernetes

        kubernetes = KubernetesSource(access=config.kubernetes.access, tell=tell, identities=identities, pod_labels=config.pod_labels)
        followed.names.append(kubernetes)
        register.when_ended(kubernetes.ended)
