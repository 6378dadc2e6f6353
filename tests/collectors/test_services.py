"""Services on the page: for containers with a PID namespace of their own, counted now and then."""

from dataclasses import replace
from pathlib import Path

import pytest

from collectors.kernel.files import Forbidden
from collectors.services import LOOK_SECONDS, YOUNG_LOOK_SECONDS, Services, services_of
from tests.tree import LABELS, A, B, Content, cgroup, collect, docker, forbid, node, proc, process, series, tree

INSIDE = 4026532001
LONG_AFTER = 1e6
HOST = {**process(1, parent=0), **process(50)}


def inside(pid: int, comm: bytes, *, parent: int = 100, session: int = 100, state: bytes = b"S") -> dict[str, Content]:
    """Make a process of a container whose init is 100, in the session of that one."""
    files = process(pid, comm=comm, parent=parent, state=state, namespace=INSIDE, pids=(pid, pid - 99), cgroup=docker(A))
    content = files[f"{pid}/stat"]
    assert isinstance(content, bytes)
    head, _, tail = content.rpartition(b") ")
    fields = tail.split(b" ")
    fields[3] = b"%d" % session
    files[f"{pid}/stat"] = head + b") " + b" ".join(fields)
    return files


TWO = {**inside(100, b"sh", parent=50), **inside(101, b"nginx"), **inside(102, b"php-fpm")}


def test_each_container_has_the_number_of_its_services(tmp_path: Path) -> None:
    """One that has ended is none."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, TWO, inside(103, b"cron", state=b"Z")))
    seen = node(tmp_path)

    assert collect(Services(lambda: LONG_AFTER), seen) == series(LABELS[A], {"container_services": 2})
    assert services_of(seen, LONG_AFTER) == {A: (b"nginx", b"php-fpm")}


def test_a_container_without_a_pid_namespace_of_its_own_says_nothing(tmp_path: Path) -> None:
    """Whose a process is in the host's or in a pod's is not looked up."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    tree(tmp_path, proc(HOST, TWO, process(200, parent=50, comm=b"sh", cgroup=docker(B))))

    assert collect(Services(lambda: LONG_AFTER), node(tmp_path, sandboxes={A: LABELS[A]})) == {}

    # Nor is one that it makes itself its own.
    tree(tmp_path, proc(process(201, parent=200, comm=b"sh", namespace=INSIDE + 1, pids=(201, 1), cgroup=docker(B))))
    assert collect(Services(lambda: LONG_AFTER), node(tmp_path, sandboxes={A: LABELS[A]})) == {}


def test_they_are_counted_when_they_come_soon_again_and_then_now_and_then(tmp_path: Path) -> None:
    """Not in every pass; one that comes is counted alone."""
    times = iter((0, YOUNG_LOOK_SECONDS - 1, YOUNG_LOOK_SECONDS, LOOK_SECONDS, LOOK_SECONDS + YOUNG_LOOK_SECONDS))
    collector = Services(lambda: LONG_AFTER + next(times))
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, TWO))
    seen = node(tmp_path)
    assert collect(collector, seen) == series(LABELS[A], {"container_services": 2})

    tree(tmp_path, proc(inside(103, b"cron")))
    assert collect(collector, replace(seen, scans=[])) == series(LABELS[A], {"container_services": 2})
    assert collect(collector, replace(seen, scans=[])) == series(LABELS[A], {"container_services": 3})

    tree(tmp_path, proc(inside(104, b"sshd"), process(300, parent=50, namespace=INSIDE + 1, pids=(300, 1), cgroup=docker(B))))
    tree(tmp_path, cgroup(docker(B)))
    other = series(LABELS[B], {"container_services": 1})
    assert collect(collector, node(tmp_path)) == series(LABELS[A], {"container_services": 3}) | other
    assert collect(collector, node(tmp_path)) == series(LABELS[A], {"container_services": 4}) | other


def test_a_missing_privilege_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None would be a lie."""
    tree(tmp_path, {**cgroup(docker(A)), **proc(HOST)})
    seen = node(tmp_path)
    forbid(monkeypatch)

    with pytest.raises(Forbidden):
        collect(Services(), seen)
