"""The census: who is exported under which name, and for how long."""

from pathlib import Path

import pytest

from agent.census import NAME_WITHIN_SECONDS, Census
from agent.directory import KEEP_DEAD_SECONDS, Directory, Entry
from agent.status import Status
from collectors.base import Node
from collectors.kernel.files import KernelFiles
from collectors.kernel.procfs import ProcessTable

WEB, DB = "a" * 64, "b" * 64


class Host:
    """A cgroup tree, a directory and a clock, and the census of them."""

    def __init__(self, root: Path) -> None:
        self.root = root / "cgroup"
        self.root.mkdir()
        self.now = 1000.0
        self.directory = Directory(lambda: self.now)
        self.status = Status("cgroup")
        self.census = Census(
            cgroup_root=str(self.root), proc_root="/nowhere", directory=self.directory, status=self.status, clock=lambda: self.now
        )
        self._files = KernelFiles(100)

    def start(self, path: str) -> None:
        """Make a cgroup."""
        (self.root / path).mkdir(parents=True)

    def stop(self, path: str) -> None:
        """Remove a cgroup."""
        (self.root / path).rmdir()

    def take(self) -> Node:
        """Take the census."""
        return self.census.take(self._files, ProcessTable("/nowhere", 0))

    def exported(self) -> list[str]:
        """Names of the containers that have series of their own now."""
        return [container.labels[2] for container in self.take().containers]

    def counted(self) -> list[str]:
        """Names of the containers whose event counters exist now."""
        return sorted(labels[2] for labels in self.take().names.values())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An empty host."""
    return Host(tmp_path)


def test_a_container_whose_name_is_known_is_exported_at_once(host: Host) -> None:
    """From its first second it has the name and the image that its runtime gave it."""
    host.directory.put("docker", {WEB: Entry(("", "", "web"), "nginx:1")})
    host.start(f"docker/{WEB}")

    (container,) = host.take().containers

    assert (container.labels, container.description.image, container.id.runtime) == (("", "", "web"), "nginx:1", "docker")


def test_a_container_without_a_name_waits_and_is_then_called_by_its_id_for_life(host: Host) -> None:
    """A series never changes its labels, even when the name comes after all."""
    host.start(f"docker/{WEB}")

    assert host.exported() == []
    host.now += NAME_WITHIN_SECONDS - 0.1
    assert host.exported() == []
    host.now += 0.2
    assert host.exported() == ["a" * 12]
    host.directory.put("docker", {WEB: Entry(("", "", "web"))})
    assert host.exported() == ["a" * 12]


def test_a_name_that_comes_in_time_is_used(host: Host) -> None:
    """A daemon that answers a second late is in time."""
    host.start(f"docker/{WEB}")
    assert host.exported() == []
    host.now += 1
    host.directory.put("docker", {WEB: Entry(("", "", "web"))})

    assert host.exported() == ["web"]


def test_a_renamed_container_keeps_its_first_name(host: Host) -> None:
    """One identity per container for life."""
    host.start(f"docker/{WEB}")
    host.directory.put("docker", {WEB: Entry(("", "", "web"))})
    assert host.exported() == ["web"]
    host.directory.put("docker", {WEB: Entry(("", "", "web-2"))})

    assert host.exported() == ["web"]


def test_counters_outlive_the_container_for_a_quarter_of_an_hour(host: Host) -> None:
    """After its death a container has no series of its own but the counters of its events."""
    host.directory.put("docker", {WEB: Entry(("", "", "web"))})
    host.start(f"docker/{WEB}")
    assert host.counted() == ["web"]
    host.stop(f"docker/{WEB}")
    host.directory.end("docker", WEB, "removed")

    host.now += KEEP_DEAD_SECONDS
    assert host.exported() == []
    assert host.counted() == ["web"]
    host.now += 1
    assert host.counted() == []


def test_a_container_that_was_never_seen_in_the_tree_has_counters(host: Host) -> None:
    """It lived 200 ms; its runtime told of it."""
    host.directory.put("docker", {WEB: Entry(("", "", "short"))})
    host.directory.end("docker", WEB, "removed")

    assert host.counted() == ["short"]


def test_a_container_that_is_created_long_before_it_starts_keeps_its_counters_after_its_death(host: Host) -> None:
    """The quarter of an hour runs from its end, not from its first sight."""
    host.directory.put("docker", {WEB: Entry(("", "", "late"), state="created")})
    host.take()
    host.now += 2 * KEEP_DEAD_SECONDS
    host.take()
    host.directory.end("docker", WEB, "exited")
    host.now += KEEP_DEAD_SECONDS

    assert host.counted() == ["late"]


def test_one_that_had_ended_before_the_agent_came_has_no_counters(host: Host) -> None:
    """`docker ps -a` may hold hundreds; they count as exited and nothing else."""
    host.directory.put("docker", {WEB: Entry(("", "", "old"), state="exited", seen_alive=False, ended=1000.0)})

    node = host.take()

    assert node.names == {}
    assert node.resting == {"exited": 1}


def test_an_id_that_only_the_kernel_log_told_of_is_called_by_it(host: Host) -> None:
    """Count first, name later: a kill is never dropped for want of a name."""
    host.directory.hear("kmsg", WEB)
    assert host.counted() == []
    host.now += NAME_WITHIN_SECONDS

    assert host.counted() == ["a" * 12]


def test_of_two_lives_of_one_name_the_newest_is_exported(host: Host) -> None:
    """While a pod restarts, the old container may still be there; a series can only show one."""
    host.directory.put("docker", {WEB: Entry(("shop", "web-0", "app")), DB: Entry(("shop", "web-0", "app"))})
    host.start(f"docker/{WEB}")
    host.start(f"docker/{DB}")

    node = host.take()

    newest = max(node.instances, key=lambda instance: instance.cgroup.inode)
    assert len(node.instances) == 2
    assert [container.id.id for container in node.containers] == [newest.id.id]


def test_a_cgroup_below_a_container_is_part_of_it(host: Host) -> None:
    """systemd in a container makes cgroups of its own."""
    host.directory.put("docker", {WEB: Entry(("", "", "web"))})
    host.start(f"docker/{WEB}/init.scope")

    node = host.take()

    assert [instance.cgroup.path for instance in node.instances] == [f"/docker/{WEB}"]
    assert f"/docker/{WEB}/init.scope" in {cgroup.path for cgroup in node.cgroups}


def test_what_a_container_makes_inside_of_itself_never_takes_the_place_of_another(host: Host) -> None:
    """With a delegated cgroup it may name a cgroup like the container next door; a nested node has containers of its own."""
    host.directory.put("docker", {WEB: Entry(("", "", "web")), DB: Entry(("", "", "db"))})
    host.start(f"docker/{WEB}")
    host.start(f"docker/{DB}/docker-{WEB}.scope")
    host.take()
    host.now += NAME_WITHIN_SECONDS

    exported = {container.labels[2]: container.cgroup.path for container in host.take().containers}

    assert exported == {"web": f"/docker/{WEB}", "db": f"/docker/{DB}", "a" * 12: f"/docker/{DB}/docker-{WEB}.scope"}


def test_a_nested_container_that_imitates_an_unnamed_one_does_not_replace_it(host: Host) -> None:
    """Both would be called by the same digits; the outer one was there by the runtime's word."""
    host.start(f"docker/{WEB}")
    host.start(f"docker/{DB}/docker-{WEB}.scope")
    host.take()
    host.now += NAME_WITHIN_SECONDS

    exported = {container.labels[2]: container.cgroup.path for container in host.take().containers}

    assert exported["a" * 12] == f"/docker/{WEB}"


