"""The catalogue (collectors/README.md) has what the code declares and what the pages show, name by name; nothing more, nothing less."""

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import agent
import collectors
from collectors.base import CONTAINER, Collector, Metric, Sample, counter, gauge
from collectors.deaths import DeathCounts
from collectors.inquest.kills import KillLedger
from collectors.kernel.files import ReadError
from collectors.life import Life
from tests.nodes import golden

ROOT = Path(__file__).parents[1]
CATALOGUE = (ROOT / "collectors" / "README.md").read_text(encoding="utf-8")

COLLECTORS = collectors.all_collectors(KillLedger(), DeathCounts(), Life())
HELPERS = {"base", "forensics"}
AGENT_SECTION = "The agent itself"

KEPT: Mapping[str, set[str]] = {
    "coroner_build_info": {"version", "python_version"},
    "coroner_source_up": {"source"},
    "coroner_scrape_collector_success": {"collector"},
    "coroner_scrape_collector_duration_seconds": {"collector"},
    "coroner_container_info": {*CONTAINER, "container_id", "image", "runtime"},
    **{f"coroner_container_memory_{what}_bytes": {*CONTAINER} for what in ("usage", "working_set", "peak", "limit", "high", "low")},
    **{
        f"coroner_container_memory_events_{what}_total": {*CONTAINER}
        for what in ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
    },
    "coroner_container_cpu_usage_seconds_total": {*CONTAINER},
    "coroner_container_cpu_cfs_periods_total": {*CONTAINER},
    "coroner_container_cpu_cfs_throttled_periods_total": {*CONTAINER},
    "coroner_container_cpu_cfs_throttled_seconds_total": {*CONTAINER},
    "coroner_container_cpu_limit_cores": {*CONTAINER},
    "coroner_container_threads": {*CONTAINER},
    "coroner_container_threads_limit": {*CONTAINER},
    "coroner_container_threads_peak": {*CONTAINER},
    "coroner_container_fork_failures_total": {*CONTAINER},
    **{
        f"coroner_container_pressure_{resource}_{how}_seconds_total": {*CONTAINER}
        for resource in ("cpu", "memory", "io")
        for how in ("waiting", "stalled")
    },
    "coroner_container_zombies": {*CONTAINER, "parent"},
    "coroner_container_oldest_zombie_timestamp_seconds": {*CONTAINER},
    "coroner_pid_namespace_zombies": {*CONTAINER, "pid_namespace"},
    "coroner_pid_namespace_processes": {*CONTAINER, "pid_namespace"},
    "coroner_container_init_info": {*CONTAINER, "comm", "role"},
    "coroner_container_init_handles_stop_signal": {*CONTAINER, "signal"},
    "coroner_container_oom_kills_total": {*CONTAINER},
    "coroner_container_deaths_total": {*CONTAINER, "cause"},
    "coroner_container_forced_kills_total": {*CONTAINER},
    "coroner_container_last_stop_duration_seconds": {*CONTAINER},
    "coroner_oom_kills_total": {"scope"},
    "coroner_kmsg_lost_records_total": set(),
    "coroner_kmsg_forged_records_total": set(),
    "coroner_container_frozen": {*CONTAINER},
    "coroner_container_exec_sessions": {*CONTAINER},
    "coroner_containers": {"state"},
    "coroner_cgroup_dying_descendants": {"cgroup"},
}
"""What others query, with the labels they query it by: a rename breaks their dashboards and alerts."""

NOT_BASE_UNITS = re.compile(
    r"_(milli|micro|nano|kilo|mega|giga|kibi|mebi|gibi)\w*|_(ms|us|usec|ns|msec|minutes?|hours?|days?|jiffies|ticks|kb|kib|mb|mib|gb|gib|pages)"
    r"(?=_|$)|_(percent|percentage|average|avg\d*|age)(?=_|$)"
)


@dataclass(frozen=True)
class Row:
    """A metric as the catalogue has it."""

    section: str
    kind: str
    labels: frozenset[str]


def rows(text: str) -> list[tuple[str, Row]]:
    """Return the name and the rest of every row of every table, by the section it is in."""
    found = []
    section, base = "", frozenset[str]()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| Metric "):
            base = frozenset(CONTAINER if cells[2] == "Labels beyond the container's" else ())
        elif line.startswith("| `"):
            named = cells[2].removesuffix("(no container labels)").strip()
            own = base if named == cells[2] else frozenset[str]()
            found.append((cells[0].strip("`"), Row(section, cells[1], own | {label.strip() for label in named.split(",") if label})))
    return found


