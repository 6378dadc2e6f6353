"""Why containers of real pods ended under containerd's CRI, to an agent that hears no kubelet, and to one that does.

CRI tells of no stop. So without a kubelet an end that may be a stop's is unknown, with the fact that is missing, and never another cause;
and with one, what was not asked for by the deletion of a pod is, for a kubelet also stops what fails its liveness probe.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from tests.agent.fake_kubernetes import answer
from tests.lab.guest import cri
from tests.lab.guest.cri import MakePods, Pod, PodContainer, Program, StartPod
from tests.lab.guest.deaths import Row, catches, table, wait_for_deaths, wrong
from tests.lab.guest.kubelet import Kubelet, kubelet
from tests.lab.guest.node import HOLD, PYTHON_TREES, WAIT, Agent, StartAgent, agents, in_parallel, let_go, python_command, wait_for

EXITS = f"{cri.EXITS}/containers"
FLAGS = ("--docker.url=", f"--path.exits={EXITS}")
DEAF = Program(["sleep", "1000"])
SMALL = 16 << 20


@dataclass(frozen=True)
class Death:
    """How to bring a death about: what runs, and what is done to it then. The causes to an agent without a kubelet, and with one."""

    what: str
    alone: str
    told: str
    program: Program
    done: Callable[[PodContainer], Any] | None = None
    pod: str = "web"


def shell(script: str, **more: Any) -> Program:
    """Return what runs a script."""
    return Program(["sh", "-c", script], **more)


def on_term(script: str, **more: Any) -> Program:
    """Return what runs a script when it gets SIGTERM."""
    return shell(f"trap '{script}' TERM; {HOLD}", **more)


def kill_from_the_host(container: PodContainer) -> None:
    """Send SIGKILL to the init as an administrator does."""
    os.kill(min(container.pids), signal.SIGKILL)


def remove_at_once(container: PodContainer) -> None:
    """Remove it as soon as CRI says that it has ended."""
    container.wait()
    container.remove()


SEGV = Program(python_command("import ctypes; ctypes.string_at(0)"), mounts=PYTHON_TREES)
DEATHS = {
    "exit-0": Death("exit 0", "completed", "completed", Program(["true"])),
    "exit-3": Death("exit 3", "error", "error", shell("exit 3")),
    "exit-143": Death("exit 143, by itself", "unknown", "unknown", shell("exit 143")),
    "segv": Death("SEGV", "crashed", "crashed", SEGV),
    "kill-host": Death("kill -9 from the host", "unknown", "unknown", DEAF, kill_from_the_host),
    "oom-init": Death("OOM of init", "oom_kill", "oom_kill", Program(["tail", "/dev/zero"], memory=SMALL)),
    "oom-group": Death("OOM of a group", "oom_kill", "oom_kill", shell("tail /dev/zero; true", memory=SMALL)),
    "oom-child": Death("OOM of a child, exit 0", "completed", "completed", shell("tail /dev/zero; exit 0", memory=SMALL, oom_group=False)),
    "oom-mirror": Death("OOM of a child, exit 137", "error", "error", shell("tail /dev/zero; exit 137", memory=SMALL, oom_group=False)),
    "removed": Death("removed at once, exit 4", "error", "error", shell("exit 4"), remove_at_once),
    "probe-0": Death("probe failed, drained", "completed", "completed", on_term("exit 0"), lambda c: c.stop(60)),
    "probe-143": Death("probe failed, exit 143", "unknown", "unknown", on_term("exit 143"), lambda c: c.stop(60)),
    "probe-deaf": Death("probe failed, deaf", "unknown", "unknown", DEAF, lambda c: c.stop(1)),
    "gone-0": Death("pod deleted, drained", "completed", "stopped", on_term("sleep 1; exit 0"), pod="gone"),
    "gone-5": Death("pod deleted, exit 5", "error", "stopped", on_term("exit 5"), pod="gone"),
    "gone-143": Death("pod deleted, exit 143", "unknown", "stopped", on_term("exit 143"), pod="gone"),
    "gone-oom": Death("pod deleted, OOM", "oom_kill", "oom_kill", on_term("exec tail /dev/zero", memory=SMALL), pod="gone"),
    "deaf": Death("pod deleted, deaf", "unknown", "forced_kill", DEAF, pod="deaf"),
    "slow": Death("pod deleted, a drain of 60 s", "unknown", "forced_kill", on_term("sleep 60"), pod="deaf"),
}
GRACES = {"gone": 60, "deaf": 2}


@dataclass
class Node:
    """All of them happened, seen by an agent alone and by one that hears the kubelet. `says` is CRI's word."""

    alone: Agent
    told: Agent
    kubelet: Kubelet
    says: dict[str, str]

    def rows(self, cause: str) -> dict[str, Row]:
        """Return what is expected: `cause` is the field of a death that says it."""
        return {name: Row(death.what, getattr(death, cause), self.says[name]) for name, death in DEATHS.items()}


