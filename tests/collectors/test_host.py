"""The node's own PID table."""

from pathlib import Path

import pytest

from collectors.host import Host
from collectors.kernel.files import Forbidden, Malformed, Unsupported
from tests.tree import collect, forbid, node, proc, tree

FILES = {"loadavg": "0.20 0.18 0.12 1/820 11206\n", "sys/kernel/threads-max": "193058\n", "sys/kernel/pid_max": "4194304\n"}


def test_everything(tmp_path: Path) -> None:
    """Three numbers without labels."""
    tree(tmp_path, proc(FILES))

    assert collect(Host(), node(tmp_path)) == {
        ("coroner_node_threads", ()): 820,
        ("coroner_node_threads_limit", ()): 193058,
        ("coroner_node_pid_limit", ()): 4194304,
    }


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_malformed_file_fails_the_collector(tmp_path: Path, name: str) -> None:
    """Every Linux has them, so the root of /proc is wrong; nothing is shown as 0."""
    tree(tmp_path, proc(FILES))
    (tmp_path / "proc" / name).unlink()
    with pytest.raises(Unsupported, match=f"/{name}: "):
        collect(Host(), node(tmp_path))

    tree(tmp_path, proc({name: "garbage\n"}))
    with pytest.raises(Malformed, match=f"/{name}: "):
        collect(Host(), node(tmp_path))


def test_a_missing_privilege_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the remedy."""
    tree(tmp_path, proc(FILES))
    seen = node(tmp_path)
    forbid(monkeypatch)

    with pytest.raises(Forbidden):
        collect(Host(), seen)
