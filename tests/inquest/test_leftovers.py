"""What is left over and what is only on its way, by what is seen from look to look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.inquest.leftovers import Aged, Overlays, childless, is_shims_own, missing_daemons, needed_daemons
from collectors.kernel import container_id
from collectors.kernel.mounts import Overlay
from collectors.kernel.processes import RuntimeProcess

A, B = 64 * "a", 64 * "b"


def test_only_what_was_there_at_every_look() -> None:
    """What went in between begins anew."""
    aged: Aged[str] = Aged()

    assert aged.old(["a", "b"], 0) is None
    assert aged.old(["a"], 59) is None
    assert aged.old(["a", "b"], 60) == ["a"]
    assert aged.old(["a", "b"], 119) == ["a"]
    assert aged.old(["b"], 120) == ["b"]
    assert aged.old([], 121) == []


@given(st.lists(st.tuples(st.integers(1, 70), st.sets(st.sampled_from("abc"))), min_size=1))
def test_old_is_what_no_look_of_the_last_minute_missed(looks: list[tuple[int, set[str]]]) -> None:
    """Whatever comes and goes, and however often one looks."""
    aged: Aged[str] = Aged()
    now, seen = 0, list[tuple[int, set[str]]]()
    for pause, keys in looks:
        now += pause
        seen.append((now, keys))
        old = aged.old(sorted(keys), now)
        if now - seen[0][0] < 60:
            assert old is None
        else:
            for key in old or ():
                since = next((at for at, there in reversed(seen) if key not in there), -1)
                assert any(since < at <= now - 60 for at, _ in seen)


def overlay(number: int, device: str = "") -> Overlay:
    """Make a mount of its own device."""
    return Overlay(device=(device or f"0:{number}").encode(), id=b"%d" % number, point=b"/merged/%d" % number)


def test_an_overlay_whose_container_is_gone_and_that_stays() -> None:
    """It counts a minute after it was first seen so, until it is unmounted."""
    overlays = Overlays()
    used, left = overlay(1), overlay(2)

    assert overlays.left([used, left], {b"0:1", b"0:2"}, 0) is None
    assert overlays.left([used, left], {b"0:1"}, 60) == 0
    assert overlays.left([used, left], {b"0:1"}, 120) == 1
    assert overlays.left([used], {b"0:1"}, 180) == 0


def test_an_overlay_that_no_container_was_seen_to_have() -> None:
    """A build, an export, a virtual machine and somebody's own mount are not taken for leftovers."""
    overlays = Overlays()

    assert [overlays.left([overlay(1), overlay(2)], {b"0:1"}, now) for now in (0, 60, 120, 999)] == [None, 0, 0, 0]


def test_a_device_and_a_number_that_are_used_again() -> None:
    """The kernel gives the lowest that is free; a mount elsewhere is another one."""
    overlays = Overlays()
    overlays.left([overlay(1)], {b"0:1"}, 0)
    overlays.left([], set(), 60)

    assert [overlays.left([overlay(1)], set(), now) for now in (120, 180, 240)] == [0, 0, 0]

    overlays.left([overlay(1)], {b"0:1"}, 300)
    elsewhere = Overlay(b"0:1", b"1", b"/elsewhere")
    assert [overlays.left([elsewhere], set(), now) for now in (360, 420, 480)] == [0, 0, 0]


def test_an_overlay_that_is_mounted_twice_counts_once() -> None:
    """A bind mount of it is another mount of the same file system."""
    overlays = Overlays()
    both = [overlay(1, "0:9"), overlay(2, "0:9")]

    assert [overlays.left(both, used, now) for now, used in ((0, {b"0:9"}), (60, set[bytes]()), (120, set[bytes]()))] == [None, 0, 1]


def test_mounts_out_of_sight_are_not_counted_as_none() -> None:
    """A daemon in a mount namespace of its own: containers have overlays, and the node none of them."""
    overlays = Overlays()

    assert [overlays.left([overlay(5)], {b"0:1"}, now) for now in (0, 60, 120)] == [None, None, None]
    assert overlays.left([], set(), 180) == 0


def test_a_shim_with_a_child_has_a_container() -> None:
    """A daemon needs none."""
    shim, busy = RuntimeProcess(10, 1, b"containerd-shim", ()), RuntimeProcess(11, 1, b"containerd-shim", (12,))
    conmon, daemon = RuntimeProcess(13, 1, b"conmon", ()), RuntimeProcess(14, 1, b"dockerd", ())

    assert childless([shim, busy, conmon, daemon]) == [shim, conmon]
    assert missing_daemons([shim, busy, conmon, daemon]) == ["containerd", "crio"]


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("/system.slice/containerd.service", True),
        ("/", True),
        (f"/machine.slice/libpod-conmon-{A}.scope", True),
        (None, False),  # it has ended
        (f"/docker/{A}", False),
        (f"/docker/{A}/system.slice/containerd.service", False),
        (f"/kata_overhead/{A}", False),
        (f"/kubepods/burstable/pod12345678-1234-1234-1234-123456789abc/kata_{A}", False),
    ],
)
def test_what_may_be_a_shim_of_the_node(cgroup: str | None, expected: bool) -> None:
    """Anything in a container can call itself so; Kata's need no child."""
    assert is_shims_own(cgroup) is expected


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        (f"/docker/{A}", {"dockerd", "containerd"}),
        (f"/system.slice/docker-{A}.scope", {"dockerd", "containerd"}),
        (f"/kubepods.slice/cri-containerd-{A}.scope", {"containerd"}),
        (f"/default/{A}", {"containerd"}),
        (f"/kubepods.slice/crio-{A}.scope/container", {"crio"}),
        (f"/machine.slice/libpod-{A}.scope/container", set()),
        (f"/docker/{A}/docker/{B}", set()),
    ],
)
def test_which_daemons_a_container_needs(cgroup: str, expected: set[str]) -> None:
    """Podman has none, and what is in another container has its own."""
    found = container_id.parse(cgroup)

    assert found is not None
    assert needed_daemons(found) == expected
