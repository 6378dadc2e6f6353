"""What an agent begins with, and where it keeps what it counts: its own casebook, or that of the agent beside it, which it only reads."""

from dataclasses import dataclass

from agent.casebook import Casebook, peek
from agent.config import Config
from collectors.inquest.kill_state import State


@dataclass(frozen=True, slots=True)
class Kept:
    """A casebook that was opened, and what was in it."""

    casebook: Casebook
    state: State | None
    """None: nothing was kept."""
    same_boot: bool
    has_counts: bool
    """False: how many OOM kills there were is not known, and no 0."""


def keep(config: Config) -> Kept:
    """Open the casebook for the one agent of the machine, which counts from 0 if there is none."""
    casebook = Casebook(config.state, config.procfs)
    state, same_boot = casebook.open()
    return Kept(casebook, state, same_boot, has_counts=True)


def only_read(config: Config) -> Kept:
    """Read the casebook of the agent that may run beside this process, without its lock and without a write."""
    state, same_boot = peek(config.state, config.procfs)
    return Kept(Casebook("", config.procfs), state, same_boot, has_counts=state is not None)
