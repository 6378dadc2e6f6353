"""Exec sessions: processes in a container's PID namespace whose parent is outside of it."""

from pathlib import Path

import pytest

from collectors.kernel.files import Forbidden
from collectors.sessions import Sessions
from tests.tree import LABELS, A, B, Content, cgroup, collect, docker, forbid, node, proc, process, series, tree

INSIDE = 4026532001
SHIM = 50
HOST = {**process(1, parent=0), **process(SHIM)}


def inside(pid: int, *, parent: int = SHIM, state: bytes = b"S", path: str = docker(A), namespace: int = INSIDE) -> dict[str, Content]:
    """Make a process of a container whose init is 100."""
    return process(pid, parent=parent, state=state, namespace=namespace, pids=(pid, 1 if pid == 100 else pid - 90), cgroup=path)


INIT = inside(100)


def sessions(labels: tuple[str, ...], count: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell the one series."""
    return series(labels, {"container_exec_sessions": count})


def test_who_came_from_outside_is_a_session_and_what_it_starts_is_none(tmp_path: Path) -> None:
    """Two shells by docker exec, one of which runs something; a child of init; and init itself."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, INIT, inside(101, parent=100), inside(102), inside(103), inside(104, parent=103)))

    assert collect(Sessions(), node(tmp_path)) == sessions(LABELS[A], 2)


def test_nobody_there_is_0(tmp_path: Path) -> None:
    """The container has a PID namespace of its own."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, INIT))

    assert collect(Sessions(), node(tmp_path)) == sessions(LABELS[A], 0)


def test_a_session_that_has_ended_is_none(tmp_path: Path) -> None:
    """The shim has not waited for it yet."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, INIT, inside(102, state=b"Z")))

    assert collect(Sessions(), node(tmp_path)) == sessions(LABELS[A], 0)


def test_a_container_in_the_pid_namespace_of_the_host_says_nothing(tmp_path: Path) -> None:
    """Who came and who was there cannot be told."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, process(100, parent=SHIM, cgroup=docker(A)), process(101, parent=SHIM, cgroup=docker(A))))

    assert collect(Sessions(), node(tmp_path)) == {}


def test_a_container_in_the_namespace_of_another_is_no_session_and_has_none(tmp_path: Path) -> None:
    """docker run --pid=container:web; nsenter from the host is a session, wherever its cgroup is."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    tree(tmp_path, proc(HOST, INIT, inside(102, path=docker(B)), inside(103, path="/user.slice")))

    assert collect(Sessions(), node(tmp_path)) == sessions(LABELS[A], 1)


def test_a_pod_with_one_namespace_for_all_says_nothing(tmp_path: Path) -> None:
    """Its init is the sandbox's."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    tree(tmp_path, proc(HOST, INIT, inside(102, path=docker(B))))

    assert collect(Sessions(), node(tmp_path, sandboxes={A: LABELS[A]})) == {}


def test_a_namespace_that_the_container_made_in_its_own_counts_for_nothing(tmp_path: Path) -> None:
    """Whoever entered that one was in the container already."""
    tree(tmp_path, cgroup(docker(A)))
    inner = INSIDE + 1
    made = process(110, parent=100, namespace=inner, pids=(110, 20, 1), cgroup=docker(A))
    entered = process(111, parent=100, namespace=inner, pids=(111, 21, 2), cgroup=docker(A))
    tree(tmp_path, proc(HOST, INIT, made, entered))

    assert collect(Sessions(), node(tmp_path)) == sessions(LABELS[A], 0)


def test_a_parent_that_cannot_be_seen_is_outside(tmp_path: Path) -> None:
    """It has no number in the namespace of this /proc; one that has just ended is not looked for."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, INIT, inside(102, parent=0), inside(103, parent=4711)))

    assert collect(Sessions(), node(tmp_path)) == sessions(LABELS[A], 1)


def test_where_namespaces_may_not_be_read_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose init is whose is not known."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, INIT, inside(102)))

    def fail(path: str) -> str:
        raise PermissionError(13, "", path)

    monkeypatch.setattr("os.readlink", fail)

    assert collect(Sessions(), node(tmp_path)) == {}


def test_a_missing_privilege_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None would be a lie."""
    tree(tmp_path, {**cgroup(docker(A)), **proc(HOST)})
    seen = node(tmp_path)
    forbid(monkeypatch)

    with pytest.raises(Forbidden):
        collect(Sessions(), seen)
