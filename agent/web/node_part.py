"""The part of the page that is about the node and the agent: what it sees, what it does not and why, and what it costs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent import __version__
from agent.overview import Overview
from agent.status import Status
from agent.web.html import NOTHING, Html, escape, join
from agent.web.parts import UNKNOWN, badge, bar, count, section, table


@dataclass(frozen=True, slots=True)
class About:
    """What the page says beside the pass. `notes` are remarks about this node."""

    telemetry_path: str
    sources: Sequence[Status]
    collectors: Sequence[str]
    notes: Sequence[str] = ()
    node: str = ""


def node_part(seen: Overview, about: About) -> Html:
    """Render what is known of the node, the sources, the collectors and the agent."""
    return join(
        [
            section("node", "Node", table("", ("What", "Now"), _node(seen))),
            *(Html("<p>%s</p>") % note for note in about.notes),
            section("sources", "Sources", _sources(about.sources)),
            section("collectors", "Collectors, last pass", _collectors(about.collectors, seen.failures)),
            section("agent", "This agent", Html("<p>%s</p>") % _agent(), _links(about.telemetry_path)),
        ]
    )


def _node(seen: Overview) -> Iterator[tuple[object, object]]:
    node = seen.node

    def one(name: str) -> float | None:
        return next((value for _, value in node.get(name, ())), None)

    threads, most = one("coroner_node_threads"), one("coroner_node_threads_limit")
    numbers = one("coroner_node_pid_limit")
    whole = min(filter(None, (most, numbers)), default=None)
    yield "PID table: tasks on the node, zombies included", Html("%s%s of %s") % (bar(threads, whole), count(threads), count(whole))
    yield "Zombies in PID namespaces without a container", _zombies(node)
    yield "Containers by state", _by_label(node, "coroner_containers")
    yield "OOM kills counted, by whose limit was hit", _by_label(node, "coroner_oom_kills_total")
    yield "Dying cgroups, which still hold memory, by slice", _by_label(node, "coroner_cgroup_dying_descendants")
    for name, what in _LEFTOVERS:
        yield what, count(one(name))
    yield "Containers that live on without their daemon", _by_label(node, "coroner_containers_without_daemon")
    yield "Running containers that nobody has named", count(one("coroner_containers_unnamed"))


_LEFTOVERS = (
    ("coroner_leftover_cgroups", "Leftover cgroups of containers"),
    ("coroner_leftover_shims", "Leftover shims"),
    ("coroner_leftover_overlay_mounts", "Leftover overlay mounts"),
)


def _by_label(node: Mapping[str, Sequence[tuple[Sequence[str], float]]], name: str) -> Html:
    found = node.get(name, ())
    shown = [
        Html("%s%s: %s") % (Html(", ") if number else NOTHING, labels[0], count(value)) for number, (labels, value) in enumerate(found)
    ]
    return join(shown) or UNKNOWN


def _zombies(node: Mapping[str, Sequence[tuple[Sequence[str], float]]]) -> Html:
    found = node.get("coroner_pid_namespace_zombies")
    return UNKNOWN if found is None else count(sum(value for labels, value in found if not any(labels[1:])))


def _sources(sources: Iterable[Status]) -> Html:
    rows = ((source.source, _state(source), source.reason) for source in sources)
    return table("", ("Source", "State", "What is missing, and what to do"), rows)


def _state(source: Status) -> Html:
    if source.is_up:
        return badge("up", "good")
    return badge("blind", "critical") if source.is_expected else badge("not here", "info")


def _collectors(collectors: Iterable[str], failures: Mapping[str, str]) -> Html:
    names = [*(["census"] if "census" in failures else []), *collectors]
    rows = ((name, badge("failed", "critical") if name in failures else badge("ok", "good"), failures.get(name, "")) for name in names)
    return table("", ("Collector", "State", "Why"), rows)


def _agent() -> Html:
    import psutil  # noqa: PLC0415 - it holds more than 1 MiB, and few look at this page

    process = psutil.Process()
    with process.oneshot():
        cpu, memory = process.cpu_times(), process.memory_info()
        footprint = (
            f"{memory.rss / 2**20:.0f} MiB resident, {cpu.user + cpu.system:.1f} s of CPU used, "
            f"{process.num_fds()} open files, {process.num_threads()} threads"
        )
    started = datetime.fromtimestamp(process.create_time(), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return escape(f"Version {__version__}, runs since {started}: {footprint}.")


def _links(telemetry_path: str) -> Html:
    # Relative, as all links: the path begins with a slash, the page is at the root.
    links = [(telemetry_path.lstrip("/"), "Metrics"), *LINKS]
    return Html('<nav aria-label="Data">%s</nav>') % join(Html('<a href="%s">%s</a> ') % each for each in links)


LINKS = (
    ("api/v1/containers", "Containers"),
    ("api/v1/containers/schema", "their schema"),
    ("api/v1/findings", "What is wrong now"),
    ("api/v1/victims", "Victims of the OOM killer"),
    ("api/v1/verdicts", "Why containers ended"),
    ("healthz", "Health"),
    ("readyz", "Readiness"),
)
"""The data behind the pages."""
