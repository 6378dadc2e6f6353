"""OOM kills: the count of record, from memory.events and the kernel log together."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from collectors.base import Instance, Node, Sample, counter, event_counter
from collectors.inquest.kill_state import Labels
from collectors.inquest.kills import KillLedger, Round
from collectors.inquest.scope import scope_of_limit
from collectors.inquest.tally import Reading
from collectors.inquest.top_cgroups import is_top_cgroup
from collectors.kernel import cgroupfs
from collectors.kernel.cgroupfs import Cgroup, MemoryEvents
from collectors.kernel.container_id import ContainerId, ContainerKey, ancestors
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


_GONE = 0
"""In place of an inode, which none is."""


class Oom:
    """Reads memory.events of every instance and of the top-level cgroups; the kernel log's victims come to the same ledger.

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
        self._top_ooms: dict[str, tuple[int, int]] = {}
        self._top_kills: dict[str, int] = {}
        self._grouped: set[str] = set()
        self._groups: dict[int, tuple[MemoryEvents, int | None]] = {}
        self._has_events = False
        self._closed: set[str] = set()
        """Paths of the cgroups whose kills the last round could not read."""
        self._maybe_old: set[int] = set()
        """Inodes of those of which that was once so: what they have counted when they are read first is history."""
        self._unread: set[ContainerKey] = set()
        """Containers of which it was so when they were there last."""

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield a count for every container that runs or ran lately, born at 0, and one per scope."""
        if not node.cgroups and not self._ledger.log_is_followed:
            return  # nobody could see a kill: absent, not 0
        with self._ledger.round() as this_round:
            self._read_all(node, this_round)
            sighted = bool(node.cgroups)  # else the walk of the tree failed: nobody has ended, and what is found later is not newly born
            if sighted:
                for key in self._names.keys() - node.names.keys():
                    self._ledger.close(key, self._names[key])
                self._names = node.names
            living = {instance.id.key for instance in node.instances}
            tops = {_top(path) for path in (*self._closed, *node.hidden)}
            totals = this_round.settle(node.names, sighted=sighted, living=living if sighted else None, waiting=tops)
        if not (self._has_events or self._ledger.log_is_followed):
            return  # there is no memory.events either, as on a host whose memory controller belongs to cgroup v1
        if self._has_events or not memory_cgroups_are_off(node.proc_root):  # then the log has no victim's cgroup: "/" for all
            # Of these only the log would tell.
            unknown = set() if self._ledger.log_is_followed else {labels for key, labels in node.names.items() if key in self._unread}
            for labels, count in totals.by_container.items():
                if labels not in unknown:
                    yield KILLS, labels, count
        # What is closed is in the count of its top-level cgroup, if that is not closed itself, and counts what is below it.
        if self._ledger.log_is_followed or all(top in self._top_ooms and top not in self._closed for top in tops):
            for scope, count in totals.by_scope.items():
                yield NODE_KILLS, (scope,), count

    def _read_all(self, node: Node, this_round: Round) -> None:
        self._closed = {above for path in node.hidden for above in (path, *ancestors(path))} if self._local_events else set()
        tops = [cgroup for cgroup in node.cgroups if is_top_cgroup(cgroup.path)]
        known = [cgroup for cgroup in tops if this_round.knows_top(cgroup.path)]
        for cgroup in known:
            this_round.scope_of[cgroup.path] = self._read_top(node, cgroup, this_round)
        for instance in node.instances:
            if self._read(node, instance, this_round):
                this_round.scope_of[instance.id.key] = self._whose(node, instance)
        for cgroup in tops:
            if cgroup not in known:  # a kill in between shall be history here, where it can be counted for its container
                self._read_top(node, cgroup, this_round)
        self._retain(node)
        this_round.hold_old({*self._maybe_old, *node.uncovered})

    def _read(self, node: Node, instance: Instance, this_round: Round) -> bool:
        """Give one instance's counts to the ledger; true when they tell of a kill, but not of whose limit was hit."""
        events = self._events(node, instance.cgroup)
        if events is None or events.oom_kill is None:
            return False
        self._has_events = True
        if self._local_events and (instance.cgroup.has_children or instance.cgroup.inode in self._nested):
            nested = self._nested[instance.cgroup.inode] = self._with_nested(node, instance.cgroup)
            events = _sum((events, *nested.values()))
            if any(other.path in self._closed for other in node.cgroups if other.path.startswith(f"{instance.cgroup.path}/")):
                self._closed.add(instance.cgroup.path)
        inode = instance.cgroup.inode
        is_new = inode not in self._maybe_old and inode not in node.uncovered
        return this_round.read(instance.id, inode, self._reading(node, instance.cgroup, events), is_new=is_new)

    def _events(self, node: Node, cgroup: Cgroup) -> MemoryEvents | None:
        closed = len(node.closed)
        events = node.read(cgroupfs.memory_events, cgroup)
        if len(node.closed) > closed:
            self._closed.add(cgroup.path)
            self._maybe_old.add(cgroup.inode)
        return events

    def _read_top(self, node: Node, cgroup: Cgroup, this_round: Round) -> str:
        """Give one top-level cgroup's count to the ledger; return the scope of kills that no container tells of: `oom` rises at limits."""
        events = None if self._local_events else self._events(node, cgroup)
        if events is None or events.oom_kill is None:
            return "ancestor"
        self._has_events = True
        if events.oom_group_kill is not None:
            reading = self._reading(node, cgroup, events)
        else:
            reading = Reading(events.oom_kill, None if self._has_groups(node, cgroup, events.oom_kill, this_round) else 0)
        this_round.read_top(cgroup.path, cgroup.inode, reading, is_new=cgroup.inode not in self._maybe_old)
        ooms = events.oom or 0
        oldest, before = self._top_ooms.get(cgroup.path, (0, 0))
        self._top_ooms[cgroup.path] = before, ooms
        return "ancestor" if ooms > oldest else "node"  # the kills are those of the round before

    def _has_groups(self, node: Node, cgroup: Cgroup, kills: int, this_round: Round) -> bool:
        """Whether some of its kills may be in it twice, before 5.17: whoever was killed as a group has told, or others are seen."""
        if cgroup.path not in self._grouped and self._top_kills.get(cgroup.path) != kills:
            self._top_kills[cgroup.path] = kills
            below = (each for each in node.cgroups if f"{each.path}/".startswith(f"{cgroup.path}/"))
            closed = len(node.closed)
            is_group = this_round.has_groups(cgroup.path) or any(node.read(cgroupfs.memory_oom_group, each) for each in below)
            if is_group or len(node.closed) > closed or any(_top(path) == cgroup.path for path in node.hidden):
                self._grouped.add(cgroup.path)
        return cgroup.path in self._grouped

    def _reading(self, node: Node, cgroup: Cgroup, events: MemoryEvents) -> Reading:
        """Add what only matters where there was a kill, and is asked for again when there was another one."""
        known, groups = self._groups.get(cgroup.inode, (None, 0))
        if events.oom_kill and events != known:
            groups = group_kills(node.files, cgroup, events, local_events=self._local_events)
            self._groups[cgroup.inode] = events, groups
        return Reading(events.oom_kill or 0, groups, events.oom or 0)

    def _with_nested(self, node: Node, cgroup: Cgroup) -> dict[int, MemoryEvents]:
        """Return the counts of what is nested in a container by inode, and the sum of those that are gone: it may make any number."""
        before = self._nested.get(cgroup.inode, {})
        there = [other for other in node.cgroups if other.path.startswith(f"{cgroup.path}/")]
        counts = {other.inode: self._events(node, other) or before.get(other.inode) for other in there}
        nested = {inode: events for inode, events in counts.items() if events is not None}
        gone = [events for inode, events in before.items() if inode not in counts]
        return {**nested, _GONE: _sum(gone)} if gone else nested

    def _whose(self, node: Node, instance: Instance) -> str:
        """Find the cgroup above a container whose own `oom` has risen since it was last looked at; if none has, the node was short.

        Only asked for a kill that the log does not tell of, and whose container did not hit its own limit.
        """
        above = [node.by_path[path] for path in ancestors(instance.cgroup.path) if path in node.by_path]
        risen = [cgroup for cgroup in above if self._has_risen(node, cgroup)]
        if all(self._ooms[cgroup.inode] is None for cgroup in above):
            return "ancestor"  # none of them could be read
        return scope_of_limit(risen[0].path, instance.id) if risen else "node"

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
        self._maybe_old &= present
        if self._unread or self._closed:
            there = {instance.id.key: instance.cgroup.path in self._closed for instance in node.instances}
            self._unread = {key for key in {*self._unread, *there} if there.get(key, key in self._unread and key in node.names)}
        for cgroup in node.cgroups:
            if cgroup.has_children and cgroup.inode not in self._ooms:
                self._has_risen(node, cgroup)


def read_last(ledger: KillLedger, container: ContainerId, cgroup: Cgroup, words: LastWords) -> None:
    """Give the ledger what memory.events said when a container's last process had ended; not with memory_localevents: too little."""
    events = words.memory_events
    if events is not None and events.oom_kill:
        ledger.read_last(container, cgroup.inode, Reading(events.oom_kill, words.group_kills, events.oom or 0))


def _top(path: str) -> str:
    """Return the path of the cgroup right below the root that one is, or is in."""
    *_, top = (path, *ancestors(path))
    return top


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
