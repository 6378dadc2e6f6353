"""Docker's names as tools change them: Compose, a switch from blue to green, cri-dockerd; and a daemon that comes late."""

import os
import signal
import subprocess
import uuid
from functools import partial
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container

from tests.lab.guest.node import CGROUPS, DOCKER_URL, Agent, Run, StartAgent, cgroup, wait_for

UID = str(uuid.UUID(int=7))
SLEEP = ("sleep", "1000")


def short(container: Container) -> str:
    """Return the first 12 digits of an id."""
    return str(container.id)[:12]


def called(agent: Agent) -> dict[str, str]:
    """Return what each container that runs is called, by its id as the page spells it."""
    page = agent.beginning("coroner_container_frozen{", "coroner_container_info{")
    running = {labels for name, labels in page if name == "coroner_container_frozen"}  # what the others were is on the page too
    labels = [dict(labels) for name, labels in page if name == "coroner_container_info" and any(each <= labels for each in running)]
    return {info["container_id"]: "/".join(filter(None, (info["namespace"], info["pod"], info["container"]))) for info in labels}


def expect(agent: Agent, names: dict[str | None, str]) -> None:
    """Wait until the containers on the page are these and no others, by Docker's id."""
    wanted = {f"docker://{identifier}": name for identifier, name in names.items()}
    wait_for(lambda: called(agent) == wanted, 30, f"not called so: {wanted}")


def kill_one_in(container: Container) -> None:
    """Have a process of the host's die at the limit of a container's memory."""
    script = f"echo $$ > {cgroup(container)}/cgroup.procs; exec tail /dev/zero"
    assert subprocess.run(["sh", "-c", script], check=False).returncode == -signal.SIGKILL


def test_what_compose_recreates_has_the_same_name_before_and_after(shared_agent: Agent, docker: DockerClient, run: Run) -> None:
    """The next one is created as OLDID_NAME, renamed when the old one is gone, and then started."""
    coroner = shared_agent
    old = run(*SLEEP, name="shop-web-1")
    expect(coroner, {old.id: "shop-web-1"})
    new = docker.containers.create("busybox", list(SLEEP), name=f"{short(old)}_shop-web-1", network_disabled=True)
    try:
        wait_for(lambda: coroner.value("coroner_containers", state="created") == 1, 30, "not heard of")
        old.remove(force=True)
        new.rename("shop-web-1")
        new.start()
        expect(coroner, {new.id: "shop-web-1"})
        assert coroner.value("coroner_container_oom_kills_total", container="shop-web-1") == 0
        assert f"{short(old)}_" not in coroner.get("/metrics")
    finally:
        new.remove(force=True)


def test_blue_and_green_each_have_their_series_and_their_kills(agent: StartAgent, run: Run) -> None:
    """Blue was called so by an agent before this one, so it keeps its labels, and green has its own: to be added to blue's is no kill."""
    coroner = agent()
    blue = run(*SLEEP, name="web", mem_limit="30m")
    expect(coroner, {blue.id: "web"})
    wait_for(lambda: coroner.value("coroner_casebook_up") == 1, 30, "the casebook is not kept")
    coroner.stop()
    coroner.start()

    blue.rename("web-old")
    green = run(*SLEEP, name="web", mem_limit="30m")
    own = f"web_{short(green)}"
    expect(coroner, {blue.id: "web", green.id: own})
    kill_one_in(green)
    kills = "coroner_container_oom_kills_total"
    wait_for(lambda: coroner.value(kills, container=own) == 1, 30, "not counted for green")
    assert coroner.value(kills, container="web") == 0

    blue.remove(force=True)
    expect(coroner, {green.id: own})
    assert (coroner.value(kills, container=own), coroner.value(kills, container="web")) == (1, 0)


def test_an_image_whose_tag_has_moved_on_stays_what_it_was(agent: StartAgent, docker: DockerClient) -> None:
    """Docker then lists the container with the digest alone; a new agent, which has never heard the name, shows the tag too."""
    docker.images.get("busybox").tag("moving", "1")
    container = docker.containers.create("moving:1", list(SLEEP), name="old", network_disabled=True)
    try:
        container.start()
        coroner = agent()
        image = partial(image_of, coroner, "old")
        wait_for(lambda: image() == "moving:1", 30, f"not the tag but {image()}")
        container.commit("moving", "1")
        wait_for(lambda: str(docker.api.containers()[0]["Image"]).startswith("sha256:"), 30, "Docker does not list the digest")
        assert image() == "moving:1"
        coroner.stop()
        coroner.start()
        wait_for(lambda: image() == "moving:1", 30, f"after the restart {image()}")
    finally:
        container.remove(force=True)
        docker.images.remove("moving:1", force=True)


def image_of(agent: Agent, name: str) -> str | None:
    """Return the image of what is called so, None while it is not on the page."""
    labels = [dict(labels) for labels in agent.family("coroner_container_info")]
    return next((info["image"] for info in labels if info["container"] == name), None)


def test_a_daemon_that_comes_late_names_what_was_called_by_its_id(agent: StartAgent, run: Run) -> None:
    """Until it has answered nobody knows how many have exited; its socket appears and is noticed at once."""
    socket = Path("/run/late.sock")
    container = run(*SLEEP, name="early")
    coroner = agent(f"--docker.url=unix://{socket}")
    assert coroner.value("coroner_containers", state="exited") is None
    expect(coroner, {container.id: short(container)})

    os.symlink(DOCKER_URL.removeprefix("unix://"), socket)
    try:
        expect(coroner, {container.id: "early"})
        assert coroner.value("coroner_containers", state="exited") == 0
        assert coroner.value("coroner_containers_unnamed") == 0
    finally:
        socket.unlink()


def test_a_pod_of_cri_dockerd_is_called_as_in_kubernetes(shared_agent: Agent, run: Run) -> None:
    """By the labels that it gives its containers; the sandbox is none of them, and the ids are Docker's although the path says less."""
    coroner = shared_agent
    pod = CGROUPS / "kubepods" / "burstable" / f"pod{UID}"
    labels = {"io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": UID}
    types = {"POD": "podsandbox", "app": "container"}
    _, app = [
        run(
            *SLEEP,
            name=f"k8s_{name}_web-0_shop_{UID}_0",
            labels=labels | {"io.kubernetes.container.name": name, "io.kubernetes.docker.type": kind},
            cgroup_parent=f"/{pod.relative_to(CGROUPS)}",
        )
        for name, kind in types.items()
    ]
    assert (pod / str(app.id) / "cgroup.procs").read_text(), "Docker's place in the tree is another"

    expect(coroner, {app.id: "shop/web-0/app"})


def test_a_container_that_docker_will_start_again_is_restarting(shared_agent: Agent, run: Run) -> None:
    """Its end is an event like any other."""
    coroner = shared_agent
    run("false", name="crash", restart_policy={"Name": "always"})

    def states() -> tuple[float | None, float | None]:
        page = coroner.beginning("coroner_containers{")
        restarting, exited = (page.get(("coroner_containers", frozenset({("state", state)}))) for state in ("restarting", "exited"))
        return restarting, exited

    wait_for(lambda: states() == (1, 0), 30, "not restarting")
