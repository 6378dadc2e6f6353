"""What an agent begins with: its own casebook, or the one beside it, which is only read."""

from pathlib import Path

from agent.app import App
from agent.casebook import FILE
from agent.config import Config, load
from agent.kept import keep, only_read
from collectors import NAMES
from collectors.deaths import DeathCounts
from collectors.inquest.kill_state import State
from collectors.oom import Oom
from tests.tree import tree


def config(root: Path) -> Config:
    """Settings of an agent on a node with a boot id and nothing else, whose casebook is in `state`."""
    tree(root, {"proc/sys/kernel/random/boot_id": "b\n", "cgroup/cgroup.controllers": "memory\n"})
    flags = (f"--path.procfs={root}/proc", f"--path.cgroupfs={root}/cgroup", f"--path.state={root}/state")
    return load([*flags, "--path.bundles=", "--path.exits=", "--docker.url="], {}, NAMES)


def names(app: App) -> set[str]:
    """Return the collectors of an agent."""
    return {collector.name for collector in app.gather._collectors}


def test_the_agent_counts_from_0_where_nothing_was_kept(tmp_path: Path) -> None:
    """And makes the casebook."""
    kept = keep(config(tmp_path))
    kept.casebook.close()

    assert (kept.state, kept.has_counts) == (None, True)
    assert (tmp_path / "state" / FILE).exists()


def test_where_nothing_was_kept_a_reader_knows_no_counts_and_makes_nothing(tmp_path: Path) -> None:
    """Absent, not 0."""
    settings = config(tmp_path)
    kept = only_read(settings)

    assert (kept.state, kept.has_counts) == (None, False)
    assert not (tmp_path / "state").exists()
    assert set(NAMES) - names(App(settings, kept)) == {Oom.name, DeathCounts.name}


def test_a_reader_goes_on_from_what_the_agent_beside_it_keeps(tmp_path: Path) -> None:
    """That one has the lock, which is not asked for."""
    settings = config(tmp_path)
    beside = keep(settings)
    beside.casebook.save(State(started=True))
    kept = only_read(settings)
    beside.casebook.close()

    assert kept.state == State(started=True)
    assert (kept.has_counts, kept.same_boot) == (True, True)
    assert names(App(settings, kept)) == set(NAMES)
