"""The census: who is exported under which name, and for how long."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.census import PAUSE_MOST_BYTES, UNNAMED, Census
from agent.identities import KEEP_DEAD_SECONDS, Identities, Identity
from agent.naming import NAME_WITHIN_SECONDS, SETTLED_SECONDS
from agent.status import Status
from collectors.base import Node
from collectors.kernel import cgroupfs
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import Forbidden, KernelFiles
from collectors.kernel.last_words import Death, LastWords
from collectors.kernel.procfs import ProcessTable

WEB, DB = ContainerKey("a" * 64), ContainerKey("b" * 64)


class Host:
    """A cgroup tree, identities and a clock, and the census of them."""

    def __init__(self, root: Path, names: Mapping[ContainerKey, tuple[str, ...]] | None = None) -> None:
        self.root = root / "cgroup"
        self.root.mkdir(exist_ok=True)
        self.now = 1000.0
        self.identities = Identities(lambda: self.now)
        self.status = Status("cgroup")
        self.census = Census(
            cgroup_root=str(self.root),
            proc_root="/nowhere",
            identities=self.identities,
            status=self.status,
            deaths=lambda: self.deaths,
            names=names,
            killed=lambda: self.killed,
            clock=lambda: self.now,
        )
        self.deaths: dict[ContainerKey, Death] = {}
        self.killed: set[ContainerKey] = set()
        self._files = KernelFiles(100)

    def start(self, path: str, memory: int | None = None) -> None:
        """Make a cgroup, or let the memory of one that is there be this."""
        (self.root / path).mkdir(parents=True, exist_ok=True)
        if memory is not None:
            (self.root / path / "memory.current").write_text(f"{memory}\n")

    def stop(self, path: str) -> None:
        """Remove a cgroup."""
        shutil.rmtree(self.root / path)

    def inode(self, path: str) -> int:
        """Return the inode of a cgroup."""
        return (self.root / path).stat().st_ino

    def ended(self) -> dict[str, LastWords]:
        """Return the last words of containers that ended, by name, after another census."""
        ended = self.take().ended
        assert len({each.labels for each in ended}) == len(ended)
        return {each.labels[2]: each.words for each in ended}

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
    host.identities.put("docker", {WEB: Identity(("", "", "web"), "nginx:1")})
    host.start(f"docker/{WEB}")

    (container,) = host.take().containers

    assert (container.labels, container.info.image, container.id.runtime) == (("", "", "web"), "nginx:1", "docker")


def test_a_container_without_a_name_waits_and_is_then_called_by_its_id(host: Host) -> None:
    """For life once that was served for minutes (test_naming.py)."""
    host.start(f"docker/{WEB}")

    assert host.exported() == []
    host.now += NAME_WITHIN_SECONDS - 0.1
    assert host.exported() == []
    host.now += 0.2
    assert host.exported() == ["a" * 12]
    host.census.served()
    host.now += SETTLED_SECONDS + 1
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    assert host.exported() == ["a" * 12]


def test_a_name_that_comes_in_time_is_used(host: Host) -> None:
    """A daemon that answers a second late is in time."""
    host.start(f"docker/{WEB}")
    assert host.exported() == []
    host.now += 1
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})

    assert host.exported() == ["web"]


def test_it_tells_once_which_labels_gave_way_to_which(host: Host) -> None:
    """To whoever makes the page."""
    host.start(f"docker/{WEB}")
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    assert host.exported() == ["web"]
    assert host.census.served() == []
    host.identities.put("docker", {WEB: Identity(("", "", "web-2"))})

    assert host.exported() == ["web-2"]
    assert host.census.served() == [(("", "", "web"), ("", "", "web-2"))]
    assert host.census.served() == []


def test_it_tells_who_is_older_than_the_agent_whenever_that_is_named(host: Host) -> None:
    """By the name that it has; a tree that cannot be read shows nobody."""
    host.root.rename(host.root.with_name("away"))
    host.take()
    host.root.with_name("away").rename(host.root)
    host.start(f"docker/{WEB}")
    host.take()
    host.start(f"docker/{DB}")
    host.identities.put("docker", {WEB: Identity(("", "", "web")), DB: Identity(("", "", "db"))})

    assert sorted(host.exported()) == ["db", "web"]
    assert host.census.older_than_agent == {("", "", "web")}


def test_two_living_containers_of_docker_both_have_their_series(host: Host) -> None:
    """The one was renamed away long ago by the page's time, and the other has its name now."""
    host.start(f"docker/{WEB}")
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    host.take()
    host.census.served()
    host.now += SETTLED_SECONDS
    host.identities.put("docker", {WEB: Identity(("", "", "web-old")), DB: Identity(("", "", "web"))})
    host.start(f"docker/{DB}")

    exported = {container.labels[2]: container.id.id for container in host.take().containers}
    assert exported == {"web": WEB, f"web_{DB[:12]}": DB}


