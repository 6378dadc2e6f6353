"""Births and deaths of containers from the cgroup tree itself: inotify tells of new directories, and of a cgroup's last process.

When `populated` in cgroup.events falls to 0 the counters are still there, until the runtime removes the directory some milliseconds later:
they are read at once, in the event loop (last words). What notifications miss is found by `compare`, after each census.

Removing a cgroup tells nobody who watches its files; whoever watches its parent hears of it (kernel.org cgroup-v2.rst, fs/kernfs/file.c).
"""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import takewhile

from agent.inotify import IN_CREATE, IN_DELETE, IN_IGNORED, IN_ISDIR, IN_MODIFY, IN_ONLYDIR, IN_Q_OVERFLOW, Inotify
from agent.sources import Tell
from agent.sources.cgroup_instances import CgroupInstances, PresentInstance
from agent.sources.cgroup_watches import CgroupWatches
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS
from collectors.base import Node, Sample, gauge
from collectors.inquest.freezes import Freezes
from collectors.kernel import cgroupfs, container_id, last_words
from collectors.kernel.cgroupfs import Cgroup, CgroupEvents
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.files import Gone, KernelFiles, ReadError
from collectors.kernel.last_words import Death, LastWords

INOTIFY_UP = gauge(
    "coroner_cgroup_inotify_up",
    "1 while inotify reports every start and end of a container; 0 means that some are found by a walk every 10 s.",
    (),
)

METRICS = (INOTIFY_UP,)

MOST_CGROUPS = 20_000
"""Cgroups that are watched at most: whoever may make some may make many."""

_HIDDEN = -1
_BIRTHS = IN_CREATE | IN_DELETE | IN_ONLYDIR
_TURN_SECONDS = 0.005
"""How long the event loop is kept from its other work."""


