"""Whether PIDs are those that the kernel log has."""

from pathlib import Path

import pytest

from collectors.kernel import first_pids
from tests.tree import HOST_NAMESPACE, Link, tree

INSIDE = 4026532001


@pytest.mark.parametrize(
    ("link", "status", "expected"),
    [
        (f"pid:[{HOST_NAMESPACE}]", "NSpid:\t812\n", True),
        (f"pid:[{HOST_NAMESPACE}]", None, True),
        (f"pid:[{INSIDE}]", "NSpid:\t812\n", False),
        (f"pid:[{INSIDE}]", "NSpid:\t4711\t812\n", None),
        (f"pid:[{INSIDE}]", "", None),
        (f"pid:[{INSIDE}]", "NSpid:\tone\n", None),
        (f"pid:[{INSIDE}]", None, None),
        ("garbage", "NSpid:\t812\n", None),
        (None, "NSpid:\t812\n", None),
    ],
)
def test_whether_pids_are_those_of_the_first_namespace(tmp_path: Path, link: str | None, status: str | None, expected: bool | None) -> None:
    """Of the /proc around a container's own it cannot be told whether it is the host's: the host may be a container too."""
    if link is not None:
        tree(tmp_path, {"self/ns/pid": Link(link)})
    if status is not None:
        tree(tmp_path, {"self/status": f"Name:\tcoroner\n{status}"})

    assert first_pids.has_first_pids(str(tmp_path)) is expected
