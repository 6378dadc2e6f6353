"""What is measured: the explicit list of all collectors. Synchronous, no asyncio, no network."""

from collections.abc import Callable, Mapping, Sequence

from collectors.base import Collector
from collectors.cpu import Cpu
from collectors.deaths import DeathCounts
from collectors.findings import Findings
from collectors.headroom import Headroom
from collectors.host import Host
from collectors.init import Init
from collectors.inquest.kills import KillLedger
from collectors.io import Io
from collectors.isolation import Isolation
from collectors.kernel.container_id import ContainerKey
from collectors.layers import Layer, Layers
from collectors.leftovers import Leftovers
from collectors.life import Life
from collectors.lifecycle import Lifecycle
from collectors.memory import Memory
from collectors.node_pressure import NodePressure
from collectors.oom import Oom
from collectors.pids import Pids
from collectors.pressure import Pressure
from collectors.services import Services
from collectors.sessions import Sessions
from collectors.zombies import Zombies

NAMES = (
    "lifecycle",
    "headroom",
    "memory",
    "cpu",
    "io",
    "pids",
    "pressure",
    "zombies",
    "sessions",
    "init",
    "services",
    "isolation",
    "oom",
    "deaths",
    "life",
    "layers",
    "leftovers",
    "host",
    "node_pressure",
    "findings",
)


def all_collectors(
    kills: KillLedger,
    deaths: DeathCounts,
    life: Life,
    pod_labels: Sequence[str] = (),
    *,
    local_events: bool = False,
    layers: Callable[[], Mapping[int, Layer]] = dict,
    layer_ends: Callable[[], Mapping[ContainerKey, int]] = dict,
    stop_signal: Callable[[ContainerKey], int | None] = lambda _: None,
    findings: Findings | None = None,
) -> tuple[Collector, ...]:
    """Make every collector, in the order of the page; `pod_labels` are those that coroner_container_info shows.

    `local_events`: memory.events does not count what is nested (mount option memory_localevents). `layers`: what was found of each,
    `layer_ends` of those that ended. `stop_signal`: the number of the signal that a container is stopped with, None if nobody has told.
    Headroom is before memory: a usage without a limit is then of a container whose limits could be read. `findings` is the last, for it
    looks at what the others yield.
    """
    return (
        Lifecycle(pod_labels),
        Headroom(),
        Memory(),
        Cpu(),
        Io(),
        Pids(),
        Pressure(),
        Zombies(),
        Sessions(),
        Init(stop_signal),
        Services(),
        Isolation(),
        Oom(kills, local_events=local_events),
        deaths,
        life,
        Layers(layers, layer_ends),
        Leftovers(),
        Host(),
        NodePressure(),
        findings or Findings(),
    )