def test_image_and_runtime_are_those_that_were_told_first(host: Host) -> None:
    """The path of a pod's cgroup alone would suggest containerd."""
    host.start(f"kubepods/pod1/{WEB}")
    host.identities.put("docker", {WEB: Identity(("shop", "web-0", "app"), image="nginx:1", runtime="docker")})
    host.take()
    host.identities.put("docker", {WEB: Identity(("shop", "web-0", "app"), image="sha256:12")})
    (container,) = host.take().containers

    assert (container.id.url, container.info.image) == (f"docker://{WEB}", "nginx:1")


def test_the_states_that_only_a_runtime_knows_are_absent_until_it_has_told(host: Host) -> None:
    """Blind is not zero."""
    has_told = False
    census = Census(
        cgroup_root=str(host.root),
        proc_root="/nowhere",
        identities=host.identities,
        status=host.status,
        rests_told=lambda: has_told,
    )
    assert census.take(KernelFiles(1), ProcessTable("/nowhere", 0)).resting is None
    has_told = True

    assert census.take(KernelFiles(1), ProcessTable("/nowhere", 0)).resting == {}


def test_a_sandbox_that_nobody_tells_of_is_no_container_and_not_unnamed(host: Host) -> None:
    """Kubernetes lists its pod, and never it."""
    uid = "12345678-1234-1234-1234-123456789abc"
    host.identities.list_pods({uid: ("shop", "web-0")}, is_watched=True)
    host.start(f"kubepods/pod{uid}/{WEB}")
    host.take()
    host.now += NAME_WITHIN_SECONDS
    node = host.take()

    assert (node.containers, dict(node.names), dict(node.sandboxes)) == ([], {}, {WEB: ("shop", "web-0", "")})
    assert {metric.name: value for metric, _, value in host.census.samples()}["coroner_containers_unnamed"] == 0


def test_counters_outlive_the_container_for_a_quarter_of_an_hour(host: Host) -> None:
    """After its death a container has no series of its own but the counters of its events."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    host.start(f"docker/{WEB}")
    assert host.counted() == ["web"]
    host.stop(f"docker/{WEB}")
    host.identities.end("docker", WEB, "removed")

    host.now += KEEP_DEAD_SECONDS
    assert host.exported() == []
    assert host.counted() == ["web"]
    host.now += 1
    assert host.counted() == []


def test_a_container_that_was_never_seen_in_the_tree_has_counters(host: Host) -> None:
    """It lived 200 ms; its runtime told of it."""
    host.identities.put("docker", {WEB: Identity(("", "", "short"))})
    host.identities.end("docker", WEB, "removed")

    assert host.counted() == ["short"]


def test_a_container_that_is_created_long_before_it_starts_keeps_its_counters_after_its_death(host: Host) -> None:
    """The quarter of an hour runs from its end, not from its first sight."""
    host.identities.put("docker", {WEB: Identity(("", "", "late"), state="created")})
    host.take()
    host.now += 2 * KEEP_DEAD_SECONDS
    host.take()
    host.identities.end("docker", WEB, "exited")
    host.now += KEEP_DEAD_SECONDS

    assert host.counted() == ["late"]


def test_one_that_had_ended_before_the_agent_came_has_no_counters(host: Host) -> None:
    """`docker ps -a` may hold hundreds; they count as exited and nothing else."""
    host.identities.put("docker", {WEB: Identity(("", "", "old"), state="exited", seen_alive=False, ended=1000.0)})

    node = host.take()

    assert node.names == {}
    assert node.resting == {"exited": 1}


def test_an_id_that_only_the_kernel_log_told_of_is_called_by_it(host: Host) -> None:
    """Count first, name later: a kill is never dropped for want of a name."""
    host.identities.hear("kmsg", WEB)
    assert host.counted() == []
    host.now += NAME_WITHIN_SECONDS

    assert host.counted() == ["a" * 12]


def test_of_two_lives_of_one_name_the_newest_is_exported(host: Host) -> None:
    """While a pod restarts, the old container may still be there; a series can only show one."""
    host.identities.put("docker", {WEB: Identity(("shop", "web-0", "app")), DB: Identity(("shop", "web-0", "app"))})
    host.start(f"docker/{WEB}")
    host.start(f"docker/{DB}")

    node = host.take()

    newest = max(node.instances, key=lambda instance: instance.cgroup.inode)
    assert len(node.instances) == 2
    assert [container.id.id for container in node.containers] == [newest.id.id]


def test_a_cgroup_below_a_container_is_part_of_it(host: Host) -> None:
    """systemd in a container makes cgroups of its own."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    host.start(f"docker/{WEB}/init.scope")

    node = host.take()

    assert [instance.cgroup.path for instance in node.instances] == [f"/docker/{WEB}"]
    assert f"/docker/{WEB}/init.scope" in {cgroup.path for cgroup in node.cgroups}