def modules() -> Iterator[ModuleType]:
    """Import every module of both packages."""
    for package in (agent, collectors):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(found.name)


def declared() -> dict[Metric, str]:
    """Return every metric that some module has as a global, and the catalogue's section for it."""
    found: dict[Metric, str] = {}
    for module in modules():
        package, _, name = module.__name__.partition(".")
        for value in vars(module).values():
            if isinstance(value, Metric):
                found.setdefault(value, name if package == "collectors" else AGENT_SECTION)
    for metric in [metric for metric, section in found.items() if section == AGENT_SECTION]:
        if (collector := next((each for each in COLLECTORS if metric in each.metrics), None)) is not None:
            found[metric] = collector.name  # the agent fills it, too
    return found


def naming_faults(metric: Metric) -> list[str]:
    """Say what is wrong with a metric's name, labels and help."""
    name = metric.name
    unit = re.search(r"_(seconds|bytes)(?!(_total)?$)", name)
    checks = {
        "does not begin with coroner_": not re.fullmatch(r"coroner_[a-z][a-z0-9]*(_[a-z0-9]+)*", name),
        "is a counter without _total, or has it and is none": (metric.kind == "counter") != name.endswith("_total"),
        "is not in base units": bool(NOT_BASE_UNITS.search(name.removeprefix("coroner"))),
        "does not end in its unit": unit is not None,
        "has labels that Prometheus keeps for itself, or not in its style": not all(
            re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", label) and label not in ("le", "quantile", "job", "instance")
            for label in metric.labels
        ),
        "has a label twice": len(set(metric.labels)) < len(metric.labels),
        "has no help that ends with a period": not re.fullmatch(r"\S.*\S\.", metric.help),
        "is of a container but lacks its labels": name.startswith("coroner_container_") and not set(CONTAINER) <= set(metric.labels),
    }
    return [f"{name} {fault}" for fault, is_so in checks.items() if is_so]


def test_catalogue_has_a_row_for_every_metric_and_no_other() -> None:
    """One row each, in the section of the collector, with its type and its labels."""
    in_code = Counter((metric.name, Row(section, metric.kind, frozenset(metric.labels))) for metric, section in declared().items())

    assert len(in_code) > 50
    assert Counter(rows(CATALOGUE)) == in_code


def test_catalogue_reader_sees_a_wrong_row() -> None:
    """The comparison above would notice: section, type and labels are read, also where there are none of a container."""
    text = """
## zombies
| Metric | Type | Labels beyond the container's | Meaning |
|---|---|---|---|
| `coroner_a` | gauge | parent | |
| `coroner_b` | gauge | state (no container labels) | |
## host
| Metric | Type | Labels | Meaning |
|---|---|---|---|
| `coroner_c_total` | counter | | |
"""
    assert rows(text) == [
        ("coroner_a", Row("zombies", "gauge", frozenset({*CONTAINER, "parent"}))),
        ("coroner_b", Row("zombies", "gauge", frozenset({"state"}))),
        ("coroner_c_total", Row("host", "counter", frozenset())),
    ]


def test_sections_are_the_collectors_and_the_agent() -> None:
    """In the order of the page."""
    assert re.findall(r"(?m)^## (.*)$", CATALOGUE) == [*collectors.NAMES, AGENT_SECTION]


def test_one_word_opens_every_door() -> None:
    """Module = collector = flag."""
    assert [collector.name for collector in COLLECTORS] == list(collectors.NAMES)
    assert [type(collector).__module__ for collector in COLLECTORS] == [f"collectors.{name}" for name in collectors.NAMES]


def test_every_collector_module_is_in_the_tuple() -> None:
    """A new file that nobody lists would be measured by nobody."""
    assert {module.name for module in pkgutil.iter_modules(collectors.__path__)} - {"inquest", "kernel"} == {*collectors.NAMES, *HELPERS}


@pytest.mark.parametrize("collector", COLLECTORS, ids=[collector.name for collector in COLLECTORS])
def test_collector_declares_each_metric_of_its_module_once(collector: Collector) -> None:
    """`metrics` is what the catalogue, the flags and the page rely on."""
    own = Counter((metric.name, metric.kind, metric.labels) for metric, section in declared().items() if section == collector.name)

    assert Counter((metric.name, metric.kind, metric.labels) for metric in collector.metrics) == own
    assert own


