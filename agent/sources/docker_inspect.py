"""What `docker inspect` says of a container, turned to facts: what it was told to do about stops, and of its last lives. Pure.

No field is believed to be there or to have its type. Events are better wherever there are some: inspect keeps one life, the last.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from signal import SIGTERM
from typing import Any, TypedDict

from agent.sources import Told
from agent.sources.docker_facts import IDENTIFIER, SOURCE, mapping_of
from agent.sources.signal_names import signal_number
from collectors.inquest.facts import Configured, Created, Exited, Started
from collectors.kernel.container_id import ContainerKey

_DEFAULT_STOP_SECONDS = 10.0
"""Docker's grace where a container has none of its own."""

_MOST_SECONDS = 2**31
_MOST_REASON = 200
"""Characters of the runtime's opinion."""

_ENDED = ("exited", "dead", "removing", "restarting", "stopped")
"""States whose exit code and end are the last life's; `stopped` is Podman's word."""


class _Who(TypedDict):
    container: ContainerKey
    source: str


def facts_of_container(container: object, *, wall: float, since: float | None) -> Iterator[Told]:
    """Yield what an inspection tells; nothing of an answer that is none.

    The lives are told of if events did not: `since` is from when on they may not have, None if they did. `wall` is now; both are
    seconds since 1970.
    """
    content = mapping_of(container)
    key = key_of(content)
    if key is None:
        return
    who = _Who(container=key, source=SOURCE)
    state = mapping_of(content.get("State"))
    created, started = _time(content.get("Created")), _time(state.get("StartedAt"))
    if since is not None:
        if created is not None:
            yield Created(**who, time=created)
        yield from _lives(who, state, started, since)
    config = content.get("Config")
    if isinstance(config, dict):
        time = next((each for each in (started, created) if each is not None), wall)
        yield Configured(
            **who, time=time, stop_signal=_stop_signal(config.get("StopSignal")), stop_seconds=_stop_seconds(config.get("StopTimeout"))
        )


def _lives(who: _Who, state: Mapping[str, Any], started: float | None, since: float) -> Iterator[Told]:
    finished = _time(state.get("FinishedAt"))
    if started is None:  # it has never run, whatever code it has (127: it could not)
        return
    if state.get("Status") in _ENDED:
        yield Started(**who, time=started)
        if finished is not None:
            code = state.get("ExitCode")
            code = code if type(code) is int and 0 <= code <= 255 else None
            # Docker has the times from two clocks' readings: of a short life it may have ended before it began.
            yield Exited(**who, time=max(started, finished), how="inspect", code=code, reason=_reason(state))
    elif started > since:
        # It was started again: of the life before, its end is all that is left. Docker sets the exit code back to 0.
        if finished is not None and finished <= started:
            yield Exited(**who, time=finished, how="inspect")
        yield Started(**who, time=started)


def key_of(container: object) -> ContainerKey | None:
    """Return the id of a container that was inspected or listed; None if it does not say."""
    identifier = mapping_of(container).get("Id")
    return ContainerKey(identifier) if isinstance(identifier, str) and IDENTIFIER.fullmatch(identifier) else None


def image_of(container: object) -> str:
    """Return the image that a container was made from, as `docker inspect` spells it; "" if it does not say."""
    return str(mapping_of(mapping_of(container).get("Config")).get("Image") or "")


def is_restarting(container: object) -> bool:
    """Whether a container has ended and waits to be started again, which no event and no list of states before it tells."""
    return mapping_of(mapping_of(container).get("State")).get("Status") == "restarting"


def is_never_restarted(container: object) -> bool:
    """Whether Docker lets a container be once it has ended; false if it does not say so."""
    policy = mapping_of(mapping_of(container).get("HostConfig")).get("RestartPolicy")
    return isinstance(policy, dict) and policy.get("Name") in ("", "no")


def _stop_signal(value: object) -> int | None:
    """Return the number of the stop signal; SIGTERM if none is set."""
    return int(SIGTERM) if value is None or value == "" else signal_number(value)


def _stop_seconds(value: object) -> float | None:
    """Return the grace, seconds; None if it is not known or without end (-1)."""
    if value is None:
        return _DEFAULT_STOP_SECONDS
    return float(value) if type(value) is int and 0 <= value <= _MOST_SECONDS else None


def _reason(state: Mapping[str, Any]) -> str:
    if state.get("OOMKilled") is True:
        return "OOMKilled"
    error = state.get("Error")
    return error[:_MOST_REASON] if isinstance(error, str) else ""


def _time(value: object) -> float | None:
    """Parse RFC 3339 with nanoseconds; None for what is none, and for Go's zero time, the year 1."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        seconds = time.timestamp() if time.tzinfo else 0.0
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None
