"""When each rule of finding_rules.py finds something, and the evidence in numbers. Pure.

A comparison with what is not a number is false, so what was not measured right is found with nobody.
"""

from collectors.inquest.finding import NODE, Found, Labels, View

PREFIX = "coroner_container_"
THREADS, THREADS_LIMIT, FORK_FAILURES = PREFIX + "threads", PREFIX + "threads_limit", PREFIX + "fork_failures_total"
ZOMBIES = PREFIX + "zombies"
INIT, HANDLES, IS_WRAPPER = PREFIX + "init_info", PREFIX + "init_handles_stop_signal", PREFIX + "init_is_wrapper"
USAGE, HEADROOM, NEAREST = PREFIX + "memory_usage_bytes", PREFIX + "memory_headroom_bytes", PREFIX + "memory_nearest_limit_bytes"
LIMIT = PREFIX + "memory_limit_bytes"
CANDIDATE = PREFIX + "oom_candidate_info"
EVENTS_HIGH, EVENTS_MAX = PREFIX + "memory_events_high_total", PREFIX + "memory_events_max_total"
OOM_KILL = PREFIX + "memory_events_oom_kill_total"
STALLED = PREFIX + "pressure_memory_stalled_seconds_total"
PERIODS, THROTTLED = PREFIX + "cpu_cfs_periods_total", PREFIX + "cpu_cfs_throttled_periods_total"
FROZEN = PREFIX + "frozen"
START, CREATED = PREFIX + "start_timestamp_seconds", PREFIX + "created_timestamp_seconds"
DEATHS, FORCED_KILLS = PREFIX + "deaths_total", PREFIX + "forced_kills_total"
LAST_STOP, GRACE_LEFT = PREFIX + "last_stop_duration_seconds", PREFIX + "last_stop_grace_left_seconds"
SOCKET, CAPABILITIES, SERVICES = PREFIX + "runtime_socket_mounted", PREFIX + "extra_capabilities", PREFIX + "services"
NAMESPACE_ZOMBIES = "coroner_pid_namespace_zombies"
NODE_THREADS, NODE_THREADS_LIMIT, NODE_PID_LIMIT = "coroner_node_threads", "coroner_node_threads_limit", "coroner_node_pid_limit"
DYING = "coroner_cgroup_dying_descendants"
LEFT_CGROUPS, LEFT_SHIMS = "coroner_leftover_cgroups", "coroner_leftover_shims"
LEFT_MOUNTS, DAEMONLESS = "coroner_leftover_overlay_mounts", "coroner_containers_without_daemon"

_PERIODS_ENOUGH = 600
"""A minute of the usual periods of 100 ms: the start of a program says nothing."""
_STALLED_ENOUGH = 10
"""Seconds."""
_WANTED = ("completed", "stopped")


def init_wrapper(view: View, _: float) -> Found:
    """PID 1 is a shell that has not replaced itself with the program."""
    shells = {labels[:3]: labels[3] for labels, _one in view.each(INIT)}
    for labels, value in view.values(IS_WRAPPER).items():
        if value == 1:
            yield (
                labels,
                f"PID 1 is the shell {shells.get(labels, '')!r} without a trap, and the program is its child: signals end at the shell",
            )


def init_deaf(view: View, _: float) -> Found:
    """PID 1 does nothing with the signal that stops the container."""
    wrappers = view.values(IS_WRAPPER)
    names = {labels[:3]: f"PID 1, {labels[3]!r}," for labels, _one in view.each(INIT)}
    for labels, handles in view.each(HANDLES):
        whose = labels[:3]
        if handles == 0 and wrappers.get(whose) != 1:
            yield whose, f"{names.get(whose, 'PID 1')} neither catches nor awaits {labels[3]}, the signal that stops the container"


def zombies_under_init(view: View, threshold: float) -> Found:
    """PID 1 does not wait."""
    yield from _zombies(view, threshold, "init", "PID 1")


def zombies_under_child(view: View, threshold: float) -> Found:
    """Another process of the container does not wait."""
    yield from _zombies(view, threshold, "other", "another process than PID 1")


def _zombies(view: View, threshold: float, parent: str, words: str) -> Found:
    for labels, count in view.each(ZOMBIES):
        if count > threshold and labels[3] == parent:
            yield labels[:3], f"{count:.0f} zombies whose parent is {words}"


