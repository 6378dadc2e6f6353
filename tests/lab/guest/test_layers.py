"""Writable layers of Docker's containers, as large as the node's own files say."""

from pathlib import Path

from docker.models.containers import Container

from tests.lab.guest.node import Run, StartAgent, in_parallel, wait_for

MIB = 1 << 20
LIMITED = ["setpriv", "--inh-caps=-all"]
"""Starts an agent that has no capabilities but those of a bounding set."""
WRITE = "dd if=/dev/zero of={path} bs=1M count=5 2>/dev/null"


def on_disk(container: Container) -> int:
    """Return what is allocated in the directory in which Docker keeps what a container has written, as du does."""
    upper = Path(container.attrs["GraphDriver"]["Data"]["UpperDir"])
    found = {status.st_ino: 512 * status.st_blocks for path in (upper, *upper.rglob("*")) for status in [path.lstat()]}
    return sum(found.values())


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