@pytest.fixture(scope="module")
def node(pods: MakePods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Bring every death about, four at a time; those of a pod that is deleted at once."""
    directory = tmp_path_factory.mktemp("deaths")
    with pods() as pod, agents(directory) as start, kubelet(directory / "kubelet") as lists:
        alone, told = in_parallel(lambda: start(*FLAGS), lambda: start(*FLAGS, *lists.flags))
        wait_for(lambda: told.value("coroner_source_up", source="kubernetes") == 1, 60, "the kubelet is not heard")
        started = dict(zip(("web", *GRACES), in_parallel(*(lambda name=name: pod(name) for name in ("web", *GRACES))), strict=True))
        says: dict[str, str] = {}
        ones = [name for name, death in DEATHS.items() if death.pod == "web"]
        for first in range(0, len(ones), 4):
            four = ones[first : first + 4]
            says |= zip(four, in_parallel(*(lambda name=name: die(started["web"], name) for name in four)), strict=True)
            lists.show(started["web"])
        for name, grace in GRACES.items():
            says |= delete(started[name], grace, lists)
        yield Node(alone, told, lists, says)


def delete(pod: Pod, grace: int, lists: Kubelet) -> dict[str, str]:
    """Start what shall die with a pod, delete it with a grace in seconds, and return what CRI says of each."""
    names = [name for name, death in DEATHS.items() if death.pod == pod.name]
    in_parallel(*(lambda name=name: run(pod, name) for name in names))
    lists.show(pod)
    lists.delete(pod, grace)
    return {name: word_of(pod[name]) for name in names}


def run(pod: Pod, name: str) -> PodContainer:
    """Start what shall die, and return when it is ready for that."""
    container = pod.run(name, DEATHS[name].program)
    if "trap" in container_script(name):
        wait_for(lambda: catches(min(container.pids)), 30, f"{name} set no trap")
    return container


def container_script(name: str) -> str:
    """Return the last word of its command."""
    return DEATHS[name].program.command[-1]


def die(pod: Pod, name: str) -> str:
    """Bring one about, and return what CRI says of it."""
    container = run(pod, name)
    if (done := DEATHS[name].done) is not None:
        done(container)
    return word_of(container)


def word_of(container: PodContainer) -> str:
    """Return CRI's exit code and reason of what has ended, or will soon."""
    with contextlib.suppress(grpc.RpcError):  # it was removed
        container.wait()
        return f"{container.status.exit_code}, {container.status.reason}"
    return "not found"


@pytest.mark.parametrize("hears", ["alone", "told"])
def test_every_death_has_its_cause_or_the_fact_that_is_missing(node: Node, hears: str) -> None:
    """The table is in the output. An end that may be a stop's is unknown for want of that fact, and nothing else."""
    rows = node.rows(hears)
    found = wait_for_deaths(getattr(node, hears), dict.fromkeys(DEATHS, 1))
    print(table(rows, found))  # noqa: T201 - the table is what a reader of the tests wants to see
    assert wrong(rows, found) == [], table(rows, found)
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(DEATHS, 1), "each once, and no sandbox"
    unsure = {name: each[0]["missing"] for name, each in found.items() if rows[name].cause == "unknown"}
    assert {name for name, missing in unsure.items() if "stop request" not in missing} == set()


def test_a_deletion_is_told_with_its_grace(node: Node) -> None:
    """Though the pod is listed no more, and was listed so for no longer than its containers took to end."""
    found = wait_for_deaths(node.told, dict.fromkeys(DEATHS, 1))
    [drained] = found["gone-0"]
    assert drained["stop_seconds"] >= 1
    assert "deletion of its pod" in " ".join(drained["evidence"])
    [deaf] = found["deaf"]
    assert "its grace of 2.0 s had run out" in deaf["evidence"][0]
    assert node.told.value("coroner_container_forced_kills_total", container="deaf") == 1
    assert node.told.value("coroner_container_deaths_total", container="probe-deaf", cause="killed") == 0


@pytest.mark.parametrize("hears", ["alone", "told"])
def test_who_was_removed_is_not_among_the_exited(node: Node, hears: str) -> None:
    """Those are whom the runtime still keeps: the agent without a kubelet knows it, too."""
    coroner: Agent = getattr(node, hears)
    wait_for_deaths(coroner, dict.fromkeys(DEATHS, 1))
    kept = len(os.listdir(EXITS))
    assert 0 < kept < len(DEATHS)
    wait_for(lambda: coroner.value("coroner_containers", state="exited") == kept, 60, lambda: f"not {kept}:\n{coroner.scrape()}")


def test_a_kubelet_that_says_running_for_ever_keeps_no_case_open(agent: StartAgent, pod: StartPod, node: Node) -> None:
    """Also where no other source knows the status."""
    web = pod("stale")
    coroner = agent("--docker.url=", "--path.exits=/nowhere", *node.kubelet.flags)
    stale = web.run("stale", shell(f"{WAIT}exit 3"))
    node.kubelet.show(web)
    wait_for(lambda: coroner.value("coroner_container_deaths_total", container="stale", cause="error") == 0, 60, "not born at 0")
    asked = node.kubelet.asked
    wait_for(lambda: node.kubelet.asked > asked, 60, "the kubelet is not asked")
    let_go(stale.cgroup)
    [verdict] = wait_for_deaths(coroner, {"stale": 1})["stale"]
    assert verdict["cause"] == "error" or (verdict["cause"], "exit status" in verdict["missing"]) == ("unknown", True)
    assert coroner.value("coroner_container_info", container="stale", container_id=f"containerd://{stale.id}") == 1


def test_a_kubelet_that_answers_garbage_makes_no_difference(agent: StartAgent, pod: StartPod, node: Node) -> None:
    """What the runtime and the kernel tell is judged without it."""
    coroner = agent(*FLAGS, *node.kubelet.flags)
    node.kubelet.babble(*[answer(200, '{"items": [}')] * 10_000)
    wait_for(lambda: coroner.value("coroner_source_up", source="kubernetes") == 0, 60, "garbage is believed")
    web = pod("garbled", containers={"three": shell("exit 3"), "term": on_term("exit 143")})
    wait_for(lambda: catches(min(web["term"].pids)), 30, "no trap set")
    web["term"].stop(60)
    found = wait_for_deaths(coroner, {"three": 1, "term": 1})
    assert [found[name][0]["cause"] for name in ("three", "term")] == ["error", "unknown"]
    assert "stop request" in found["term"][0]["missing"]
