"""Facts and rounds for a kill ledger: what the kernel log tells, as its follower does, and a round in which nothing is read."""

from collections.abc import Mapping
from dataclasses import replace

from collectors.inquest.facts import OomKilled
from collectors.inquest.kill_counts import Totals
from collectors.inquest.kill_state import Cursor, Labels
from collectors.inquest.kills import KillLedger
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.oom_log import OomKill

KILL = OomKill(
    sequence=1,
    timestamp_us=1,
    pid=77,
    comm=b"app",
    constraint="CONSTRAINT_MEMCG",
    oom_memcg=None,
    task_memcg=None,
    is_global=False,
    group=False,
    group_memcg=None,
    total_vm_bytes=None,
    anon_rss_bytes=None,
    file_rss_bytes=None,
    shmem_rss_bytes=None,
    uid=None,
    oom_score_adj=None,
)
"""One of which the log says neither where it was nor whose limit was hit."""


def told(kill: OomKill, inode: int | None = None, *, late: bool = False, again: bool = False, cursor: Cursor | None = None) -> OomKilled:
    """Make the fact of a kill. `inode` is that of its container's cgroup, None if it is gone already."""
    fact = OomKilled.of(kill, source="kmsg", time=5.0, is_late=late, is_again=again, cursor=cursor)
    return replace(fact, inode=inode)


def settle(ledger: KillLedger, names: Mapping[ContainerKey, Labels]) -> Totals:
    """Make a round in which nothing is read, and sum up."""
    with ledger.round() as this_round:
        return this_round.settle(names)
