"""OOM kills: the count of record, from memory.events and the kernel log together."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from collectors.base import Instance, Node, Sample, counter, event_counter
from collectors.inquest.kill_state import Labels
from collectors.inquest.kills import KillLedger
from collectors.inquest.tally import Reading
from collectors.kernel import cgroupfs, container_id
from collectors.kernel.cgroupfs import Cgroup, MemoryEvents
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.last_words import LastWords
from collectors.kernel.node import memory_cgroups_are_off
from collectors.kernel.oom_group import group_kills

KILLS = event_counter(
    "coroner_container_oom_kills_total",
    "Processes of the container that the OOM killer killed, each counted once from memory.events and the kernel log; a "
    "lower bound where memory.oom.group is set and the kernel log is not complete.",
)
NODE_KILLS = counter(
    "coroner_oom_kills_total",
    "OOM kills on the node, by whose memory limit was hit. The sum over scope is the node's total.",
    ("scope",),
)


class Oom:
    """Reads memory.events of every instance and of the slices above; the kernel log's follower writes its victims to the same ledger.

    `local_events`: memory.events does not count what is nested (mount option memory_localevents), so it is summed up here.
    """

    name = "oom"
    metrics = (KILLS, NODE_KILLS)

    def __init__(self, ledger: KillLedger, *, local_events: bool = False) -> None:
        self._ledger = ledger
        self._names: Mapping[ContainerKey, Labels] = ledger.names
        self._local_events = local_events
        self._nested: dict[int, dict[int, MemoryEvents]] = {}
        self._ooms: dict[int, int | None] = {}
        self._slice_ooms: dict[str, tuple[int, int]] = {}
        self._slice_kills: dict[str, int] = {}
        self._grouped: set[str] = set()
        self._groups: dict[int, tuple[MemoryEvents, int | None]] = {}
        self._has_events = False

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield a count for every container that runs or ran lately, born at 0, and one per scope."""
        if not node.cgroups and not self._ledger.log_is_followed:
            return  # nobody could see a kill: absent, not 0
        nameless = self._ledger.nameless()
        slices = [cgroup for cgroup in node.cgroups if _is_slice(cgroup)]
        known = [cgroup for cgroup in slices if self._ledger.knows_slice(cgroup.path)]
        whose = {cgroup.path: self._read_slice(node, cgroup) for cgroup in known}
        for instance in node.instances:
            if self._read(node, instance):
                whose[instance.id.key] = self._whose(node, _above(node, instance.cgroup))
        for cgroup in slices:
            if cgroup not in known:  # a kill in between shall be history here, where it can be counted for its container
                self._read_slice(node, cgroup)
        self._retain(node)
        sighted = bool(node.cgroups)  # else the walk of the tree failed: nobody has ended, and what is found later is not newly born
        if sighted:
            for identifier in self._names.keys() - node.names.keys():
                self._ledger.close(identifier, self._names[identifier])
            self._names = node.names
        living = {instance.id.key for instance in node.instances}
        totals = self._ledger.settle(nameless, node.names, sighted=sighted, whose=whose, living=living if sighted else None)
        if not (self._has_events or self._ledger.log_is_followed):
            return  # there is no memory.events either, as on a host whose memory controller belongs to cgroup v1
        if self._has_events or not memory_cgroups_are_off(node.proc_root):  # then the log has no victim's cgroup: "/" for all
            for labels, count in totals.by_container.items():
                yield KILLS, labels, count
        for scope, count in totals.by_scope.items():
            yield NODE_KILLS, (scope,), count

    def _read(self, node: Node, instance: Instance) -> bool:
        """Give one instance's counts to the ledger; true when they tell of a kill, but not of whose limit was hit."""
        events = node.read(cgroupfs.memory_events, instance.cgroup)
        if events is None or events.oom_kill is None:
            return False
        self._has_events = True
        if self._local_events and (instance.cgroup.has_children or instance.cgroup.inode in self._nested):
            nested = self._nested.setdefault(instance.cgroup.inode, {})
            nested.update(self._below(node, instance.cgroup))
            events = _sum((events, *nested.values()))  # also of those that are gone
        return self._ledger.read(instance.id, instance.cgroup.inode, self._reading(node, instance.cgroup, events))

    def _read_slice(self, node: Node, cgroup: Cgroup) -> str:
        """Give one slice's count to the ledger; return the scope of kills that no container tells of: `oom` rises at memory limits."""
        events = None if self._local_events else node.read(cgroupfs.memory_events, cgroup)
        if events is None or events.oom_kill is None:
            return "ancestor"
        self._has_events = True
        if events.oom_group_kill is not None:
            reading = self._reading(node, cgroup, events)
        else:
            reading = Reading(events.oom_kill, None if self._has_groups(node, cgroup, events.oom_kill) else 0)
        self._ledger.read_slice(cgroup.path, cgroup.inode, reading)
        ooms = events.oom or 0
        oldest, before = self._slice_ooms.get(cgroup.path, (0, 0))
        self._slice_ooms[cgroup.path] = before, ooms
        return "ancestor" if ooms > oldest else "node"  # the kills are those of the round before

    def _has_groups(self, node: Node, cgroup: Cgroup, kills: int) -> bool:
        """Whether some of a slice's kills may be in it twice, before 5.17: whoever was killed as a group has told, or others are seen."""
        if cgroup.path not in self._grouped and self._slice_kills.get(cgroup.path) != kills:
            self._slice_kills[cgroup.path] = kills
            below = (each for each in node.cgroups if f"{each.path}/".startswith(f"{cgroup.path}/"))
            if self._ledger.has_groups(cgroup.path) or any(node.read(cgroupfs.memory_oom_group, each) for each in below):
                self._grouped.add(cgroup.path)
        return cgroup.path in self._grouped

    def _reading(self, node: Node, cgroup: Cgroup, events: MemoryEvents) -> Reading:
        """Add what only matters where there was a kill, and is asked for again when there was another one."""
        known, groups = self._groups.get(cgroup.inode, (None, 0))
        if events.oom_kill and events != known:
            groups = group_kills(node.files, cgroup, events, local_events=self._local_events)
            self._groups[cgroup.inode] = events, groups
        return Reading(events.oom_kill or 0, groups, events.oom or 0)

    @staticmethod
    def _below(node: Node, cgroup: Cgroup) -> Iterator[tuple[int, MemoryEvents]]:
        for other in node.cgroups:
            if other.path.startswith(f"{cgroup.path}/"):
                events = node.read(cgroupfs.memory_events, other)
                if events is not None:
                    yield other.inode, events

    def _whose(self, node: Node, above: list[Cgroup]) -> str:
        """Find the cgroup above a container whose own `oom` has risen since it was last looked at; if none has, the node was short.

        Only asked for a kill that the log does not tell of, and whose container did not hit its own limit.
        """
        risen = [cgroup for cgroup in above if self._has_risen(node, cgroup)]
        if all(self._ooms[cgroup.inode] is None for cgroup in above):
            return "ancestor"  # none of them could be read
        if not risen:
            return "node"
        return "pod" if container_id.is_pod(risen[-1].path) else "ancestor"

    def _has_risen(self, node: Node, cgroup: Cgroup) -> bool:
        events = node.read(cgroupfs.memory_events_local, cgroup)
        ooms = events.oom if events else None
        before = self._ooms.get(cgroup.inode, ooms)
        self._ooms[cgroup.inode] = ooms
        return ooms is not None and before is not None and ooms > before

    def _retain(self, node: Node) -> None:
        """Take a first look at every cgroup that may be above a container, and forget those that are gone."""
        present = {cgroup.inode for cgroup in node.cgroups}
        self._nested = {inode: nested for inode, nested in self._nested.items() if inode in present}
        self._ooms = {inode: ooms for inode, ooms in self._ooms.items() if inode in present}
        self._groups = {inode: known for inode, known in self._groups.items() if inode in present}
        for cgroup in node.cgroups:
            if cgroup.has_children and cgroup.inode not in self._ooms:
                self._has_risen(node, cgroup)