def test_what_a_container_makes_inside_of_itself_never_takes_the_place_of_another(host: Host) -> None:
    """With a delegated cgroup it may name a cgroup like the container next door; a nested node has containers of its own."""
    host.identities.put("docker", {WEB: Identity(("", "", "web")), DB: Identity(("", "", "db"))})
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


@pytest.fixture
def closable(unprivileged: Path) -> Host:
    """A host with two containers, of which one is in a directory that can be closed."""
    host = Host(unprivileged)
    host.identities.put("docker", {WEB: Identity(("", "", "web")), DB: Identity(("", "", "db"))})
    host.start(f"docker/{WEB}")
    host.start(f"closed/{DB}")
    return host


def test_what_is_closed_to_the_agent_is_said_and_nobody_has_ended(closable: Host) -> None:
    """The source is up, with a note for as long as it lasts."""
    assert closable.exported() == ["web", "db"]
    (closable.root / "closed").chmod(0)

    node = closable.take()
    assert {container.labels[2] for container in node.containers} == {"web", "db"}
    assert (node.hidden, node.uncovered, node.ended) == ({"/closed"}, frozenset(), [])
    assert UNNAMED not in {metric for metric, _, _ in closable.census.samples()}, "there may be more"
    assert closable.status.is_up
    assert closable.status.reason.startswith(f"{closable.root}/closed: its owner closed it")
    assert "CAP_DAC_READ_SEARCH" in closable.status.reason

    (closable.root / "closed").chmod(0o755)
    closable.stop(f"closed/{DB}")
    assert closable.ended().keys() == {"db"}
    assert (closable.status.is_up, closable.status.reason) == (True, "")


def test_what_was_hidden_from_the_beginning_is_older_than_the_agent(closable: Host) -> None:
    """Whenever it is seen; what is made later is not."""
    (closable.root / "closed").chmod(0)
    assert closable.exported() == ["web"]
    (closable.root / "closed").chmod(0o755)
    closable.start("closed/" + 64 * "e")

    for _ in range(2):
        node = closable.take()
        assert node.uncovered == {closable.inode(f"closed/{DB}"), closable.inode("closed/" + 64 * "e")}
    assert closable.census.older_than_agent == {("", "", "web"), ("", "", "db")}
    closable.start("closed/" + 64 * "f")
    assert closable.inode("closed/" + 64 * "f") not in closable.take().uncovered


def test_a_tree_of_which_all_is_closed_makes_the_source_blind(closable: Host) -> None:
    """That is no owner's doing."""
    for name in ("closed", "docker"):
        (closable.root / name).chmod(0)

    assert closable.take().cgroups == []
    assert (closable.status.is_up, closable.take().hidden) == (False, frozenset())
    assert UNNAMED not in {metric for metric, _, _ in closable.census.samples()}, "nobody knows"
    assert "Permission denied: run the agent as root" in closable.status.reason


