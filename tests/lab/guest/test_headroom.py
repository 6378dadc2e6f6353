"""Near-misses: whom the page names while the limit is near is whom the kernel kills when it is hit."""

import os
import re
import signal

import pytest
from docker.models.containers import Container

from tests.lab.guest.cri import Program, StartPod
from tests.lab.guest.node import PYTHON_TREES, Agent, Run, kernel_log, python_command, wait_for

LIMIT = 80 << 20

STAGE = """
import ctypes, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})

def hold(name, mebibytes, adjustment=0):
    ctypes.CDLL(None).prctl(15, name.encode())  # PR_SET_NAME
    if adjustment:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(adjustment))
    return b"x" * (mebibytes << 20)

def fill(size):
    with open("/dev/shm/filler", "ab", buffering=0) as filler:  # charged to the container, and to none of its processes
        while "oom_kill 0\\n" in open("/sys/fs/cgroup/memory.events").read():
            if int(open("/sys/fs/cgroup/memory.current").read()) >= size:
                break
            filler.write(bytes(1 << 18))

ready, tell = os.pipe()
for worker in {workers}:
    if os.fork() == 0:
        held = hold(*worker)
        os.write(tell, b".")
        signal.pause()
    os.read(ready, 1)
held = hold("app", {app})
fill({limit} * 93 // 100)
signal.sigwait({{signal.SIGUSR1}})
fill({limit} * 2)
signal.pause()
"""


def stage(app: int, *workers: tuple[object, ...]) -> str:
    """Code of an init that holds so many MiB and starts workers of (name, MiB, oom_score_adj); filled to 93 %, and over by SIGUSR1."""
    return STAGE.format(app=app, workers=workers, limit=LIMIT)


def candidate(agent: Agent, container: str) -> dict[str, str] | None:
    """What the page says of whom it would be: scope, comm, role, takes."""
    series = [dict(labels) for labels in agent.family("coroner_container_oom_candidate_info")]
    found = [labels for labels in series if labels["container"] == container]
    assert len(found) <= 1
    return {name: found[0][name] for name in ("scope", "comm", "role", "takes")} if found else None


def killed(since: int = -1) -> list[str]:
    """Names of the processes that the kernel killed, from those lines of its log that it never leaves out, after a record's number."""
    text = "".join(record for record in kernel_log() if sequence(record) > since)
    return re.findall(r";Memory cgroup out of memory: Killed process \d+ \((.*)\) total-vm:", text)


def sequence(record: str) -> int:
    """Number of a record of the kernel log."""
    return int(record.split(",")[1])


def last_record() -> int:
    """Number of the newest record of the kernel log."""
    return max(map(sequence, kernel_log()))


def free(agent: Agent, container: str, scope: str) -> float | None:
    """The headroom below the limit of that scope."""
    return agent.value("coroner_container_memory_headroom_bytes", container=container, scope=scope)


@pytest.mark.parametrize(
    ("app", "workers", "expected"),
    [
        (1, [("small", 4), ("big", 24), ("middle", 14)], {"comm": "big", "role": "other", "takes": "process"}),
        (1, [("small", 4), ("big", 24, -500), ("middle", 14)], {"comm": "middle", "role": "other", "takes": "process"}),
        (1, [("eager", 4, 500), ("big", 24), ("spared", 20, -1000)], {"comm": "eager", "role": "other", "takes": "process"}),
        (30, [("small", 4), ("big", 10)], {"comm": "app", "role": "init", "takes": "container"}),
    ],
    ids=["biggest", "protected", "preferred", "init"],
)
def test_the_candidate_is_whom_the_kernel_kills(
    shared_agent: Agent, run_python: Run, app: int, workers: list[tuple[object, ...]], expected: dict[str, str]
) -> None:
    """By size, by oom_score_adj, and the init, with which the container ends."""
    coroner, before = shared_agent, last_record()
    near = f"near-{expected['comm']}"
    container: Container = run_python(stage(app, *workers), name=near, mem_limit=LIMIT, cap_add=["SYS_RESOURCE"])

    wait_for(lambda: candidate(coroner, near) == {"scope": "container", **expected}, 30, f"it says {candidate(coroner, near)}")
    headroom = free(coroner, near, "container")
    assert headroom is not None
    assert 0 < headroom < LIMIT // 10
    assert coroner.value("coroner_container_memory_nearest_limit_bytes", container=near) == LIMIT
    assert coroner.value("coroner_container_oom_candidate_rss_bytes", container=near)
    assert coroner.value("coroner_oom_candidates_unknown") == 0
    assert killed(before) == []

    container.kill(signal.SIGUSR1)

    wait_for(lambda: killed(before), 30, "nobody was killed")
    assert killed(before) == [expected["comm"]]
    if expected["takes"] == "container":
        assert container.wait()["StatusCode"] == 137
        wait_for(lambda: free(coroner, near, "container") is None, 30, "it is gone and still has headroom")
    else:
        container.reload()
        assert container.status == "running"