def read_last(ledger: KillLedger, container: ContainerId, cgroup: Cgroup, words: LastWords) -> None:
    """Give the ledger what memory.events said when a container's last process had ended; not with memory_localevents: too little."""
    events = words.memory_events
    if events is not None and events.oom_kill:
        ledger.read_last(container, cgroup.inode, Reading(events.oom_kill, words.group_kills, events.oom or 0))


def _sum(events: Iterable[MemoryEvents]) -> MemoryEvents:
    """Add up what a cgroup and those below it count each by itself; None counts as 0, but for group kills: it is the kernel's age."""
    found = list(events)
    groups = [each.oom_group_kill for each in found if each.oom_group_kill is not None]
    return replace(
        found[0],
        oom=sum(each.oom or 0 for each in found),
        oom_kill=sum(each.oom_kill or 0 for each in found),
        oom_group_kill=sum(groups) if groups else None,
    )


def _is_slice(cgroup: Cgroup) -> bool:
    """Whether it lies right below the root and is no container's."""
    return cgroup.path.count("/") == 1 and cgroup.path != "/" and container_id.parse(cgroup.path) is None


def _above(node: Node, cgroup: Cgroup) -> list[Cgroup]:
    """The cgroups above one, from the root's child down."""
    names = cgroup.path.split("/")
    paths = ("/".join(names[:depth]) for depth in range(2, len(names)))
    return [node.by_path[path] for path in paths if path in node.by_path]
