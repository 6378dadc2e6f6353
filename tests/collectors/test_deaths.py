"""Deaths are counted by cause for every container on the page, from 0 on."""

from collectors.base import Node
from collectors.deaths import DEATHS, FORCED_KILLS, GRACE_LEFT, LAST_STOP, DeathCounts, Deaths, LastStop
from collectors.inquest.verdict import CAUSES
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import KernelFiles
from collectors.kernel.procfs import ProcessTable

WEB, DB = ("shop", "web-1", "app"), ("", "", "db")


def node(**names: tuple[str, ...]) -> Node:
    """A node with containers of these names."""
    return Node("/nowhere", KernelFiles(0), ProcessTable("/nowhere", 0), names={ContainerKey(key): name for key, name in names.items()})


def test_every_cause_is_born_at_0() -> None:
    """Or increase() would not see the first death."""
    samples = list(DeathCounts().collect(node(a=WEB)))
    assert samples == [*((DEATHS, (*WEB, cause), 0) for cause in CAUSES), (FORCED_KILLS, WEB, 0)]


def test_what_was_counted_and_how_long_the_last_stop_took_is_shown_once_per_name() -> None:
    """Two lives, of two ids, with one name are one series; what is no more on the page is left out."""
    deaths: Deaths = {(WEB, "forced_kill"): 2, (WEB, "error"): 1, (("", "", "gone"), "error"): 7}
    collector = DeathCounts(lambda: deaths, lambda: {WEB: LastStop(10.5), DB: LastStop(9.5, 0.5), ("", "", "gone"): LastStop(1.0)})
    samples = list(collector.collect(node(a=WEB, b=WEB, c=DB)))
    assert len(samples) == len({(metric, labels) for metric, labels, _ in samples}) == 2 * (len(CAUSES) + 1) + 3
    counted = {(metric, labels, value) for metric, labels, value in samples if value}
    assert counted == {
        *((DEATHS, (*WEB, "error"), 1), (DEATHS, (*WEB, "forced_kill"), 2), (FORCED_KILLS, WEB, 2)),
        *((LAST_STOP, WEB, 10.5), (LAST_STOP, DB, 9.5), (GRACE_LEFT, DB, 0.5)),
    }


def test_nobody_there_is_nothing_to_say() -> None:
    """No container, no series."""
    assert list(DeathCounts().collect(node())) == []
