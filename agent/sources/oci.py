"""Names from OCI bundles (oci_bundle.py), which a runtime writes before it starts a container. No API, no token.

inotify tells of new ones, and a periodic rescan finds what it missed.
"""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.identities import Described, EndedUnseen, Identity, KnownIdentities
from agent.inotify import Inotify
from agent.sources import Tell
from agent.sources.directory_rescans import Rescans
from agent.sources.oci_bundle import IDENTIFIER, Bundle, identity_of, read_bundle
from agent.sources.oci_config_json import Steps, T, Unreadable
from agent.sources.oci_directories import BundleDirectories
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS, Blind
from collectors.base import Sample, counter
from collectors.inquest.facts import Configured, Removed
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import explain

DEFAULT_BUNDLES = (
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io",  # RKE2 too
    "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/containers/storage/overlay-containers",  # CRI-O, which writes to both
    "/var/lib/containers/storage/overlay-containers",
)

RESCAN_SECONDS = 10.0

BUNDLES = counter(
    "coroner_oci_bundles_total",
    "OCI bundles by what their config.json has: a name (named), no name (nameless), or unreadable for seconds (unreadable).",
    ("result",),
)

METRICS = (BUNDLES,)

_FILES_PER_TURN = 4
"""Reading one takes up to a millisecond, a large one takes turns of its own, and the event loop must stay responsive."""

# The directory is there before the file is, and the file before all of its content: usually for a millisecond, but CRI-O sets up a pod's
# network in between. Each wait is a quarter longer than the one before, so a file is found late by a fraction of its own delay.
_FIRST_WAIT_SECONDS = 0.05
_WAIT_GROWTH = 1.25
_PATIENCE_SECONDS = 2.0
_MISS_SECONDS = 5.0
_MOST_MISSES = 1000


@dataclass(slots=True)
class _PendingBundle:
    """A bundle that has not been read yet. Times are those of the loop's clock."""

    since: float
    due: float
    was_there: bool
    """Before the agent, so it may be what is left of a container that ended long ago."""
    wait: float
    problem: str = ""
    """What is wrong with it; "" while it is only not there yet."""
    is_counted: bool = False


