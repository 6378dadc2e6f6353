"""What every collector shares: how a metric is declared, and what a pass sees (Node, Container)."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, repeat
from typing import Literal, Protocol, TypeVar

from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.files import Forbidden, Gone, KernelFiles, Malformed, ReadError, Unsupported
from collectors.kernel.last_words import LastWords
from collectors.kernel.pid_namespaces import owners
from collectors.kernel.processes import Processes
from collectors.kernel.procfs import ProcessTable

T = TypeVar("T")

CONTAINER = ("namespace", "pod", "container")
"""Labels of every container series. Outside Kubernetes the first two are empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric, declared once beside the code that fills it."""

    kind: Literal["counter", "gauge", "histogram"]
    """A histogram is counted and shown by prometheus_client: no sample is one."""
    name: str
    help: str
    labels: tuple[str, ...]
    zero_first: bool = False
    """Whether Prometheus must have seen it at 0 before it sees what it counts: agent/zero_first.py sees to that."""


def counter(name: str, help_text: str, labels: tuple[str, ...] = CONTAINER) -> Metric:
    """Declare a counter; its name ends in _total and its help names the kernel file it comes from."""
    return Metric("counter", name, help_text, labels)


def event_counter(name: str, help_text: str, labels: tuple[str, ...] = CONTAINER) -> Metric:
    """Declare a counter of what happens to a container and is worth an alert each time, also if the container is gone by then.

    It begins with the container, at 0, and stays after its end.
    """
    return Metric("counter", name, help_text, labels, zero_first=True)


def gauge(name: str, help_text: str, labels: tuple[str, ...] = CONTAINER) -> Metric:
    """Declare a gauge in base units; its help names the kernel file it comes from."""
    return Metric("gauge", name, help_text, labels)


def histogram(name: str, help_text: str) -> Metric:
    """Declare a histogram of the node in base units, whose buckets and sums are its own labels and names."""
    return Metric("histogram", name, help_text, ())


Sample = tuple[Metric, tuple[str, ...], float]
"""A metric, its label values in the order of metric.labels, and the value."""


Column = tuple[list[tuple[str, ...]], list[float]]
"""The label values and the values of one metric's samples, in the same order."""


class Samples:
    """The samples of one pass by their metric, in the order of the first of each; all of them when iterated.

    In two lists for each metric they take a fifth of what the tuples would, which is megabytes on a large node.
    """

    def __init__(self, samples: "Iterable[Sample] | Samples" = ()) -> None:
        self.columns: dict[Metric, Column] = {}
        self.add(samples)

    @classmethod
    def of(cls, samples: "Iterable[Sample] | Samples") -> "Samples":
        """Return these, which may be such already."""
        return samples if isinstance(samples, cls) else cls(samples)

    def add(self, samples: "Iterable[Sample] | Samples") -> None:
        """Put these behind those of the same metric. A column of other samples is taken over as it is, and never changed."""
        columns: Mapping[Metric, Column]
        if isinstance(samples, Samples):
            columns = samples.columns
        else:
            columns = grouped = defaultdict[Metric, Column](lambda: ([], []))
            for metric, labels, value in samples:
                column = grouped[metric]
                column[0].append(labels)
                column[1].append(value)
        for metric, (more_labels, more_values) in columns.items():
            if metric in self.columns:
                all_labels, values = self.columns[metric]
                self.columns[metric] = [*all_labels, *more_labels], [*values, *more_values]
            else:
                self.columns[metric] = more_labels, more_values

    def __iter__(self) -> Iterator[Sample]:
        return chain.from_iterable(zip(repeat(metric), *column) for metric, column in self.columns.items())

    def __len__(self) -> int:
        return sum(len(values) for _, values in self.columns.values())


@dataclass(frozen=True, slots=True)
class Instance:
    """One life of a container: a runtime's cgroup, whether its name is known yet or not."""

    id: ContainerId
    cgroup: Cgroup


@dataclass(frozen=True, slots=True)
class Info:
    """What a runtime or Kubernetes says of a container beside its name; empty where nobody told."""

    image: str = ""
    kind: str = ""
    workload_kind: str = ""
    workload: str = ""
    project: str = ""
    service: str = ""
    pod_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """An instance that is exported: it has a name, and no newer instance has the same one."""

    labels: tuple[str, ...]
    id: ContainerId
    cgroup: Cgroup
    info: Info


@dataclass(frozen=True, slots=True)
class Ended:
    """A container that ended lately, and no living one has its name: its event counters stay, with these values."""

    labels: tuple[str, ...]
    words: LastWords


