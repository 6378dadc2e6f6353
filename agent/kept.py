"""What an agent begins with, and where it keeps what it counts: its own casebook, or that of the agent beside it, which it only reads."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agent.casebook import CannotPeek, Casebook, Deaths, peek, peek_deaths, peek_verdicts
from agent.config import Config
from agent.recent import MOST_RECENT, RECENT_SECONDS
from collectors.inquest.kill_state import State


@dataclass(frozen=True, slots=True)
class Kept:
    """A casebook that was opened, and what was in it."""

    casebook: Casebook
    state: State | None
    """None: nothing was kept."""
    same_boot: bool
    has_counts: bool
    """False: how many OOM kills and deaths there were is not known, and no 0."""
    deaths: Callable[[], Deaths]
    """How many there were of which container, by cause."""
    recent: Callable[[], list[dict[str, Any]]]
    """Their verdicts of the last minutes, the newest first."""
    history: float
    """Wall clock up to which deaths are counted, or are history because nobody counted before."""


def keep(config: Config) -> Kept:
    """Open the casebook for the one agent of the machine, which counts from 0 if there is none."""
    casebook = Casebook(config.state, config.procfs)
    state, same_boot = casebook.open()
    history = time.time() if casebook.written_at is None else casebook.written_at
    return Kept(
        casebook,
        state,
        same_boot,
        has_counts=True,
        deaths=casebook.deaths,
        recent=lambda: casebook.verdicts(MOST_RECENT, time.time() - RECENT_SECONDS),
        history=history,
    )


def only_read(config: Config) -> Kept:
    """Read the casebook of the agent that may run beside this process, without its lock and without a write."""
    state, same_boot = peek(config.state, config.procfs)
    deaths: Deaths = {}
    recent: list[dict[str, Any]] = []
    with suppress(CannotPeek):  # peek has said why
        deaths = peek_deaths(config.state)
        recent = peek_verdicts(config.state, MOST_RECENT, time.time() - RECENT_SECONDS)
    return Kept(
        Casebook("", config.procfs),
        state,
        same_boot,
        has_counts=state is not None,
        deaths=lambda: deaths,
        recent=lambda: recent,
        history=time.time(),
    )
