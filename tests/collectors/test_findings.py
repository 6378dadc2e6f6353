"""Findings: each rule over literal samples, what makes it blind, and what a container may write."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import all_collectors
from collectors.base import CONTAINER, Collector, Column, Metric, Sample, Samples, gauge
from collectors.deaths import DeathCounts
from collectors.findings import FINDINGS, LOOKED, NODE, NODE_FINDINGS, RULES, Examination, Findings, Rule, blinded, examine
from collectors.headroom import Headroom
from collectors.inquest.finding import View
from collectors.inquest.kills import KillLedger
from collectors.kernel.files import Forbidden
from collectors.life import Life
from collectors.memory import Memory
from collectors.pids import Pids
from tests.tree import FULL, LABELS, A, B, C, cgroup, close, collect, docker, node, remove_cgroup, tree

ROOT = Path(__file__).parents[2]
NOW = 1_767_225_600.0
WEB = ("shop", "web-0", "web")
JOB = ("", "", "job")
RAN = sorted({name for rule in RULES for name in rule.collectors})
SHORT = "coroner_container_"
RAN_WELL = gauge("coroner_scrape_collector_success", "Help.", ("collector",))
RECENT = "recent deaths"
"""In place of a metric: deaths of the container web by cause."""

Values = dict[tuple[str, ...], float]


def samples(values: Values, failed: Iterable[str] = (), off: Iterable[str] = ()) -> list[Sample]:
    """Make a pass: values by (metric without coroner_container_, or whole, *label values of the container web or the node)."""
    made: dict[str, Metric] = {}
    found: list[Sample] = []
    for (name, *labels), value in values.items():
        if name == RECENT:
            continue
        whole = name if name.startswith("coroner_") else SHORT + name
        mine = (*WEB, *labels) if whole.startswith(SHORT) else tuple(labels)
        found.append((made.setdefault(whole, gauge(whole, "Help.", ())), mine, value))
    success = gauge("coroner_scrape_collector_success", "Help.", ("collector",))
    return [*found, *((success, (name,), int(name not in failed)) for name in RAN if name not in off)]


def recent(values: Values) -> dict[tuple[tuple[str, ...], str], int]:
    """Return the deaths of the last 20 minutes that a pass has beside its samples."""
    return {(WEB, labels[0]): int(value) for (name, *labels), value in values.items() if name == RECENT}


def found(values: Values, **options: Any) -> dict[str, str]:
    """Return the evidence by rule."""
    examination = examine(samples(values), now=NOW, recent=recent(values), **options)
    assert all(finding.labels in (WEB, NODE) for finding in examination.findings)
    assert examination.could_not_look == []
    return {finding.rule: finding.evidence for finding in examination.findings}


CALM: Values = {
    ("threads",): 7,
    ("threads_limit",): 100,
    ("fork_failures_total",): 0,
    ("zombies", "init"): 0,
    ("zombies", "other"): 0,
    ("init_info", "app", "app"): 1,
    ("init_handles_stop_signal", "SIGTERM"): 1,
    ("init_is_wrapper",): 0,
    ("memory_usage_bytes",): 10 << 20,
    ("memory_headroom_bytes", "container"): 54 << 20,
    ("memory_nearest_limit_bytes", "container"): 64 << 20,
    ("memory_events_high_total",): 0,
    ("memory_events_max_total",): 0,
    ("memory_events_oom_kill_total",): 0,
    ("pressure_memory_stalled_seconds_total",): 0,
    ("cpu_cfs_periods_total",): 10_000,
    ("cpu_cfs_throttled_periods_total",): 100,
    ("frozen",): 0,
    ("start_timestamp_seconds",): NOW - 86_400,
    ("deaths_total", "error"): 0,
    ("forced_kills_total",): 0,
    ("runtime_socket_mounted",): 0,
    ("extra_capabilities",): 0,
    ("services",): 1,
    ("coroner_pid_namespace_zombies", "4026531836", "", "", ""): 3,
    ("coroner_node_threads",): 500,
    ("coroner_node_threads_limit",): 15_000,
    ("coroner_node_pid_limit",): 32_768,
    ("coroner_cgroup_dying_descendants", "/"): 40,
    ("coroner_leftover_cgroups",): 0,
    ("coroner_leftover_shims",): 0,
    ("coroner_leftover_overlay_mounts",): 0,
    ("coroner_containers_without_daemon", "dockerd"): 0,
}
"""A container and a node with which nothing is wrong."""

HELD_BACK: Values = {("memory_headroom_bytes", "container"): 3 << 20, ("memory_events_max_total",): 1}
CANDIDATE = ("oom_candidate_info", "container", "app", "init", "container")
WRONG: dict[str, tuple[Values, str]] = {
    "node-pid-table-near": ({("coroner_node_threads",): 12_001}, "12001 tasks (threads and zombies) of the 15000 that the node allows"),
    "node-zombies": ({("coroner_pid_namespace_zombies", "4026532000", *WEB): 3748}, "3751 zombies of the 15000"),
    "runtime-down": ({("coroner_containers_without_daemon", "dockerd"): 2}, "2 without dockerd"),
    "dying-cgroups": ({("coroner_cgroup_dying_descendants", "/"): 5001}, "5001 removed cgroups"),
    "leftovers": ({("coroner_leftover_shims",): 1}, "1 shims without a container"),
    "memory-near-limit": (
        HELD_BACK | {CANDIDATE: 1},
        "3.0 MiB left below the limit of 64.0 MiB of the container; the OOM killer would take 'app'",
    ),
    "oom-kill-of-child": ({("memory_events_oom_kill_total",): 1}, "1 OOM kills in this life"),
    "init-wrapper": (
        {
            ("init_is_wrapper",): 1,
            ("init_info", "app", "app"): 0,
            ("init_info", "dash", "shell"): 1,
            ("init_handles_stop_signal", "SIGTERM"): 0,
        },
        "the shell 'dash' without a trap",
    ),
    "init-deaf": ({("init_handles_stop_signal", "SIGTERM"): 0}, "PID 1, 'app', neither catches nor awaits SIGTERM"),
    "forced-kill": (
        {("forced_kills_total",): 2, ("last_stop_duration_seconds",): 10.25, ("last_stop_grace_left_seconds",): 0},
        "2 of its stops ended in SIGKILL because the grace period ran out; the last one took 10.2 s",
    ),
    "crash-loop": (
        {("deaths_total", "error"): 7, (RECENT, "error"): 3},
        "3 times in 20 minutes with the cause error, and 7 times so far",
    ),
    "zombies-near-pid-limit": (
        {("zombies", "init"): 5, ("zombies", "other"): 4, ("threads_limit",): 17},
        "zombies hold 9 of the 17 PIDs that the container may have (53%)",
    ),
    "zombies-under-init": ({("zombies", "init"): 6}, "6 zombies whose parent is PID 1"),
    "zombies-under-child": ({("zombies", "other"): 6}, "6 zombies whose parent is another process than PID 1"),
    "pid-limit-near": ({("threads",): 81}, "81 tasks (threads and zombies) of the 100"),
    "fork-failures": (
        {("fork_failures_total",): 4},
        "refused 4 forks in it since it started; its PID limit is 100, and 7 tasks are there now",
    ),
    "memory-stalled": (
        {("pressure_memory_stalled_seconds_total",): 10, ("start_timestamp_seconds",): NOW - 100},
        "10 s of the 100 s since it started (10%)",
    ),
    "paused": ({("frozen",): 1}, "it is paused"),
    "cpu-throttled": ({("cpu_cfs_periods_total",): 600, ("cpu_cfs_throttled_periods_total",): 150}, "150 of the 600 periods"),
    "no-memory-limit": ({("memory_nearest_limit_bytes", "container"): 0}, "uses 10.0 MiB"),
    "created-never-started": ({("created_timestamp_seconds",): NOW - 7200}, "created 2.0 hours ago"),
    "runtime-socket-mounted": ({("runtime_socket_mounted",): 1}, "the socket of the container runtime"),
    "extra-capabilities": ({("extra_capabilities",): 27}, "27 capabilities"),
    "several-services": ({("services",): 3}, "3 services"),
}
"""What makes each rule find something in place of what is calm, and a part of its evidence. A value of 0 stands for no sample at all where
an info series or a limit is meant."""

ABSENT = (("init_info", "app", "app"), ("memory_nearest_limit_bytes", "container"))


def changed(values: Values) -> Values:
    """Return the calm pass with these values."""
    return {key: value for key, value in (CALM | values).items() if value or key not in ABSENT}


def test_nothing_is_wrong_with_what_is_calm() -> None:
    """And every rule has looked."""
    assert examine(samples(CALM), now=NOW) == Examination(containers={}, time=NOW, findings=[], could_not_look=[], left_out=[])


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_each_rule_finds_its_own_and_nothing_else(rule: Rule) -> None:
    """With the numbers in the evidence."""
    values, evidence = WRONG[rule.id]
    seen = found(changed(values))

    assert seen.keys() == {rule.id}
    assert evidence in seen[rule.id]


@pytest.mark.parametrize(
    "values",
    [
        {("coroner_node_threads",): 12_000},
        {("coroner_pid_namespace_zombies", "4026532000", *WEB): 3747},
        {("coroner_cgroup_dying_descendants", "/"): 5000, ("coroner_cgroup_dying_descendants", "/system.slice"): 9000},
        {("memory_headroom_bytes", "container"): 3 << 20},
        {**HELD_BACK, ("memory_headroom_bytes", "container"): 4 << 20},
        {**HELD_BACK, ("memory_headroom_bytes", "container"): 5, ("memory_nearest_limit_bytes", "container"): 100},
        {("init_handles_stop_signal", "SIGTERM"): 1, ("init_is_wrapper",): 0, ("init_info", "bash", "shell"): 1},
        {("forced_kills_total",): 2, ("last_stop_duration_seconds",): 2.5, ("last_stop_grace_left_seconds",): 7.5},
        {("forced_kills_total",): 2, ("last_stop_duration_seconds",): 2.5},
        {("memory_nearest_limit_bytes", "container"): 0, ("memory_limit_bytes",): 64 << 20},
        {("deaths_total", "error"): 30, (RECENT, "error"): 2, (RECENT, "crashed"): 2},
        {("deaths_total", "completed"): 30, (RECENT, "completed"): 30, (RECENT, "stopped"): 30},
        {("zombies", "init"): 5, ("zombies", "other"): 5},
        {("zombies", "init"): 5, ("zombies", "other"): 3, ("threads_limit",): 16},
        {("threads",): 80},
        {("pressure_memory_stalled_seconds_total",): 9, ("start_timestamp_seconds",): NOW - 30},
        {("pressure_memory_stalled_seconds_total",): 30, ("start_timestamp_seconds",): NOW + 30},
        {("cpu_cfs_periods_total",): 599, ("cpu_cfs_throttled_periods_total",): 599},
        {("cpu_cfs_periods_total",): 1000, ("cpu_cfs_throttled_periods_total",): 249},
        {("created_timestamp_seconds",): NOW - 3600},
    ],
)
def test_what_is_near_a_threshold_but_on_its_good_side_is_no_finding(values: Values) -> None:
    """Each by one step."""
    assert found(changed(values)) == {}


def test_counters_of_the_dead_are_not_findings_of_the_living() -> None:
    """They stay for 15 minutes without any level; a loop that is over for now is one all the same."""
    ended: Values = {
        ("memory_events_oom_kill_total",): 3,
        ("fork_failures_total",): 9,
        ("cpu_cfs_periods_total",): 1000,
        ("cpu_cfs_throttled_periods_total",): 10,
        (RECENT, "oom_kill"): 3,
        ("forced_kills_total",): 0,
    }
    assert found(ended).keys() == {"crash-loop"}


@pytest.mark.parametrize("scope", ["pod", "ancestor"])
def test_at_the_limit_of_others_the_headroom_alone_decides(scope: str) -> None:
    """What is reclaimed there is in no container's memory.events: as in the alert."""
    values: Values = {("memory_headroom_bytes", scope): 3 << 20, ("memory_nearest_limit_bytes", scope): 64 << 20}
    without: Values = {key: value for key, value in CALM.items() if key[-1] != "container"}

    assert found(without | values).keys() == {"memory-near-limit"}


