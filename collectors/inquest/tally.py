"""How many processes the OOM killer surely took, from what memory.events says. Pure.

With memory.oom.group the kernel counts the first victim a second time if it still has its memory when its turn comes, and nobody says
whether it had. So of a rise of oom_kill (E) at most as many kills are in it twice as oom_group_kill (G) has risen, and at most half of it:

    three processes of a group    oom_kill 4, oom_group_kill 1    at least 3
    one, which was ending         oom_kill 1, oom_group_kill 1    at least 1
"""

from dataclasses import dataclass, field
from typing import NamedTuple


class Reading(NamedTuple):
    """What memory.events of one cgroup, and of what is above it, says of kills."""

    events: int
    """E: oom_kill, kills as the kernel counts them."""
    groups: int | None = 0
    """G: group kills whose first victim may be in it twice; None: any number (before 5.17, where a group is set)."""
    ooms: int = 0
    """oom: rises where a limit was hit."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """The kills of one cgroup that its readings are sure of: they never fall."""

    kills: int = 0
    """max(E - G, ceil(E/2)), of each rise by itself."""
    events: int | None = None
    """E and G as last read; None until then."""
    groups: int | None = 0
    base: tuple[int, int | None, int] = field(default=(0, 0, 0), compare=False)
    """E, G and sure kills at a moment when no group was being killed: each rise since is judged by itself. Not kept."""

    def take(self, reading: Reading, *, is_later: bool) -> None:
        """Add a reading. `is_later`: the last one was made so long ago that a kill which it saw half of has ended by now."""
        events, groups, _ = reading
        if events < (self.events or 0):
            return  # the kernel never counts backwards; memory_localevents was switched on, or the file is not the kernel's
        if (events, groups) == (self.events, self.groups):
            if is_later:
                self.base = events, groups, self.kills
            return
        base_events, base_groups, base_kills = self.base
        rise = events - base_events
        twice = rise // 2
        if groups is not None and base_groups is not None:
            twice = max(0, min(twice, groups - base_groups))
        self.kills = max(self.kills, base_kills + rise - twice)
        self.events, self.groups = events, groups

    def go_on(self) -> None:
        """Begin where an agent before this one was."""
        if self.events is not None:
            self.base = self.events, self.groups, self.kills
