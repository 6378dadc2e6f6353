"""Why containers of real Podman ended. It tells of no signal, and of a stop only if it comes to that before its own cleanup does.

So what may be the work of either is unknown, and a stop that was obeyed is one where it was told.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.lab.guest.deaths import Row, catches, table, wait_for_deaths, wrong
from tests.lab.guest.node import CGROUPS, HOLD, PODMAN_URL, Podman, StartAgent, in_parallel, wait_for

EXITS = "/run/libpod/exits"


@dataclass(frozen=True)
class Death:
    """How to bring a death about: what runs with which options, and what is done to it then: a command of Podman's, or a call."""

    what: str
    cause: str
    command: tuple[str, ...]
    done: tuple[str, ...] | Callable[[str], Any] = ()
    options: tuple[str, ...] = ()
    told: str = ""
    """The cause if Podman has told of the stop; empty if that is the same."""


def kill_from_the_host(container: str) -> None:
    """Send SIGKILL to the init as an administrator does."""
    os.kill(init_of(container), signal.SIGKILL)


def init_of(container: str) -> int:
    """Return the PID of its init."""
    return min(int(pid) for pid in (CGROUPS / "libpod_parent" / f"libpod-{container}" / "cgroup.procs").read_text().split())


def on_term(script: str) -> tuple[str, ...]:
    """Return what runs a script when it gets SIGTERM."""
    return ("sh", "-c", f"trap '{script}' TERM; {HOLD}")


SMALL = ("--memory=16m",)
DEATHS = {
    "exit-0": Death("exit 0", "completed", ("true",)),
    "exit-3": Death("exit 3", "error", ("sh", "-c", "exit 3")),
    "drained": Death("stopped, drained", "completed", on_term("exit 0"), ("stop", "--time=60"), told="stopped"),
    "term": Death("stopped, exit 143", "unknown", on_term("exit 143"), ("stop", "--time=60"), told="stopped"),
    "deaf": Death("stopped, deaf", "unknown", ("sleep", "1000"), ("stop", "--time=1")),
    "kill": Death("podman kill", "unknown", ("sleep", "1000"), ("kill",)),
    "kill-host": Death("kill -9 from the host", "unknown", ("sleep", "1000"), kill_from_the_host),
    "oom-init": Death("OOM of init", "oom_kill", ("tail", "/dev/zero"), options=SMALL),
    "oom-child": Death("OOM of a child, exit 0", "completed", ("sh", "-c", "tail /dev/zero; exit 0"), options=SMALL),
    "rm": Death("--rm, exit 4", "error", ("sh", "-c", "exit 4"), options=("--rm",)),
    "rm-f": Death("rm -f", "unknown", ("sleep", "1000"), ("rm", "--force", "--time=0")),
}
REMOVED = {"rm", "rm-f"}


def test_every_death_has_its_cause_or_the_fact_that_is_missing(agent: StartAgent, podman: Podman) -> None:
    """The table is in the output. conmon's exit files have the code of each, whatever has become of the container since."""
    coroner = agent(f"--docker.url={PODMAN_URL}", f"--path.exits={EXITS}")
    wait_for(lambda: coroner.value("coroner_source_up", source="docker") == 1, 60, "Podman is not heard")
    names = list(DEATHS)
    for first in range(0, len(names), 4):
        in_parallel(*(lambda name=name: die(podman, name) for name in names[first : first + 4]))
    says = words(podman)
    found = wait_for_deaths(coroner, dict.fromkeys(DEATHS, 1))
    told = {name for name, [verdict, *_] in found.items() if any("a stop was asked for" in each for each in verdict["evidence"])}
    assert told <= {"drained", "term", "deaf", "rm-f"}, "nothing else was a stop"
    causes = {name: (name in told and death.told) or death.cause for name, death in DEATHS.items()}
    rows = {name: Row(death.what, causes[name], says.get(name, "not found")) for name, death in DEATHS.items()}
    print(table(rows, found))  # noqa: T201 - the table is what a reader of the tests wants to see
    assert wrong(rows, found) == [], table(rows, found)
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(DEATHS, 1), "each once"
    unsure = {name: each[0]["missing"] for name, each in found.items() if causes[name] == "unknown"}
    assert {name for name, missing in unsure.items() if ("signals sent" if name in told else "stop request") not in missing} == set()


def die(podman: Podman, name: str) -> None:
    """Bring one about."""
    death = DEATHS[name]
    container = podman("run", "--detach", "--network=none", f"--name={name}", *death.options, "busybox", *death.command)
    if "trap" in death.command[-1]:
        wait_for(lambda: catches(init_of(container)), 30, "no trap set")
    if callable(death.done):
        death.done(container)
    elif death.done:
        podman(*death.done, container)


def words(podman: Podman) -> dict[str, str]:
    """Return what Podman says of each that was not removed, when all have ended; each of its commands takes a second here."""
    kept = [name for name in DEATHS if name not in REMOVED]
    podman("wait", *kept)
    lines = podman("inspect", "--format={{.State.ExitCode}}, OOMKilled={{.State.OOMKilled}}", *kept).splitlines()
    return dict(zip(kept, lines, strict=True))
