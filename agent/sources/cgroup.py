"""Births and deaths of containers from the cgroup tree itself: inotify tells of new directories, and of a cgroup's last process.

When `populated` in cgroup.events falls to 0 the counters are still there, until the runtime removes the directory some milliseconds later:
they are read at once, in the event loop (last words). What notifications miss is found by `compare`, after each census.

Removing a cgroup tells nobody who watches its files; whoever watches its parent hears of it (kernel.org cgroup-v2.rst, fs/kernfs/file.c).
"""

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from agent.identities import KEEP_DEAD_MOST, KEEP_DEAD_SECONDS
from agent.inotify import IN_CREATE, IN_DELETE, IN_IGNORED, IN_ISDIR, IN_MODIFY, IN_ONLYDIR, IN_Q_OVERFLOW, Inotify, remedy
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS
from collectors.base import Node, Sample, counter, gauge
from collectors.kernel import cgroupfs, container_id, last_words
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.files import Gone, KernelFiles, ReadError
from collectors.kernel.last_words import Death, LastWords

INOTIFY_UP = gauge(
    "coroner_cgroup_inotify_up",
    "1 while inotify reports every start and end of a container; 0 means that some are found by a walk every 10 s.",
    (),
)
WATCHES = gauge("coroner_cgroup_inotify_watches", "Cgroups that inotify watches; they count against fs.inotify.max_user_watches.", ())
OVERFLOWS = counter(
    "coroner_cgroup_inotify_overflows_total", "Times the inotify queue overflowed, after which everything is read again.", ()
)
HEARD = counter(
    "coroner_last_words_total",
    "Containers that ended, by whether their final counters were read (read) or the cgroup had been removed (late).",
    ("result",),
)

METRICS = (INOTIFY_UP, WATCHES, OVERFLOWS, HEARD)

MOST_CGROUPS = 20_000
"""Cgroups that are watched at most: whoever may make some may make many."""

_BIRTHS = IN_CREATE | IN_DELETE | IN_ONLYDIR
_TURN_SECONDS = 0.005
"""How long the event loop is kept from its other work."""
_SURE_SECONDS = 1.0
"""While runc starts a container, its cgroup may have lost the first process and not have the next yet. That is no end to tell of."""

Born = Callable[[ContainerId, Cgroup], None]
Ended = Callable[[ContainerId, Cgroup, LastWords | None], None]


@dataclass(slots=True)
class _Life:
    """One instance of a container whose cgroup is there, as far as anybody knows."""

    id: ContainerId
    cgroup: Cgroup
    has_lived: bool = False
    words: LastWords | None = None
    """Its last process has ended; it may get processes again."""
    is_told: bool = False


