"""The rules: what may be wrong with a container, in order of the danger. Pure.

A threshold that is an alert's too is the alert's (a test holds both). One page has no past, so rules look at levels (zombies, tasks, bytes
left), at ratios of two counters of one life (throttled of all periods), at shares of the time since the container's start, and at counts of
what should not have happened at all in this life. What needs a rate or a forecast is an alert's business.
"""

from collections.abc import Mapping

from collectors.inquest.finding import Found, Rule, View

THREADS = "coroner_container_threads"
THREADS_LIMIT = "coroner_container_threads_limit"
ZOMBIES = "coroner_container_zombies"
HANDLES = "coroner_container_init_handles_stop_signal"
IS_WRAPPER = "coroner_container_init_is_wrapper"


def _init_deaf(view: View, _: float) -> Found:
    wrappers = view.values(IS_WRAPPER)
    for _metric, (*labels, signal), handles in view.each(HANDLES):
        if handles == 0 and not wrappers.get(tuple(labels)):
            yield tuple(labels), f"PID 1 neither catches nor awaits {signal}, the stop signal of the container"


def _zombies_of(parent: str, words: str, view: View, threshold: float) -> Found:
    for _metric, (*labels, whose), count in view.each(ZOMBIES):
        if whose == parent and count > threshold:
            yield tuple(labels), f"{count:.0f} zombies whose parent is {words}"


def _pid_limit_near(view: View, threshold: float) -> Found:
    limits: Mapping[tuple[str, ...], float] = view.values(THREADS_LIMIT)
    for _metric, labels, count in view.each(THREADS):
        limit = limits.get(labels)
        if limit is not None and count > limit * threshold:
            yield labels, f"{count:.0f} tasks (threads and zombies) of the {limit:.0f} that its PID limit allows"


RULES: tuple[Rule, ...] = (
    Rule(
        "init-deaf",
        "warning",
        metrics=(HANDLES, IS_WRAPPER),
        collectors=("init",),
        sources=("proc",),
        find=_init_deaf,
        why=(
            "The kernel gives PID 1 no signal that it does not handle, so every stop waits out the grace period and ends in SIGKILL.\n"
            "Requests under way are cut off and data that is not written yet is lost."
        ),
        fix="Handle the signal in the program, or give the container an init that passes it on: docker run --init, or tini as ENTRYPOINT.",
        runbook="coronerforcedkills",
    ),
    Rule(
        "zombies-under-init",
        "warning",
        metrics=(ZOMBIES,),
        collectors=("zombies",),
        sources=("proc",),
        find=lambda view, threshold: _zombies_of("init", "PID 1", view, threshold),
        why="PID 1 does not wait for its children or for orphans that it adopted.\nEach zombie takes a PID, until nothing can fork.",
        fix="Give it an init that reaps: docker run --init, tini as ENTRYPOINT, or shareProcessNamespace: true for a pod.",
        runbook="coronerzombiegrowth",
        threshold=5,
        alert="CoronerZombieGrowth",
    ),
    Rule(
        "pid-limit-near",
        "warning",
        metrics=(THREADS, THREADS_LIMIT),
        collectors=("pids",),
        find=_pid_limit_near,
        why=(
            "At the limit fork and thread creation fail with EAGAIN.\n"
            "Health checks and exec fail with them, and the container is restarted."
        ),
        fix="Find what grows (zombies, a thread per request), or raise the limit: docker update --pids-limit N, podPidsLimit.",
        runbook="coronerzombiesnearpidlimit",
        threshold=0.8,
    ),
)
