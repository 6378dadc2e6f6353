"""What the pages show of a pass: whose samples are whose, what is not known, and who comes first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from agent.overview import Overview, Rates, View, overview
from collectors import cpu, host, memory, pids, zombies
from collectors.base import CONTAINER, Sample, gauge
from collectors.findings import Examination, Finding, Severity
from collectors.inquest.kill_state import Labels
from collectors.kernel.container_id import ContainerKey

WEB, DB = ("shop", "web-0", "web"), ("", "", "db")
INIT = gauge("coroner_container_init_info", "", (*CONTAINER, "comm", "role"))
HANDLES = gauge("coroner_container_init_handles_stop_signal", "", (*CONTAINER, "signal"))
WRAPPER = gauge("coroner_container_init_is_wrapper", "")


def found(labels: Labels, severity: Severity = "warning") -> Finding:
    """Make a finding."""
    return Finding((labels[0], labels[1], labels[2]), "rule", severity, "", "", "", "")


@dataclass(frozen=True)
class Scene:
    """A pass, and what else is known."""

    samples: Sequence[Sample] = ()
    found: Sequence[Finding] = ()
    rates: Mapping[Labels, Rates] = field(default_factory=dict)

    def seen(self, *living: Labels) -> Overview:
        return overview(
            self.samples,
            time=0,
            living={labels: ContainerKey(labels[2]) for labels in living},
            failures={},
            examination=Examination(self.found),
            rates=lambda labels: self.rates.get(labels, Rates()),
        )


def only(samples: Iterable[Sample]) -> View:
    """Return the view of one container."""
    [view] = Scene([*samples]).seen(WEB).views
    return view


def test_samples_are_those_of_their_container() -> None:
    """By its labels; those that are not a container's are the node's."""
    seen = Scene(
        [
            (memory.USAGE, WEB, 7),
            (memory.USAGE, DB, 8),
            (zombies.ZOMBIES, (*WEB, "init"), 2),
            (zombies.ZOMBIES, (*WEB, "other"), 0),
            (host.THREADS, (), 99),
            (zombies.NAMESPACE_ZOMBIES, ("4026531836", "", "", ""), 3),
        ]
    ).seen(WEB, DB)

    assert {view.labels: view.levels for view in seen.views} == {WEB: {"memory_usage_bytes": 7}, DB: {"memory_usage_bytes": 8}}
    assert seen.by_labels[WEB].zombies == {"init": 2, "other": 0}
    assert seen.by_labels[DB].zombies == {}
    assert seen.node["coroner_node_threads"] == [((), 99)]
    assert seen.node["coroner_pid_namespace_zombies"] == [(("4026531836", "", "", ""), 3)]


def test_one_that_has_ended_is_not_there_though_its_counters_are() -> None:
    """They stay for fifteen minutes, for Prometheus."""
    assert [view.labels for view in Scene([(cpu.USAGE, WEB, 7), (cpu.USAGE, DB, 7)]).seen(DB).views] == [DB]


@pytest.mark.parametrize(("value", "handles"), [(1, True), (0, False)])
def test_pid_1_is_what_is_told_of_it(value: float, handles: bool) -> None:
    """And whether it hears its stop signal."""
    init = only([(INIT, (*WEB, "sh", "shell"), 1), (HANDLES, (*WEB, "SIGQUIT"), value), (WRAPPER, WEB, 1)]).init

    assert (init.comm, init.role, init.stop_signal, init.handles, init.is_wrapper) == ("sh", "shell", "SIGQUIT", handles, True)


def test_what_nobody_tells_of_pid_1_is_not_known() -> None:
    """Neither good nor bad."""
    init = only([(INIT, (*WEB, "app", "app"), 1)]).init
    assert (init.handles, init.is_wrapper) == (None, None)
    assert only([]).init.comm is None


def test_a_share_needs_a_level_and_a_limit() -> None:
    """Of what has no limit there is none."""
    view = only([(pids.THREADS, WEB, 30), (pids.LIMIT, WEB, 40), (memory.USAGE, WEB, 5)])

    assert view.share("threads", "threads_limit") == 0.75
    assert view.share("memory_usage_bytes", "memory_limit_bytes") is None
    assert view.share("memory_peak_bytes", "memory_usage_bytes") is None


def names(scene: Scene, *living: str) -> list[str]:
    """Return the order in which containers are shown."""
    return [view.labels[2] for view in scene.seen(*(("", "", name) for name in living)).views]


def of(name: str, metric: object, value: float) -> Sample:
    """Spell a sample of a container without a pod."""
    return metric, ("", "", name), value  # type: ignore[return-value] # any of the metrics below


def test_the_worst_finding_comes_first_whatever_else_there_is() -> None:
    """Then zombies, threads, memory, throttling and pressure, in tenths, and what is worth knowing; the name decides between equals."""
    scene = Scene(
        samples=[
            (zombies.ZOMBIES, ("", "", "zombies", "init"), 3),
            (zombies.ZOMBIES, ("", "", "more", "other"), 4),
            *[of("threads", pids.THREADS, 95), of("threads", pids.LIMIT, 100)],
            *[of("memory", memory.WORKING_SET, 95), of("memory", memory.LIMIT, 100)],
            *[of("high", memory.USAGE, 99), of("high", memory.HIGH, 100)],
            *[of("cosy", memory.WORKING_SET, 40), of("cosy", memory.LIMIT, 100)],
        ],
        found=[
            found(("", "", "warned")),
            found(("", "", "twice")),
            found(("", "", "twice")),
            found(("", "", "worst"), "critical"),
            found(("", "", "known"), "info"),
        ],
        rates={("", "", "throttled"): Rates(throttled_share=0.9), ("", "", "waits"): Rates(io_waiting_share=0.9)},
    )

    order = ["worst", "twice", "warned", "more", "zombies", "threads", "high", "memory", "throttled", "waits", "known", "at-ease", "cosy"]
    assert names(scene, *sorted(order)) == order


def test_findings_are_their_containers_and_the_rest_the_nodes() -> None:
    """Also one of a container that has ended since; the worst first."""
    bad, worse, gone, of_node = found(WEB), found(WEB, "critical"), found(DB), found(("", "", ""), "info")
    seen = Scene(found=[bad, of_node, worse, gone]).seen(WEB)

    assert seen.by_labels[WEB].findings == [worse, bad]
    assert seen.findings == [gone, of_node]