def zombies_near_pid_limit(view: View, threshold: float) -> Found:
    """Zombies alone hold a large part of the PIDs that the container may have."""
    limits, sums = view.values(THREADS_LIMIT), dict[Labels, float]()
    for labels, count in view.each(ZOMBIES):
        if count > 0:
            sums[labels[:3]] = sums.get(labels[:3], 0) + count
    for labels, count in sums.items():
        limit = limits.get(labels)
        if limit and count / limit > threshold:
            yield labels, f"zombies hold {count:.0f} of the {limit:.0f} PIDs that the container may have ({count / limit:.0%})"


def pid_limit_near(view: View, threshold: float) -> Found:
    """The container can soon not fork any more."""
    threads = view.values(THREADS)
    for labels, limit in view.values(THREADS_LIMIT).items():
        count = threads.get(labels)
        if count is not None and limit and count / limit > threshold:
            yield labels, f"{count:.0f} tasks (threads and zombies) of the {limit:.0f} that its PID limit allows ({count / limit:.0%})"


def fork_failures(view: View, threshold: float) -> Found:
    """The kernel has refused forks in this life of the container."""
    living = view.values(THREADS)
    for labels, count in view.each(FORK_FAILURES):
        if count > threshold and labels in living:
            yield labels, f"the kernel has refused {count:.0f} forks in it since it started{_limit_of(view, labels)}"


def _limit_of(view: View, labels: Labels) -> str:
    limit = view.values(THREADS_LIMIT).get(labels)
    return "" if limit is None else f"; its PID limit is {limit:.0f}, and {view.values(THREADS)[labels]:.0f} tasks are there now"


def memory_near_limit(view: View, threshold: float) -> Found:
    """Almost nothing is left below the nearest limit, and nothing to reclaim: inactive page cache counts as left.

    As in the alert, at its own limit only a container counts that was slowed down or had to reclaim there.
    """
    limits, high, full = view.values(NEAREST), view.values(EVENTS_HIGH), view.values(EVENTS_MAX)
    candidates = {labels[:3]: labels[4:] for labels, _one in view.each(CANDIDATE)}
    for labels, left in view.each(HEADROOM):
        limit, whose, scope = limits.get(labels), labels[:3], labels[3]
        if not limit or not left / limit < threshold:
            continue
        if scope == "container" and not (high.get(whose, 0) > 0 or full.get(whose, 0) > 0):
            continue
        sentence = f"{_mib(left)} left below the limit of {_mib(limit)} of {_SCOPES.get(scope, scope)}"
        if whose in candidates:
            comm, _role, takes = candidates[whose]
            sentence += f"; the OOM killer would take {comm!r}{_TAKES.get(takes, '')}"
        yield whose, sentence


_SCOPES = {"container": "the container", "pod": "its pod", "ancestor": "a cgroup above it"}
_TAKES = {"container": ", and the container ends with it", "group": ", and its whole cgroup", "process": ", and the container lives on"}


def oom_kill_of_child(view: View, threshold: float) -> Found:
    """The cgroup of this life counts OOM kills, and the container lives: it goes on without what was killed."""
    living = view.values(USAGE)
    for labels, kills in view.each(OOM_KILL):
        if kills > threshold and labels in living:
            yield labels, f"{kills:.0f} OOM kills in this life of the container, which goes on without what was killed (memory.events)"


def no_memory_limit(view: View, _: float) -> Found:
    """Neither the container nor anything above it has a limit.

    The usage is read after the limits: so those were there to be read. Its own limit counts even where nobody can tell what is left of it.
    """
    limited = {labels[:3] for metric in (NEAREST, LIMIT) for labels, _bytes in view.each(metric)}
    for labels, usage in view.each(USAGE):
        if labels not in limited:
            yield labels, f"uses {_mib(usage)}, and neither it nor a cgroup above it has a memory limit"


def memory_stalled(view: View, threshold: float) -> Found:
    """For a large part of its life all tasks of the container waited for memory."""
    starts = view.values(START)
    for labels, seconds in view.each(STALLED):
        if seconds >= _STALLED_ENOUGH and labels in starts:
            life = view.now - starts[labels]
            if life > 0 and seconds / life >= threshold:
                yield (
                    labels,
                    f"all of its tasks waited for memory for {seconds:.0f} s of the {life:.0f} s since it started ({seconds / life:.0%})",
                )


def cpu_throttled(view: View, threshold: float) -> Found:
    """In a large part of the periods in which it wanted to run the quota stopped it."""
    periods = view.values(PERIODS)
    for labels, throttled in view.each(THROTTLED):
        if throttled > 0 and (ran := periods.get(labels, 0)) >= _PERIODS_ENOUGH and throttled / ran >= threshold:
            yield labels, f"its quota stopped it in {throttled:.0f} of the {ran:.0f} periods in which it ran ({throttled / ran:.0%})"


