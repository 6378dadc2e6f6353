"""The directory: names by id, one writer, the dead kept a while."""

import math
from dataclasses import replace

from agent.directory import KEEP_DEAD_MOST, KEEP_DEAD_SECONDS, Directory, Entry

WEB = Entry(("", "", "web"))


class Clock:
    """A monotonic clock that a test turns."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_reader_keeps_the_mapping_it_took() -> None:
    """The sampling thread never sees a mapping change under it."""
    directory = Directory()
    before = directory.entries

    directory.put("docker", {"a": WEB})

    assert dict(before) == {}
    assert dict(directory.entries) == {"a": WEB}


def test_the_dead_keep_their_name_for_a_quarter_of_an_hour() -> None:
    """Counters of a dead container are still exported under its name; after that the entry goes."""
    clock = Clock()
    directory = Directory(clock)
    directory.put("docker", {"a": WEB})
    directory.end("docker", "a", "exited")

    clock.now += KEEP_DEAD_SECONDS
    directory.put("docker", {"b": WEB})
    assert directory.entries["a"].name == ("", "", "web")

    clock.now += 1
    directory.put("docker", {"c": WEB})
    assert "a" not in directory.entries


def test_the_dead_are_bounded_and_the_oldest_go_first() -> None:
    """A crash loop cannot fill the memory."""
    clock = Clock()
    directory = Directory(clock)
    directory.put("docker", {str(n): Entry(("", "", str(n)), ended=1000.0 + n / 100_000) for n in range(KEEP_DEAD_MOST + 5)})

    assert len(directory.entries) == KEEP_DEAD_MOST
    assert "4" not in directory.entries
    assert "5" in directory.entries


def test_a_second_end_does_not_make_a_death_younger() -> None:
    """Docker says die, then destroy: the name is kept from the first."""
    clock = Clock()
    directory = Directory(clock)
    directory.put("docker", {"a": WEB})
    directory.end("docker", "a", "exited")
    clock.now += 60
    directory.end("docker", "a", "removed")

    assert directory.entries["a"].ended == 1000.0
    assert directory.entries["a"].state == "removed"


def test_a_full_list_ends_what_it_does_not_name_but_only_of_its_own_source() -> None:
    """Two sources never end each other's containers."""
    directory = Directory(Clock())
    directory.put("docker", {"a": WEB})
    directory.put("oci", {"b": Entry(())})

    directory.resync("docker", {"c": WEB})

    assert directory.entries["a"].state == "removed"
    assert directory.entries["a"].ended is not None
    assert directory.entries["b"].state == "running"
    assert directory.entries["c"].ended is None


def test_a_container_seen_alive_stays_so_when_a_list_says_exited() -> None:
    """Its counters were exported, so they must not vanish because the list came after its death."""
    directory = Directory(Clock())
    directory.put("docker", {"a": WEB})

    directory.resync("docker", {"a": Entry(("", "", "web"), state="exited", seen_alive=False, ended=1000.0)})

    assert directory.entries["a"].seen_alive


def test_an_id_heard_of_gets_an_entry_but_never_loses_a_name() -> None:
    """A kill in the kernel log may be the first or the last that is ever told of a container."""
    directory = Directory(Clock())
    directory.put("docker", {"a": WEB})

    directory.hear("kmsg", "a")
    directory.hear("kmsg", "b")

    assert directory.entries["a"] == WEB
    assert directory.entries["b"].name == ()
    assert directory.entries["b"].seen_alive


def test_what_two_sources_tell_of_one_container_is_put_together() -> None:
    """The bundle has the name from the first moment, Kubernetes adds what it alone knows, and neither takes from the other."""
    directory = Directory(Clock())
    directory.put("kubernetes", {"a": Entry(("shop", "web-0", "app"), kind="sidecar", workload="web", restarts=3)})
    directory.put("oci", {"a": Entry(("shop", "web-0", "app"), image="img", pod_uid="u")})

    entry = directory.entries["a"]
    assert (entry.name, entry.image, entry.pod_uid) == (("shop", "web-0", "app"), "img", "u")
    assert (entry.kind, entry.workload, entry.restarts) == ("sidecar", "web", 3)