def test_a_tree_that_cannot_be_read_makes_the_source_blind_and_the_names_stay(host: Host) -> None:
    """The counters are served all the same; the reason is on the status page."""
    host.directory.put("docker", {WEB: Entry(("", "", "web"))})
    assert host.counted() == ["web"]
    assert host.status.is_up
    host.root.rename(host.root.with_name("moved"))

    assert host.counted() == ["web"]
    assert not host.status.is_up
    assert str(host.root) in host.status.reason


def test_without_cgroup_v2_there_is_a_node_all_the_same(tmp_path: Path) -> None:
    """Zombies and the kernel log need no cgroups."""
    census = Census(cgroup_root=None, proc_root="/nowhere", directory=Directory(), status=Status("cgroup"))

    node = census.take(KernelFiles(1), ProcessTable("/nowhere", 0))

    assert (node.cgroups, node.containers) == ([], [])


def test_a_sandbox_is_no_container_but_its_pod_is_known(host: Host) -> None:
    """pause holds the pod's PID namespace; nobody wants a series of its memory."""
    host.directory.put("oci", {WEB: Entry(("shop", "web-0", ""), is_sandbox=True), DB: Entry(("shop", "web-0", "app"))})
    host.start(f"kubepods/pod1/{WEB}")
    host.start(f"kubepods/pod1/{DB}")

    node = host.take()

    assert [container.labels for container in node.containers] == [("shop", "web-0", "app")]
    assert dict(node.names) == {DB: ("shop", "web-0", "app")}
    assert dict(node.sandboxes) == {WEB: ("shop", "web-0", "")}


def test_what_the_sources_tell_beside_the_name_is_on_the_container(host: Host) -> None:
    """For the info metric."""
    host.directory.put("docker", {WEB: Entry(("", "", "web"), image="img", project="shop", service="web")})
    host.directory.put("kubernetes", {WEB: Entry(workload_kind="Deployment", workload="web", kind="app", pod_labels={"app": "web"})})
    host.start(f"docker/{WEB}")

    (container,) = host.take().containers

    told = container.description
    assert (told.image, told.project, told.service) == ("img", "shop", "web")
    assert (told.workload_kind, told.workload, told.kind, told.pod_labels) == ("Deployment", "web", "app", {"app": "web"})


def test_it_says_how_well_naming_works(host: Host) -> None:
    """A hit, a miss, and one that runs without a name."""
    host.directory.put("docker", {WEB: Entry(("", "", "web"))})
    host.start(f"docker/{WEB}")
    host.start(f"docker/{DB}")
    host.take()
    host.now += NAME_WITHIN_SECONDS
    host.take()

    samples = {metric.name: value for metric, _, value in host.census.samples()}
    assert samples == {"coroner_directory_hits_total": 1, "coroner_directory_misses_total": 1, "coroner_containers_unnamed": 1}


def test_the_root_of_the_agents_own_cgroup_namespace_is_found_by_its_inode(host: Host) -> None:
    """In a container of its own, what /proc/PID/cgroup says is relative to that."""
    host.start("kubepods/pod1/agent")
    own = (host.root / "kubepods/pod1/agent").stat().st_ino
    census = Census(cgroup_root=str(host.root), proc_root="/nowhere", directory=host.directory, status=host.status, own_cgroup_inode=own)
    table = ProcessTable("/nowhere", 0)

    census.take(KernelFiles(10), table)

    assert table.cgroup_namespace == "/kubepods/pod1/agent"
