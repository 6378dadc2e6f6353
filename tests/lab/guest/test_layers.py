"""Writable layers of Docker's containers, as large as the node's own files say."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docker.models.containers import Container

from tests.lab.guest.node import PODMAN_URL, Agent, Podman, Run, StartAgent, in_parallel, wait_for

MIB = 1 << 20
LIMITED = ["setpriv", "--inh-caps=-all"]
"""Starts an agent that has no capabilities but those of a bounding set."""
WRITE = "dd if=/dev/zero of={path} bs=1M count=5 2>/dev/null"


def on_disk(container: Container) -> int:
    """Return what is allocated in the directory in which Docker keeps what a container has written."""
    return disk_usage(Path(container.attrs["GraphDriver"]["Data"]["UpperDir"]))


def disk_usage(upper: Path) -> int:
    """Return what is allocated in a directory, as du does."""
    found = {status.st_ino: 512 * status.st_blocks for path in (upper, *upper.rglob("*")) for status in [path.lstat()]}
    return sum(found.values())


def looked_up(agent: Agent) -> list[str]:
    """Return the cgroups of containers, the earliest first, of which the agent knows what to measure at their ends."""
    return re.findall(r'msg="layer is known" path=(\S+)', agent.log)


def has(container: Container, path: str) -> bool:
    """Whether a container's script has come so far."""
    return bool(container.exec_run(["test", "-e", path]).exit_code == 0)


def test_a_layer_is_what_the_container_has_written(agent: StartAgent, run: Run) -> None:
    """Hard links count once, symbolic links lead nowhere, and what is mounted in the container is not in it."""
    write = f"{WRITE.format(path='/data')}; {WRITE.format(path='/scratch/data')}"
    script = f"{write}; ln /data /again; ln -s / /out; rm /bin/cat; >/done; sleep 1000"
    idle, writer = in_parallel(
        lambda: run("sleep", "1000", name="idle"),
        lambda: run("sh", "-c", script, name="writer", tmpfs={"/scratch": ""}),
    )
    wait_for(lambda: has(writer, "/done"), 60, "it has not written")
    writer.reload()
    idle.reload()
    coroner = agent("--source.layers")

    def size(name: str) -> float | None:
        return coroner.value("coroner_container_writable_layer_bytes", container=name)

    wait_for(lambda: size("writer") is not None and size("idle") is not None, 60, f"not measured:\n{coroner.log}")
    assert size("writer") == on_disk(writer)
    assert size("idle") == on_disk(idle)
    assert 5 * MIB <= on_disk(writer) < 6 * MIB
    assert on_disk(idle) < MIB
    for name in ("idle", "writer"):
        assert coroner.value("coroner_container_root_filesystem_info", container=name, kind="overlay") == 1
    assert coroner.value("coroner_layer_walks_total", result="failed") == 0
    assert coroner.value("coroner_source_up", source="layers") == 1

    assert writer.exec_run(["sh", "-c", WRITE.format(path="/more")]).exit_code == 0
    coroner.stop()
    coroner.start()
    wait_for(lambda: (size("writer") or 0) >= 10 * MIB, 60, f"it did not grow:\n{coroner.log}")
    assert size("writer") == on_disk(writer)


def test_layers_are_measured_only_if_that_is_asked_for(agent: StartAgent, run: Run) -> None:
    """A walk of directories is nothing that an agent does by itself."""
    run("sleep", "1000", name="idle")
    coroner = agent()
    wait_for(lambda: coroner.value("coroner_container_threads", container="idle"), 60, "it is not on the page")

    assert coroner.value("coroner_container_root_filesystem_info", container="idle", kind="overlay") is None
    assert coroner.value("coroner_source_up", source="layers") is None


def test_the_capabilities_of_the_daemonset_do_and_without_them_it_is_said(agent: StartAgent, run: Run) -> None:
    """Also for what the container closed to everybody else; an agent without any is blind, and has no sizes."""
    script = f"mkdir /closed; {WRITE.format(path='/closed/data')}; chown -R 1000 /closed; chmod 700 /closed; >/done; sleep 1000"
    closed = run("sh", "-c", script, name="closed")
    wait_for(lambda: has(closed, "/done"), 60, "it has not written")
    closed.reload()

    few = agent("--source.layers", under=[*LIMITED, "--bounding-set=-all,+sys_ptrace,+syslog,+dac_read_search"])
    wait_for(lambda: few.value("coroner_container_writable_layer_bytes", container="closed") == on_disk(closed), 60, few.log)
    few.stop()

    none = agent("--source.layers", under=[*LIMITED, "--bounding-set=-all"])
    wait_for(lambda: none.value("coroner_source_up", source="layers") == 0, 60, none.log)
    assert "CAP_SYS_PTRACE" in none.get("/")
    assert none.value("coroner_container_writable_layer_bytes", container="closed") is None


def test_while_a_container_has_the_nodes_root_still_that_is_not_taken_for_its_own(
    agent: StartAgent, podman: Podman, tmp_path: Path
) -> None:
    """A hook holds it where a busy node may: its init is there, without a root of its own yet. The lab's own is an overlay."""
    held, go = tmp_path / "held", tmp_path / "go"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {held}; while [ ! -e {go} ]; do sleep 0.1; done"]}
    stages = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": ["createRuntime"]}
    (tmp_path / "hold.json").write_text(json.dumps(stages))
    coroner = agent("--source.layers", f"--docker.url={PODMAN_URL}", "--log.level=debug")
    wait_for(lambda: coroner.value("coroner_source_up", source="docker") == 1, 60, "Podman is not heard")
    run = ("run", "--detach", "--network=none")
    script = f"{WRITE.format(path='/data')}; >/done; sleep 1000"

    with ThreadPoolExecutor() as pool:
        starting = pool.submit(podman, f"--hooks-dir={tmp_path}", *run, "--name=early", "busybox", "sh", "-c", script)
        wait_for(held.exists, 60, "the hook does not run")
        later = podman(*run, "--name=later", "busybox", "sleep", "1000")
        wait_for(lambda: looked_up(coroner), 60, f"{coroner.log}\nno layer was looked up")
        assert later in looked_up(coroner)[0]
        assert coroner.value("coroner_container_root_filesystem_info", container="early", kind="overlay") is None
        go.touch()
        early = starting.result()
    wait_for(lambda: any(early in path for path in looked_up(coroner)), 120, f"{coroner.log}\nits layer was not looked up again")
    upper = Path(podman("inspect", "--format={{.GraphDriver.Data.UpperDir}}", "early"))
    wait_for((upper / "done").exists, 60, "it has not written")
    podman("kill", "early")
    size = disk_usage(upper)
    assert size >= 5 * MIB
    wait_for(lambda: coroner.value("coroner_container_writable_layer_bytes", container="early") == size, 60, coroner.log)
    assert coroner.value("coroner_layer_walks_total", result="gone") == 0
