"""The whole page of whole nodes: a change of it is read as a diff, and accepted with --update-golden (tests/nodes/README.md)."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.nodes import capture, golden

EVERY_NODE = pytest.mark.parametrize("node", golden.NODES)

Values = dict[tuple[str, ...], float]


def values(node: str, name: str) -> Values:
    """Return one metric of a golden page by the values of its labels, without those that are empty."""
    family = golden.families((golden.HERE / node / "golden.prom").read_text(encoding="utf-8")).get(name.removesuffix("_total"))
    return {} if family is None else {tuple(value for _, value in labels if value): number for labels, number in family[2].items()}


def failed(node: str) -> set[str]:
    """Return the collectors that did not succeed."""
    return {name for (name,), success in values(node, "coroner_scrape_collector_success").items() if not success}


def sources(node: str) -> Values:
    """Return which sources are up."""
    return values(node, "coroner_source_up")


@EVERY_NODE
def test_page_is_the_golden_one(node: str, pytestconfig: pytest.Config) -> None:
    """What the agent says of a node changes only when someone means it to."""
    golden.check(golden.HERE / node / "golden.prom", golden.pages(node).text, update=pytestconfig.getoption("update_golden"))


@EVERY_NODE
def test_both_formats_say_the_same(node: str) -> None:
    """Each format is read by its own parser, and the families that come out are equal."""
    page = golden.pages(node)

    def shape(families: Iterable[Any]) -> Mapping[str, object]:
        return {
            family.name: (family.type, family.documentation, sorted((s.name, tuple(s.labels.items()), s.value) for s in family.samples))
            for family in families
            if not {family.name, f"{family.name}_total"} & {*golden.VARYING}
        }

    assert shape(parse_text(page.text)) == shape(parse_openmetrics(page.openmetrics))  # type: ignore[no-untyped-call] # prometheus_client


@EVERY_NODE
def test_no_series_is_on_a_page_twice(node: str) -> None:
    """Prometheus would reject the page, or take one of the two."""
    lines = [line.rpartition(" ")[0] for line in golden.pages(node).text.splitlines() if not line.startswith("#")]

    assert len(lines) == len(set(lines))


@EVERY_NODE
def test_promtool_accepts_the_golden_page(node: str) -> None:
    """Prometheus' own linter has nothing to say."""
    program = shutil.which("promtool")
    if program is None:
        reason = "promtool is missing: install the package `prometheus`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    page = (golden.HERE / node / "golden.prom").read_bytes()
    checked = subprocess.run([program, "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_docker_node_shows_what_was_staged() -> None:
    """Each container of docker_node.py has what it was made for; so does the PID namespace that no container has."""
    zombies = values("docker-6.1", "coroner_container_zombies")
    assert {key: count for key, count in zombies.items() if count} == {("careless", "init"): 4, ("tinied", "other"): 3}
    assert values("docker-6.1", "coroner_container_frozen")["paused",] == 1
    assert values("docker-6.1", "coroner_container_fork_failures_total")["crowded",] == 1
    threads = values("docker-6.1", "coroner_container_threads")
    assert (threads["crowded",], threads["careless",]) == (8, 5), "zombies hold their place in the PID table"
    assert values("docker-6.1", "coroner_container_cpu_cfs_throttled_periods_total")["throttled",] > 0
    assert values("docker-6.1", "coroner_container_cpu_limit_cores") == {("throttled",): 0.2}
    assert values("docker-6.1", "coroner_container_memory_limit_bytes") == {("greedy",): 30 << 20, ("nearly-full",): 48 << 20}
    assert values("docker-6.1", "coroner_container_oom_candidate_info") == {("worker", "nearly-full", "other", "container", "process"): 1}
    assert values("docker-6.1", "coroner_containers") == {("created",): 1, ("running",): 6, ("paused",): 1, ("exited",): 1}
    assert values("docker-6.1", "coroner_container_created_timestamp_seconds") == {("unstarted",): 1699999000}
    assert values("docker-6.1", "coroner_container_created_to_start_seconds") == {("throttled",): 0.25}
    assert values("docker-6.1", "coroner_container_last_stop_grace_left_seconds") == {("tinied",): 8.5}
    namespaces = values("docker-6.1", "coroner_pid_namespace_zombies")
    assert [count for key, count in namespaces.items() if len(key) == 1 and count] == [2]
    # The processes of a captured node do not run here, so nobody can watch them.
    assert sources("docker-6.1") == {("cgroup",): 1, ("proc",): 1, ("kmsg",): 1, ("docker",): 1, ("exits",): 0, ("layers",): 1}
    assert not failed("docker-6.1")


def test_a_kill_that_two_sources_tell_of_is_one() -> None:
    """The docker node's kill is in memory.events and in the kernel log, of which nothing was lost or forged."""
    kills = values("docker-6.1", "coroner_container_oom_kills_total")
    assert {container: count for container, count in kills.items() if count} == {("greedy",): 1}
    assert values("docker-6.1", "coroner_oom_kills_total") == {("container",): 1, ("pod",): 0, ("ancestor",): 0, ("node",): 0}
    assert values("docker-6.1", "coroner_kmsg_records_total")[()] > 2
    assert values("docker-6.1", "coroner_kmsg_lost_records_total") == {(): 0}


def test_kubernetes_containers_are_named_by_their_bundles_and_pause_is_none() -> None:
    """The static pod has no bundle here: its two go by the first twelve digits of their ids, pause among them, for nobody says so."""
    page = golden.families((golden.HERE / "kubernetes-5.10" / "golden.prom").read_text(encoding="utf-8"))
    named = {(dict(key)["namespace"], dict(key)["pod"], dict(key)["container"]) for key in page["coroner_container_threads"][2]}

    pod = "web-5d8f7c9b6-x2x4q"
    assert named == {
        *(("shop", pod, "web"), ("shop", pod, "log-shipper"), ("shop", "db-0", "postgres")),
        *(("", "", "35f7b9d1e3c5"), ("", "", "c0ffee254729")),
    }
    qos = {dict(key)["qos"] for key in page["coroner_container_info"][2]}
    assert qos == {"guaranteed", "burstable"}
    assert "never-on-the-page" not in golden.pages("kubernetes-5.10").text


def test_kubernetes_node_has_only_what_kernel_5_10_has() -> None:
    """What that kernel lacks is absent, and not 0."""
    page = golden.families((golden.HERE / "kubernetes-5.10" / "golden.prom").read_text(encoding="utf-8"))
    young = {
        "coroner_container_memory_peak_bytes",
        "coroner_container_threads_peak",
        "coroner_container_memory_events_oom_group_kill",
        "coroner_container_pressure_cpu_stalled_seconds",
    }

    assert not young & page.keys()
    assert {"coroner_container_pressure_cpu_waiting_seconds", "coroner_container_pressure_memory_stalled_seconds"} <= page.keys()
    assert not failed("kubernetes-5.10")


def test_zombies_of_a_pod_with_one_pid_namespace_are_those_of_their_container() -> None:
    """The pod's PID 1 is pause, which adopted two of `web`'s; one of the sidecar's is its own fault; a dead leader is none."""
    pod = {"namespace": "shop", "pod": "web-5d8f7c9b6-x2x4q"}
    page = golden.families((golden.HERE / "kubernetes-5.10" / "golden.prom").read_text(encoding="utf-8"))

    def zombies(metric: str) -> list[tuple[dict[str, str], float]]:
        found = [(dict(key), count) for key, count in page[metric][2].items() if count]
        return sorted(((key | {"pid_namespace": ""}, count) for key, count in found), key=str)

    assert zombies("coroner_container_zombies") == [
        ({"container": "log-shipper", **pod, "parent": "other", "pid_namespace": ""}, 1),
        ({"container": "web", **pod, "parent": "init", "pid_namespace": ""}, 2),
    ]
    assert zombies("coroner_pid_namespace_zombies") == [({"container": "", **pod, "pid_namespace": ""}, 3)]


def test_near_a_pods_limit_the_candidate_is_the_process_that_the_pod_would_lose() -> None:
    """The static pod's limit is the only one its containers have; postgres has its pod's, but pause takes something of that too."""
    headroom = values("kubernetes-5.10", "coroner_container_memory_headroom_bytes")
    assert sorted((key[0], key[-1]) for key in headroom) == [
        *(("35f7b9d1e3c5", "pod"), ("c0ffee254729", "pod"), ("log-shipper", "container")),
        *(("postgres", "pod"), ("web", "container")),
    ]
    candidates = values("kubernetes-5.10", "coroner_container_oom_candidate_info")
    assert candidates == {("etcd", "c0ffee254729", "init", "pod", "container"): 1}
    assert values("kubernetes-5.10", "coroner_container_oom_candidate_badness_bytes")["c0ffee254729",] < 0, (
        "it is protected, but not as pause is"
    )


def test_without_cgroup_v2_the_rest_is_served() -> None:
    """The source says so; zombies and the PID table need only /proc."""
    assert sources("no-cgroup-v2")["cgroup",] == 0
    assert sources("no-cgroup-v2")["proc",] == 1
    assert sum(values("no-cgroup-v2", "coroner_pid_namespace_zombies").values()) == 2
    assert values("no-cgroup-v2", "coroner_node_threads") == {(): 120}
    assert values("no-cgroup-v2", "coroner_node_pressure_cpu_waiting_seconds_total") == {(): 1.20034}
    assert not values("no-cgroup-v2", "coroner_container_memory_usage_bytes")
    assert not failed("no-cgroup-v2")


def test_broken_files_cost_their_own_value_and_the_success() -> None:
    """Next to containers with unreadable files the sound one is complete, and no number is made of half a number."""
    page = golden.families((golden.HERE / "broken" / "golden.prom").read_text(encoding="utf-8"))
    shown = {name: {dict(labels)["container"] for labels in family[2] if dict(labels).get("container")} for name, family in page.items()}
    of_containers = {name for name, containers in shown.items() if containers}
    whole = golden.families((golden.HERE / "docker-6.1" / "golden.prom").read_text(encoding="utf-8"))
    expected = {name for name, family in whole.items() if any(dict(labels).get("container") for labels in family[2])}

    assert all("sound" in shown[name] for name in of_containers)
    elsewhere = "zombie|pid_namespace|oom_candidate|last_stop|exec_sessions|start|created|writable_layer|root_filesystem|"
    elsewhere += "isolation|extra_capabilities|runtime_socket|services|init"
    assert {name for name in expected - of_containers if not re.search(elsewhere, name)} == set()
    assert "torn" not in shown["coroner_container_memory_usage_bytes"] | shown["coroner_container_cpu_usage_seconds"]
    assert "junk" not in shown["coroner_container_memory_working_set_bytes"] | shown["coroner_container_frozen"]
    assert shown["coroner_container_info"] == {"sound", "torn", "junk", "bare"}


def test_broken_files_fail_the_collectors_that_read_them_and_no_other() -> None:
    """A file that a kernel does not have is no failure; of half a process table there is no count."""
    fail = {"lifecycle", "memory", "headroom", "cpu", "io", "pids", "zombies", "sessions", "services", "init", "oom", "leftovers", "host"}
    fail |= {"node_pressure"}
    work = {"pressure", "life", "layers", "isolation"}
    assert failed("broken") & (fail | work) == fail
    assert not values("broken", "coroner_pid_namespace_zombies")
    assert golden.pages("broken").failures.keys() == failed("broken")
    assert all("not the documented format" in reason for reason in golden.pages("broken").failures.values())


def test_what_is_forbidden_is_said_and_not_counted_as_zero() -> None:
    """Without the privileges the sources are down, no container has a value, and processes out of sight are counted apart."""
    assert sources("forbidden") == {("cgroup",): 0, ("proc",): 0, ("kmsg",): 0, ("docker",): 1, ("exits",): 0, ("signals",): 0}
    assert not values("forbidden", "coroner_container_memory_usage_bytes")
    assert values("forbidden", "coroner_pid_namespace_processes") == {("4026531836",): 3, ("unknown",): 2}


def test_what_is_closed_costs_its_owner_alone_and_no_count_is_too_small() -> None:
    """Every series that a container has beside those who closed something is there, and nothing that only all of them could tell."""
    page = golden.families((golden.HERE / "closed" / "golden.prom").read_text(encoding="utf-8"))
    shown = {name: {dict(labels).get("container") for labels in family[2]} for name, family in page.items()}
    whole = golden.families((golden.HERE / "broken" / "golden.prom").read_text(encoding="utf-8"))

    assert {name for name, family in whole.items() if any(dict(labels).get("container") == "sound" for labels in family[2])} <= {
        name for name, containers in shown.items() if "open" in containers
    }
    assert {name for name, containers in shown.items() if "open" in containers and "shy" not in containers} == {
        *(f"coroner_container_memory_{level}_bytes" for level in ("limit", "headroom", "nearest_limit")),
        *(f"coroner_container_memory_events_{key}" for key in ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")),
        "coroner_container_oom_kills",
    }
    assert shown["coroner_container_info"] == shown["coroner_container_deaths"] == {"open", "shy", "shut"}
    assert values("closed", "coroner_containers") == {("created",): 0, ("exited",): 0}
    counts = {"coroner_leftover_cgroups", "coroner_oom_candidates_unknown", "coroner_oom_kills", "coroner_containers_unnamed"}
    assert not counts & page.keys()
    assert sum(values("closed", "coroner_pid_namespace_zombies").values()) == 4, "for these /proc is enough"
    assert sources("closed")["cgroup",] == 1
    assert not failed("closed")
    looked = {rule for (rule,), looked in values("closed", "coroner_finding_looked").items() if looked}
    assert looked == {"node-pid-table-near", "node-zombies", "created-never-started"}


def test_golden_pages_do_not_depend_on_the_checkout(tmp_path: Path) -> None:
    """Another file system lists a directory in another order and gives other inode numbers."""

    def backwards(source: str, target: str) -> None:
        os.mkdir(target)
        for entry in sorted(os.scandir(source), key=lambda entry: entry.name, reverse=True):
            if entry.is_dir(follow_symlinks=False):
                backwards(entry.path, f"{target}/{entry.name}")
            else:
                shutil.copy2(entry.path, f"{target}/{entry.name}", follow_symlinks=False)

    backwards(str(golden.HERE / "docker-6.1"), str(tmp_path / "node"))

    assert golden.canonical(golden.make_pages(tmp_path / "node").text) == golden.canonical(golden.pages("docker-6.1").text)


def test_a_changed_page_fails_with_its_diff(tmp_path: Path) -> None:
    """The check itself can fail, and shows what changed; --update-golden accepts it."""
    page = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n"
    path = tmp_path / "golden.prom"
    with pytest.raises(pytest.fail.Exception, match=r"(?s)--update-golden.*\+a_total 1"):
        golden.check(path, page, update=False)

    golden.check(path, page, update=True)
    golden.check(path, page, update=False)

    with pytest.raises(pytest.fail.Exception, match=r"(?s)-a_total 1\n\+a_total 2"):
        golden.check(path, page.replace(" 1", " 2"), update=False)
    with pytest.raises(AssertionError, match="something else"):
        golden.canonical("stray line\n" + page)


@pytest.mark.parametrize("node", ["docker-6.1", "kubernetes-5.10"])
def test_capture_of_a_capture_is_the_same(node: str, tmp_path: Path) -> None:
    """What the capture script takes of these nodes is all that is in them."""
    source = golden.HERE / node
    capture.capture_proc(source / "proc", tmp_path / "proc")
    capture.capture_cgroups(source / "cgroup", tmp_path / "cgroup")

    def contents(root: Path) -> dict[str, object]:
        files = [path for part in ("proc", "cgroup") for path in (root / part).rglob("*") if path.is_symlink() or path.is_file()]
        return {str(path.relative_to(root)): path.readlink() if path.is_symlink() else path.read_bytes() for path in files}

    assert contents(tmp_path) == contents(source)


def test_capture_takes_every_file_that_a_pass_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of one more file needs it in the captures; a file that nobody reads is not to be in them."""
    node = golden.HERE / "docker-6.1"
    opened: set[str] = set()

    def remembering(call: Callable[..., Any]) -> Callable[..., Any]:
        def remember(path: object, *arguments: Any, **options: Any) -> Any:
            opened.add(str(path))
            return call(path, *arguments, **options)

        return remember

    for name in ("open", "readlink"):
        monkeypatch.setattr(os, name, remembering(getattr(os, name)))
    golden.make_pages(node)

    of_proc = [path.removeprefix(f"{node}/proc/") for path in opened if path.startswith(f"{node}/proc/")]
    of_cgroups = {path.rpartition("/")[2] for path in opened if path.startswith(f"{node}/cgroup/")}
    assert {path.partition("/")[2] for path in of_proc if path[0].isdecimal()} == {
        *(*capture.PROCESS_FILES, *capture.PROCESS_LINKS, capture.MOUNTS)
    }
    own = {"self/mountinfo", "self/status", "self/ns/pid", "sys/fs/inotify/max_user_watches"}  # of the agent that looks, not of the node
    assert {path for path in of_proc if not path[0].isdecimal()} - own == set(capture.NODE_FILES)
    assert of_cgroups == {*capture.CGROUP_FILES, *capture.CONTAINER_FILES, *capture.ROOT_FILES}