class OciSource:
    """Follows directories of OCI bundles."""

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(
        self,
        *,
        bundles: Sequence[str],
        tell: Tell,
        identities: KnownIdentities,
        rescan: float = RESCAN_SECONDS,
        notifier: Callable[[], Inotify] = Inotify,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make it; facts have the time of `wall`, seconds since 1970."""
        # Where nobody asked for bundles, and no runtime that has them is here, their absence is no trouble.
        self.status = Status("oci", optional=tuple(bundles) == DEFAULT_BUNDLES and not any(map(os.path.exists, DEFAULT_BUNDLES)))
        self._tell = tell
        self._rescan_seconds = rescan
        self._clock, self._wall = clock, wall
        self._directories = BundleDirectories(bundles, notifier)
        self._rescans = Rescans(rescan, lambda: self._directories.is_notified)
        self._pending: dict[ContainerKey, _PendingBundle] = {}
        self._is_crio: dict[ContainerKey, bool] = {}  # of each bundle that was read
        self._misses: dict[ContainerKey, float] = {}
        self._results = dict.fromkeys(("named", "nameless", "unreadable"), 0)
        identities.when_heard(self._look)

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield how bundles are found, and what came of them."""
        if not self.status.is_expected:
            return
        yield from self._directories.samples()
        for result, count in self._results.items():
            yield BUNDLES, (result,), count

    async def follow(self) -> None:
        """Find bundles and read them, until none of the directories can be listed. Raises Blind."""
        try:
            await self._rescans.run(changes=self._take_changes, rescan=self._rescan, work=self._work)
        finally:
            self._directories.close()

    def _take_changes(self) -> None:
        for identifier, is_there in self._directories.changes():
            if identifier is None:
                self._rescans.lost()
            elif is_there:
                self._found(identifier, was_there=False)
            else:
                self._gone(identifier)

    async def _work(self) -> float:
        """Read what is due; return when the next is, by the loop's clock."""
        await self._read_due()
        self._say()
        return min((bundle.due for bundle in self._pending.values()), default=math.inf)

    async def _rescan(self) -> None:
        """List every directory. Raises Blind when none can be."""
        for identifier, was_there in self._directories.list_all(self._rescans.wake).items():
            self._found(identifier, was_there=was_there)
        for identifier in (self._is_crio.keys() | self._pending.keys()) - self._directories.present():
            self._gone(identifier)
        if self._directories.blind:
            raise Blind(self._directories.blind)

    def _found(self, identifier: ContainerKey, *, was_there: bool) -> None:
        if identifier not in self._is_crio and identifier not in self._pending:
            now = asyncio.get_running_loop().time()
            self._pending[identifier] = _PendingBundle(since=now, due=now, was_there=was_there, wait=_FIRST_WAIT_SECONDS)

    def _gone(self, identifier: ContainerKey) -> None:
        self._pending.pop(identifier, None)
        is_crio = self._is_crio.pop(identifier, None)
        if is_crio:
            self._tell(Removed(container=identifier, source=self.status.source, time=self._wall()))
        elif is_crio is not None:  # containerd keeps a bundle for no longer than its container runs
            self._tell(EndedUnseen(self.status.source, identifier))

    async def _read_due(self) -> None:
        clock = asyncio.get_running_loop().time
        due = [identifier for identifier, bundle in self._pending.items() if bundle.due <= clock()]
        for start in range(0, len(due), _FILES_PER_TURN):
            told: dict[ContainerKey, Identity] = {}
            for identifier in due[start : start + _FILES_PER_TURN]:
                if (bundle := self._pending.get(identifier)) is not None:  # else it was looked for meanwhile
                    told |= await _in_turns(self._read(identifier))
                    bundle.due = clock() + bundle.wait
                    bundle.wait = min(bundle.wait * _WAIT_GROWTH, self._rescan_seconds)
            self._describe(told)
            await asyncio.sleep(0)

    def _look(self, key: ContainerKey) -> None:
        """Read the bundle of an id that something happened to, without waiting for its turn."""
        now = self._clock()
        if not IDENTIFIER.fullmatch(key) or key in self._is_crio or self._misses.get(key, -math.inf) > now:
            return
        told: dict[ContainerKey, Identity] = {}
        with contextlib.closing(self._read(key)) as steps:
            try:
                next(steps)
            except StopIteration as end:
                told = end.value
            else:  # a large file, for the follower to read
                self._found(key, was_there=False)
                self._rescans.wake()
                return
        self._describe(told)
        if not told:
            if len(self._misses) >= _MOST_MISSES:
                del self._misses[next(iter(self._misses))]
            self._misses[key] = now + _MISS_SECONDS

    def _describe(self, told: dict[ContainerKey, Identity]) -> None:
        if told:
            self._tell(Described(self.status.source, told))

    def _read(self, identifier: ContainerKey) -> Steps[dict[ContainerKey, Identity]]:
        """Read a bundle wherever it is; return what it tells, if anything."""
        bundle = self._pending.get(identifier)
        problem = ""
        for directory in self._directories.directories:
            path = f"{directory.path}/{identifier}"
            try:
                config = yield from read_bundle(directory.path, identifier)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except Unreadable as error:
                problem = problem or f"{path}: {error}"
            except OSError as error:
                problem = problem or str(explain(error, path))
            else:
                # Between two steps it may have been read by who could not wait, or be gone.
                return self._told(identifier, config, bundle) if self._pending.get(identifier) is bundle else {}
        if bundle is not None:
            bundle.problem = problem
        return {}

    def _told(self, identifier: ContainerKey, config: Bundle, bundle: _PendingBundle | None) -> dict[ContainerKey, Identity]:
        identity = identity_of(identifier, config, was_there=bundle is not None and bundle.was_there)
        if identifier not in self._is_crio:
            self._is_crio[identifier] = config.is_crio
            self._results["named" if identity else "nameless"] += 1
            if (number := config.stop_signal) is not None:
                self._tell(Configured(container=identifier, source=self.status.source, time=self._wall(), stop_signal=number))
        if identity is not None and config.lacks_shim and identity.is_sandbox and not identity.holds_pod:
            # containerd names the shim some milliseconds after it wrote config.json; before 1.6 it never did.
            now = asyncio.get_running_loop().time()
            bundle = self._pending.setdefault(
                identifier, _PendingBundle(since=now, due=now + _FIRST_WAIT_SECONDS, was_there=False, wait=_FIRST_WAIT_SECONDS)
            )
            if now - bundle.since < _PATIENCE_SECONDS:
                self._rescans.wake()
                return {identifier: identity}
        self._pending.pop(identifier, None)
        return {identifier: identity} if identity else {}

    def _say(self) -> None:
        """Report up, and what it does not see all the same: without numbers, for every new text is logged."""
        now = asyncio.get_running_loop().time()
        unreadable = [bundle for bundle in self._pending.values() if bundle.problem and now - bundle.since >= _PATIENCE_SECONDS]
        for bundle in unreadable:
            self._results["unreadable"] += not bundle.is_counted
            bundle.is_counted = True
        self.status.up("; ".join([*self._directories.unseen, *(bundle.problem for bundle in unreadable[:1])]))


async def _in_turns(steps: Steps[T]) -> T:
    """Take all steps, and let others have their turn in between."""
    with contextlib.closing(steps):
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            await asyncio.sleep(0)
