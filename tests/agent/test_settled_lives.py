"""What is remembered of settled lives: enough to tell a late fact, and no more however often a container lives."""

from agent.open_case import OpenCase
from agent.settled_lives import MOST_LIVES, SettledLives
from collectors.inquest.facts import Emptied, Exited
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId
from tests.tree import A


def emptied(inode: int) -> Emptied:
    """Return what is told of the end of one life."""
    cgroup = Cgroup("", "", inode, has_children=False)
    return Emptied(container=A, source="cgroup", time=5.0, inode=inode, id=ContainerId.of_key(A), cgroup=cgroup)


def test_of_a_container_that_lives_again_and_again_the_latest_lives_are_remembered() -> None:
    """Docker starts one in a crash loop once a minute, for years."""
    lives = SettledLives({A: (1.0, range(1, 1001))}, history=0.0)
    assert lives.have(emptied(1000), ())
    for inode in range(1001, 2001):
        case = OpenCase()
        case.add(Exited(container=A, source="exits", time=float(inode), inode=inode, how="reaped", status=0), float(inode))
        lives.add(A, case, float(inode))

    assert all(lives.have(emptied(inode), ()) for inode in range(2001 - MOST_LIVES, 2001))
    assert not lives.have(emptied(2001), ())
    assert len(lives._settled[A].inodes) == MOST_LIVES
