"""When a container without an init is looked at again."""

from agent.sources.exit_inits import Looks


def test_a_container_without_an_init_is_looked_at_ever_more_rarely() -> None:
    """And not any more when its init has ended."""
    looks = Looks()
    due = [second for second in range(100) if looks.is_due(7, second)]
    assert due == [0, 5, 15, 35, 75]

    looks.forget(7)
    assert looks.is_due(7, 100)
    looks.end(7)
    assert not looks.is_due(7, 1e9)
    looks.retain({8})
    assert looks.is_due(7, 1e9)