def test_modules_of_the_agent_declare_each_metric_once() -> None:
    """Their METRICS are what they may put on the page."""
    listed: list[Metric] = []
    for module in modules():
        if module.__name__.partition(".")[0] == "agent":
            listed += getattr(module, "METRICS", ())

    assert Counter(listed) == Counter(metric for metric, section in declared().items() if section == AGENT_SECTION)


def test_no_name_is_declared_twice() -> None:
    """Two families of one name would make the page invalid; so would a counter and a gauge that differ only in _total."""
    names = Counter(metric.name.removesuffix("_total") for metric in declared())

    assert [name for name, times in names.items() if times > 1] == []


def test_names_labels_and_helps_follow_the_rules() -> None:
    """Of every metric there is."""
    assert [fault for metric in declared() for fault in naming_faults(metric)] == []


@pytest.mark.parametrize(
    ("metric", "fault"),
    [
        (gauge("container_memory_usage_bytes", "Theirs."), "does not begin with coroner_"),
        (gauge("node_threads", "Theirs.", ()), "does not begin with coroner_"),
        (gauge("coroner_Threads", "Loud.", ()), "does not begin with coroner_"),
        (counter("coroner_kills", "Kills.", ()), "is a counter without _total"),
        (gauge("coroner_kills_total", "Kills.", ()), "is a counter without _total"),
        (gauge("coroner_wait_milliseconds", "Time.", ()), "is not in base units"),
        (counter("coroner_wait_usec_total", "Time.", ()), "is not in base units"),
        (gauge("coroner_cpu_percent", "Share.", ()), "is not in base units"),
        (gauge("coroner_zombie_age_seconds", "Age.", ()), "is not in base units"),
        (gauge("coroner_memory_kb", "Memory.", ()), "is not in base units"),
        (gauge("coroner_bytes_used", "Memory.", ()), "does not end in its unit"),
        (gauge("coroner_used", "Used.", ("le",)), "has labels that Prometheus keeps"),
        (gauge("coroner_used", "Used.", ("state", "state")), "has a label twice"),
        (gauge("coroner_used", "Used", ()), "has no help"),
        (gauge("coroner_used", "", ()), "has no help"),
        (gauge("coroner_container_used", "Used.", ("container",)), "lacks its labels"),
    ],
)
def test_naming_rules_can_be_broken(metric: Metric, fault: str) -> None:
    """Each rule finds what it is there for."""
    assert any(fault in found for found in naming_faults(metric))


@pytest.mark.parametrize("name", KEPT)
def test_what_others_query_is_there(name: str) -> None:
    """By this name and with at least these labels."""
    (metric,) = [metric for metric in declared() if metric.name == name]

    assert KEPT[name] <= set(metric.labels)
    if name != "coroner_container_info":
        assert KEPT[name] == set(metric.labels)


def emitted(collector: Collector, node: object) -> Iterator[Sample]:
    """Yield what a collector does, up to where it gives up."""
    try:
        yield from collector.collect(node)  # type: ignore[arg-type] # the census' own
    except ReadError:
        return


@pytest.mark.parametrize("node", golden.NODES)
def test_every_sample_is_of_a_metric_that_its_collector_declares(node: str, tmp_path: Path) -> None:
    """With as many label values as the metric has labels."""
    app, clock = golden.build(golden.HERE / node, str(tmp_path))
    sampler = app.gather._sampler
    seen: set[str] = set()

    def undeclared(samples: Iterable[Sample], metrics: Iterable[Metric]) -> list[Sample]:
        return [sample for sample in samples if sample[0] not in metrics or len(sample[1]) != len(sample[0].labels)]

    app.gather._census.take(sampler.files, sampler.process_table)
    clock.now += 10
    census = app.gather._census.take(sampler.files, sampler.process_table)
    for collector in app.gather._collectors:
        samples = list(emitted(collector, census))
        seen |= {sample[0].name for sample in samples}
        assert undeclared(samples, collector.metrics) == []
    sampler.retire()
    assert undeclared(app.own_samples(), [metric for metric, section in declared().items() if section == AGENT_SECTION]) == []
    assert seen


def test_golden_nodes_have_every_metric() -> None:
    """A metric that is on no golden page is one that no test has seen on a page."""
    shown = {name for node in golden.NODES for name in golden.families((golden.HERE / node / "golden.prom").read_text(encoding="utf-8"))}

    assert {metric.name.removesuffix("_total") for metric in declared()} == shown