def paused(view: View, _: float) -> Found:
    """The container is frozen."""
    for labels, frozen in view.each(FROZEN):
        if frozen == 1:
            yield labels, "it is paused: none of its processes runs"


def crash_loop(view: View, threshold: float) -> Found:
    """It ended several times of one cause that nobody wanted, in 20 minutes."""
    for (labels, cause), deaths in view.recent.items():
        if deaths >= threshold and cause not in _WANTED:
            total = view.values(DEATHS).get((*labels, cause))
            so_far = "" if total is None else f", and {total:.0f} times so far"
            yield labels, f"it ended {deaths} times in 20 minutes with the cause {cause}{so_far}"


def forced_kill(view: View, threshold: float) -> Found:
    """The last stop that is known ended in SIGKILL: nothing was left of its grace."""
    left, stops = view.values(GRACE_LEFT), view.values(LAST_STOP)
    for labels, kills in view.each(FORCED_KILLS):
        if kills > threshold and (left.get(labels) == 0 or labels not in stops):
            took = f"; the last one took {stops[labels]:.1f} s" if labels in stops else ""
            yield labels, f"{kills:.0f} of its stops ended in SIGKILL because the grace period ran out{took}"


def created_never_started(view: View, threshold: float) -> Found:
    """Somebody made it and forgot it, or what should start it cannot."""
    for labels, created in view.each(CREATED):
        if (seconds := view.now - created) > threshold:
            yield labels, f"it was created {seconds / 3600:.1f} hours ago and never started"


def runtime_socket(view: View, _: float) -> Found:
    """Who is in the container can have the runtime do anything on the node."""
    for labels, mounted in view.values(SOCKET).items():
        if mounted == 1:
            yield labels, "the socket of the container runtime is mounted in it"


def capabilities(view: View, threshold: float) -> Found:
    """It may do what containers usually may not."""
    for labels, extra in view.values(CAPABILITIES).items():
        if extra > threshold:
            yield labels, f"it has {extra:.0f} capabilities beyond the runtime's default set"


def several_services(view: View, threshold: float) -> Found:
    """More than one service runs in it."""
    for labels, count in view.values(SERVICES).items():
        if count > threshold:
            yield labels, f"{count:.0f} services run in it that do not depend on each other"


def node_zombies(view: View, threshold: float) -> Found:
    """Zombies alone hold a large part of the node's PID table."""
    yield from _of_node(view, sum(value for _labels, value in view.each(NAMESPACE_ZOMBIES)), threshold, "zombies")


def node_pid_table_near(view: View, threshold: float) -> Found:
    """The node can soon start nothing any more."""
    yield from _of_node(view, view.values(NODE_THREADS).get((), 0), threshold, "tasks (threads and zombies)")


def _of_node(view: View, count: float, threshold: float, words: str) -> Found:
    """Compare with the smaller of the two limits."""
    settings = ((NODE_PID_LIMIT, "kernel.pid_max"), (NODE_THREADS_LIMIT, "kernel.threads-max"))
    limits = [(limit, setting) for metric, setting in settings for limit in view.values(metric).values() if limit > 0]
    if limits:
        limit, setting = min(limits)
        if count / limit > threshold:
            yield NODE, f"{count:.0f} {words} of the {limit:.0f} that the node allows ({setting}, {count / limit:.0%})"


def dying_cgroups(view: View, threshold: float) -> Found:
    """Removed cgroups pile up."""
    for (path,), count in view.each(DYING):
        if path == "/" and count > threshold:
            yield NODE, f"{count:.0f} removed cgroups still hold memory"


def leftovers(view: View, threshold: float) -> Found:
    """Something that should have gone with its container is there still."""
    kinds = (
        (LEFT_CGROUPS, "cgroups without a process"),
        (LEFT_SHIMS, "shims without a container"),
        (LEFT_MOUNTS, "overlay mounts of nobody"),
    )
    found = [f"{count:.0f} {words}" for metric, words in kinds for _labels, count in view.each(metric) if count > threshold]
    if found:
        yield NODE, f"left behind by containers that have ended: {', '.join(found)}"


def runtime_down(view: View, threshold: float) -> Found:
    """Containers run whose runtime does not."""
    found = [f"{count:.0f} without {labels[0]}" for labels, count in view.each(DAEMONLESS) if count > threshold]
    if found:
        yield NODE, f"containers run on without their daemon: {', '.join(found)}"


def _mib(value: float) -> str:
    return f"{value / 2**20:.1f} MiB"
