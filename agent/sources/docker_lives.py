"""Which containers of a daemon live, as far as its lists and events have told: so what they did not tell of, and must be asked for. Pure.

While events come without a gap they tell every stop, which is a fact in itself (Watched): so a gap has to be noticed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.sources.docker_facts import IDENTIFIER, SOURCE, id_of_event, mapping_of, number_of
from agent.sources.docker_inspect import is_never_restarted, key_of
from collectors.inquest.facts import Watched
from collectors.kernel.container_id import ContainerKey

MOST_DEAD = 200
"""Containers that have ended and are asked for after one list."""

_LIVING = ("running", "paused", "restarting")
_DEAD = ("exited", "dead", "stopped")
"""`stopped` is Podman's."""

_FORGEABLE = frozenset({"exitCode", "signal"})
"""Attributes of an event that a label of this name overwrites: Docker copies the labels last, and an image may have any."""

_AGE = re.compile(r"(?:^Up |\) )(Less than a|About an?|[0-9]{1,6}) (second|minute|hour|day|week|month|year)s?\b")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400}


@dataclass(frozen=True, slots=True)
class Look:
    """A container to be inspected, and from when on its lives are to be told of by that: None if events tell of them."""

    container: ContainerKey
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What follows from a list: from when on the containers are watched, whom to inspect, and how many more of the dead there were."""

    watched: Sequence[Watched]
    looks: Sequence[Look]
    passed_over: int


class Lives:
    """Follows the containers of one daemon over its connections. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._told_until = 0.0
        """Up to here lists and events have told."""
        self._ended: set[ContainerKey] = set()
        self._looked: set[ContainerKey] = set()
        self._never_restarted: set[ContainerKey] = set()
        self._forgers: set[ContainerKey] = set()
        """Of which no event tells a signal or a code."""
        self._gone_forgers: set[ContainerKey] = set()
        self._watched: dict[ContainerKey, float] = {}
        self._doubts: set[ContainerKey] = set()
        """Of whom the last list said something that no event has said, yet."""
        self._tells_stops = False

    def connected(self, *, tells_stops: bool) -> None:
        """Begin anew: what happened since the last message is in no event, but for what the daemon remembers."""
        self._tells_stops = tells_stops
        self._watched.clear()
        self._doubts.clear()

    def listed(self, containers: Iterable[Mapping[str, Any]], opened: float, *, is_gap: bool) -> Round:
        """Take a list; `opened` is when the events that follow it were subscribed to, `is_gap` if that was not at once after the last."""
        rows = {key: row for row in containers if (key := key_of(row)) is not None}
        is_gap = is_gap or bool(self._doubts)
        since = min(self._told_until, opened)  # a clock may have been set back
        self._forget_all_but(rows)
        if is_gap:
            self._watched.clear()
        dead: list[tuple[float, ContainerKey]] = []
        living: list[Look] = []
        watched: list[Watched] = []
        doubts: set[ContainerKey] = set()
        self._note_forgers({key for key, row in rows.items() if not _FORGEABLE.isdisjoint(mapping_of(row.get("Labels")))})
        for key, row in rows.items():
            state, age = row.get("State"), age_of(row.get("Status"))
            is_recent = is_gap and (age is None or age <= opened - since)
            if state in _DEAD:
                if key not in self._ended or is_recent:
                    dead.append((float("inf") if age is None else age, key))
                if key not in self._ended:
                    doubts.add(key)
                self._ended.add(key)
            elif state in _LIVING:
                if key not in self._looked or is_recent:
                    living.append(Look(key, since))
                if key in self._ended and state != "restarting":
                    doubts.add(key)
                    self._ended.discard(key)
                if key not in self._watched:
                    watched += self._watch(key, opened)
            self._watched.setdefault(key, opened)  # it may be started any time, and is told of then
        self._doubts = set() if is_gap else doubts
        self._told_until = opened
        self._looked.update(look.container for look in living)
        dead.sort(key=lambda each: each[0])  # among those of one age, such as "2 days", the newest come first in Docker's own order
        looks = [Look(key, since) for _, key in dead[:MOST_DEAD]]
        return Round(watched, looks + living, max(0, len(dead) - MOST_DEAD))

    def believed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an event without what is a label of its container, and not Docker's word."""
        key, actor = ContainerKey(id_of_event(event)), mapping_of(event.get("Actor"))
        attributes = mapping_of(actor.get("Attributes"))
        if event.get("Action") in ("create", "start") and IDENTIFIER.fullmatch(key) and not _FORGEABLE.isdisjoint(attributes):
            self._forgers.add(key)  # these events have no such attributes of their own
        if key not in self._forgers:
            return event
        return {**event, "Actor": {**actor, "Attributes": {name: each for name, each in attributes.items() if name not in _FORGEABLE}}}

    def happened(self, event: Mapping[str, Any], time: float) -> tuple[Sequence[Watched], Look | None]:
        """Take an event; return from when on its container is watched, if that is to be told now, and whether to inspect it."""
        identifier, action = ContainerKey(id_of_event(event)), event.get("Action")
        if not IDENTIFIER.fullmatch(identifier):
            return (), None
        self._told_until = max(self._told_until, time)
        self._doubts.discard(identifier)
        match action:
            case "create":
                return self._watch(identifier, time), None
            case "start":
                self._ended.discard(identifier)
                is_known = identifier in self._looked  # what it is told to do about stops never changes
                self._looked.add(identifier)
                return self._watch(identifier, time), None if is_known else Look(identifier)
            case "die" | "died":
                self._ended.add(identifier)
                attributes = mapping_of(mapping_of(event.get("Actor")).get("Attributes"))
                if number_of(attributes.get("exitCode")) is None:
                    return (), Look(identifier, 0.0)
                # Nothing but asking tells whether Docker will start it again.
                return (), None if identifier in self._never_restarted else Look(identifier)
            case "destroy" | "remove":
                self._watched.pop(identifier, None)
                for known in (self._ended, self._looked, self._never_restarted):
                    known.discard(identifier)
        return (), None

    def inspected(self, container: object) -> None:
        """Take what an inspection says."""
        key = key_of(container)
        if key is not None and key in self._looked and is_never_restarted(container):
            self._never_restarted.add(key)

    def has_ended(self, key: ContainerKey) -> bool:
        """Whether the last that was heard of a container is its end."""
        return key in self._ended

    def _watch(self, key: ContainerKey, time: float) -> Sequence[Watched]:
        """Tell it for each life, but with the time that it has been so since: a later one would say that there was a gap."""
        if not self._tells_stops or key in self._forgers:
            return ()
        return (Watched(container=key, source=SOURCE, time=self._watched.setdefault(key, time), kind="stops"),)

    def _note_forgers(self, listed: set[ContainerKey]) -> None:
        """Keep one that is listed no more until the next list: the events of its end may come after this one."""
        kept = self._forgers - self._gone_forgers
        self._forgers, self._gone_forgers = kept | listed, kept - listed

    def _forget_all_but(self, rows: Mapping[ContainerKey, object]) -> None:
        for known in (self._ended, self._looked, self._never_restarted):
            known.intersection_update(rows)
        self._watched = {key: time for key, time in self._watched.items() if key in rows}


def age_of(status: object) -> float | None:
    """Return how long ago at least a state began, by the words of a list: "Up 3 hours", "Exited (0) 2 weeks ago"; None if it does not say.

    Seconds. Docker rounds hours to the nearest, all else down.
    """
    match = _AGE.search(status) if isinstance(status, str) else None
    if match is None:
        return None
    number, unit = match[1], match[2]
    count = float(number) if number.isdigit() else 0.0 if number.startswith("Less") else 1.0
    return max(0.0, count * _SECONDS[unit] - (0 if unit in ("second", "minute") else 1800))
