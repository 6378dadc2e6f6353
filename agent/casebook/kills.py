"""How the kill ledger's state becomes rows of the casebook, and rows become state. No library: `execute` is SQLite's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from agent.casebook.schema import Execute, RowKey, select
from collectors.inquest.instances import InstanceKills
from collectors.inquest.kill_state import Cursor, State
from collectors.inquest.scope import SCOPES
from collectors.inquest.top_cgroups import TopCgroup
from collectors.kernel.container_id import ContainerKey

TABLES = ("epoch", "lives", "slices", "sums", "identities", "names")

_ONE = (1,)
_INSTANCE = ("path", "kills_at_first", "kills", "events", "groups", "ooms", "ooms_settled", "settled", "guessed", "shared")
_TOP_CGROUP = ("inode", "kills_at_first", "kills", "events", "groups", "counted")
_STORED_NAMES = {"without_cgroup": "nameless"}
"""Sums that have another name in the file."""

_of_instance, _of_top_cgroup = attrgetter(*_INSTANCE), attrgetter(*_TOP_CGROUP)


def rows(state: State, boot_id: str) -> dict[RowKey, tuple[Any, ...]]:
    """Return the whole state as rows. What is assumed without a row has none: most containers never see a kill."""
    cursor = state.cursor or (None, None)
    found: dict[RowKey, tuple[Any, ...]] = {("epoch", _ONE): (boot_id, *cursor, int(state.started), state.unnamed_of_ended)}
    for key, instance in state.instances.items():
        if not instance.is_blank:
            found["lives", key] = (*_of_instance(instance), *_counts(instance.by_scope))
    for path, top in state.top_cgroups.items():
        found["slices", (path,)] = (*_of_top_cgroup(top), *_counts(top.guessed))
    for name, by_scope in state.sums.items():
        found["sums", (_STORED_NAMES.get(name, name),)] = _counts(by_scope)
    for labels, kills in state.identities.items():
        found["identities", labels] = (kills,)
    for identifier, labels in state.names.items():
        found["names", (identifier,)] = labels
    return found


def read(execute: Execute) -> tuple[State | None, str]:
    """Return the whole state, None if there is none yet, and the boot that it is of."""
    epoch = next(iter(execute(select("epoch"))), None)
    if epoch is None:
        return None, ""
    _, boot_id, sequence, time_us, started, unnamed_of_ended = epoch
    names_here = {stored: name for name, stored in _STORED_NAMES.items()}
    return State(
        cursor=None if time_us is None else Cursor(sequence, time_us),
        started=bool(started),
        unnamed_of_ended=unnamed_of_ended,
        instances={
            (ContainerKey(identifier), inode): InstanceKills(
                **dict(zip(_INSTANCE, values, strict=False)), by_scope=_scopes(values[len(_INSTANCE) :])
            )
            for identifier, inode, *values in execute(select("lives"))
        },
        top_cgroups={
            path: TopCgroup(**dict(zip(_TOP_CGROUP, values, strict=False)), guessed=_scopes(values[len(_TOP_CGROUP) :]))
            for path, *values in execute(select("slices"))
        },
        sums={names_here.get(row[0], row[0]): _scopes(row[1:]) for row in execute(select("sums"))},
        identities={tuple(row[:3]): row[3] for row in execute(f"{select('identities')} ORDER BY time, rowid")},
        names={ContainerKey(row[0]): tuple(row[1:]) for row in execute(select("names"))},
    ), boot_id


def _counts(by_scope: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(by_scope.get(scope, 0) for scope in SCOPES)


def _scopes(counts: Sequence[int]) -> Counter[str]:
    return Counter({scope: count for scope, count in zip(SCOPES, counts, strict=True) if count})