def test_a_failed_collector_makes_its_rules_unable_to_look_but_what_they_see_is_found() -> None:
    """One malformed file fails a collector and costs one value."""
    examination = examine(
        samples(changed({("zombies", "init"): 6}), failed=["zombies"]), now=NOW, failures={"zombies": "/proc/7/stat: cut"}
    )

    assert [finding.rule for finding in examination.findings] == ["zombies-under-init"]
    assert dict(examination.could_not_look) == dict.fromkeys(
        ("node-zombies", "zombies-near-pid-limit", "zombies-under-init", "zombies-under-child"), "zombies: /proc/7/stat: cut"
    )


def test_a_collector_that_is_off_leaves_its_rules_out() -> None:
    """That is somebody's choice, and no blindness."""
    examination = examine(samples(CALM, off=["pids"]), now=NOW)

    assert examination.could_not_look == []
    assert dict(examination.left_out) == dict.fromkeys(
        [rule.id for rule in RULES if "pids" in rule.collectors], "the collector pids does not run"
    )


def test_blind_sources_are_never_clean() -> None:
    """Without /proc nobody knows of zombies; without the cgroups of anything."""
    without_limits = examine(
        samples(changed({("memory_nearest_limit_bytes", "container"): 0}), failed=["headroom"]), now=NOW, failures={"headroom": "late"}
    )
    assert without_limits.findings == [], "a limit that could not be read is not one that is missing"
    assert "no-memory-limit" in dict(without_limits.could_not_look)

    without_proc = dict(examine(samples(CALM), now=NOW, blind={"proc": "hidepid=2"}).could_not_look)
    assert without_proc.keys() == {rule.id for rule in RULES if "proc" in rule.sources}
    assert set(without_proc.values()) == {"proc: hidepid=2"}

    without_cgroups = examine(samples({}), now=NOW, blind={"cgroup": "no cgroup v2"})
    others = {"node-pid-table-near", "node-zombies", "created-never-started"}
    assert dict(without_cgroups.could_not_look).keys() == {rule.id for rule in RULES} - others


