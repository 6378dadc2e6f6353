"""The identities: names by id, one writer, the dead kept a while."""

import math
from dataclasses import replace

from agent.identities import KEEP_DEAD_MOST, KEEP_DEAD_SECONDS, Identities, Identity, never_started
from collectors.kernel.container_id import ContainerKey

A, B, C = (ContainerKey(each) for each in "abc")
WEB = Identity(("", "", "web"))


class Clock:
    """A monotonic clock that a test turns."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_reader_keeps_the_mapping_it_took() -> None:
    """The sampling thread never sees a mapping change under it."""
    identities = Identities()
    before = identities.known

    identities.put("docker", {A: WEB})

    assert dict(before) == {}
    assert dict(identities.known) == {A: WEB}


def test_the_dead_keep_their_name_for_a_quarter_of_an_hour() -> None:
    """Counters of a dead container are still exported under its name; after that the identity goes."""
    clock = Clock()
    identities = Identities(clock)
    identities.put("docker", {A: WEB})
    identities.end("docker", A, "exited")

    clock.now += KEEP_DEAD_SECONDS
    identities.put("docker", {B: WEB})
    assert identities.known[A].name == ("", "", "web")

    clock.now += 1
    identities.put("docker", {C: WEB})
    assert A not in identities.known


def test_the_dead_are_bounded_and_the_oldest_go_first() -> None:
    """A crash loop cannot fill the memory."""
    clock = Clock()
    identities = Identities(clock)
    identities.put("docker", {ContainerKey(n): Identity(("", "", str(n)), ended=1000.0 + n / 100_000) for n in range(KEEP_DEAD_MOST + 5)})

    assert len(identities.known) == KEEP_DEAD_MOST
    assert "4" not in identities.known
    assert "5" in identities.known


def test_a_second_end_does_not_make_a_death_younger() -> None:
    """Docker says die, then destroy: the name is kept from the first."""
    clock = Clock()
    identities = Identities(clock)
    identities.put("docker", {A: WEB})
    identities.end("docker", A, "exited")
    clock.now += 60
    identities.end("docker", A, "removed")

    assert identities.known[A].ended == 1000.0
    assert identities.known[A].state == "removed"


def test_a_full_list_ends_what_it_does_not_name_but_only_of_its_own_source() -> None:
    """Two sources never end each other's containers."""
    identities = Identities(Clock())
    identities.put("docker", {A: WEB})
    identities.put("oci", {B: Identity(())})

    identities.resync("docker", {C: WEB})

    assert identities.known[A].state == "removed"
    assert identities.known[A].ended is not None
    assert identities.known[B].state == "running"
    assert identities.known[C].ended is None


def test_a_container_seen_alive_stays_so_when_a_list_says_exited() -> None:
    """Its counters were exported, so they must not vanish because the list came after its death."""
    identities = Identities(Clock())
    identities.put("docker", {A: WEB})

    identities.resync("docker", {A: Identity(("", "", "web"), state="exited", seen_alive=False, ended=1000.0)})

    assert identities.known[A].seen_alive


def test_an_id_heard_of_gets_an_entry_but_never_loses_a_name() -> None:
    """A kill in the kernel log may be the first or the last that is ever told of a container."""
    identities = Identities(Clock())
    identities.put("docker", {A: WEB})

    identities.hear("kmsg", A)
    identities.hear("kmsg", B)

    assert identities.known[A] == WEB
    assert identities.known[B].name == ()
    assert identities.known[B].seen_alive


def test_what_two_sources_tell_of_one_container_is_put_together() -> None:
    """The bundle has the name from the first moment, Kubernetes adds what it alone knows, and neither takes from the other."""
    identities = Identities(Clock())
    identities.put("kubernetes", {A: Identity(("shop", "web-0", "app"), kind="sidecar", workload="web", restarts=3)})
    identities.put("oci", {A: Identity(("shop", "web-0", "app"), image="img", pod_uid="u")})

    identity = identities.known[A]
    assert (identity.name, identity.image, identity.pod_uid) == (("shop", "web-0", "app"), "img", "u")
    assert (identity.kind, identity.workload, identity.restarts) == ("sidecar", "web", 3)


def test_whichever_source_speaks_first_the_result_is_the_same() -> None:
    """Facts, not order."""
    told = {
        "docker": Identity(("", "", "web"), image="one"),
        "oci": Identity((), image="two", is_sandbox=True),
        "kmsg": Identity((), state="unknown"),
    }
    results = []
    for order in (("docker", "oci", "kmsg"), ("kmsg", "oci", "docker"), ("oci", "kmsg", "docker")):
        identities = Identities(Clock())
        for source in order:
            identities.put(source, {A: told[source]})
        results.append(identities.known[A])

    assert results[0] == results[1] == results[2]
    assert (results[0].name, results[0].image, results[0].is_sandbox) == (("", "", "web"), "one", True)


def test_a_container_has_ended_as_soon_as_one_source_says_so() -> None:
    """CRI-O keeps the bundle of a dead container, and a kubelet that is not heard any more says "running" for ever."""
    clock = Clock()
    for first, second in (("oci", "kubernetes"), ("kubernetes", "oci")):
        identities = Identities(clock)
        identities.put("oci", {A: WEB})
        identities.put("kubernetes", {A: WEB})
        began = clock.now
        identities.end(first, A, "exited")
        assert (identities.known[A].ended, identities.known[A].state) == (began, "exited")
        clock.now += 5
        identities.end(second, A, "removed")

        assert identities.known[A].ended == began


