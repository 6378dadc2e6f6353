"""What a container's levels say, each in a few words: the same on the page of all containers and on its own."""

from agent.overview import View
from agent.web.html import NOTHING, Html, join
from agent.web.parts import UNKNOWN, badge, bar, cores, count, percent, size

_MUCH = 0.5
"""A share of the time that is worth a colour."""


def findings(view: View) -> Html:
    """Name what is wrong, and give the evidence of the worst."""
    if not view.findings:
        return NOTHING
    worst = view.findings[0]
    badges = join(_between([badge(finding.rule, finding.severity) for finding in view.findings], Html(", ")))
    return Html("%s<small>%s</small>") % (badges, worst.evidence)


def memory(view: View, *, is_complete: bool = True) -> Html:
    """Show memory against memory.high and the limit. `is_complete`: what is absent is so because there is none."""
    levels = view.levels
    used, limit, high = levels.get("memory_usage_bytes"), levels.get("memory_limit_bytes"), levels.get("memory_high_bytes")
    if used is None:
        return UNKNOWN
    drawn = bar(used, limit or high, levels.get("memory_working_set_bytes"), high)
    of = Html(" of %s") % size(limit) if limit is not None else _no_limit(is_complete=is_complete)
    return Html("%s%s%s%s") % (drawn, size(used), of, Html("<small>high %s</small>") % size(high) if high is not None else NOTHING)


def threads(view: View, *, is_complete: bool = True) -> Html:
    """Show threads, zombies included, against their limit."""
    used, limit = view.levels.get("threads"), view.levels.get("threads_limit")
    if used is None:
        return UNKNOWN
    return Html("%s%s%s") % (
        bar(used, limit),
        count(used),
        Html(" of %s") % count(limit) if limit is not None else _no_limit(is_complete=is_complete),
    )


def zombies(view: View) -> Html:
    """Count zombies, and say who fails to wait for them."""
    if not view.zombies:
        return UNKNOWN
    of_init, of_others = view.zombies.get("init", 0), view.zombies.get("other", 0)
    said = []
    if of_init:
        said.append(Html("%s that PID 1 does not wait for") % badge(f"{of_init:,.0f}", "warning"))
    if of_others:
        said.append(Html("%s that another parent does not wait for") % badge(f"{of_others:,.0f}", "warning"))
    return join(_between(said, Html("<br>"))) if said else Html("0")


def init(view: View) -> Html:
    """Say what PID 1 is, and whether it hears the stop signal."""
    told = view.init
    who = Html("<code>%s</code>%s") % (told.comm, _role(told.role)) if told.comm else UNKNOWN
    if told.handles is None:
        return who if not told.comm else Html("%s<small>whether it handles its stop signal is unknown</small>") % who
    word = (
        Html("<small>handles %s</small>") % told.stop_signal
        if told.handles
        else Html("<br>%s") % badge(f"does not handle {told.stop_signal}", "warning")
    )
    wrapper = Html("<br>%s") % badge("a shell around the program", "warning") if told.is_wrapper else NOTHING
    return Html("%s%s%s") % (who, word, wrapper)


def cpu(view: View, *, is_complete: bool = True) -> Html:
    """Show processors used against the quota, and the share of its periods in which the container was stopped."""
    limit, used, throttled = view.levels.get("cpu_limit_cores"), view.rates.cpu_cores, view.rates.throttled_share
    of = Html(" of %s") % cores(limit) if limit is not None else _no_limit(is_complete=is_complete)
    stopped = NOTHING
    if limit is not None:
        stopped = Html("<small>throttled %s</small>") % percent(throttled)
        if throttled is not None and throttled >= _MUCH:
            stopped = Html("<br>%s") % badge(Html("throttled %s") % percent(throttled), "warning")
    return Html("%s%s%s%s") % (bar(used, limit), cores(used), of, stopped)


def pressure(view: View) -> Html:
    """Show the shares of time in which some task waited."""
    rates = view.rates
    waits = [("CPU", rates.cpu_waiting_share), ("memory", rates.memory_waiting_share), ("I/O", rates.io_waiting_share)]
    if all(share is None for _, share in waits):
        return UNKNOWN
    return join(_between([Html("%s %s") % (what, percent(share)) for what, share in waits], Html("<br>")))


def _role(role: str | None) -> Html:
    known = {"init": Html(", an init"), "shell": Html(", a shell"), "app": Html(", the program itself")}
    return known.get(role or "", NOTHING)


def _no_limit(*, is_complete: bool) -> Html:
    return Html("<small>no limit</small>") if is_complete else Html("<small>limit %s</small>") % UNKNOWN


def _between(parts: list[Html], separator: Html) -> list[Html]:
    return [each for part in parts for each in (separator, part)][1:]
