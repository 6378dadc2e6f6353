"""How the init of each container ended, from the kernel: by a pidfd that is opened when the container is born (exit_watch.py).

Whoever runs the container waits for its init at once, and from then on /proc does not have it. From Linux 6.15 on the pidfd has its status
all the same; before that the agent is woken together with the runtime, and reads the zombie if it is the first to look.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import partial

from agent.sources import Tell
from agent.sources.exit_inits import Looks, Newborn
from agent.sources.exit_watch import Ended, ExitWatch, require_pidfds
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS
from collectors.base import Node, Sample, counter
from collectors.inquest.facts import Born, Exited, Started
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.container_init import ForeignProcesses, Init, is_empty, newborn_init, running_init
from collectors.kernel.files import descriptor_budget

MISSED = counter(
    "coroner_exits_missed_total",
    "Containers whose init ended, or may have, without its status being learnt from the kernel: it was gone when it was looked at (late), "
    "no init was found (unfound), or there were no descriptors to watch it (unwatched).",
    ("reason",),
)

METRICS = (MISSED,)

MOST = 10_000
"""Inits that are watched."""

_PATIENCE_SECONDS = 5.0
"""A runtime moves helpers of its own into a new cgroup first; the init follows within milliseconds, or seconds on a busy node."""
_MOST_NEWBORN = 250
"""Newborn containers that are looked at in turn; the next census finds the others."""
_TURN_SECONDS = 0.005
"""How long the event loop is kept from its other work."""

log = logging.getLogger(__name__)


class ExitsSource:
    """Watches the inits of all containers but those inside others. Tells when one was found, and how it ended.

    It must be told of births (`born`), and of who is there (`compare`).
    """

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(self, *, proc_root: str, tell: Tell, most: int | None = None, wall: Callable[[], float] = time.time) -> None:
        """Make it. `most`: inits that are watched, with two descriptors each; if not given, as many as a quarter of the descriptors do."""
        self.status = Status("exits")
        self._proc_root = proc_root
        self._tell = tell
        self._wall = wall
        self._watch = ExitWatch(
            proc_root, most=min(MOST, descriptor_budget(3 / 16) // 2) if most is None else most, ended=self._ended, wall=wall
        )
        self._newborn: set[int] = set()
        self._looks = Looks()
        self._census: Node | None = None
        self._woken = asyncio.Event()
        self._problem = ""
        self._is_foreign = False
        self._missed = {"late": 0, "unfound": 0, "unwatched": 0}

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield how many were missed."""
        for reason, count in self._missed.items():
            yield MISSED, (reason,), count

    def born(self, fact: Born) -> None:
        """Look for the init of a container whose cgroup was just made, until it is there."""
        if fact.container.is_nested or not self._watch.is_open:
            return
        inode = fact.cgroup.inode
        if not inode:
            self._missed["unfound"] += 1
        elif inode not in self._newborn and not self._watch.has(inode) and len(self._newborn) < _MOST_NEWBORN:
            self._newborn.add(inode)
            self._look_at_newborn(Newborn(fact.container, fact.cgroup, asyncio.get_running_loop().time()))

    def compare(self, node: Node) -> None:
        """Look, soon, at whatever a census sees and nobody watches: what is older than the agent, and what it was not told of."""
        self._census = node
        self._woken.set()

    async def follow(self) -> None:
        """Watch, for ever. Raises Blind where the kernel, or the agent's place, does not let it."""
        require_pidfds(self._proc_root)
        self._watch.open()
        self._say()
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                await self._look_at_running()
                self._say()
        finally:
            self._watch.close()
            self._newborn.clear()
            self._looks = Looks()

    def _look_at_newborn(self, newborn: Newborn) -> None:
        """Look for an init, and again soon if it is not there yet."""
        cgroup = newborn.cgroup
        if cgroup.inode not in self._newborn:  # follow() has ended
            return
        init = self._found(partial(newborn_init, self._proc_root, cgroup.directory, newborn.others))
        loop = asyncio.get_running_loop()
        is_over = loop.time() - newborn.since >= _PATIENCE_SECONDS
        if init is not None and self._begin(newborn.container, cgroup.inode, init):
            self._newborn.discard(cgroup.inode)
        elif not os.path.isdir(cgroup.directory) or (is_over and not self._is_foreign and is_empty(cgroup.directory)):
            self._newborn.discard(cgroup.inode)
            self._missed["unfound"] += 1
        elif is_over:  # it has no PID 1 of its own, and is looked at with the next census
            self._newborn.discard(cgroup.inode)
        else:
            loop.call_later(newborn.next_wait(), self._look_at_newborn, newborn)

    async def _look_at_running(self) -> None:
        """Look at what the last census has seen and nobody watches."""
        node, self._census = self._census, None
        if node is None:
            return
        loop = asyncio.get_running_loop()
        instances = [each for each in node.instances if not each.id.host_id and each.cgroup.inode]
        self._looks.retain({each.cgroup.inode for each in instances})
        turn = loop.time()
        for instance in instances:
            inode = instance.cgroup.inode
            if inode not in self._newborn and not self._watch.has(inode) and self._looks.is_due(inode, loop.time()):
                init = self._found(partial(running_init, self._proc_root, instance.cgroup.directory))
                if init is not None:
                    self._begin(instance.id.key, inode, init)
            if loop.time() - turn >= _TURN_SECONDS:
                await asyncio.sleep(0)
                turn = loop.time()
        if not self._looks.refused:
            self._problem = ""

    def _found(self, find: Callable[[], Init | None]) -> Init | None:
        try:
            return find()
        except ForeignProcesses:
            self._is_foreign = True
            self._say()
            return None

    def _begin(self, container: ContainerKey, inode: int, init: Init) -> bool:
        """Watch an init, and tell that it was found; false if it was another process by then, or has ended."""
        try:
            if not self._watch.begin(container, inode, init):
                return False
        except OSError as error:  # EMFILE, ENFILE: the next census tries again
            self._problem = f"the statuses of some containers are missed: {os.strerror(error.errno or 0)}; raise RLIMIT_NOFILE"
            self._missed["unwatched"] += inode not in self._looks.refused
            self._looks.refused.add(inode)
            self._say()
            return True
        self._looks.forget(inode)
        log.debug("init is watched", extra={"id": container, "pid": init.pid})
        started = self._wall() - init.age_seconds
        self._tell(Started(container=container, source=self.status.source, time=started, inode=inode, pid=init.pid, comm=init.comm))
        return True

    def _ended(self, ended: Ended) -> None:
        self._looks.end(ended.inode)
        if ended.how is None:
            self._missed["late"] += 1
            log.debug("init ended, its status was gone", extra={"id": ended.container})
            return
        log.debug("init ended", extra={"id": ended.container, "status": ended.status, "how": ended.how})
        self._tell(
            Exited(
                container=ended.container,
                source=self.status.source,
                time=ended.time,
                inode=ended.inode,
                how=ended.how,
                status=ended.status,
            )
        )

    def _say(self) -> None:
        if self._is_foreign:
            self.status.down("containers are in other PID namespaces: run the agent in that of the node (hostPID: true, --pid=host)")
        else:
            self.status.up(self._problem)
