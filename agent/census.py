"""The census: one walk of the cgroup tree joined to the identities gives the Node that a pass sees. Runs in the sampling thread."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from agent.former import Formers
from agent.identities import Identities, Identity
from agent.naming import Naming
from agent.status import Status
from collectors.base import Container, Ended, Info, Instance, Node, Sample, counter, gauge
from collectors.inquest.kill_state import Labels
from collectors.kernel import cgroupfs, container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.files import Forbidden, KernelFiles, ReadError
from collectors.kernel.hierarchy import Hierarchy
from collectors.kernel.last_words import Death, last_read
from collectors.kernel.procfs import ProcessTable

PAUSE_MOST_BYTES = 32 << 20
"""A sandbox whose memory.current is above this holds more than pause: its pod runs in it. pause has less than 1 MiB there and reads no
files, and while runc makes it there are 2 MiB (measured), or 15 where runc copies itself into memory. A virtual machine has more than
this from its start, gVisor soon."""

HITS = counter("coroner_directory_hits_total", "Containers that a source named in time.", ())
MISSES = counter("coroner_directory_misses_total", "Containers that no source named in time; their id is their name.", ())
UNNAMED = gauge("coroner_containers_unnamed", "Running containers that no source has named.", ())

METRICS = (HITS, MISSES, UNNAMED)


class Census:
    """Takes stock of the node once per pass.

    `own_cgroup_inode` is that of the root of the agent's own cgroup namespace: found in the tree, it tells what the paths in
    /proc/PID/cgroup are relative to. `deaths` gives the last words that were read in time, by key of the container. `names` are the labels
    that an agent before this one exported; empty for a container that had none yet. `killed` gives the keys of those in which the OOM
    killer took a process. `rests_told` says whether every source that tells of containers without a cgroup has done so.
    """

    def __init__(
        self,
        *,
        cgroup_root: str | None,
        proc_root: str,
        identities: Identities,
        status: Status,
        own_cgroup_inode: int = 0,
        deaths: Callable[[], Mapping[ContainerKey, Death]] = dict,
        names: Mapping[ContainerKey, tuple[str, ...]] | None = None,
        killed: Callable[[], Collection[ContainerKey]] = frozenset,
        rests_told: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cgroup_root = cgroup_root
        self._hierarchy = None if cgroup_root is None else Hierarchy(cgroup_root)
        self._proc_root = proc_root
        self._identities = identities
        self._status = status
        self._clock = clock
        self.ahead = 0.0
        """Seconds that naming is ahead of the clock: who looks once cannot wait for names that do not come."""
        self._own_cgroup_inode = own_cgroup_inode
        self._unnamed: int | None = None
        self._naming = Naming(names or {}, clock(), killed)
        self._rests_told = rests_told
        self._killed = killed
        self._identifiers: dict[str, ContainerId | None] = {}
        self._deaths = deaths
        self._unheard: dict[ContainerKey, Death] = {}
        self._before: list[Instance] = []
        self._closed = ""
        self._formers = Formers()
        self._older_than_agent: frozenset[ContainerKey] | None = None
        self.older_than_agent: frozenset[Labels] = frozenset()
        """Labels of those that were there before the agent: what their cgroup has counted, it counted over all of their life."""

    def take(self, files: KernelFiles, process_table: ProcessTable) -> Node:
        """Walk the tree and name what is in it."""
        now = self._clock() + self.ahead
        identities = self._identities.known
        cgroups = self._walk()
        hidden, uncovered = frozenset[str](), frozenset[int]()
        if self._hierarchy is not None and cgroups:
            hidden, uncovered = self._hierarchy.hidden, self._hierarchy.uncovered
        process_table.cgroup_namespace = next((cgroup.path for cgroup in cgroups if cgroup.inode == self._own_cgroup_inode), "/")
        instances = self._instances(cgroups)
        self._keep_what_was_read(instances, files)
        files.begin_pass({cgroup.directory: cgroup.inode for cgroup in cgroups})
        living = {instance.id.key for instance in instances}
        self._naming.take(instances, identities, self._identities.pods, now)
        held = self._held(instances, identities, files)
        names, sandboxes = self._naming.labels(identities)
        if self._older_than_agent is None and cgroups:
            self._older_than_agent = frozenset(living)
        elif uncovered and self._older_than_agent is not None:
            self._older_than_agent |= {instance.id.key for instance in instances if instance.cgroup.inode in uncovered}
        self.older_than_agent = frozenset(names[key] for key in self._older_than_agent or () if key in names)
        containers = self._exported(instances, names, identities)
        deaths = self._all_deaths()
        unnamed = sum(self._naming.is_unnamed(instance.id.key, identities.get(instance.id.key)) for instance in instances)
        self._unnamed = unnamed if cgroups and not hidden else None
        # Without a tree the runtime's word is all there is, and without a cgroup, as of what runs in a virtual machine.
        resting = Counter(
            identity.state
            for key, identity in identities.items()
            if key not in living
            and not identity.is_sandbox
            and (identity.state in _RESTING or (identity.state in _RUNNING and (not cgroups or identity.name[:2] in held)))
        )
        return Node(
            proc_root=self._proc_root,
            files=files,
            process_table=process_table,
            cgroups=cgroups,
            instances=instances,
            containers=containers,
            ended=self._ended(containers, names, deaths) if cgroups else (),
            formers=self._formers.take(
                containers, names, identities=identities, deaths=deaths, describe=lambda key: self._told(key, identities.get(key))
            ),
            names=names,
            sandboxes=sandboxes,
            hidden=hidden,
            uncovered=uncovered,
            resting=resting if self._rests_told() else None,
        )

    def served(self) -> list[tuple[Labels, Labels]]:
        """Note that somebody gets to see the last census; return which labels gave way to which others since the last call."""
        self._naming.served(self._clock())
        moved, self._naming.moved = self._naming.moved, []
        return moved

    def refused(self, files: Sequence[Forbidden]) -> None:
        """Take which files of cgroups a whole pass could not read, and say so."""
        self._closed = files[0].path if files else ""
        if self._status.is_up:
            self._say()

    def samples(self) -> Iterable[Sample]:
        """Yield how well naming works."""
        yield HITS, (), self._naming.hits
        yield MISSES, (), self._naming.misses
        if self._unnamed is not None:
            yield UNNAMED, (), self._unnamed

    def _walk(self) -> list[Cgroup]:
        if self._hierarchy is None:
            return []
        try:
            cgroups = self._hierarchy.walk()
        except ReadError as error:
            self._status.down(str(error))
            return []
        self._say()
        return cgroups

    def _say(self) -> None:
        """Say that the tree can be read, and one place of it that is closed, if any is."""
        hidden = self._hierarchy.hidden if self._hierarchy is not None else ()
        path = f"{self._cgroup_root}{min(hidden)}" if hidden else self._closed
        self._status.up(f"{path}: {_CLOSED}" if path else "")

    def _instances(self, cgroups: list[Cgroup]) -> list[Instance]:
        before, self._identifiers = self._identifiers, {}
        found = []
        for cgroup in cgroups:
            path = cgroup.path
            identifier = self._identifiers[path] = before[path] if path in before else container_id.parse(path)
            if identifier is not None and identifier.container_path == path:
                found.append(Instance(identifier, cgroup))
        return found

    def _keep_what_was_read(self, instances: list[Instance], files: KernelFiles) -> None:
        """Keep what the last pass read of those that are gone, for those whose last words nobody hears."""
        there = {instance.cgroup.inode for instance in instances}
        for instance in self._before:
            if instance.cgroup.inode not in there:
                words = last_read(files, instance.cgroup.directory)
                self._unheard[instance.id.key] = Death(instance.cgroup.inode, words, path=instance.cgroup.path)
        self._before = instances

    def _all_deaths(self) -> dict[ContainerKey, Death]:
        """Return the ends of those that are still known, by key; the latest of each."""
        self._unheard = {key: death for key, death in self._unheard.items() if key in self._naming}
        deaths = dict(self._unheard)
        for key, death in self._deaths().items():
            if key not in deaths or death.inode >= deaths[key].inode:
                deaths[key] = death
        return deaths

    @staticmethod
    def _ended(containers: list[Container], names: Mapping[ContainerKey, Labels], deaths: Mapping[ContainerKey, Death]) -> list[Ended]:
        """Find the containers that ended lately and have no successor; of several with one name the last."""
        taken = {container.labels for container in containers}
        last: dict[tuple[str, ...], Death] = {}
        # As of the living: what a container made inside of itself never takes the place of another one.
        for key, death in sorted(deaths.items(), key=lambda item: ("/" not in item[0], item[1].inode)):
            if key in names and names[key] not in taken:
                last[names[key]] = death
        return [Ended(labels, death.words) for labels, death in last.items()]

    def _held(self, instances: list[Instance], identities: Mapping[ContainerKey, Identity], files: KernelFiles) -> set[tuple[str, ...]]:
        """Find the sandboxes that all of their pod runs in, also by what happened to them; return the names of those pods."""
        directories = {instance.id.key: instance.cgroup.directory for instance in instances}
        killed = self._killed()
        for key in self._naming.pauses(identities):
            identity = identities.get(key)
            if (identity is not None and identity.holds_pod) or key in killed or _usage(files, directories.get(key)) > PAUSE_MOST_BYTES:
                self._naming.hold_pod(key)
        return self._naming.held_pods()

    def _exported(
        self, instances: list[Instance], names: Mapping[ContainerKey, tuple[str, ...]], identities: Mapping[ContainerKey, Identity]
    ) -> list[Container]:
        newest: dict[tuple[str, ...], Instance] = {}
        # The inode of a cgroup is a number that only grows, so the greater one is the newer life. What a container made inside of
        # itself never takes the place of another container, however it is named.
        for instance in sorted(instances, key=lambda instance: (not instance.id.host_id, instance.cgroup.inode)):
            if instance.id.key in names:
                newest[names[instance.id.key]] = instance
        return [self._container(labels, instance, identities.get(instance.id.key)) for labels, instance in newest.items()]

    def _container(self, labels: tuple[str, ...], instance: Instance, identity: Identity | None) -> Container:
        runtime, info = self._told(instance.id.key, identity)
        return Container(labels, instance.id.told(runtime), instance.cgroup, info)

    def _told(self, key: ContainerKey, identity: Identity | None) -> tuple[str, Info]:
        """Return what its runtime and Kubernetes tell of a container beside its name: the runtime's own name, and the rest."""
        image, runtime = self._naming.image_and_runtime(key, identity)
        return runtime, _info(identity, image)


_CLOSED = "its owner closed it, so what it would tell is missing, and counts that it belongs to; to read it takes CAP_DAC_READ_SEARCH"
_RESTING = ("created", "restarting", "exited", "dead")
_RUNNING = ("running", "paused")


def _usage(files: KernelFiles, directory: str | None) -> int:
    """Return memory.current in bytes, 0 of what cannot be read: the memory collector says why."""
    try:
        usage = cgroupfs.memory_current(files, directory) if directory is not None else None
    except ReadError:
        return 0
    return usage or 0


def _info(identity: Identity | None, image: str) -> Info:
    if identity is None:
        return Info(image)
    return Info(
        image=image,
        kind=identity.kind,
        workload_kind=identity.workload_kind,
        workload=identity.workload,
        project=identity.project,
        service=identity.service,
        pod_labels=identity.pod_labels,
    )