def test_files_that_a_pass_could_not_read_are_said_as_long_as_it_cannot(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Once in the log, also if there are censuses in between that nobody collects from."""
    host.take()
    with caplog.at_level("INFO", "agent.status"):
        for _ in range(3):
            host.census.refused([Forbidden("/a/cpu.stat", "denied"), Forbidden("/a/io.stat", "denied")])
            host.take()
        assert host.status.is_up
        assert host.status.reason.startswith("/a/cpu.stat: its owner closed it")
        host.census.refused([])
    assert host.status.reason == ""
    assert [vars(record)["note"][:12] for record in caplog.records] == ["/a/cpu.stat:", "complete"]


def test_a_tree_that_cannot_be_read_makes_the_source_blind_and_the_names_stay(host: Host) -> None:
    """The counters are served all the same; the reason is on the status page."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    assert host.counted() == ["web"]
    assert host.status.is_up
    host.root.rename(host.root.with_name("moved"))

    assert host.counted() == ["web"]
    assert not host.status.is_up
    assert str(host.root) in host.status.reason


def test_without_cgroup_v2_there_is_a_node_all_the_same(tmp_path: Path) -> None:
    """Zombies and the kernel log need no cgroups."""
    census = Census(cgroup_root=None, proc_root="/nowhere", identities=Identities(), status=Status("cgroup"))

    node = census.take(KernelFiles(1), ProcessTable("/nowhere", 0))

    assert (node.cgroups, node.containers) == ([], [])


def test_a_sandbox_is_no_container_but_its_pod_is_known(host: Host) -> None:
    """pause holds the pod's PID namespace; nobody wants a series of its memory."""
    host.identities.put("oci", {WEB: Identity(("shop", "web-0", ""), is_sandbox=True), DB: Identity(("shop", "web-0", "app"))})
    host.start(f"kubepods/pod1/{WEB}")
    host.start(f"kubepods/pod1/{DB}")

    node = host.take()

    assert [container.labels for container in node.containers] == [("shop", "web-0", "app")]
    assert dict(node.names) == {DB: ("shop", "web-0", "app")}
    assert dict(node.sandboxes) == {WEB: ("shop", "web-0", "")}


POD = ("shop", "web-0", "")
SANDBOX = Identity(POD, is_sandbox=True)
GVISOR = Identity(POD, is_sandbox=True, holds_pod=True)
APP = Identity((*POD[:2], "app"))


def test_a_sandbox_whose_runtime_keeps_the_pod_in_it_is_exported_under_the_name_of_the_pod(host: Host) -> None:
    """gVisor and Kata: the pod's containers have empty cgroups or none, and everything is in the sandbox's."""
    host.identities.put("oci", {WEB: GVISOR, DB: APP})
    host.start(f"kubepods/pod1/{WEB}", 1 << 20)
    host.start(f"kubepods/pod1/{DB}", 0)

    node = host.take()

    assert {container.labels: container.id.id for container in node.containers} == {POD: WEB, (*POD[:2], "app"): DB}
    assert dict(node.names) == {WEB: POD, DB: (*POD[:2], "app")}
    assert dict(node.sandboxes) == {WEB: POD}


def test_a_sandbox_of_kata_is_exported_wherever_its_cgroup_is(host: Host) -> None:
    """Kata calls it otherwise, so that nobody takes it for a container's; the programs beside the virtual machine are not part of it."""
    host.identities.put("oci", {WEB: GVISOR})
    host.start(f"kubepods/pod1/kata_{WEB}")
    host.start(f"kata_overhead/{WEB}")

    (container,) = host.take().containers

    assert (container.labels, container.cgroup.path) == (POD, f"/kubepods/pod1/kata_{WEB}")


def test_a_sandbox_with_memory_that_pause_cannot_have_is_exported_from_then_on(host: Host) -> None:
    """Whatever its runtime is called: and it stays, for a series does not come and go."""
    host.identities.put("oci", {WEB: SANDBOX})
    host.start(f"kubepods/pod1/{WEB}", PAUSE_MOST_BYTES)
    assert host.take().containers == []
    host.start(f"kubepods/pod1/{WEB}", PAUSE_MOST_BYTES + 4096)
    assert [container.labels for container in host.take().containers] == [POD]
    host.start(f"kubepods/pod1/{WEB}", 4096)
    assert [container.labels for container in host.take().containers] == [POD]
    host.stop(f"kubepods/pod1/{WEB}")
    host.identities.end("oci", WEB, "exited")
    host.now += KEEP_DEAD_SECONDS

    assert dict(host.take().names) == {WEB: POD}


def test_a_sandbox_whose_memory_cannot_be_read_is_one_like_any_other(host: Host) -> None:
    """That it holds more than pause is then not known."""
    host.identities.put("oci", {WEB: SANDBOX})
    host.start(f"kubepods/pod1/{WEB}")
    (host.root / f"kubepods/pod1/{WEB}/memory.current").write_text("much\n")

    assert host.take().containers == []


def test_a_sandbox_that_a_process_was_killed_in_is_named_though_it_is_gone(host: Host) -> None:
    """The whole pod ended with it before anybody looked at its memory."""
    host.identities.put("oci", {WEB: SANDBOX})
    assert host.take().names == {}
    host.identities.end("oci", WEB, "exited")
    host.killed.add(WEB)

    assert dict(host.take().names) == {WEB: POD}


def test_a_sandbox_that_the_agent_exported_before_its_restart_is_exported_still(tmp_path: Path) -> None:
    """The casebook has its name, and a pod's is one without a container."""
    host = Host(tmp_path, {WEB: POD, DB: ()})
    host.identities.put("oci", {WEB: SANDBOX, DB: SANDBOX})
    host.start(f"kubepods/pod1/{WEB}", 4096)
    host.start(f"kubepods/pod1/{DB}", 4096)

    assert dict(host.take().names) == {WEB: POD}


def test_a_container_of_a_virtual_machine_counts_as_running_though_it_has_no_cgroup(host: Host) -> None:
    """Its runtime says so; of others the tree knows better."""
    host.identities.put("oci", {WEB: GVISOR, DB: APP, ContainerKey("c" * 64): Identity(("shop", "web-1", "app"))})
    host.start(f"kubepods/pod1/kata_{WEB}")

    assert host.take().resting == {"running": 1}


def test_a_sandbox_whose_name_is_not_known_yet_is_known_as_one(host: Host) -> None:
    """It is not counted among the containers."""
    host.identities.put("kubernetes", {WEB: Identity(is_sandbox=True)})
    host.start(f"kubepods/pod1/{WEB}")

    node = host.take()

    assert (dict(node.sandboxes), dict(node.names)) == ({WEB: ()}, {})


def test_what_the_sources_tell_beside_the_name_is_on_the_container(host: Host) -> None:
    """For the info metric."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"), image="img", project="shop", service="web")})
    host.identities.put("kubernetes", {WEB: Identity(workload_kind="Deployment", workload="web", kind="app", pod_labels={"app": "web"})})
    host.start(f"docker/{WEB}")

    (container,) = host.take().containers

    told = container.info
    assert (told.image, told.project, told.service) == ("img", "shop", "web")
    assert (told.workload_kind, told.workload, told.kind, told.pod_labels) == ("Deployment", "web", "app", {"app": "web"})


def test_it_says_how_well_naming_works(host: Host) -> None:
    """A hit, a miss, and one that runs without a name."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
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
    census = Census(cgroup_root=str(host.root), proc_root="/nowhere", identities=host.identities, status=host.status, own_cgroup_inode=own)
    table = ProcessTable("/nowhere", 0)

    census.take(KernelFiles(10), table)

    assert table.cgroup_namespace == "/kubepods/pod1/agent"


WORDS, OTHERS = LastWords(fork_failures=1), LastWords(fork_failures=2)


def test_last_words_stay_as_long_as_the_name_does(host: Host) -> None:
    """While the cgroup is there it is read itself."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    host.start(f"docker/{WEB}")
    host.deaths[WEB] = Death(host.inode(f"docker/{WEB}"), WORDS)
    assert host.ended() == {}
    host.stop(f"docker/{WEB}")
    host.identities.end("docker", WEB, "removed")

    assert host.ended() == {"web": WORDS}
    host.now += KEEP_DEAD_SECONDS
    assert host.ended() == {"web": WORDS}
    host.now += 1
    assert host.ended() == {}


def test_last_words_of_one_that_no_census_saw_are_shown_under_its_name(host: Host) -> None:
    """It was born and died between two scrapes; a runtime told of it."""
    host.identities.put("docker", {WEB: Identity(("", "", "short"))})
    host.identities.end("docker", WEB, "removed")
    host.deaths[WEB] = Death(7, WORDS)

    assert host.ended() == {"short": WORDS}


def test_last_words_of_one_that_nobody_named_are_shown_under_its_id(host: Host) -> None:
    """As a living one, after the same wait."""
    host.identities.hear("cgroup", WEB)
    host.deaths[WEB] = Death(7, WORDS)

    assert host.ended() == {}
    host.now += NAME_WITHIN_SECONDS
    assert host.ended() == {WEB[:12]: WORDS}


def test_a_sandbox_has_no_last_words(host: Host) -> None:
    """It is no container, neither alive nor dead."""
    host.identities.put("oci", {WEB: Identity(("shop", "web-0", ""), is_sandbox=True)})
    host.identities.hear("cgroup", WEB)
    host.deaths[WEB] = Death(7, WORDS)
    host.take()
    host.now += NAME_WITHIN_SECONDS

    assert host.ended() == {}


def test_whoever_lives_under_the_name_is_shown_and_of_the_dead_the_last(host: Host) -> None:
    """A container of a pod that was started again and again."""
    for identifier in (WEB, DB):
        host.identities.put("docker", {identifier: Identity(("", "", "web"))})
    host.start(f"docker/{DB}")
    inode = host.inode(f"docker/{DB}")
    host.deaths.update({WEB: Death(inode + 1, OTHERS), DB: Death(inode, WORDS)})
    assert host.ended() == {}
    host.stop(f"docker/{DB}")

    assert host.ended() == {"web": OTHERS}


def test_last_words_that_nobody_heard_are_what_was_read_last(host: Host) -> None:
    """Late by up to a scrape, which is better than nothing; a second life at the same path replaces those of the first."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    host.start(f"docker/{WEB}")
    (host.root / "docker" / WEB / "pids.events").write_text("max 2\n")
    node = host.take()
    node.read(cgroupfs.pids_events_max, node.containers[0].cgroup)
    inode = host.inode(f"docker/{WEB}")
    host.deaths[WEB] = Death(inode - 1, WORDS)
    host.stop(f"docker/{WEB}")

    assert host.ended() == {"web": OTHERS}
    host.deaths[WEB] = Death(inode, WORDS)
    assert host.ended() == {"web": WORDS}


def test_nobody_has_departed_when_the_tree_cannot_be_read(host: Host) -> None:
    """They are not seen, that is all."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"))})
    host.start(f"docker/{WEB}")
    host.take()
    host.deaths[WEB] = Death(7, WORDS)
    host.root.rename(host.root.parent / "elsewhere")
    assert host.ended() == {}
    (host.root.parent / "elsewhere").rename(host.root)

    assert host.ended() == {}
    assert host.exported() == ["web"]


def test_what_a_container_makes_inside_of_itself_has_no_last_words_for_another(host: Host) -> None:
    """Neither of a living one nor of a dead one."""
    inner = ContainerKey.of(DB, WEB)
    host.identities.put("docker", {WEB: Identity(("", "", WEB[:12]))})
    host.start(f"docker/{DB}/docker/{WEB}")
    host.take()
    host.now += NAME_WITHIN_SECONDS
    host.take()
    host.deaths.update({WEB: Death(7, WORDS), inner: Death(1 << 60, OTHERS)})
    host.stop(f"docker/{DB}")

    assert host.ended()[WEB[:12]] == WORDS


def formers(host: Host) -> dict[str, tuple[str, str, str]]:
    """Return the id with its scheme, the image and the cgroup of each name that has counters and no container, after another census."""
    node = host.take()
    found = {each.labels: (each.id.url, each.info.image, each.id.container_path) for each in node.formers}
    assert len(found) == len(node.formers), "a join would be many-to-many"
    assert found.keys() | {container.labels for container in node.containers} == set(node.names.values()), "a join would lose some"
    assert not found.keys() & {container.labels for container in node.containers}
    return {labels[2]: told for labels, told in found.items()}


def test_what_a_container_was_stays_as_long_as_its_counters(host: Host) -> None:
    """As last known, also when whoever told of it has forgotten it before."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"), "nginx:1")})
    host.start(f"docker/{WEB}")
    assert formers(host) == {}
    host.stop(f"docker/{WEB}")
    known = {"web": (f"docker://{WEB}", "nginx:1", f"/docker/{WEB}")}
    assert formers(host) == known

    host.now += KEEP_DEAD_SECONDS - 1
    host.identities.end("docker", WEB, "removed")
    assert formers(host) == known
    host.now += KEEP_DEAD_SECONDS
    assert formers(host) == known
    host.now += 1
    assert formers(host) == {}
    assert not host.census._formers._known, "nor is it kept for ever"


