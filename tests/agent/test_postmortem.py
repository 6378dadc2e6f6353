"""What is found out about a victim while its line is fresh."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.postmortem import Postmortem
from collectors.inquest.kill_state import Victim
from collectors.kernel.oom_log import OomKill
from tests.kills import told
from tests.tree import A, Link, tree

PATH = f"/docker/{A}"
KILL = OomKill(
    sequence=1,
    timestamp_us=1,
    pid=77,
    comm=b"a\\b\n",
    constraint="CONSTRAINT_MEMCG",
    oom_memcg=PATH.encode(),
    task_memcg=PATH.encode(),
    is_global=False,
    group=False,
    group_memcg=None,
    total_vm_bytes=4,
    anon_rss_bytes=3,
    file_rss_bytes=2,
    shmem_rss_bytes=1,
    uid=1000,
    oom_score_adj=-5,
    usage_bytes=1 << 24,
    limit_bytes=1 << 24,
)
STATUS = "Name:\ta\\\\b\\n\nState:\tZ (zombie)\nTgid:\t70\nPid:\t77\nUid:\t1000\t1000\t1000\t1000\nNStgid:\t70\t1\nNSpid:\t77\t8\n"


def examined(root: Path, kill: OomKill = KILL, *, late: bool = False) -> Victim:
    """Examine a victim on the node of a directory."""
    postmortem = Postmortem(proc_root=f"{root}/proc", cgroup_root=f"{root}/cgroup", is_init=lambda _key, _inode, _pid: None)
    return postmortem.examine(told(kill, late=late)).victim


def test_a_name_with_a_backslash_hides_nothing(tmp_path: Path) -> None:
    r"""PID 1 calls itself `a\nb`, four characters, which the kernel spells with two backslashes."""
    tree(tmp_path, {"proc/77/status": STATUS.replace("a\\\\b\\n", "a\\\\nb")})

    assert examined(tmp_path, replace(KILL, comm=rb"a\nb")).is_init


def test_everything_that_is_known(tmp_path: Path) -> None:
    """The log names a thread; /proc knows its process, and that it is PID 1 of its namespace."""
    tree(tmp_path, {"proc/77/status": STATUS})

    assert examined(tmp_path) == Victim(
        time=5.0,
        sequence=1,
        identifier=A,
        cgroup=PATH,
        scope="container",
        limit_of=PATH,
        limit_bytes=1 << 24,
        usage_bytes=1 << 24,
        pid=70,
        namespace_pid=1,
        is_init=True,
        comm="a\\b\n",
        uid=1000,
        oom_score_adj=-5,
        total_vm_bytes=4,
        anon_rss_bytes=3,
        file_rss_bytes=2,
        shmem_rss_bytes=1,
    )


@pytest.mark.parametrize(
    "status", ["", "garbage", STATUS.replace("Name:\ta", "Name:\tb"), STATUS.replace("1000", "0"), STATUS.replace("Tgid", "x")]
)
def test_a_pid_that_is_another_process_by_now_tells_nothing(tmp_path: Path, status: str) -> None:
    """It has another name or user; what cannot be read is unknown, not false."""
    tree(tmp_path, {"proc/77/status": status})
    victim = examined(tmp_path)

    assert (victim.pid, victim.namespace_pid, victim.is_init) == (77, None, None)


def test_a_pid_of_another_pid_namespace_than_that_of_the_log_tells_nothing(tmp_path: Path) -> None:
    """The node of a kind cluster is a container, where a process may have the same number, name and user; the host's /proc is right."""
    tree(tmp_path, {"proc/77/status": STATUS})
    tree(tmp_path, {"proc/self/ns/pid": Link("pid:[4026532001]"), "proc/self/status": "Name:\tcoroner\nNSpid:\t812\n"})
    assert (examined(tmp_path).pid, examined(tmp_path).is_init) == (77, None)

    tree(tmp_path, {"proc/self/status": "Name:\tcoroner\nNSpid:\t4711\t812\n"})
    assert (examined(tmp_path).pid, examined(tmp_path).is_init) == (70, True)
    tree(tmp_path, {"proc/self/ns/pid": Link("pid:[4026531836]"), "proc/self/status": "Name:\tcoroner\nNSpid:\t812\n"})
    assert (examined(tmp_path).pid, examined(tmp_path).is_init) == (70, True)


def test_a_process_that_is_gone_or_was_logged_long_ago_is_not_looked_up(tmp_path: Path) -> None:
    """Only the log tells."""
    assert examined(tmp_path).is_init is None
    tree(tmp_path, {"proc/77/status": STATUS, f"cgroup{PATH}/memory.max": "4096\n"})

    late = examined(tmp_path, replace(KILL, usage_bytes=None, limit_bytes=None), late=True)
    assert (late.is_init, late.limit_bytes) == (None, None)


@pytest.mark.parametrize(("content", "limit"), [("4096\n", 4096), ("max\n", None), ("garbage\n", None)])
def test_a_limit_that_the_log_does_not_say_is_read(tmp_path: Path, content: str, limit: int | None) -> None:
    """From the cgroup that hit it."""
    tree(tmp_path, {f"cgroup{PATH}/memory.max": content})

    assert examined(tmp_path, replace(KILL, usage_bytes=None, limit_bytes=None)).limit_bytes == limit


def test_outside_of_containers(tmp_path: Path) -> None:
    """Of a kill whose report was suppressed there is a name, and no more."""
    victim = examined(tmp_path, replace(KILL, oom_memcg=None, task_memcg=None, usage_bytes=None, limit_bytes=None))

    assert (victim.identifier, victim.cgroup, victim.limit_of, victim.scope) == ("", "", "", "ancestor")


def test_a_member_of_a_group_has_the_limit_of_the_first_victims_report(tmp_path: Path) -> None:
    """Its own cgroup is somewhere in or below the group's; whose limit of how much was hit is known all the same."""
    victim = examined(tmp_path, replace(KILL, task_memcg=None, group=True, group_memcg=PATH.encode()))

    assert (victim.identifier, victim.cgroup, victim.scope, victim.limit_of, victim.limit_bytes) == (A, PATH, "container", PATH, 1 << 24)


def test_a_process_id_that_none_can_be_is_not_looked_up(tmp_path: Path) -> None:
    """All else that the log says of it is kept."""
    victim = examined(tmp_path, replace(KILL, pid=None))

    assert (victim.pid, victim.namespace_pid, victim.is_init, victim.comm) == (None, None, None, "a\\b\n")
