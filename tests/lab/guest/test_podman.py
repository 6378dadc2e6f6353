"""Podman: its containers are Docker's to whoever asks, but not to the kernel."""

from tests.lab.guest.node import CGROUPS, PODMAN_URL, Podman, StartAgent, wait_for


def test_a_container_of_podman_is_named_and_its_end_is_heard(agent: StartAgent, podman: Podman) -> None:
    """Its service answers like Docker; the path tells that it is not."""
    coroner = agent(f"--docker.url={PODMAN_URL}")
    wait_for(lambda: coroner.value("coroner_source_up", source="docker") == 1, 60, "Podman is not heard")
    container = podman("run", "--detach", "--network=none", "--name=rootful", "busybox", "sleep", "1000")
    assert (CGROUPS / "libpod_parent" / f"libpod-{container}" / "cgroup.procs").read_text(), "Podman's place in the tree is another"

    info = {"container": "rootful", "runtime": "podman", "container_id": f"podman://{container}"}
    wait_for(lambda: coroner.value("coroner_container_info", **info) == 1, 5, "not named by its start event")
    podman("kill", container)
    wait_for(lambda: coroner.value("coroner_containers", state="exited") == 1, 30, "its end was not heard")