def test_whichever_source_speaks_first_the_result_is_the_same() -> None:
    """Facts, not order."""
    told = {
        "docker": Entry(("", "", "web"), image="one"),
        "oci": Entry((), image="two", is_sandbox=True),
        "kmsg": Entry((), state="unknown"),
    }
    results = []
    for order in (("docker", "oci", "kmsg"), ("kmsg", "oci", "docker"), ("oci", "kmsg", "docker")):
        directory = Directory(Clock())
        for source in order:
            directory.put(source, {"a": told[source]})
        results.append(directory.entries["a"])

    assert results[0] == results[1] == results[2]
    assert (results[0].name, results[0].image, results[0].is_sandbox) == (("", "", "web"), "one", True)


def test_a_container_has_ended_as_soon_as_one_source_says_so() -> None:
    """CRI-O keeps the bundle of a dead container, and a kubelet that is not heard any more says "running" for ever."""
    clock = Clock()
    for first, second in (("oci", "kubernetes"), ("kubernetes", "oci")):
        directory = Directory(clock)
        directory.put("oci", {"a": WEB})
        directory.put("kubernetes", {"a": WEB})
        began = clock.now
        directory.end(first, "a", "exited")
        assert (directory.entries["a"].ended, directory.entries["a"].state) == (began, "exited")
        clock.now += 5
        directory.end(second, "a", "removed")

        assert directory.entries["a"].ended == began


def test_one_that_was_only_heard_of_is_alive_when_a_source_says_so() -> None:
    """The kernel log tells of a child's kill; the container lives on."""
    directory = Directory(Clock())
    directory.hear("kmsg", "a")
    assert directory.entries["a"].ended is not None

    directory.put("oci", {"a": WEB})

    assert directory.entries["a"].ended is None
    assert directory.entries["a"].state == "running"


def test_whoever_wants_to_look_is_told_what_was_heard_of() -> None:
    """The kernel log names a container whose bundle is there for one moment more."""
    directory = Directory(Clock())
    looked: list[str] = []
    directory.when_heard(looked.append)

    directory.hear("kmsg", "a")

    assert looked == ["a"]


def test_kubernetes_word_goes_before_a_name_that_it_made_up_for_docker() -> None:
    """Whichever of them tells it first; the runtime's word on all else still goes first."""
    for order in (("docker", "kubernetes"), ("kubernetes", "docker")):
        directory = Directory(Clock())
        told = {
            "docker": Entry(("", "", "k8s_app_web-0_shop_UID_0"), image="sha256:12", state="paused", runtime="docker"),
            "kubernetes": Entry(("shop", "web-0", "app"), image="nginx:1"),
        }
        for source in order:
            directory.put(source, {"a": told[source]})
        entry = directory.entries["a"]

        assert (entry.name, entry.state, entry.runtime) == (("shop", "web-0", "app"), "paused", "docker")
        assert entry.image == "nginx:1", "a digest is what is left when a tag was moved"


def test_facts_are_amended_only_where_the_source_has_told_of_the_container() -> None:
    """An event of one that was never listed says too little."""
    directory = Directory(Clock())
    directory.put("docker", {"a": replace(WEB, image="nginx:1")})
    directory.put("oci", {"b": WEB})

    for key in "ab":
        directory.amend("docker", key, name=("", "", "shop"))

    assert directory.entries == {"a": Entry(("", "", "shop"), image="nginx:1"), "b": WEB}


def test_pods_are_listed_as_of_a_time_or_from_now_on() -> None:
    """A container that came after the last list may be missing in it."""
    directory = Directory(Clock())
    assert directory.pods.told == -math.inf
    directory.list_pods({"uid": ("shop", "web-0")}, is_watched=False)
    assert (directory.pods.names, directory.pods.told) == ({"uid": ("shop", "web-0")}, 1000.0)
    directory.list_pods({}, is_watched=True)

    assert (directory.pods.names, directory.pods.told) == ({}, math.inf)