class CgroupSource:
    """Follows the cgroup tree. `born` and `ended` are called in the event loop: `ended` when the cgroup is gone, or has been without a
    process for a while, with None when its last words came too late.

    `last_words` has the ends of the last 15 minutes by key of the container. It is replaced whole, so any thread may read it.
    """

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(
        self,
        *,
        root: str,
        born: Born,
        ended: Ended,
        notifier: Callable[[], Inotify] = Inotify,
        most: int = MOST_CGROUPS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status = Status("cgroup-inotify", exported=False)
        self.last_words: Mapping[ContainerKey, Death] = MappingProxyType({})
        self._root = root
        self._born = born
        self._ended = ended
        self._notifier = notifier
        self._most = most
        self._clock = clock
        self._inotify: Inotify | None = None
        self._watches: dict[str, int] = {}
        self._watched: dict[int, str] = {}
        self._unwatched: set[str] = set()
        self._is_refused = False
        self._problem = ""
        self._directories: set[str] = set()
        self._lives: dict[str, _Life] = {}
        self._deaths: OrderedDict[ContainerKey, Death] = OrderedDict()
        self._untold: set[str] = set()
        self._is_published = True
        self._changed: OrderedDict[str, None] = OrderedDict()
        self._visits: OrderedDict[str, bool] = OrderedDict()
        self._is_settled = False
        self._census: Node | None = None
        self._woken = asyncio.Event()
        self._overflows = 0
        self._heard = {"read": 0, "late": 0}

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield how births and deaths are noticed."""
        yield INOTIFY_UP, (), int(self.status.is_up)
        yield WATCHES, (), len(self._watches)
        yield OVERFLOWS, (), self._overflows
        for result, count in self._heard.items():
            yield HEARD, (result,), count

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
            self._close()

    def _look_at_all(self) -> None:
        self._open()
        self._visits.update(dict.fromkeys(("/", *self._directories, *self._lives), False))

    def _open(self) -> None:
        self._is_refused, self._problem = False, ""
        if self._inotify is None:
            try:
                self._inotify = self._notifier()
            except OSError as error:
                self._refuse(remedy(error))
            else:
                asyncio.get_running_loop().add_reader(self._inotify.fd, self._woken.set)

    def _close(self) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
        self._inotify = None
        self._watches, self._watched = {}, {}
        self._changed.clear()
        self._visits.clear()

    def _take_events(self) -> None:
        # What is not read stays in the kernel's queue, which is bounded and says when it overflows.
        if self._inotify is None or len(self._visits) >= self._most:
            return
        for event in self._inotify.read():
            if event.mask & IN_Q_OVERFLOW:
                self._overflows += 1
                self._look_at_all()
            elif (path := self._watched.get(event.watch)) is None:
                continue
            elif event.mask & IN_IGNORED:
                self._forget_watch(path)
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
        self._open()
        found = {cgroup.path for cgroup in node.cgroups}
        unknown = [
            instance.cgroup.path
            for instance in node.instances
            if (life := self._lives.get(instance.cgroup.path)) is None or life.cgroup.inode != instance.cgroup.inode
        ]
        for path in (*self._unwatched, *(self._directories - found), *(self._lives.keys() - found), *unknown):
            self._visits.setdefault(path, False)
        for path in unknown:  # nor was anybody told of its parents, if they are not known
            while (path := path.rpartition("/")[0]) and path not in self._directories:
                self._visits.setdefault(path, False)
        for path in list(self._untold):
            life = self._lives[path]
            if (death := self._deaths.get(life.id.key)) is None or self._clock() - death.at >= _SURE_SECONDS:
                self._untold.discard(path)
                self._tell(life)
        self._forget_long_dead()

    def _work(self) -> bool:
        """Do some of what there is to do, the dying first; return whether nothing is left."""
        deadline = time.monotonic() + _TURN_SECONDS
        while self._changed or self._visits:
            if self._changed:
                path, _ = self._changed.popitem(last=False)
                if (life := self._lives.get(path)) is not None:
                    self._look(life)
            else:
                self._visit(*self._visits.popitem(last=False))
            if time.monotonic() >= deadline:
                break
        if not self._is_published:
            self.last_words = MappingProxyType(dict(self._deaths))
            self._is_published = True
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
        if not self._watch(path, directory, _BIRTHS):
            self._directories.discard(path)
            self._unwatched.discard(path)
            if path == "/":
                self._unwatched.add(path)
                self._problem = f"{directory} is not there"
            return
        self._directories.add(path)
        # Listed after it is watched: what is made between the two is seen twice, not never.
        for child in _children(directory):
            name = f"{path.rstrip('/')}/{child}"
            if name not in self._directories and name not in self._lives:
                self._visits.setdefault(name, False)

    def _visit_container(self, path: str, identifier: ContainerId, *, was_created: bool) -> None:
        directory = self._root + path
        inode = _inode(directory)
        life = self._lives.get(path)
        if life is not None and life.cgroup.inode != inode:
            self._gone(life)
            life = None
        if inode is None:
            self._unwatched.discard(path)
            if was_created:  # and gone before anybody looked
                life = _Life(identifier, Cgroup(path, directory, 0, has_children=False), has_lived=True)
                self._born(life.id, life.cgroup)
                self._gone(life)
            return
        if life is None:
            life = self._lives[path] = _Life(identifier, Cgroup(path, directory, inode, has_children=False))
            if was_created or self._is_settled:
                self._born(life.id, life.cgroup)
        is_spare = identifier.host_id and len(self._watches) >= self._most // 2  # one container may make many of these
        if is_spare or self._watch(path, f"{directory}/cgroup.events", IN_MODIFY):
            self._look(life, is_history=not (was_created or self._is_settled))
        else:
            self._gone(life)

    def _look(self, life: _Life, *, is_history: bool = False) -> None:
        """See whether any process is left, and if not read the last words."""
        directory = life.cgroup.directory
        words = LastWords()
        try:
            is_populated = cgroupfs.cgroup_events(KernelFiles(0), directory).populated
        except Gone:
            is_populated = False
        except ReadError:
            return
        if not is_populated and life.words is None:
            words = last_words.read(life.cgroup)
        inode = _inode(directory)
        if inode not in (life.cgroup.inode, None):  # what was read is another one's, which has the same path
            self._visits[life.cgroup.path] = True
        elif is_populated:
            life.has_lived, life.words = True, None
            self._untold.discard(life.cgroup.path)
            if (death := self._deaths.get(life.id.key)) is not None and death.inode == life.cgroup.inode:
                del self._deaths[life.id.key]
                self._is_published = False
        elif life.words is None:
            # A container without processes may be one that has none yet.
            life.has_lived |= bool(words.threads_peak or (words.cpu_stat and words.cpu_stat.usage_usec))
            if inode is None and words == LastWords():
                self._gone(life)
            elif life.has_lived:
                life.words, life.is_told = words, is_history
                self._remember(life, words)
                self._untold.add(life.cgroup.path)

    def _gone(self, life: _Life) -> None:
        """Note that a cgroup is no more."""
        path = life.cgroup.path
        self._lives.pop(path, None)
        self._unwatched.discard(path)
        self._forget_watch(path)
        self._untold.discard(path)
        if life.words is not None:
            self._remember(life, life.words)  # its time begins now
        if life.has_lived:
            self._tell(life)

    def _tell(self, life: _Life) -> None:
        if not life.is_told:
            life.is_told = True
            self._heard["late" if life.words is None else "read"] += 1
            self._ended(life.id, life.cgroup, life.words)

    def _remember(self, life: _Life, words: LastWords) -> None:
        self._deaths[life.id.key] = Death(life.cgroup.inode, words, self._clock(), life.cgroup.path)
        self._deaths.move_to_end(life.id.key)
        while len(self._deaths) > KEEP_DEAD_MOST:
            self._deaths.popitem(last=False)
        self._is_published = False

    def _forget_long_dead(self) -> None:
        there = {life.id.key for life in self._lives.values() if life.words is not None}
        for key, death in list(self._deaths.items()):
            if self._clock() - death.at > KEEP_DEAD_SECONDS and key not in there:
                del self._deaths[key]
                self._is_published = False

    def _watch(self, path: str, file: str, mask: int) -> bool:
        """Have inotify tell of what is at a path, if it can; return whether anything is there."""
        if self._inotify is not None and not self._is_refused:
            try:
                if path not in self._watches and len(self._watches) >= self._most:
                    self._refuse(f"more than {self._most} cgroups")
                else:
                    self._note_watch(path, self._inotify.add(file, mask))
                    return True
            except (FileNotFoundError, NotADirectoryError):
                self._forget_watch(path)
                return False
            except OSError as error:
                self._refuse(remedy(error))
        if path not in self._watches:
            self._unwatched.add(path)
        return os.path.exists(file)

    def _note_watch(self, path: str, watch: int) -> None:
        if self._watches.get(path) != watch:
            self._forget_watch(path)
        self._watches[path], self._watched[watch] = watch, path
        self._unwatched.discard(path)

    def _forget_watch(self, path: str) -> None:
        # The watch of a cgroup that was removed lives on up to kernel 6.12.
        watch = self._watches.pop(path, None)
        if watch is not None:
            self._watched.pop(watch, None)
            if self._inotify is not None:
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._inotify.remove(watch)

    def _refuse(self, problem: str) -> None:
        """Watch no more until the next census."""
        self._is_refused, self._problem = True, problem

    def _say(self) -> None:
        if self._inotify is None or self._unwatched:
            self.status.down(f"inotify: {self._problem}; births and deaths of containers are found by a walk every 10 s instead")
        else:
            self.status.up()


def _inode(directory: str) -> int | None:
    try:
        return os.stat(directory).st_ino
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