@dataclass(frozen=True, slots=True)
class Former:
    """A name whose event counters are on the page though no container that has it is seen: what was last known of the one that had it."""

    labels: tuple[str, ...]
    id: ContainerId
    info: Info


@dataclass(frozen=True)
class Node:
    """What one pass sees: made anew for each pass, and the same for all its collectors.

    `names` holds the labels of every container that runs or ran lately, by id: their event counters exist from the first moment and
    outlive the cgroup; `ended` has the final values of those without one, and `formers` what they were. `sandboxes` has those of pods'
    sandboxes (empty while they are not known), which are no containers but may hold a PID namespace; one that all of its pod runs in
    (gVisor, Kata) is in `names` and among the `containers` too. `resting` counts containers without a cgroup by the state their runtime
    gives them; None while some runtime that was asked has not told.
    """

    proc_root: str
    files: KernelFiles
    process_table: ProcessTable
    cgroups: Sequence[Cgroup] = ()
    instances: Sequence[Instance] = ()
    containers: Sequence[Container] = ()
    ended: Sequence[Ended] = ()
    formers: Sequence[Former] = ()
    names: Mapping[ContainerKey, tuple[str, ...]] = field(default_factory=dict)
    sandboxes: Mapping[ContainerKey, tuple[str, ...]] = field(default_factory=dict)
    resting: Mapping[str, int] | None = field(default_factory=dict)
    hidden: Collection[str] = frozenset()
    """Paths of the cgroups whose owners closed them to the agent: there may be more in them, or less, than what was seen before."""
    uncovered: Collection[int] = frozenset()
    """Inodes of those that were hidden before anybody saw them: they may be older than they seem."""
    malformed: list[Malformed] = field(default_factory=list)
    closed: list[Forbidden] = field(default_factory=list)
    """Files of cgroups that were closed to the collector that runs: what it counts over all containers is then not known."""
    refused: Mapping[str, Sequence[Forbidden]] = field(default_factory=dict)
    """The same of the collectors before this one in this pass, by name."""
    scans: list[Processes] = field(default_factory=list)
    """The process scan of this pass, once it is made; a list, so that a Node that replaces this one has it too."""
    samples: Samples = field(default_factory=Samples)
    """What the collectors before this one have yielded in this pass, and of each whether it succeeded."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why collectors before this one failed in this pass, in words; empty for one that did not."""

    @property
    def processes(self) -> Processes:
        """The one process scan of this pass, made when the first collector asks for it. Raises ReadError."""
        if not self.scans:
            self.scans.append(self.process_table.scan())
        return self.scans[0]

    def came_from_outside(self, key: ContainerKey, pid: int) -> bool:
        """Whether a process, as the scan saw it, was started by none of its container, as its init is; True if that cannot be told.

        A container in the PID namespace of the host can make another one: the PID 1 of that is not the container's.
        """
        stat = self.process_table.stat(pid)
        try:
            cgroup = self.process_table.cgroup_of(stat.parent) if stat else None
        except ReadError:
            return True
        parent = container_id.parse(cgroup) if cgroup else None
        return parent is None or parent.key != key

    @cached_property
    def by_path(self) -> Mapping[str, Cgroup]:
        """Every cgroup by its path."""
        return {cgroup.path: cgroup for cgroup in self.cgroups}

    @cached_property
    def own_namespaces(self) -> Mapping[str, ContainerKey]:
        """Whose each PID namespace is, by its inode, sandboxes' included. Raises ReadError."""
        return owners(self.processes.namespaces)

    def read(self, reader: Callable[[KernelFiles, str], T], cgroup: Cgroup) -> T | None:
        """Read one file of one cgroup; None when the container has ended or the kernel lacks the file: the series is then absent.

        A malformed file costs this one value and fails the collector's success metric. So does one that its owner closed to the agent,
        but it fails nothing unless it is closed everywhere. The rest is raised, for it would be the same for every container.
        """
        try:
            return reader(self.files, cgroup.directory)
        except (Gone, Unsupported, Malformed, Forbidden) as error:
            self.note(error)
            return None

    def note(self, error: ReadError) -> None:
        """Take note of a file without a value, if that is not as it should be."""
        if isinstance(error, Malformed):
            self.malformed.append(error)
        elif isinstance(error, Forbidden):
            self.closed.append(error)


class Collector(Protocol):
    """One subject's metrics. The module, the flag --collector.NAME and the catalogue section have the same name."""

    @property
    def name(self) -> str:
        """What the collector is called."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every metric it may yield."""
        ...

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield every sample of one pass. Runs in the sampling thread; may raise ReadError."""
        ...
