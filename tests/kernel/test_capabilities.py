"""Capabilities by their numbers."""

from collectors.kernel.capabilities import DEFAULT, beyond_default, is_all, names

ALL = 0x1FFFFFFFFFF


def test_the_default_set_is_the_one_that_docker_and_containerd_give() -> None:
    """As /proc/PID/status shows it of a container that asks for nothing."""
    assert DEFAULT == 0xA80425FB
    assert len(names(DEFAULT)) == 14
    assert beyond_default(DEFAULT) == 0
    assert beyond_default(0) == 0


def test_what_is_beyond_it_has_names() -> None:
    """Also what is newer than the list."""
    assert names(beyond_default(DEFAULT | 1 << 12 | 1 << 21 | 1 << 45)) == ("NET_ADMIN", "SYS_ADMIN", "45")
    assert len(names(beyond_default(ALL))) == 41 - 14


def test_all_is_every_one_of_any_kernel() -> None:
    """38 before 5.8, 41 now; one that is left out is not all."""
    assert is_all(ALL)
    assert is_all(0x3FFFFFFFFF)
    assert not is_all(ALL & ~(1 << 24))
    assert not is_all(DEFAULT)
    assert not is_all(0)