def test_what_one_source_knows_to_be_removed_is_not_among_the_exited_for_another() -> None:
    """containerd's bundle goes at the end of a container, and tells no more; the kubelet lists it until it is removed."""
    clock = Clock()
    identities = Identities(clock)
    identities.put("oci", {A: WEB})
    identities.put("kubernetes", {A: WEB, B: WEB})
    identities.end("oci", A, "exited")
    clock.now += 10
    identities.resync("kubernetes", {B: WEB})

    assert (identities.known[A].state, identities.known[A].ended) == ("removed", 1000.0)


def test_a_removal_may_be_told_by_who_knows_no_names() -> None:
    """Exit files: who has named the container has one less, and who has only heard of it learns nothing."""
    clock = Clock()
    identities = Identities(clock)
    identities.hear("kmsg", A)
    clock.now += 10
    identities.put("oci", {A: WEB, B: WEB})
    identities.remove(A)
    identities.remove(C)

    assert (identities.known[A].state, identities.known[A].ended) == ("removed", 1010.0)
    assert identities.known[B].state == "running"
    assert C not in identities.known


def test_one_that_was_only_heard_of_is_alive_when_a_source_says_so() -> None:
    """The kernel log tells of a child's kill; the container lives on."""
    identities = Identities(Clock())
    identities.hear("kmsg", A)
    assert identities.known[A].ended is not None

    identities.put("oci", {A: WEB})

    assert identities.known[A].ended is None
    assert identities.known[A].state == "running"


def test_whoever_wants_to_look_is_told_what_was_heard_of() -> None:
    """The kernel log names a container whose bundle is there for one moment more."""
    identities = Identities(Clock())
    looked: list[str] = []
    identities.when_heard(looked.append)

    identities.hear("kmsg", A)

    assert looked == [A]


def test_kubernetes_word_goes_before_a_name_that_it_made_up_for_docker() -> None:
    """Whichever of them tells it first; the runtime's word on all else still goes first."""
    for order in (("docker", "kubernetes"), ("kubernetes", "docker")):
        identities = Identities(Clock())
        told = {
            "docker": Identity(("", "", "k8s_app_web-0_shop_UID_0"), image="sha256:12", state="paused", runtime="docker"),
            "kubernetes": Identity(("shop", "web-0", "app"), image="nginx:1"),
        }
        for source in order:
            identities.put(source, {A: told[source]})
        identity = identities.known[A]

        assert (identity.name, identity.state, identity.runtime) == (("shop", "web-0", "app"), "paused", "docker")
        assert identity.image == "nginx:1", "a digest is what is left when a tag was moved"


def test_facts_are_amended_only_where_the_source_has_told_of_the_container() -> None:
    """An event of one that was never listed says too little."""
    identities = Identities(Clock())
    identities.put("docker", {A: replace(WEB, image="nginx:1")})
    identities.put("oci", {B: WEB})

    for key in (A, B):
        identities.amend("docker", key, name=("", "", "shop"))

    assert identities.known == {A: Identity(("", "", "shop"), image="nginx:1"), B: WEB}


def test_pods_are_listed_as_of_a_time_or_from_now_on() -> None:
    """A container that came after the last list may be missing in it."""
    identities = Identities(Clock())
    assert identities.pods.told == -math.inf
    identities.list_pods({"uid": ("shop", "web-0")}, is_watched=False)
    assert (identities.pods.names, identities.pods.told) == ({"uid": ("shop", "web-0")}, 1000.0)
    identities.list_pods({}, is_watched=True)

    assert (identities.pods.names, identities.pods.told) == ({}, math.inf)


def test_a_pod_that_was_listed_is_remembered_for_a_while() -> None:
    """As long as the dead are; it is listed again if it is."""
    clock = Clock()
    identities = Identities(clock)
    identities.list_pods({"gone": ("shop", "web-0"), "there": ("shop", "web-1")}, is_watched=True)
    identities.list_pods({"there": ("shop", "web-1")}, is_watched=True)
    clock.now += KEEP_DEAD_SECONDS
    identities.list_pods({"there": ("shop", "web-1")}, is_watched=True)
    assert [identities.was_listed(uid) for uid in ("gone", "there", "never", "")] == [True, True, False, False]
    clock.now += 1
    identities.list_pods({"there": ("shop", "web-1")}, is_watched=True)
    assert [identities.was_listed(uid) for uid in ("gone", "there")] == [False, True]


def test_one_that_was_created_is_waiting_until_it_is_started_or_removed() -> None:
    """If it has a name, it is known when, and it is no sandbox."""
    identities = Identities()
    created = Identity(("", "", "web"), state="created", seen_alive=False, created=10.0)
    identities.put("docker", {A: created, B: replace(created, name=()), C: replace(created, is_sandbox=True)})
    identities.put("docker", {ContainerKey("d"): replace(created, name=("", "", "old"), created=None)})
    assert never_started(identities) == {("", "", "web"): 10.0}

    identities.put("docker", {A: WEB})
    assert never_started(identities) == {}
    identities.put("docker", {A: created})
    identities.end("docker", A, "removed")
    assert never_started(identities) == {}