def test_what_is_known_of_one_that_came_and_went_between_two_passes(host: Host) -> None:
    """Its id, its image if a runtime told of it, and its cgroup if its end was noticed."""
    host.identities.put("docker", {WEB: Identity(("", "", "short"), "job:1"), DB: Identity(("", "", "shorter"), "job:2")})
    for identifier in (WEB, DB):
        host.identities.end("docker", identifier, "removed")
    host.deaths[WEB] = Death(7, WORDS, path=f"/system.slice/docker-{WEB}.scope")

    assert formers(host) == {
        "short": (f"docker://{WEB}", "job:1", f"/system.slice/docker-{WEB}.scope"),
        "shorter": (f"unknown://{DB}", "job:2", ""),
    }


def test_of_several_lives_of_one_name_there_is_one_to_join_with(host: Host) -> None:
    """The living one; when all have ended, the last to end, whether a census has seen it or not."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"), "web:1")})
    host.start(f"docker/{WEB}")
    assert formers(host) == {}
    host.stop(f"docker/{WEB}")
    host.identities.end("docker", WEB, "removed")
    host.now += 1
    host.identities.put("docker", {DB: Identity(("", "", "web"), "web:2")})
    host.start(f"docker/{DB}")
    assert formers(host) == {}
    host.stop(f"docker/{DB}")
    host.now += 1
    host.identities.end("docker", DB, "removed")
    assert formers(host)["web"][1] == "web:2"

    third = ContainerKey("c" * 64)
    host.now += 1
    host.identities.put("docker", {third: Identity(("", "", "web"), "web:3")})
    host.now += 1
    host.identities.end("docker", third, "removed")
    assert formers(host)["web"][:2] == (f"unknown://{third}", "web:3")


def test_what_is_told_of_a_container_after_its_end_is_known(host: Host) -> None:
    """A kubelet that is asked every few seconds may tell of the workload when the container has gone already."""
    host.identities.put("oci", {WEB: Identity(("shop", "web-0", "web"), "nginx:1")})
    host.start(f"docker/{WEB}")
    host.take()
    host.stop(f"docker/{WEB}")
    host.identities.end("oci", WEB, "removed")
    host.identities.put("kubernetes", {WEB: Identity(("shop", "web-0", "web"), workload="web")})

    assert [each.info.workload for each in host.take().formers] == ["web"]


def test_while_the_tree_cannot_be_read_what_the_living_are_is_known(host: Host) -> None:
    """Their kills may be counted from the log meanwhile."""
    host.identities.put("docker", {WEB: Identity(("", "", "web"), "nginx:1")})
    host.start(f"docker/{WEB}")
    host.take()
    host.root.rename(host.root.parent / "elsewhere")

    assert formers(host) == {"web": (f"docker://{WEB}", "nginx:1", f"/docker/{WEB}")}


def test_what_a_container_made_inside_of_itself_takes_no_other_ones_place_after_its_end(host: Host) -> None:
    """However it is called, and although it ended last."""
    host.identities.put("docker", {WEB: Identity(("", "", WEB[:12]), "web:1")})
    host.start(f"docker/{WEB}")
    host.start(f"docker/{DB}/docker/{WEB}")
    host.take()
    host.now += NAME_WITHIN_SECONDS
    host.take()
    host.stop(f"docker/{WEB}")
    host.identities.end("docker", WEB, "removed")
    host.take()
    host.stop(f"docker/{DB}")
    host.now += 1
    host.identities.hear("kmsg", ContainerKey.of(DB, WEB))

    assert formers(host)[WEB[:12]][1] == "web:1"