def test_what_a_container_closed_is_no_finding_about_it_and_no_other_loses_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is closed is not no limit; the rules whose collectors could not read it say that they did not see all."""
    unlimited = {**FULL, "memory.max": "max\n"}
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B), unlimited), **cgroup(docker(C), unlimited)})
    close(monkeypatch, f"{tmp_path}/cgroup{docker(A)}/memory.max", f"{tmp_path}/cgroup{docker(C)}/memory.max")
    seen = node(tmp_path)
    refused: dict[str, Sequence[Forbidden]] = {}
    collectors: tuple[Collector, ...] = Memory(), Headroom(), Pids()
    for collector in collectors:
        seen.closed.clear()
        seen.samples.add(collector.collect(seen))
        seen.samples.add([(RAN_WELL, (collector.name,), 1)])
        if seen.closed:
            refused[collector.name] = tuple(seen.closed)
    findings = Findings(clock=lambda: NOW)
    shown = collect(findings, replace(seen, refused=refused))

    assert {finding.labels for finding in findings.latest.findings if finding.rule == "no-memory-limit"} == {LABELS[B]}
    reasons = dict(findings.latest.could_not_look)
    assert re.search("^memory: .*/docker/[ac]{64}/memory.max: Permission denied", reasons["no-memory-limit"])
    assert (shown[LOOKED.name, ("no-memory-limit",)], shown[LOOKED.name, ("pid-limit-near",)]) == (0, 1)


def test_what_is_hidden_makes_no_rule_about_containers_clean(tmp_path: Path) -> None:
    """It finds what it finds."""
    tree(tmp_path, cgroup(docker(A), {**FULL, "pids.current": "100\n"}))
    seen = replace(node(tmp_path), hidden={"/user.slice"})
    seen.samples.add(Pids().collect(seen))
    seen.samples.add([(RAN_WELL, ("pids",), 1)])
    findings = Findings(clock=lambda: NOW)
    shown = collect(findings, seen)

    assert {finding.rule for finding in findings.latest.findings} == {"pid-limit-near", "fork-failures"}
    reason = "cgroup: /user.slice is closed to the agent, which lacks CAP_DAC_READ_SEARCH"
    assert dict(findings.latest.could_not_look) == {"pid-limit-near": reason, "fork-failures": reason}
    assert shown[LOOKED.name, ("pid-limit-near",)] == 0


def test_with_a_container_that_ends_between_two_collectors_nothing_is_wrong(tmp_path: Path) -> None:
    """Its limit must not seem to be missing because its usage was read in time."""
    tree(tmp_path, cgroup(docker(A), FULL))
    seen = node(tmp_path)
    first, second = (each for each in all_collectors(KillLedger(), DeathCounts(), Life()) if each.name in ("memory", "headroom"))
    page = list(first.collect(seen))
    remove_cgroup(tmp_path, docker(A))
    page += second.collect(seen)

    assert page
    assert examine([*page, *samples({})], now=NOW).findings == []


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.witness], ids=lambda rule: str(rule.id))
def test_what_the_kernel_does_not_have_leaves_a_rule_out(rule: Rule) -> None:
    """As pressure on a kernel without PSI."""
    without = {key: value for key, value in CALM.items() if rule.witness not in (key[0], SHORT + key[0])}

    assert (rule.id, rule.without) in examine(samples(without), now=NOW).left_out
    assert rule.without


def test_a_rule_that_raises_costs_only_itself() -> None:
    """And says that it could not look."""

    def fail(_view: View, _threshold: float) -> Iterator[tuple[tuple[str, ...], str]]:
        yield WEB, "half a finding"
        raise KeyError("web")

    rules = [replace(RULES[0], id="broken", find=fail), *RULES]
    examination = examine(samples(changed({("frozen",): 1})), now=NOW, rules=rules)

    assert [finding.rule for finding in examination.findings] == ["paused"]
    assert examination.could_not_look == [("broken", "the rule failed, please report it: KeyError: 'web'")]


def test_the_worst_comes_first() -> None:
    """Of one severity in the order of the table."""
    values = {
        key: value for rule_id in ("cpu-throttled", "paused", "init-deaf", "node-zombies") for key, value in WRONG[rule_id][0].items()
    }

    assert list(found(changed(values))) == ["node-zombies", "init-deaf", "paused", "cpu-throttled"]


def test_containers_are_those_of_the_info_series() -> None:
    """With their ids, by which they may be asked for."""
    info = gauge("coroner_container_info", "Help.", (*CONTAINER, "container_id", "image"))

    assert examine([(info, (*JOB, "docker://4f", "i"), 1)], now=NOW).containers == {JOB: "docker://4f"}


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_a_rule_looks_only_at_what_it_says_it_needs(rule: Rule) -> None:
    """Or nobody would know that it is blind."""
    asked: set[str] = set()

    class Spy(View):
        def each(self, metric: str) -> Iterable[tuple[tuple[str, ...], float]]:
            asked.add(metric)
            return super().each(metric)

    columns: dict[str, Column] = {}
    for values in (changed(values) for values, _ in WRONG.values()):
        for metric, labels, value in samples(values):
            all_labels, all_values = columns.setdefault(metric.name, ([], []))
            all_labels.append(labels)
            all_values.append(value)
    list(rule.find(Spy(columns, NOW, {(WEB, "error"): 3}), rule.threshold))

    assert asked
    assert asked <= set(rule.metrics)
    assert not rule.witness or rule.witness in rule.metrics


TEXT = st.text(max_size=8)
NUMBER = st.one_of(st.floats(), st.integers(-3, 10_000).map(float))


@st.composite
def passes(draw: st.DrawFn) -> list[Sample]:
    """Draw a pass in which labels are anything, values too, and much is missing."""
    made = {name: gauge(name, "Help.", ()) for rule in RULES for name in rule.metrics}
    counts = {name: len(sample[1]) for values, _ in WRONG.values() for sample in samples(changed(values)) if (name := sample[0].name)}
    drawn = []
    for name in draw(st.lists(st.sampled_from(sorted(made)), max_size=40)):
        labels = draw(st.sampled_from([WEB, JOB]) | st.tuples(TEXT, TEXT, TEXT)) if name.startswith(SHORT) else ()
        rest = draw(st.lists(st.sampled_from(["init", "other", "container", "pod", "error", "/"]) | TEXT, min_size=9, max_size=9))
        drawn.append((made[name], (*labels, *rest)[: counts.get(name, len(labels))], draw(NUMBER)))
    return drawn


@given(drawn=passes())
def test_whatever_is_in_a_pass_every_rule_looks_and_finds_each_once(drawn: list[Sample]) -> None:
    """Names with anything, values that are no numbers, samples that are missing or there twice."""
    examination = examine([*drawn, *samples({})], now=NOW)

    assert [reason for _, reason in examination.could_not_look if "the rule failed" in reason] == []
    keys = [(finding.labels, finding.rule) for finding in examination.findings]
    assert len(set(keys)) == len(keys)


@given(values=st.dictionaries(st.sampled_from(sorted(CALM)), st.just(float("nan"))))
def test_what_is_not_a_number_is_no_finding(values: Values) -> None:
    """Not measured right is not wrong."""
    assert found(CALM | values) == {}


def test_the_collector_shows_what_was_found(tmp_path: Path) -> None:
    """As series of containers and of the node, and whether each rule has looked."""
    tree(tmp_path, cgroup(docker(A)))
    made = samples(changed({("frozen",): 1, ("coroner_leftover_shims",): 1}), off=["cpu"])
    pass_so_far = replace(node(tmp_path), samples=Samples(made), failures={})
    subject = Findings(clock=lambda: NOW)
    shown = {(sample[0].name, sample[1]): sample[2] for sample in subject.collect(pass_so_far)}

    looked = {labels[0]: value for (name, labels), value in shown.items() if name == LOOKED.name}
    assert looked == {rule.id: int(rule.id != "cpu-throttled") for rule in RULES}
    assert {key for key in shown if key[0] != LOOKED.name} == {
        (FINDINGS.name, (*WEB, "paused", "warning")),
        (NODE_FINDINGS.name, ("leftovers", "info")),
    }
    assert subject.latest.time == NOW


def test_when_nothing_could_be_examined_no_rule_could_look() -> None:
    """A pass that has failed is not a calm one."""
    assert blinded("it hangs", NOW) == Examination(could_not_look=[(rule.id, "it hangs") for rule in RULES], time=NOW)
