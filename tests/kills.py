"""Facts and rounds for a kill ledger: what the kernel log tells, as its follower does, and a round in which nothing is read."""

from collections.abc import Mapping

from collectors.inquest.facts import NO_CONTAINER, OomKilled
from collectors.inquest.kill_counts import Totals
from collectors.inquest.kill_state import Cursor, Labels
from collectors.inquest.kills import KillLedger
from collectors.inquest.scope import scope_of_kill
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.oom_log import OomKill


def told(kill: OomKill, inode: int | None = None, *, late: bool = False, again: bool = False, cursor: Cursor | None = None) -> OomKilled:
    """Make the fact of a kill. `inode` is that of its container's cgroup, None if it is gone already."""
    cgroup = (kill.task_memcg or kill.group_memcg or b"").decode(errors="backslashreplace")
    container = container_id.parse(cgroup)
    return OomKilled(
        container=container.key if container else NO_CONTAINER,
        source="kmsg",
        time=5.0,
        inode=inode,
        kill=kill,
        cgroup=cgroup,
        id=container,
        scope=scope_of_kill(kill, container),
        is_late=late,
        is_again=again,
        cursor=cursor,
    )


def settle(ledger: KillLedger, names: Mapping[ContainerKey, Labels]) -> Totals:
    """Make a round in which nothing is read, and sum up."""
    with ledger.round() as this_round:
        return this_round.settle(names)