def signal_init(pids: list[int]) -> None:
    """Let the first process of a container go over the limit."""
    os.kill(min(pids), signal.SIGUSR1)


def program(code: str, memory: int = 0, *, oom_group: bool = False) -> Program:
    """Run Python in a container of a pod."""
    return Program(python_command(code), memory=memory, oom_group=oom_group, mounts=PYTHON_TREES)


def test_the_limit_of_a_pod_is_that_of_its_containers(shared_agent: Agent, pod: StartPod) -> None:
    """Neither container has one of its own; the greater one's worker is whom the kernel takes, so only there is a candidate."""
    coroner, before = shared_agent, last_record()
    pods = pod("web", memory=LIMIT, containers={"idle": program("import signal; signal.pause()")})
    app = pods.run("app", program(stage(1, ("big", 24), ("small", 4))))

    expected = {"scope": "pod", "comm": "big", "role": "other", "takes": "process"}
    wait_for(lambda: candidate(coroner, "app") == expected, 30, f"it says {candidate(coroner, 'app')}")
    page = coroner.scrape()
    headroom = {dict(labels)["container"]: value for (name, labels), value in page.items() if name.endswith("_memory_headroom_bytes")}
    assert headroom.keys() == {"app", "idle"}
    assert headroom["app"] == headroom["idle"] < LIMIT // 10
    assert {dict(labels)["scope"] for (name, labels) in page if name.endswith("_memory_headroom_bytes")} == {"pod"}
    assert candidate(coroner, "idle") is None

    signal_init(app.pids)

    wait_for(lambda: killed(before), 30, "nobody was killed")
    assert killed(before) == ["big"]


def test_a_group_goes_as_a_whole(shared_agent: Agent, pod: StartPod) -> None:
    """The kubelet sets memory.oom.group: the worker is chosen and the container ends."""
    coroner, before = shared_agent, last_record()
    app = pod("web", containers={"app": program(stage(1, ("big", 24), ("small", 4)), LIMIT, oom_group=True)})["app"]

    expected = {"scope": "container", "comm": "big", "role": "other", "takes": "container"}
    wait_for(lambda: candidate(coroner, "app") == expected, 30, f"it says {candidate(coroner, 'app')}")

    signal_init(app.pids)

    assert app.wait() == 137
    assert killed(before)[0] == "big"
    assert set(killed(before)) == {"big", "small", "app"}


def test_a_container_in_its_pods_pid_namespace_has_no_pid_1_to_tell_its_end_by(shared_agent: Agent, pod: StartPod) -> None:
    """PID 1 is pause: the page does not say that only a process would end, and indeed the container does."""
    coroner, before = shared_agent, last_record()
    app = pod("web", share_pid=True, containers={"app": program(stage(30, ("small", 4)), LIMIT)})["app"]

    expected = {"scope": "container", "comm": "app", "role": "other", "takes": "unknown"}
    wait_for(lambda: candidate(coroner, "app") == expected, 30, f"it says {candidate(coroner, 'app')}")

    signal_init(app.pids)

    assert app.wait() == 137
    assert killed(before) == ["app"]