class CgroupSource:
    """Follows the cgroup tree, and tells of births and of the last words of those that end."""

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(
        self,
        *,
        root: str,
        tell: Tell,
        notifier: Callable[[], Inotify] = Inotify,
        most: int = MOST_CGROUPS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make it; facts have the time of `wall`, seconds since 1970."""
        self.status = Status("cgroup-inotify", exported=False)
        self._root = root
        self._most = most
        self._watches = CgroupWatches(notifier, most)
        self._instances = CgroupInstances(tell=tell, clock=clock, wall=wall)
        self._clock = clock
        self.freezes = Freezes()
        """How often containers were frozen; of the time of `clock`."""
        self._directories: set[str] = set()
        self._changed: OrderedDict[str, None] = OrderedDict()
        self._visits: OrderedDict[str, bool] = OrderedDict()
        self._is_settled = False
        self._census: Node | None = None
        self._hidden: Collection[str] = frozenset()
        self._uncovered: Collection[int] = frozenset()
        self._unread: set[str] = set()
        """Paths of the containers whose cgroup.events did not say anything when it was looked at last."""
        self._woken = asyncio.Event()

    def last_words(self) -> Mapping[ContainerKey, Death]:
        """Return the ends of the last 15 minutes by key of the container: a mapping that never changes, for any thread."""
        return self._instances.last_words

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield how births and deaths are noticed."""
        yield INOTIFY_UP, (), int(self.status.is_up)
        yield from self._watches.samples()
        yield from self._instances.samples()

    def compare(self, node: Node) -> None:
        """Look again, soon, at whatever a census sees otherwise than is known here, and at what could not be watched."""
        self._census = node
        self._woken.set()

    async def follow(self) -> None:
        """Notice births and deaths, for ever: without inotify by `compare` alone."""
        self._look_at_all()
        try:
            while True:
                self._woken.clear()
                self._take_events()
                self._take_census()
                if self._work():
                    self._is_settled = True
                    self._say()
                    await self._woken.wait()
                else:
                    await asyncio.sleep(0)
        finally:
            self._watches.close()
            self._changed.clear()
            self._visits.clear()

    def _look_at_all(self) -> None:
        self._watches.open(self._woken.set)
        self._visits.update(dict.fromkeys(("/", *self._directories, *self._instances.present), False))

    def _take_events(self) -> None:
        # What is not read stays in the kernel's queue, which is bounded and says when it overflows.
        if len(self._visits) >= self._most:
            return
        for path, event in self._watches.read():
            if event.mask & IN_Q_OVERFLOW:
                self._look_at_all()
            elif event.mask & IN_IGNORED:
                self._visits.setdefault(path, False)
            elif event.mask & IN_MODIFY:
                self._changed[path] = None
            elif event.mask & IN_ISDIR and event.name:
                child = f"{path.rstrip('/')}/{os.fsdecode(event.name)}"
                self._visits[child] = bool(event.mask & IN_CREATE) or self._visits.get(child, False)

    def _take_census(self) -> None:
        node, self._census = self._census, None
        if node is None:
            return
        self._hidden, self._uncovered = node.hidden, node.uncovered
        self._watches.open(self._woken.set)
        present = self._instances.present
        found = {cgroup.path for cgroup in node.cgroups}
        unknown = []
        for instance in node.instances:
            known = present.get(instance.cgroup.path)
            if known is None or known.cgroup.inode != instance.cgroup.inode:
                unknown.append(instance.cgroup.path)
            elif not instance.cgroup.has_children:  # what is equal is held once: it is 1 KiB for each container
                known.id, known.cgroup = instance.id, instance.cgroup
        for path in (*self._watches.unwatched, *self._unread, *(self._directories - found), *(present.keys() - found), *unknown):
            self._visits.setdefault(path, False)
        for path in unknown:  # nor was anybody told of its parents, if they are not known
            for above in takewhile(lambda above: above not in self._directories, container_id.ancestors(path)):
                self._visits.setdefault(above, False)
        self._instances.tell_of_the_empty()
        self._instances.forget_long_dead()

    def _work(self) -> bool:
        """Do some of what there is to do, the dying first; return whether nothing is left."""
        deadline = time.monotonic() + _TURN_SECONDS
        while self._changed or self._visits:
            if self._changed:
                path, _ = self._changed.popitem(last=False)
                if (instance := self._instances.present.get(path)) is not None:
                    self._look(instance)
            else:
                self._visit(*self._visits.popitem(last=False))
            if time.monotonic() >= deadline:
                break
        self._instances.publish()
        return not self._changed and not self._visits

    def _visit(self, path: str, was_created: bool) -> None:
        """Make what is known of a path what is there."""
        identifier = container_id.parse(f"{path}/")  # a directory may be called "ID (deleted)", which means something at the end only
        if identifier is None:
            self._visit_directory(path)
        elif identifier.container_path == path:
            self._visit_container(path, identifier, was_created=was_created)

    def _visit_directory(self, path: str) -> None:
        directory = self._root + path.rstrip("/")
        if not self._watches.watch(path, directory, _BIRTHS):
            self._directories.discard(path)
            if path == "/":
                self._watches.miss(path, f"{directory} is not there")
            return
        self._directories.add(path)
        # Listed after it is watched: what is made between the two is seen twice, not never.
        for child in _children(directory):
            name = f"{path.rstrip('/')}/{child}"
            if name not in self._directories and name not in self._instances.present:
                self._visits.setdefault(name, False)

    def _visit_container(self, path: str, identifier: ContainerId, *, was_created: bool) -> None:
        directory = self._root + path
        inode = _inode(directory)
        if inode == _HIDDEN:
            if path in self._watches.unwatched:
                self._watches.watch(path, f"{directory}/cgroup.events", IN_MODIFY)  # which says why not
            return
        instance = self._instances.present.get(path)
        if instance is not None and instance.cgroup.inode != inode:
            self._removed(instance)
            instance = None
        if inode is None and not was_created:
            self._watches.forget(path)
            return
        is_history = instance is None and not was_created and (not self._is_settled or self._may_be_old(path, inode))
        if instance is None:
            cgroup = Cgroup(path, directory, inode or 0, has_children=False)
            instance = self._instances.appeared(identifier, cgroup, is_birth=not is_history)
        is_spare = identifier.host_id and len(self._watches.watched) >= self._most // 2  # one container may make many of these
        if inode is None:  # it was gone before anybody looked
            instance.has_lived = True
            self._removed(instance)
        elif is_spare or self._watches.watch(path, f"{directory}/cgroup.events", IN_MODIFY):
            self._look(instance, is_history=is_history)
        else:
            self._removed(instance)

    def _may_be_old(self, path: str, inode: int | None) -> bool:
        """Whether a container that is found was hidden before, or where the last census could not look: it may have been opened since."""
        return inode in self._uncovered or any(above in self._hidden for above in container_id.ancestors(path))

    def _look(self, instance: PresentInstance, *, is_history: bool = False) -> None:
        """See whether any process is left, and if not read the last words."""
        cgroup = instance.cgroup
        events = _events(cgroup.directory)
        if events is None:
            self.freezes.hide(instance.id.key)
            self._unread.add(cgroup.path)
            return
        self._unread.discard(cgroup.path)
        words = LastWords() if events.populated or instance.words is not None else last_words.read(cgroup)
        inode = _inode(cgroup.directory)
        if inode == _HIDDEN:
            return
        if inode not in (cgroup.inode, None):  # what was read is another one's, which has the same path
            self._visits[cgroup.path] = True
        elif events.populated:
            self._instances.populated(instance)
            self.freezes.see(instance.id.key, self._clock(), is_frozen=events.frozen, is_history=is_history)
        elif instance.words is None:
            self.freezes.end(instance.id.key, self._clock())  # it says that it is frozen for as long as it is there
            # A container without processes may be one that has none yet.
            instance.has_lived |= bool(words.threads_peak or (words.cpu_stat and words.cpu_stat.usage_usec))
            if inode is None and words == LastWords():
                self._removed(instance)
            elif instance.has_lived:
                self._instances.emptied(instance, words, is_history=is_history)

    def _removed(self, instance: PresentInstance) -> None:
        self._watches.forget(instance.cgroup.path)
        self._unread.discard(instance.cgroup.path)
        self.freezes.end(instance.id.key, self._clock())
        self._instances.removed(instance)

    def _say(self) -> None:
        if self._watches.is_complete:
            self.status.up()
        else:
            problem = self._watches.problem
            self.status.down(f"inotify: {problem}; births and deaths of containers are found by a walk every 10 s instead")


def _events(directory: str) -> CgroupEvents | None:
    """Return whether a cgroup has a process left, which one that is gone has not, and is frozen; None if it does not say."""
    try:
        return cgroupfs.cgroup_events(KernelFiles(0), directory)
    except Gone:
        return CgroupEvents(populated=False, frozen=None)
    except ReadError:
        return None


def _inode(directory: str) -> int | None:
    """Return the inode of a cgroup; None if it is gone, and _HIDDEN if one above is closed, so that nobody can tell."""
    try:
        return os.stat(directory).st_ino
    except PermissionError:
        return _HIDDEN
    except OSError:
        return None


def _children(directory: str) -> list[str]:
    """List the cgroups in a directory; none if it is gone, or cannot be listed: a census says so."""
    try:
        # kernfs counts a directory's links as 2 + its children, so most need no listing.
        if os.stat(directory).st_nlink == 2:
            return []
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
