"""What happened to a container between two times that Kubernetes told of it. Pure.

It never says that stops are watched: a kubelet also stops what fails its liveness probe, and evicts pods, of which nothing here tells.
"""

from collections.abc import Iterator

from agent.identities import Identity
from agent.sources.signal_names import signal_number
from collectors.inquest.facts import Configured, Exited, Fact, StopRequested
from collectors.kernel.container_id import ContainerKey

SOURCE = "kubernetes"

_MADE_UP = "ContainerStatusUnknown"
"""The reason that a kubelet gives with exit code 137 for a container that it cannot find any more: nobody knows how that ended."""


def facts_between(key: ContainerKey, before: Identity | None, now: Identity, wall: float) -> Iterator[Fact]:
    """Yield what was not told yet: its stop signal, that its pod is to be deleted, and how it ended.

    `before` is what was told of it last, None if nothing was. `wall` is when `now` was learnt, seconds since 1970: the time of an end that
    Kubernetes does not date. Its own times are whole seconds.
    """
    if now.ended is None and now.stop_signal and (before is None or before.stop_signal != now.stop_signal):  # Kubernetes 1.33
        yield Configured(container=key, source=SOURCE, time=wall, stop_signal=signal_number(now.stop_signal))
    termination = now.last_termination if now.ended is not None else None  # while it lives, that of its life before
    requested = _stop_requested(now)
    finished = termination.finished_at if termination else None
    has_ended_before = requested is not None and finished is not None and finished < requested
    if requested is not None and not has_ended_before and (before is None or _deletion(before) != _deletion(now)):
        yield StopRequested(container=key, source=SOURCE, time=requested, grace_seconds=now.grace_seconds, by="deletion of its pod")
    if (
        termination is not None
        and termination.reason != _MADE_UP
        and (before is None or before.ended is None or before.last_termination != termination)
    ):
        yield Exited(
            container=key,
            source=SOURCE,
            time=wall if finished is None else finished,
            how="kubelet",
            code=termination.exit_code,
            signal=termination.signal or None,
            reason=termination.reason,
        )


def _deletion(identity: Identity) -> tuple[float | None, float | None]:
    return identity.deletion_timestamp, identity.grace_seconds


def _stop_requested(identity: Identity) -> float | None:
    """Return when the deletion of its pod was asked for: deletionTimestamp is when the grace that it was given ends."""
    return None if identity.deletion_timestamp is None else identity.deletion_timestamp - (identity.grace_seconds or 0)
