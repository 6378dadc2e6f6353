"""What is measured: the explicit list of all collectors. Synchronous, no asyncio, no network."""

from collectors.base import Collector
from collectors.cpu import Cpu
from collectors.host import Host
from collectors.io import Io
from collectors.kills import KillLedger
from collectors.leftovers import Leftovers
from collectors.lifecycle import Lifecycle
from collectors.memory import Memory
from collectors.oom import Oom
from collectors.pids import Pids
from collectors.pressure import Pressure
from collectors.zombies import Zombies

NAMES = ("lifecycle", "memory", "cpu", "io", "pids", "pressure", "zombies", "oom", "leftovers", "host")


def all_collectors(kills: KillLedger) -> tuple[Collector, ...]:
    """Make every collector, in the order of the page."""
    return (Lifecycle(), Memory(), Cpu(), Io(), Pids(), Pressure(), Zombies(), Oom(kills), Leftovers(), Host())
