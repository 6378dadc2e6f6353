"""OOM kills: the count of record, from memory.events and the kernel log together."""

from collections.abc import Iterable, Mapping

from collectors.base import Node, Sample, counter
from collectors.kernel import cgroupfs
from collectors.kills import KillLedger, Labels

KILLS = counter(
    "coroner_container_oom_kills_total",
    "Processes of the container that the OOM killer took, each once, whichever of memory.events and the kernel log tell of it.",
)
NODE_KILLS = counter(
    "coroner_oom_kills_total",
    "All OOM kills on the node since the agent started, by whose limit was hit. The sum over scope is the node's total.",
    ("scope",),
)


class Oom:
    """Reads memory.events of every instance; the kernel log's follower writes its victims to the same ledger."""

    name = "oom"
    metrics = (KILLS, NODE_KILLS)

    def __init__(self, ledger: KillLedger) -> None:
        self._ledger = ledger
        self._names: Mapping[str, Labels] = {}

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield a count for every container that runs or ran lately, born at 0, and one per scope."""
        if not node.cgroups and not self._ledger.log_is_followed:
            return  # nobody could see a kill: absent, not 0
        nameless = self._ledger.nameless()
        for instance in node.instances:
            events = node.read(cgroupfs.memory_events, instance.cgroup)
            if events is None or events.oom_kill is None:
                continue
            # Before 5.17 nothing but the log tells how many of a group's kills were counted twice.
            doubtful = (
                events.oom_group_kill is None and self._ledger.log_is_followed and node.read(cgroupfs.memory_oom_group, instance.cgroup)
            )
            kills = events.oom_kill - (events.oom_group_kill or 0)
            self._ledger.read(instance.id, instance.cgroup.inode, kills, events.oom or 0, doubtful=bool(doubtful))
        sighted = bool(node.cgroups)  # else the walk of the tree failed: nobody has ended, and what is found later is not newly born
        if sighted:
            for identifier in self._names.keys() - node.names.keys():
                self._ledger.close(identifier, self._names[identifier])
            self._names = node.names
        totals = self._ledger.settle(nameless, node.names, sighted=sighted)
        for labels, count in totals.by_container.items():
            yield KILLS, labels, count
        for scope, count in totals.by_scope.items():
            yield NODE_KILLS, (scope,), count
